/* loop_workers: one worker's fds, from its start to its end: what is watched of it, what it says, and how it ended. See
 * loop.h. */
#include "error.h"
#include "fd.h"
#include "loop_inner.h"
#include "lost.h"
#include "procpool.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* ---- watching ---- */

static int control(const struct loop *loop, int operation, int fd, unsigned slot, unsigned about, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u64 = loop_tag(loop) | slot << ABOUT_BITS | about};
    return epoll_ctl(loop->epoll_fd, operation, fd, &event) ? -errno : 0;
}

int loop_watch(const struct loop *loop, int fd, unsigned slot, unsigned about, uint32_t events)
{
    return control(loop, EPOLL_CTL_ADD, fd, slot, about, events);
}

static void unwatch(const struct loop *loop, int fd)
{
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* The request pipe is watched only while it is full. Without memory for that the worker is given up: it would never get
 * the rest. */
static void watch_output(struct loop *loop, unsigned slot, bool wanted)
{
    struct peer *peer = &loop->peers[slot];
    if (peer->watches_output == wanted)
        return;
    if (!wanted)
        unwatch(loop, peer->child.request_fd);
    else if (loop_watch(loop, peer->child.request_fd, slot, ABOUT_REQUESTS, EPOLLOUT))
        sched_garbage(&loop->sched, slot);
    peer->watches_output = wanted;
}

static void stop_reading(struct loop *loop, struct peer *peer)
{
    if (peer->watches_replies)
        unwatch(loop, peer->child.reply_fd);
    peer->watches_replies = false;
}

/* Nothing more for a worker that is being killed, or cannot answer. */
void loop_stop_writing(struct loop *loop, unsigned slot)
{
    peer_mute(&loop->peers[slot]);
    watch_output(loop, slot, false);
}

void loop_flush_requests(struct loop *loop, unsigned slot)
{
    struct peer *peer = &loop->peers[slot];
    int rc = peer_flush(peer);
    loop->misses_fds |= fd_is_lost(rc);
    if (loop->misses_fds)
        return;
    watch_output(loop, slot, rc == CHAN_AGAIN);
    if (rc < 0) { /* the kernel has no memory for the pipe's pages, say */
        loop_stop_writing(loop, slot);
        sched_unreachable(&loop->sched, slot);
    }
}

/* An epoll forgets an fd that is closed only when no other process has it, and a child that was just forked may have:
 * so what is watched is unwatched before it is closed. But the backend closes exit_fd itself, when there is nothing
 * more to hear: that is told once, and again only if it is asked for, which takes no memory. */
#define EXIT_EVENTS (EPOLLIN | EPOLLONESHOT)

/* Without memory for it the next SIGKILL tries again. */
void loop_watch_exit(struct loop *loop, unsigned slot)
{
    struct peer *peer = &loop->peers[slot];
    if (!peer->watches_exit)
        peer->watches_exit = !loop_watch(loop, peer->child.exit_fd, slot, ABOUT_EXIT, EXIT_EVENTS);
}

static int watch_exit_again(struct loop *loop, unsigned slot)
{
    return control(loop, EPOLL_CTL_MOD, loop->peers[slot].child.exit_fd, slot, ABOUT_EXIT, EXIT_EVENTS);
}

/* Where the end of a process is known before it is told how it ended: once it has closed its pipe that is waited for as
 * well. Without memory for that it is told later. */
static void watch_end(struct loop *loop, unsigned slot)
{
    struct peer *peer = &loop->peers[slot];
    const struct backend_child *child = &peer->child;
    if (child->pid && child->pidfd >= 0 && child->pidfd != child->exit_fd)
        peer->watches_end = !loop_watch(loop, child->pidfd, slot, ABOUT_END, EPOLLIN);
}

static void stop_watching_end(struct loop *loop, struct peer *peer)
{
    if (peer->watches_end)
        unwatch(loop, peer->child.pidfd);
    peer->watches_end = false;
}

/* ---- starting ---- */

static void note_failed_start(struct loop *loop, int error, const struct peer *peer, const char *what)
{
    loop->start_error = error;
    if (peer)
        snprintf(loop->start_text, sizeof loop->start_text, "worker %u (pid %d) %s", peer->worker_id,
                 (int)peer->child.pid, what);
    else
        snprintf(loop->start_text, sizeof loop->start_text, "%s", what);
}

/* 0 or a negative errno. */
static int begin_to_listen(struct loop *loop, unsigned slot)
{
    struct peer *peer = &loop->peers[slot];
    if (peer->was_listened_to)
        return 0;
    int rc = loop_watch(loop, peer->child.reply_fd, slot, ABOUT_REPLIES, EPOLLIN);
    peer->watches_replies = peer->was_listened_to = !rc;
    return rc;
}

/* End a process that nobody has given anything to do, or not any more; also where its pidfd was closed by the
 * program. */
void loop_discard(struct loop *loop, struct backend_child *child)
{
    struct child_exit unused;
    char text[BACKEND_TEXT_BYTES];
    backend_close_streams(child);
    bool lost = false;
    do {
        lost = lost || fd_is_lost(loop->backend->kill(loop->backend_state, child, SIGKILL));
        fd_poll(child->exit_fd, POLLIN, 100);
    } while (loop->backend->reap(loop->backend_state, child, &unused, text) != 0);
    if (lost) {
        lost_end(child->pid, &child->lifeline_fd);
        lost_reap(child->pid);
    }
}

/* Its process has been started. -ENOMEM, or what the system refused: it is gone. */
static int adopt(struct loop *loop, const struct loop_start *start, struct backend_child *child)
{
    struct peer *peer = &loop->peers[start->slot];
    uint8_t *staging = loop->staging + (size_t)start->slot * CHAN_STAGING_BYTES;
    int rc = peer_open(peer, child, start->worker_id, &loop->setup, staging);
    if (!rc) {
        rc = loop_watch(loop, child->exit_fd, start->slot, ABOUT_EXIT, EXIT_EVENTS);
        peer->watches_exit = !rc;
        if (!rc)
            rc = begin_to_listen(loop, start->slot);
        if (rc && peer->watches_exit)
            unwatch(loop, child->exit_fd);
        if (rc)
            peer_forget(peer);
    }
    if (rc) {
        loop->counts.bytes_out += child->greeted;
        loop_discard(loop, child);
    } else {
        loop_flush_requests(loop, start->slot); /* it may be given up by this, which is no failed start */
    }
    return rc;
}

/* On its own, so that what it has on the stack does not lie under every fork: pages that are written to between two
 * forks are copied for each. */
__attribute__((noinline)) static void refuse_start(struct loop *loop, unsigned slot, int error, const char *text)
{
    char what[WHAT_BYTES];
    snprintf(what, sizeof what, "cannot start a worker: %s%s%s", pool_strerror(error),
             *text ? ": " : error_advice(error), text);
    note_failed_start(loop, error, NULL, what);
    loop->start_refused = true;
    sched_not_started(&loop->sched, slot);
}

void loop_plan_start(struct loop *loop, const struct sched_effect *effect)
{
    loop->starts[loop->start_count++] = (struct loop_start){.slot = effect->slot, .worker_id = effect->worker_id};
    if (loop->start_count == LOOP_STARTS)
        loop_start_planned(loop);
}

static int start_process(struct loop *loop, const struct loop_start *start, char *text)
{
    struct backend_child *child = &loop->started[loop->started_count++];
    uint8_t bytes[BACKEND_GREETING_BYTES];
    struct backend_greeting greeting = {.bytes = bytes,
                                        .size = peer_encode_greeting(&loop->setup, start->worker_id, bytes)};
    return loop->backend->start(loop->backend_state, &greeting, child, text);
}

/* The processes one right after the other, then what the loop keeps of them: memory that is written to between two
 * forks is copied for each of them. The first refusal ends the attempt; it is told last, when the scheduler may decide
 * on all the others. */
void loop_start_planned(struct loop *loop)
{
    struct loop_start starts[LOOP_STARTS], *refused = NULL;
    unsigned count = loop->start_count;
    memcpy(starts, loop->starts, count * sizeof *starts);
    char text[BACKEND_TEXT_BYTES] = "";
    loop->start_count = 0;
    for (unsigned i = 0; i < count; i++) {
        bool goes_on = !i || !starts[i - 1].rc;
        starts[i].rc = goes_on ? start_process(loop, &starts[i], text) : BACKEND_BUSY;
    }
    loop->started_count = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!starts[i].rc)
            starts[i].rc = adopt(loop, &starts[i], &loop->started[i]);
        if (starts[i].rc < 0 && !refused)
            refused = &starts[i];
        else if (starts[i].rc)
            sched_start_later(&loop->sched, starts[i].slot);
    }
    loop->misses_fds |= refused && fd_is_lost(refused->rc);
    if (refused && loop->sched.leaving_count)
        sched_start_later(&loop->sched, refused->slot); /* what it lacks may be kept for one that is gone */
    else if (refused)
        refuse_start(loop, refused->slot, refused->rc, text);
}

/* ---- what workers say ---- */

static void take_failed(struct loop *loop, unsigned slot, const struct peer_report *report)
{
    struct peer *peer = &loop->peers[slot];
    char what[WHAT_BYTES];
    snprintf(what, sizeof what, "could not become ready: %.1200s", report->text);
    note_failed_start(loop, POOL_EBROKEN, peer, what);
    peer->explained = true;
    sched_failed(&loop->sched, slot);
}

/* One piece of news; false when there is none for now. */
static bool take_news(struct loop *loop, unsigned slot)
{
    struct peer *peer = &loop->peers[slot];
    struct peer_report report;
    enum peer_news news = peer_next(peer, sched_head(&loop->sched, slot), &report);
    switch (news) {
    case PEER_NOTHING:
        return false;
    case PEER_EOF:
        stop_reading(loop, peer);
        loop_stop_writing(loop, slot);
        watch_end(loop, slot);
        loop->misses_fds |= peer_is_open(peer) && !fd_is_open(peer->child.exit_fd); /* nobody would hear of its end */
        sched_eof(&loop->sched, slot);
        return false;
    case PEER_SKIPPED:
        sched_skipped(&loop->sched, slot, report.count);
        return true;
    case PEER_GARBAGE:
        stop_reading(loop, peer);
        loop_stop_writing(loop, slot);
        sched_garbage(&loop->sched, slot);
        return false;
    case PEER_LOST:
        loop->misses_fds = true;
        return false;
    case PEER_READY:
        sched_ready(&loop->sched, slot);
        return true;
    case PEER_FAILED:
        take_failed(loop, slot, &report);
        return true;
    default:
        loop_take_items(loop, slot, news, &report);
        return true;
    }
}

void loop_take_replies(struct loop *loop, unsigned slot)
{
    struct peer *peer = &loop->peers[slot];
    if (peer->was_listened_to && !peer->watches_replies)
        return; /* its stream has ended */
    while (peer_may_say_more(peer) && take_news(loop, slot))
        ;
    if (chan_has_output(&peer->chan))
        loop_flush_requests(loop, slot); /* a greeting for an image that has just said hello */
}

/* All that can be read. */
static void read_replies(struct loop *loop, unsigned slot)
{
    chan_rearm(&loop->peers[slot].chan);
    peer_note_bell(&loop->peers[slot]);
    loop_take_replies(loop, slot);
}

/* ---- ends ---- */

static void describe_exit(const struct child_exit *how, char *text, size_t size)
{
    if (!how->known)
        snprintf(text, size,
                 "ended, and nobody can tell how: its exit status was taken by the host program, lost with the "
                 "forkserver, or is kept by a debugger");
    else if (how->signal)
        snprintf(text, size, "was killed by signal %d (%s)", how->signal, strsignal(how->signal));
    else
        snprintf(text, size, "exited with code %d", how->exit_code);
}

static void describe_failed_start(struct loop *loop, struct peer *peer)
{
    char what[WHAT_BYTES];
    if (peer->expects == PEER_EXPECTS_RESULTS || peer->explained)
        return;
    if (!peer->child.pid) {
        note_failed_start(loop, POOL_EBROKEN, NULL, peer->end_text); /* there was no process: it is the helper's text */
        return;
    }
    bool mute = peer->expects == PEER_EXPECTS_HELLO;
    snprintf(what, sizeof what, "%.1000s before it was ready%s", peer->end_text,
             mute && loop->backend->capabilities & BACKEND_NEEDS_INIT ? " (is pool_init() the first statement of main?)"
                                                                      : "");
    note_failed_start(loop, POOL_EBROKEN, peer, what);
}

static void record_end(struct loop *loop, unsigned slot, const struct child_exit *how, const char *backend_text)
{
    struct peer *peer = &loop->peers[slot];
    peer->end = *how;
    if (*backend_text)
        snprintf(peer->end_text, sizeof peer->end_text, "%s", backend_text);
    else if (sched_state(&loop->sched, slot) == SLOT_DYING && peer->expects != PEER_EXPECTS_RESULTS &&
             sched_verdict(&loop->sched, slot) == POOL_ETIMEOUT)
        snprintf(peer->end_text, sizeof peer->end_text, "was killed after start_timeout_ms");
    else
        describe_exit(how, peer->end_text, sizeof peer->end_text);
}

/* Its process has ended, after its stream did. */
static void tell_gone(struct loop *loop, unsigned slot)
{
    sched_unread(&loop->sched, slot, peer_read_position(&loop->peers[slot]));
    sched_gone(&loop->sched, slot);
}

void loop_note_end(struct loop *loop, unsigned slot)
{
    struct peer *peer = &loop->peers[slot];
    if (!peer->watches_end || !fd_poll(peer->child.pidfd, POLLIN, 0))
        return; /* what was told meanwhile is more; or it was the end of one before it */
    stop_watching_end(loop, peer);
    tell_gone(loop, slot);
}

/* Also where a tracer keeps it from being known how. */
static bool has_gone(const struct peer *peer)
{
    bool has_hung_up = peer->was_listened_to && !peer->watches_replies;
    return has_hung_up && peer->child.pid && fd_poll(peer->child.pidfd, POLLIN, 0);
}

/* It has not ended, and what was told of it has been read. Whether the rest will be heard. */
static bool listens_again(struct loop *loop, unsigned slot, int reap_rc)
{
    struct peer *peer = &loop->peers[slot];
    if (reap_rc == BACKEND_MOVED)
        peer->watches_exit = false;
    if (peer->watches_exit)
        loop->misses_fds |= watch_exit_again(loop, slot) != 0;
    else
        loop_watch_exit(loop, slot);
    return peer->watches_exit && (!peer->child.pid || !begin_to_listen(loop, slot));
}

void loop_look_at_exit(struct loop *loop, unsigned slot)
{
    struct peer *peer = &loop->peers[slot];
    struct child_exit how;
    char text[BACKEND_TEXT_BYTES] = "";
    if (!peer_is_open(peer))
        return;
    stop_watching_end(loop, peer); /* reap closes it */
    int rc = loop->backend->reap(loop->backend_state, &peer->child, &how, text);
    if (rc) {
        if (!listens_again(loop, slot, rc))
            sched_garbage(&loop->sched, slot);
        else if (has_gone(peer))
            tell_gone(loop, slot);
        return;
    }
    read_replies(loop, slot); /* everything that it had said */
    record_end(loop, slot, &how, text);
    describe_failed_start(loop, peer);
    sched_unread(&loop->sched, slot, peer_read_position(peer));
    stop_reading(loop, peer);
    watch_output(loop, slot, false);
    loop->counts.bytes_out += peer_bytes_out(peer);
    loop->counts.bytes_in += peer->bytes_in;
    peer_close(peer);
    sched_exited(&loop->sched, slot);
}

/* ---- who speaks before its pid is told ---- */

/* Its first items would be nobody's. As a rule the pid was told before; if not the worker is heard when it is. */
void loop_hear(struct loop *loop, unsigned slot)
{
    struct peer *peer = &loop->peers[slot];
    if (peer_is_open(peer) && !peer->child.pid)
        loop_look_at_exit(loop, slot);
    if (!peer_is_open(peer))
        return;
    if (peer->child.pid) {
        read_replies(loop, slot);
    } else {
        stop_reading(loop, peer);
        peer->was_listened_to = false;
    }
}
