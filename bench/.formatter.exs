[inputs: ["mix.exs", ".formatter.exs", "{lib,test,compare}/**/*.{ex,exs}"]]
