defmodule Compare.Rows.Mailbox do
  @moduledoc false
  @behaviour Compare.Row
  import Compare.Row
  alias Compare.{Library, World}

  def question,
    do: "Does a caller that traps exits find only its own messages in its mailbox afterwards?"

  def ask(lib, %{tag: tag}) do
    Process.flag(:trap_exit, true)
    own = [:one, {:two, 2}]
    Enum.each(own, &send(self(), &1))
    _ = Library.run(lib, World.tagged(["sh", "-c", "echo hello; exit 3"], tag))
    # What comes when nobody expects it any more has no event: it is given this long.
    Process.sleep(300)
    {:messages, messages} = Process.info(self(), :messages)
    strange = messages -- own

    yes?(
      strange == [],
      if(strange == [], do: "only its own", else: "besides its own: #{short(strange)}")
    )
  end
end
