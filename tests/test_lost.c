/* lost: the host closes fds of a pool that is being made, one at a time: whatever pool_create says of it, no child is
 * left in the end.
 * Build: cc -Iinclude -Isrc -Wl,--wrap=epoll_ctl tests/test_lost.c src/…*.c -lcmocka */
#include "procpool.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static unsigned additions, closes_at;

int __real_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);

/* As if another thread had closed it just now. */
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    if (operation == EPOLL_CTL_ADD && ++additions == closes_at)
        close(fd);
    return __real_epoll_ctl(epoll_fd, operation, fd, event);
}

/* Whether there was such an fd. */
static bool loses_one(const char *backend, unsigned number)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    struct pool *pool;
    options.backend = backend;
    options.workers = 2;
    additions = 0;
    closes_at = number;
    if (!pool_create(&options, &pool))
        assert_int_equal(pool_destroy(pool), 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody is left, not even a zombie */
    return additions >= number;
}

static void no_child_is_left_whichever_fd_was_closed(void **unused)
{
    (void)unused;
    static const char *const backends[] = {"fork", "spawn", "forkserver"};
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        for (unsigned number = 1; loses_one(backends[i], number); number++)
            continue;
}

int main(void)
{
    pool_init();
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_child_is_left_whichever_fd_was_closed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
