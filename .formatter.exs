[
  inputs: [
    "mix.exs",
    ".formatter.exs",
    "{lib,test}/**/*.{ex,exs}",
    "bench/*.{ex,exs}",
    "bench/{lib,scenarios,config,test,compare}/**/*.{ex,exs}",
    "ci/**/*.{ex,exs}"
  ],
  locals_without_parens: [defcommand: 2, defcommand: 3],
  export: [locals_without_parens: [defcommand: 2, defcommand: 3]]
]
