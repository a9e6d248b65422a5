/* options: how many workers the fds suffice for, also where the kernel does not tell how many there are.
 * Build: cc -Iinclude -Isrc -Wl,--wrap=stat tests/test_options.c src/…*.c -lcmocka */
#include "options.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { SOME_FDS = 100, MANY_FDS = 140 };

static bool kernel_is_old;
static unsigned calls;

int __real_stat(const char *path, struct stat *status);
int __wrap_stat(const char *path, struct stat *status);

/* Linux before 6.2. */
int __wrap_stat(const char *path, struct stat *status)
{
    int rc = __real_stat(path, status);
    calls++;
    if (kernel_is_old)
        status->st_size = 0;
    return rc;
}

/* The most workers that a limit of so many fds allows. */
static unsigned most_workers(rlim_t limit_fds)
{
    struct rlimit before, limit;
    struct pool_options options = POOL_OPTIONS_INIT;
    unsigned workers;
    bool asked;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = (struct rlimit){limit_fds, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (options.workers = 1; !options_choose_workers(&options, &workers, &asked);)
        options.workers++;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    return options.workers - 1;
}

static void fds_are_counted_where_the_kernel_does_not_tell(void **unused)
{
    (void)unused;
    int more[12];
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        for (rlim_t limit = SOME_FDS; limit < MANY_FDS; limit++) {
            kernel_is_old = false;
            unsigned told = most_workers(limit);
            kernel_is_old = true;
            assert_int_equal(most_workers(limit), told);
            assert_true(told > 0 && told < limit);
        }
        assert_true((more[i] = dup(STDOUT_FILENO)) >= 0);
    }
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        close(more[i]);
    assert_true(calls > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fds_are_counted_where_the_kernel_does_not_tell)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
