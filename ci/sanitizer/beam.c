/*
 * The options of the sanitizers in a BEAM that preloads them, preloaded before them: the runtime reads its
 * environment from /proc, and some tests have none. Leaks are not looked for, because a BEAM does not
 * give its memory back when it ends; its threads' signal stacks are its own.
 */
const char *__asan_default_options(void);
const char *__lsan_default_options(void);
const char *__ubsan_default_options(void);

const char *__asan_default_options(void)
{
    return "verify_asan_link_order=0:detect_leaks=0:use_sigaltstack=0:quarantine_size_mb=16"
           ":log_path='" NET_RUNNER_REPORTS "/asan'";
}

const char *__lsan_default_options(void)
{
    return "detect_leaks=0";
}

const char *__ubsan_default_options(void)
{
    return "print_stacktrace=1:log_path='" NET_RUNNER_REPORTS "/ubsan'";
}
