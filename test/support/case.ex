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

  # ExUnit gives a @tag to the next test only: every one of ours gets it.
  defmacro on_backends(sentence, context \\ quote(do: %{}), do: block) do
    tests =
      for backend <- NetRunner.Test.Backends.expected() do
        quote do
          for tag <- tags, do: @tag(tag)
          @tag backend: unquote(backend)
          test unquote("#{sentence} [#{backend}]"), unquote(context) do
            # Not as a literal: Elixir 1.18 warns of comparisons whose answer it knows.
            var!(backend) = String.to_existing_atom(unquote(to_string(backend)))
            _ = var!(backend)
            unquote(block)
          end
        end
      end

    quote do
      tags = Module.delete_attribute(__MODULE__, :tag)
      unquote_splicing(tests)
    end
  end
end
