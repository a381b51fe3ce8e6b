unless System.find_executable("gnuplot") do
  IO.puts("""

  LEFT OUT: the tests that draw charts (tag gnuplot), because gnuplot is missing.
  Debian: apt-get install gnuplot-nox
  """)
end

# :long are those that `ci/long compare` runs.
ExUnit.start(exclude: if(System.find_executable("gnuplot"), do: [:long], else: [:long, :gnuplot]))
