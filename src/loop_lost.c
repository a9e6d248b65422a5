/* loop_lost: what is done when the program has closed the pool's fds. See loop.h.
 *
 * A library that makes the process a daemon may close whatever it finds from 3 up, and the numbers are used again. That
 * is seen when the kernel refuses what it would not refuse an fd of ours, or when the epoll tells of what is not ours.
 * From then on no number is trusted: nothing is read, written or closed by it (but for lifelines, see lost.h), the pool
 * is broken for good, and what it had to do ends with that.
 * Must not know: who has noticed it. */
#include "error.h"
#include "fd.h"
#include "loop_inner.h"
#include "lost.h"
#include "procpool.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* That the wake_fd is there already can be said only by the epoll that has it. */
bool loop_has_fds(const struct loop *loop)
{
    if (loop->epoll_fd < 0)
        return true; /* it has been cleared */
    struct epoll_event event = {.events = 0};
    int errno_before = errno;
    int rc = epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) ? -errno : 0;
    if (!rc)
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, loop->wake_fd, NULL); /* another's */
    fd_restore_errno(errno_before);
    return rc && rc != -EBADF && rc != -EINVAL && rc != -EPERM; /* which is -EEXIST, or no memory to tell */
}

bool loop_can_hear(const struct loop *loop)
{
    for (unsigned i = 0; i < loop->sched.slot_count; i++) {
        const struct backend_child *child = &loop->peers[i].child;
        if (peer_is_open(&loop->peers[i]) && (!fd_is_open(child->reply_fd) || !fd_is_open(child->exit_fd)))
            return false;
    }
    return true;
}

static void forget_child(struct backend_child *child)
{
    lost_end(child->pid, &child->lifeline_fd);
    child->request_fd = child->request_end_fd = child->reply_fd = child->socket_fd = child->exit_fd = child->pidfd = -1;
}

void loop_forget_fds(struct loop *loop)
{
    if (loop->is_lost)
        return;
    for (unsigned i = 0; i < loop->sched.slot_count; i++) {
        struct peer *peer = &loop->peers[i];
        peer->is_lost = peer_is_open(peer);
        if (peer->is_lost)
            forget_child(&peer->child);
    }
    loop->started_count = 0;
    lanes_forget_fds(&loop->lanes);
    loop->backend->lose(loop->backend_state);
    loop->misses_fds = false;
    loop->is_lost = true;
}

void loop_lose(struct loop *loop)
{
    loop_forget_fds(loop);
    for (unsigned i = 0; i < loop->sched.slot_count; i++) {
        struct peer *peer = &loop->peers[i];
        if (!peer->is_lost)
            continue;
        loop->counts.bytes_out += peer_bytes_out(peer);
        loop->counts.bytes_in += peer->bytes_in;
        peer_close(peer);
    }
    memset(loop->unsent, 0, (loop->sched.slot_count + 63) / 64 * sizeof *loop->unsent);
    loop->start_count = 0;
    loop->has_large_items = false;
    loop->trim_ns = SCHED_NEVER;
    loop->start_error = POOL_EBROKEN;
    snprintf(
        loop->start_text, sizeof loop->start_text,
        "the pool's file descriptors were closed by the program, or by a library of its own (closefrom, or the loop "
        "with which a daemon begins?): make pools after that, and close only what the program has opened");
    sched_lose(&loop->sched);
}

void loop_reap_lost(struct loop *loop)
{
    for (unsigned i = 0; loop->peers && i < loop->sched.slot_count; i++) {
        if (loop->peers[i].is_lost)
            lost_reap(loop->peers[i].child.pid);
        loop->peers[i].is_lost = false;
    }
}
