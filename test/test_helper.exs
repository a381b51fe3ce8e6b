NetRunner.Test.Backends.check!()
ExUnit.start(capture_log: true)
