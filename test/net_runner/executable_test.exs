defmodule NetRunner.ExecutableTest do
  # Pure but for the look at files: what becomes of a command, of env: and of a name.
  # Not async: the node's directory and environment are changed.
  use NetRunner.Test.Case

  alias NetRunner.Executable

  describe "check_cmd/1" do
    test "lets a list of binaries through as it is" do
      for cmd <- [["x"], ["x", ""], ["/x", <<255>>, "é"], ["x" | List.duplicate("y", 10_000)]],
          do: assert(Executable.check_cmd(cmd) == {:ok, cmd})
    end

    test "says what is wrong with anything else" do
      assert {:error, {:invalid_cmd, _}} = Executable.check_cmd([])

      assert {:error, {:invalid_cmd, "the executable's name is empty"}} =
               Executable.check_cmd([""])

      assert {:error, {:invalid_cmd, "NUL" <> _}} = Executable.check_cmd(["a" <> <<0>>])
      assert {:error, {:invalid_cmd, "must be a proper list"}} = Executable.check_cmd(["a" | "b"])
      assert {:error, {:invalid_cmd, "must be" <> _}} = Executable.check_cmd(["a", "b" | "c"])
      assert {:error, {:invalid_cmd, message}} = Executable.check_cmd("ls -l")
      assert message =~ ~s("ls -l")
      assert {:error, {:invalid_args, message}} = Executable.check_cmd(["a", "b", :c])
      assert message == "argument 2 is not a binary: :c"
    end

    test "takes options in the place of arguments for what they are, and shows no value" do
      assert Executable.check_cmd(["a", {:env, [A: "hunter2"]}]) ==
               {:error,
                {:invalid_args,
                 "argument 1 is not a binary but the option :env, and options come last"}}
    end

    test "does not repeat a huge value in its message" do
      for cmd <- [
            Enum.to_list(1..100_000),
            String.duplicate("x", 100_000),
            ["a", Enum.to_list(1..100_000)]
          ] do
        assert {:error, {_kind, message}} = Executable.check_cmd(cmd)
        assert byte_size(message) < 500
      end
    end
  end

  describe "env/1" do
    test "is the BEAM's of this moment, changed in order" do
      System.put_env("NR_ONE", "beam")
      on_exit(fn -> System.delete_env("NR_ONE") end)
      assert Executable.env([]) == System.get_env()
      assert Executable.env([{"NR_ONE", "1"}])["NR_ONE"] == "1"
      refute Map.has_key?(Executable.env([{"NR_ONE", nil}]), "NR_ONE")
      assert Executable.env([{"NR_ONE", nil}, {"NR_ONE", "2"}])["NR_ONE"] == "2"
      assert map_size(Executable.env([{"NR_ONE", nil}])) == map_size(System.get_env()) - 1
    end

    test "is exactly what {:replace, env} says" do
      assert Executable.env({:replace, []}) == %{}
      assert Executable.env({:replace, [{"A", "1"}, {"A", "2"}, {"B", nil}]}) == %{"A" => "2"}
    end

    test "keeps what is beyond ASCII byte for byte" do
      System.put_env("NR_UTF8", "zażółć 🎉")
      on_exit(fn -> System.delete_env("NR_UTF8") end)
      assert Executable.env([])["NR_UTF8"] == "zażółć 🎉"
    end
  end

  describe "resolve/2" do
    test "finds a bare name in the given PATH, or the system's directories without one" do
      sh = System.find_executable("sh")
      assert Executable.resolve("sh", %{"PATH" => Path.dirname(sh)}) == {:ok, sh}
      assert {:ok, "/" <> _} = Executable.resolve("sh", %{})
      assert Executable.resolve("sh", %{"PATH" => ""}) == {:error, :enoent}
      assert Executable.resolve("sh", %{"PATH" => "/nowhere"}) == {:error, :enoent}
      assert Executable.resolve("sh", %{"PATH" => "/nowhere:#{Path.dirname(sh)}"}) == {:ok, sh}
      assert Executable.resolve("no-such-program", System.get_env()) == {:error, :enoent}
      long = "/" <> String.duplicate("x", 100_000)
      assert Executable.resolve("sh", %{"PATH" => "#{long}:#{Path.dirname(sh)}"}) == {:ok, sh}
    end

    test "makes every other path absolute, and leaves it to execve" do
      assert Executable.resolve("/no/such/file", %{}) == {:ok, "/no/such/file"}
      cwd = File.cwd!()
      assert Executable.resolve("./no/such", %{}) == {:ok, cwd <> "/./no/such"}
      assert Executable.resolve("no/such", %{}) == {:ok, cwd <> "/no/such"}
      assert Executable.resolve("../x", %{}) == {:ok, cwd <> "/../x"}
    end
  end

  test "check/2 looks whether it can be executed" do
    path = tmp_path("program")
    assert Executable.check(path, %{}) == {:error, :enoent}
    File.write!(path, "")
    assert Executable.check(path, %{}) == {:error, :eacces}
    File.chmod!(path, 0o755)
    assert Executable.check(path, %{}) == {:ok, path}
    assert Executable.check(Path.dirname(path), %{}) == {:error, :eacces}
    assert Executable.check("sh", %{"PATH" => "/bin"}) == {:ok, "/bin/sh"}
    assert Executable.check(path <> "/x", %{}) == {:error, :enotdir}
  end
end
