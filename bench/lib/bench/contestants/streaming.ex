defmodule Bench.Contestants.Streaming do
  @moduledoc false
  # What contestants share whose library makes an enumerable of a command (`stream!/2`) and has a process to read from and
  # write to (`LIBRARY.Process`). `use Bench.Contestants.Streaming, LIBRARY`, or `{LIBRARY, options of its stream!}`: left to each are its
  # name and where it differs.

  defmacro __using__({library, options}), do: contestant(library, options, __CALLER__)
  defmacro __using__(library), do: contestant(library, [], __CALLER__)

  defp contestant(library, options, caller) do
    library = Macro.expand(library, caller)
    process = Module.concat(library, Process)

    quote do
      @behaviour Bench.Contestant
      @compile {:no_warn_undefined, [unquote(library), unquote(process)]}

      @impl true
      def run(nil, cmd), do: {cmd |> unquote(library).stream!(unquote(options)) |> Enum.join(), 0}

      @impl true
      def fold(nil, cmd, acc, fun),
        do: cmd |> unquote(library).stream!(unquote(options)) |> Enum.reduce(acc, fun)

      @impl true
      def lines(nil, cmd, acc, fun) do
        cmd
        |> unquote(library).stream!(unquote(options))
        |> Bench.UserLines.of_chunks()
        |> Enum.reduce(acc, fun)
      end

      @impl true
      def feed(nil, cmd, blocks),
        do:
          {cmd |> unquote(library).stream!([input: blocks] ++ unquote(options)) |> Enum.join(), 0}

      @impl true
      def echo(nil, cmd, blocks, _bytes, acc, fun),
        do:
          cmd
          |> unquote(library).stream!([input: blocks] ++ unquote(options))
          |> Enum.reduce(acc, fun)

      @impl true
      def open(nil, cmd) do
        {:ok, process} = unquote(process).start_link(cmd)
        process
      end

      @impl true
      def put(process, data), do: unquote(process).write(process, data)

      @impl true
      def get(process) do
        case unquote(process).read(process) do
          {:ok, chunk} -> chunk
          :eof -> :eof
        end
      end

      @impl true
      def close(process) do
        unquote(process).close_stdin(process)
        unquote(process).await_exit(process)
      end

      defoverridable run: 2, feed: 3, open: 2
    end
  end
end
