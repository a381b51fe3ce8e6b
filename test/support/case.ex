defmodule NetRunner.Test.Case do
  @moduledoc """
  The case template of every test that runs commands.

  `on_backends "it does so" do ... end` makes one test per backend under test, with `backend` bound.
  `opts(backend)` are the options that demand it.
  """

  use ExUnit.CaseTemplate

  using do
    quote do
      import NetRunner.Test.Case
      import NetRunner.Test.World
    end
  end

  defmacro on_backends(sentence, context \\ quote(do: %{}), do: block) do
    for backend <- NetRunner.Test.Backends.expected() do
      quote do
        @tag backend: unquote(backend)
        test unquote("#{sentence} [#{backend}]"), unquote(context) do
          var!(backend) = unquote(backend)
          _ = var!(backend)
          unquote(block)
        end
      end
    end
  end
end
