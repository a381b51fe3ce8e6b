defmodule NetRunner.Test.Error do
  @moduledoc """
  `NetRunner.Test` was used in a way that it cannot be, a file is no cassette (with its line), or a test called commands that
  nothing stood in for.
  """

  @type t :: %__MODULE__{message: String.t()}

  defexception [:message]
end
