defmodule NetRunner.EnvironmentTest do
  # What a command finds in its environment, before anything starts.
  use NetRunner.Test.Case

  alias NetRunner.Environment

  defp env(option) do
    {count, strings} = Environment.block(option)
    variables = strings |> IO.iodata_to_binary() |> String.split(<<0>>, trim: true)
    assert length(variables) == count
    Map.new(variables, &(&1 |> String.split("=", parts: 2) |> List.to_tuple()))
  end

  defp put_env(name, value) do
    System.put_env(name, value)
    on_exit(fn -> System.delete_env(name) end)
  end

  test "is the BEAM's of this moment, changed in order" do
    put_env("NR_ONE", "beam")
    assert env([]) == System.get_env()
    assert env([{"NR_ONE", "1"}]) == Map.put(System.get_env(), "NR_ONE", "1")
    assert env([{"NR_ONE", nil}]) == Map.delete(System.get_env(), "NR_ONE")
    assert env([{"NR_ONE", nil}, {"NR_ONE", "2"}])["NR_ONE"] == "2"
  end

  test "is exactly what {:replace, env} says" do
    assert env({:replace, []}) == %{}
    assert env({:replace, [{"A", "1"}, {"A", "2"}, {"B", nil}]}) == %{"A" => "2"}
  end

  test "keeps what is beyond ASCII byte for byte, and a value with = and newlines" do
    put_env("NR_UTF8", "zażółć 🎉")
    put_env("NR_EQUALS", "a=b\nc=")
    put_env("NR_EMPTY", "")
    assert %{"NR_UTF8" => "zażółć 🎉", "NR_EQUALS" => "a=b\nc=", "NR_EMPTY" => ""} = env([])
  end

  # No BEAM can give itself such a variable, but it may be started with one.
  test "keeps what is no text, of the BEAM's and of those that are given" do
    beam = NetRunner.Test.OtherBeam
    folder = Path.dirname(tmp_path("here")) <> "/" <> <<0xE9>>
    File.mkdir!(folder)
    File.ln_s!("/bin/echo", folder <> "/nr-echo")
    path = folder <> ":" <> System.get_env("PATH")
    launcher = ["env", "NR_RAW=" <> <<255, ?x>>, "PATH=" <> path]

    code = ~S"""
    {value, 0} = NetRunner.run(["printenv", "NR_RAW"]);
    IO.puts("raw " <> Base.encode16(value));
    IO.inspect(NetRunner.run(["nr-echo", "found"]));
    System.put_env("NR_RAW", "text");
    IO.inspect(NetRunner.run(["printenv", "NR_RAW"]));
    """

    other = beam.start(~S|IO.puts("up");| <> code <> "Process.sleep(:infinity)", launcher)
    assert beam.read_line(other) == "raw FF780A"
    assert beam.read_line(other) == ~S|{"found\n", 0}|
    assert beam.read_line(other) == ~S|{"text\n", 0}|
    assert env([{"NR_RAW", <<255>>}])["NR_RAW"] == <<255>>
  end

  test "path/1 is what PATH will be" do
    assert Environment.path([]) == System.get_env("PATH")
    assert Environment.path([{"A", "1"}]) == System.get_env("PATH")
    assert Environment.path([{"PATH", "/a"}, {"PATH", "/b"}]) == "/b"
    assert Environment.path([{"PATH", nil}]) == nil
    assert Environment.path({:replace, [{"A", "1"}]}) == nil
    assert Environment.path({:replace, [{"PATH", "/a"}]}) == "/a"
  end
end
