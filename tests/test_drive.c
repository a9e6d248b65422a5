/* drive: what the system is asked for by who waits for a task, and by who comes by to see. A worker's bell tells both
 * whether there is anything to read, so a reply that has been written is fetched without a question to the epoll, and a
 * pipe that nothing was written to is not read.
 *
 * Calls are counted, and nothing depends on how long anything takes: the clock stands still, and a reply is there
 * before it is waited for.
 * Build: cc -Iinclude -Isrc -Wl,--wrap=epoll_wait,--wrap=fd_read,--wrap=fd_readv,--wrap=clock_gettime
 * tests/test_drive.c src/…*.c -lcmocka */
#include "drive.h"
#include "fd.h"
#include "procpool.h"
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>

#include <cmocka.h>

enum { PATIENCE_MS = 60000, LONG_NS = 2000000 }; /* after which everything is looked at */

static unsigned questions, reads;
static struct timespec standing; /* what the clock says; 0: it goes */

int __real_epoll_wait(int epoll_fd, struct epoll_event *events, int count, int timeout_ms);
int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int count, int timeout_ms);
ssize_t __real_fd_read(int fd, void *bytes, size_t size);
ssize_t __wrap_fd_read(int fd, void *bytes, size_t size);
ssize_t __real_fd_readv(int fd, const struct iovec *parts, int part_count);
ssize_t __wrap_fd_readv(int fd, const struct iovec *parts, int part_count);
int __real_clock_gettime(clockid_t clock, struct timespec *now_out);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now_out);

int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int count, int timeout_ms)
{
    questions++;
    return __real_epoll_wait(epoll_fd, events, count, timeout_ms);
}

ssize_t __wrap_fd_read(int fd, void *bytes, size_t size)
{
    reads++;
    return __real_fd_read(fd, bytes, size);
}

ssize_t __wrap_fd_readv(int fd, const struct iovec *parts, int part_count)
{
    reads++;
    return __real_fd_readv(fd, parts, part_count);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *now_out)
{
    if (!standing.tv_sec || clock != CLOCK_MONOTONIC)
        return __real_clock_gettime(clock, now_out);
    *now_out = standing;
    return 0;
}

static void let_time_pass(long ns)
{
    standing.tv_nsec += ns;
    standing.tv_sec += standing.tv_nsec / 1000000000;
    standing.tv_nsec %= 1000000000;
}

/* ---- a pool of one worker, which has replied before ---- */

static _Atomic(bool) *gate; /* shared with the worker */

static int do_nothing(struct pool_call *call)
{
    (void)call;
    return 0;
}

static int wait_at_gate(struct pool_call *call)
{
    (void)call;
    while (!*gate)
        sched_yield();
    return 0;
}

static struct pool_task *submit(struct pool *pool, pool_task_fn *fn)
{
    struct pool_task *task;
    assert_int_equal(pool_submit(pool, fn, NULL, 0, NULL, &task), 0);
    return task;
}

static uint32_t rings; /* what the bell has said so far; 0: there is none yet */

/* Which has been written, and rung for; the first time for what was written before, too. */
static void await_reply(const struct pool *pool)
{
    const struct peer *peer = &pool->loop.peers[0];
    const _Atomic uint32_t *bell = claims_bell(&peer->claims);
    assert_true(fd_poll(peer->child.reply_fd, POLLIN, PATIENCE_MS));
    if (!bell)
        return;
    rings += rings ? 2 : 4;
    for (int ms = 0; *bell != rings && ms < PATIENCE_MS; ms++)
        poll(NULL, 0, 1);
    assert_int_equal(*bell, rings);
}

static void take(struct pool_task *task)
{
    struct pool_result result;
    assert_int_equal(pool_wait(task, POOL_FOREVER), 0);
    assert_int_equal(pool_task_result(task, &result), 0);
    assert_int_equal(result.status, 0);
    pool_task_free(task);
}

static void make_trip(struct pool *pool)
{
    struct pool_task *task = submit(pool, do_nothing);
    await_reply(pool);
    take(task);
}

/* By a thread that has not looked for so long that it looks at everything. */
static void make_late_trip(struct pool *pool)
{
    struct pool_task *task = submit(pool, do_nothing);
    await_reply(pool);
    let_time_pass(LONG_NS);
    take(task);
}

static struct pool *open_pool(void)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    struct pool *pool;
    options.backend = "fork";
    options.workers = 1;
    rings = 0;
    options.spin_us = -1; /* who spins does not ask either */
    assert_int_equal(pool_create(&options, &pool), 0);
    make_trip(pool);
    make_trip(pool); /* now it has a bell */
    assert_int_not_equal(rings, 0);
    assert_int_equal(__real_clock_gettime(CLOCK_MONOTONIC, &standing), 0);
    make_late_trip(pool);
    return pool;
}

static void close_pool(struct pool *pool)
{
    standing = (struct timespec){0};
    assert_int_equal(pool_destroy(pool), 0);
}

/* ---- cases ---- */

static void who_waits_finds_a_reply_without_asking_for_it(void **unused)
{
    (void)unused;
    struct pool *pool = open_pool();
    questions = 0;
    for (int i = 0; i < 10; i++)
        make_trip(pool);
    assert_int_equal(questions, 0);
    close_pool(pool);
}

static void who_comes_by_finds_a_reply_without_asking_for_it(void **unused)
{
    (void)unused;
    struct pool *pool = open_pool();
    questions = 0;
    struct pool_task *task = submit(pool, do_nothing);
    await_reply(pool);
    assert_int_equal(pool_wait(task, 0), 0);
    assert_int_equal(questions, 0);
    pool_task_free(task);
    close_pool(pool);
}

/* However the last reply was heard of. */
static void who_comes_by_leaves_a_worker_alone_that_has_written_nothing(void **unused)
{
    (void)unused;
    struct pool *pool = open_pool();
    for (int late = 0; late < 2; late++) {
        *gate = false;
        if (late)
            make_late_trip(pool);
        else
            make_trip(pool);
        struct pool_task *task = submit(pool, wait_at_gate);
        questions = reads = 0;
        assert_int_equal(pool_wait(task, 0), POOL_PENDING);
        assert_int_equal(reads, 0);
        assert_int_equal(questions, 0);
        *gate = true;
        await_reply(pool);
        take(task);
    }
    close_pool(pool);
}

static void who_has_not_looked_for_long_looks_at_everything(void **unused)
{
    (void)unused;
    struct pool *pool = open_pool();
    questions = 0;
    make_late_trip(pool);
    assert_int_not_equal(questions, 0);
    close_pool(pool);
}

int main(void)
{
    pool_init();
    gate = mmap(NULL, sizeof *gate, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (gate == MAP_FAILED)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_waits_finds_a_reply_without_asking_for_it),
        cmocka_unit_test(who_comes_by_finds_a_reply_without_asking_for_it),
        cmocka_unit_test(who_comes_by_leaves_a_worker_alone_that_has_written_nothing),
        cmocka_unit_test(who_has_not_looked_for_long_looks_at_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
