/*
 * Where the sanitizers of a test build report to. Linked into every program of that build by
 * options.cmake: the zygote is started with an empty environment and without a terminal, so neither
 * ASAN_OPTIONS nor stderr would do.
 */
#define SHOWN __attribute__((visibility("default")))

SHOWN const char *__asan_default_options(void);
SHOWN const char *__ubsan_default_options(void);

const char *__asan_default_options(void)
{
    return "quarantine_size_mb=1:log_path='" NET_RUNNER_REPORTS "/asan'";
}

const char *__ubsan_default_options(void)
{
    return "print_stacktrace=1:log_path='" NET_RUNNER_REPORTS "/ubsan'";
}
