NetRunner.Test.Backends.check!()

# What this build cannot do is left out by tag, and the run says how much that was.
left_out = if NetRunner.Nif.build() == :portable, do: [:subreaper, :pidfd], else: []

ExUnit.after_suite(fn %{excluded: excluded} ->
  if left_out != [],
    do: IO.puts("\nLeft out: #{excluded} (this build has no #{Enum.join(left_out, ", no ")})")
end)

ExUnit.start(capture_log: true, exclude: left_out)
