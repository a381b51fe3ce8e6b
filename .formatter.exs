[
  inputs: [
    "mix.exs",
    ".formatter.exs",
    "{lib,test}/**/*.{ex,exs}",
    "bench/*.{ex,exs}",
    "bench/{lib,scenarios,config,test}/**/*.{ex,exs}",
    "ci/**/*.{ex,exs}"
  ]
]
