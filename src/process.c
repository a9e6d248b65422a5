/* process: a pool in a program with an event loop, and its numbers.
 * Must not know: whose tasks have ended. */
#include "error.h"
#include "fd.h"
#include "options.h"
#include "pool.h"
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/eventfd.h>

/* ---- pool_fd ---- */

static int watch(int outer_fd, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(outer_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* While a thread drives, it shows the loop itself when it is done. */
static int make_fds(struct pool *pool)
{
    if (pool->loop.is_lost)
        return drive_check_work(pool);
    int outer_fd = fd_take_above_stdio(epoll_create1(EPOLL_CLOEXEC));
    int news_fd = outer_fd < 0 ? outer_fd : fd_take_above_stdio(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
    int rc = news_fd < 0 ? news_fd : watch(outer_fd, news_fd);
    if (!rc && !pool->driving)
        rc = watch(outer_fd, pool->loop.epoll_fd);
    if (rc) {
        fd_close(&outer_fd);
        fd_close(&news_fd);
        return error_system(rc, "pool_fd");
    }
    pool->outer_fd = outer_fd;
    pool->news_fd = news_fd;
    return 0;
}

int pool_fd(const struct pool *given)
{
    struct pool *pool = (struct pool *)(uintptr_t)given; /* whose fd is made at first need */
    if (!pool || pool->in_place)
        return error_set(-EINVAL, "pool_fd: %s", pool ? "a pool inside a worker has none" : "pool is NULL");
    int rc = drive_enter(pool);
    if (rc)
        return rc;
    rc = pool->outer_fd < 0 ? make_fds(pool) : 0;
    int fd = pool->outer_fd;
    drive_leave(pool);
    return rc ? rc : fd;
}

/* ---- pool_process ---- */

int pool_process(struct pool *pool)
{
    uint64_t times;
    if (!pool)
        return error_set(-EINVAL, "pool_process: pool is NULL");
    int rc = drive_enter(pool);
    if (rc)
        return rc;
    if (!pool->in_place)
        drive_turn(pool, 0, true);
    if (pool->news_fd >= 0) /* not before it was seen that the pool's fds are its own still */
        (void)!fd_read(pool->news_fd, &times, sizeof times);
    uint64_t count = pool->ended_count - pool->ended_told;
    pool->ended_told = pool->ended_count;
    drive_leave(pool);
    return count < INT_MAX ? (int)count : INT_MAX;
}

/* ---- pool_stats ---- */

static struct pool_stats collect(const struct pool *pool)
{
    const struct loop *loop = &pool->loop;
    const struct sched_counts *counts = &loop->sched.counts;
    struct pool_stats stats = {.size = (uint32_t)sizeof stats,
                               .workers = sched_ready_count(&loop->sched),
                               .busy = sched_busy_count(&loop->sched),
                               .submitted = loop->counts.submitted,
                               .succeeded = loop->counts.succeeded,
                               .failed = loop->counts.failed,
                               .canceled = loop->counts.canceled,
                               .retried = counts->retried,
                               .crashes = counts->crashes,
                               .timeouts = counts->timeouts,
                               .recycled = counts->recycled};
    loop_add_bytes(loop, &stats.bytes_out, &stats.bytes_in);
    return stats;
}

int pool_stats(const struct pool *given, struct pool_stats *stats_out)
{
    struct pool *pool = (struct pool *)(uintptr_t)given; /* whose lock is taken */
    struct pool_stats unused = POOL_STATS_INIT;
    if (!pool || !stats_out)
        return error_set(-EINVAL, "pool_stats: %s is NULL", pool ? "stats_out" : "pool");
    int rc = options_import(&unused, sizeof unused, stats_out, "pool_stats");
    if (!rc)
        rc = drive_enter(pool);
    if (rc)
        return rc;
    struct pool_stats stats = collect(pool);
    drive_leave(pool);
    stats.size = stats_out->size;
    memcpy(stats_out, &stats, stats.size < sizeof stats ? stats.size : sizeof stats);
    return 0;
}
