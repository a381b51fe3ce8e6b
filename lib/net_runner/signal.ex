defmodule NetRunner.Signal do
  @moduledoc """
  Names and numbers of signals (Linux, signal(7)).

      iex> NetRunner.Signal.resolve(:sigterm)
      15
      iex> NetRunner.Signal.resolve(9)
      9
      iex> NetRunner.Signal.name(15)
      :sigterm
  """

  @signals [
    sighup: 1,
    sigint: 2,
    sigquit: 3,
    sigill: 4,
    sigtrap: 5,
    sigabrt: 6,
    sigbus: 7,
    sigfpe: 8,
    sigkill: 9,
    sigusr1: 10,
    sigsegv: 11,
    sigusr2: 12,
    sigpipe: 13,
    sigalrm: 14,
    sigterm: 15,
    sigstkflt: 16,
    sigchld: 17,
    sigcont: 18,
    sigstop: 19,
    sigtstp: 20,
    sigttin: 21,
    sigttou: 22,
    sigurg: 23,
    sigxcpu: 24,
    sigxfsz: 25,
    sigvtalrm: 26,
    sigprof: 27,
    sigwinch: 28,
    sigio: 29,
    sigpwr: 30,
    sigsys: 31
  ]

  @type t :: atom | 1..64

  @doc "Every name with its number."
  @spec all :: keyword(1..31)
  def all, do: @signals

  @doc "The number of a signal. Raises `ArgumentError` for anything that is none."
  @spec resolve(t) :: 1..64
  def resolve(signal) do
    case fetch(signal) do
      {:ok, number} ->
        number

      :error ->
        raise ArgumentError,
              "unknown signal #{inspect(signal)}: expected a name like :sigterm or a number in 1..64"
    end
  end

  @doc "`{:ok, number}` or `:error`."
  @spec fetch(term) :: {:ok, 1..64} | :error
  def fetch(number) when number in 1..64, do: {:ok, number}

  for {name, number} <- @signals do
    def fetch(unquote(name)), do: {:ok, unquote(number)}
  end

  def fetch(_other), do: :error

  @doc "The name of a signal number, or the number itself where it has none (real-time signals)."
  @spec name(1..64) :: atom | 32..64
  for {name, number} <- @signals do
    def name(unquote(number)), do: unquote(name)
  end

  def name(number) when number in 32..64, do: number
end
