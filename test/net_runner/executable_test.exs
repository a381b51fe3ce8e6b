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

  describe "resolve/2" do
    test "finds a bare name in the given PATH, or the system's directories without one" do
      sh = System.find_executable("sh")
      assert Executable.resolve("sh", Path.dirname(sh)) == {:ok, sh}
      assert {:ok, "/" <> _} = Executable.resolve("sh", nil)
      assert Executable.resolve("sh", "") == {:error, :enoent}
      assert Executable.resolve("sh", "/nowhere") == {:error, :enoent}
      assert Executable.resolve("sh", "/nowhere:#{Path.dirname(sh)}") == {:ok, sh}
      assert Executable.resolve("no-such-program", System.get_env("PATH")) == {:error, :enoent}
      long = "/" <> String.duplicate("x", 100_000)
      assert Executable.resolve("sh", "#{long}:#{Path.dirname(sh)}") == {:ok, sh}
    end

    test "makes every other path absolute, and leaves it to execve" do
      assert Executable.resolve("/no/such/file", nil) == {:ok, "/no/such/file"}
      cwd = File.cwd!()
      assert Executable.resolve("./no/such", nil) == {:ok, cwd <> "/./no/such"}
      assert Executable.resolve("no/such", nil) == {:ok, cwd <> "/no/such"}
      assert Executable.resolve("../x", nil) == {:ok, cwd <> "/../x"}
    end
  end

  test "check/2 looks whether it can be executed" do
    path = tmp_path("program")
    assert Executable.check(path, nil) == {:error, :enoent}
    File.write!(path, "")
    assert Executable.check(path, nil) == {:error, :eacces}
    File.chmod!(path, 0o755)
    assert Executable.check(path, nil) == {:ok, path}
    assert Executable.check(Path.dirname(path), nil) == {:error, :eacces}
    assert Executable.check("sh", "/bin") == {:ok, "/bin/sh"}
    assert Executable.check(path <> "/x", nil) == {:error, :enotdir}
  end
end
