/* loop_life: the loop itself, from loop_init until it is cleared, or left alone in a forked child. See loop.h. */
#include "clock.h"
#include "fd.h"
#include "loop_inner.h"
#include "pages.h"
#include "procpool.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

static int keep_fd(int *fd_out, int fd_or_error)
{
    if (fd_or_error < 0)
        return fd_or_error;
    *fd_out = fd_or_error;
    return 0;
}

static size_t staging_bytes(const struct loop *loop)
{
    return (size_t)loop->sched.slot_count * CHAN_STAGING_BYTES;
}

static int allocate(struct loop *loop)
{
    loop->peers = calloc(loop->sched.slot_count, sizeof *loop->peers);
    loop->unsent = calloc((loop->sched.slot_count + 63) / 64, sizeof *loop->unsent);
    loop->staging = pages_create_alone(staging_bytes(loop));
    for (unsigned i = 0; loop->peers && i < loop->sched.slot_count; i++)
        peer_init(&loop->peers[i]);
    return loop->peers && loop->unsent && loop->staging ? 0 : -ENOMEM;
}

static int open_fds(struct loop *loop)
{
    int rc = keep_fd(&loop->epoll_fd, fd_take_above_stdio(epoll_create1(EPOLL_CLOEXEC)));
    if (!rc)
        rc = keep_fd(&loop->timer_fd, fd_take_above_stdio(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)));
    if (!rc)
        rc = keep_fd(&loop->wake_fd, fd_take_above_stdio(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
    if (!rc)
        rc = loop_watch(loop, loop->timer_fd, 0, ABOUT_TIME, EPOLLIN);
    return rc ? rc : loop_watch(loop, loop->wake_fd, 0, ABOUT_WAKE, EPOLLIN);
}

int loop_init(struct loop *loop, const struct loop_options *options)
{
    *loop = (struct loop){.backend = options->backend,
                          .setup.max_result_bytes = options->max_result_bytes,
                          .epoll_fd = -1,
                          .timer_fd = -1,
                          .wake_fd = -1,
                          .timer_ns = SCHED_NEVER,
                          .trim_ns = SCHED_NEVER,
                          .checked_ns = clock_now_ns(),
                          .start_error = POOL_EBROKEN};
    int rc = sched_init(&loop->sched, &options->sched);
    if (rc)
        return rc;
    rc = allocate(loop);
    if (!rc)
        rc = open_fds(loop);
    if (rc) {
        loop_clear(loop);
        return rc;
    }
    callable_prepare();
    loop->backend_state = options->backend_state;
    loop->setup.config = options->config;
    loop->setup.config_size = options->config_size;
    return 0;
}

static void release(struct loop *loop)
{
    for (size_t i = 0; i < loop->setup.replay_count; i++)
        free(loop->setup.replays[i].input.data);
    free(loop->setup.replays);
    free(loop->setup.config);
    free(loop->peers);
    free(loop->unsent);
    pages_destroy(loop->staging, staging_bytes(loop));
    loop->peers = NULL;
    loop->unsent = NULL;
    loop->staging = NULL;
    loop->backend_state = NULL;
    functions_clear(&loop->setup.functions);
    loop->setup = (struct peer_setup){0};
    lanes_clear(&loop->lanes);
    sched_clear(&loop->sched);
    if (loop->is_lost)
        loop->epoll_fd = loop->timer_fd = loop->wake_fd = -1;
    fd_close(&loop->epoll_fd);
    fd_close(&loop->timer_fd);
    fd_close(&loop->wake_fd);
}

void loop_clear(struct loop *loop)
{
    loop_reap_lost(loop);
    for (unsigned i = 0; loop->peers && i < loop->sched.slot_count; i++) {
        if (peer_is_open(&loop->peers[i]))
            loop_discard(loop, &loop->peers[i].child);
        peer_close(&loop->peers[i]);
    }
    if (loop->backend_state)
        loop->backend->close(loop->backend_state);
    release(loop);
}

void loop_abandon(struct loop *loop)
{
    for (unsigned i = 0; i < loop->started_count; i++)
        backend_drop_child(&loop->started[i]);
    for (unsigned i = 0; loop->peers && i < loop->sched.slot_count; i++) {
        backend_close_exit(&loop->peers[i].child);
        peer_abandon_memory(&loop->peers[i]);
        peer_close(&loop->peers[i]);
    }
    if (loop->backend_state)
        loop->backend->abandon(loop->backend_state); /* what it holds beside fds is the child's small loss */
    lanes_close_fds(&loop->lanes);
    loop->staging = NULL; /* which this process does not have */
    release(loop);
}
