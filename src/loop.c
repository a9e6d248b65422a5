#include "loop.h"
#include "error.h"
#include "fd.h"
#include "procpool.h"
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>

#define UNDRIVEN_NS UINT64_C(1000000) /* after this long it is worth a look before work is handed out */
enum { WHAT_BYTES = 1400 };           /* "worker 3 (pid 4711) ..." fits LOOP_TEXT_BYTES with it */

/* What an epoll event is about: this and the slot are its data. */
enum { ABOUT_REPLIES, ABOUT_REQUESTS, ABOUT_EXIT, ABOUT_TIME, ABOUT_BITS = 2 };

uint64_t loop_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- watching ---- */

static int watch(const struct loop *loop, int fd, unsigned slot, unsigned about, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)slot << ABOUT_BITS | about};
    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static void unwatch(const struct loop *loop, int fd)
{
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* The request pipe is watched only while it is full. Without memory for that the worker is given up: it would never get the rest. */
static void watch_output(struct loop *loop, unsigned slot, bool wanted)
{
    struct peer *peer = &loop->peers[slot];
    if (peer->watches_output == wanted)
        return;
    if (!wanted)
        unwatch(loop, peer->child.request_fd);
    else if (watch(loop, peer->child.request_fd, slot, ABOUT_REQUESTS, EPOLLOUT))
        sched_garbage(&loop->sched, slot);
    peer->watches_output = wanted;
}

static void stop_reading(struct loop *loop, struct peer *peer)
{
    if (peer->watched)
        unwatch(loop, peer->child.reply_fd);
    peer->watched = false;
}

static void flush(struct loop *loop, unsigned slot)
{
    int rc = chan_flush(&loop->peers[slot].chan);
    watch_output(loop, slot, rc == CHAN_AGAIN);
}

static void set_timer(struct loop *loop)
{
    uint64_t wake_ns = sched_wake_ns(&loop->sched);
    if (wake_ns == loop->timer_ns)
        return;
    struct itimerspec when = {0}; /* disarmed */
    if (wake_ns != SCHED_NEVER)
        when.it_value =
            (struct timespec){.tv_sec = (time_t)(wake_ns / 1000000000u), .tv_nsec = (long)(wake_ns % 1000000000u)};
    timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    loop->timer_ns = wake_ns;
}

/* ---- texts ---- */

static void describe_exit(const struct child_exit *how, char *text, size_t size)
{
    if (!how->known)
        snprintf(text, size,
                 "ended, and nobody can tell how: its exit status was taken by the host program, or lost "
                 "with the forkserver");
    else if (how->signal)
        snprintf(text, size, "was killed by signal %d (%s)", how->signal, strsignal(how->signal));
    else
        snprintf(text, size, "exited with code %d", how->exit_code);
}

static const char *job_function_name(const struct loop *loop, const struct job *job, char text[512])
{
    callable_name(functions_pointer(&loop->functions, job->function), text, 512);
    return text;
}

/* "item 17 of parse in /usr/bin/x: worker 1 (pid 4711) was killed by signal 11 (Segmentation fault)" */
static void fail_item(const struct loop *loop, struct job *job, uint64_t index, int status, int code,
                      const struct peer *peer, const char *what)
{
    char text[LOOP_TEXT_BYTES], name[512];
    bool wanted = job_would_keep(job, index);
    if (wanted && peer)
        snprintf(text, sizeof text, "item %" PRIu64 " of %s: worker %u (pid %d) %s", index,
                 job_function_name(loop, job, name), peer->worker_id, (int)peer->child.pid, what);
    else if (wanted)
        snprintf(text, sizeof text, "item %" PRIu64 " of %s: %s", index, job_function_name(loop, job, name), what);
    job_fail(job, index, status, code, wanted ? text : NULL);
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

static int adopt(struct loop *loop, unsigned slot, const struct backend_child *child, unsigned worker_id)
{
    struct peer *peer = &loop->peers[slot];
    int rc = peer_open(peer, child, worker_id, loop->config, loop->config_size, loop->max_result_bytes);
    if (!rc)
        rc = watch(loop, child->exit_fd, slot, ABOUT_EXIT, EPOLLIN);
    if (!rc)
        rc = watch(loop, child->reply_fd, slot, ABOUT_REPLIES, EPOLLIN);
    peer->watched = !rc;
    if (rc)
        peer_forget(peer);
    return rc;
}

/* End a process that nobody has given anything to do, or not any more. */
static void discard(struct loop *loop, struct backend_child *child)
{
    struct child_exit unused;
    char text[256];
    fd_close(&child->request_fd);
    fd_close(&child->reply_fd);
    fd_close(&child->lifeline_fd);
    do {
        loop->backend->kill(loop->backend_state, child, SIGKILL);
        fd_poll(child->exit_fd, POLLIN, 100);
    } while (loop->backend->reap(loop->backend_state, child, &unused, text) != 0);
}

static void do_start(struct loop *loop, const struct sched_effect *effect)
{
    struct backend_child child;
    char text[256] = "", what[WHAT_BYTES];
    int rc = loop->backend->start(loop->backend_state, &child, text);
    if (rc == BACKEND_BUSY) {
        sched_start_later(&loop->sched, effect->slot);
        return;
    }
    if (!rc && (rc = adopt(loop, effect->slot, &child, effect->worker_id)) != 0)
        discard(loop, &child);
    if (rc) {
        snprintf(what, sizeof what, "cannot start a worker: %s%s%s", pool_strerror(rc), *text ? ": " : "", text);
        note_failed_start(loop, rc, NULL, what);
        loop->start_refused = true;
        sched_not_started(&loop->sched, effect->slot);
        return;
    }
    flush(loop, effect->slot);
}

/* ---- performing effects ---- */

static void do_send(struct loop *loop, const struct sched_effect *effect)
{
    struct peer *peer = &loop->peers[effect->slot];
    if (peer_put_span(peer, effect->span, effect->stepwise, &loop->functions))
        sched_unsent(&loop->sched, effect->slot, -ENOMEM);
    else
        flush(loop, effect->slot);
}

static void do_signal(struct loop *loop, const struct sched_effect *effect)
{
    loop->backend->kill(loop->backend_state, &loop->peers[effect->slot].child, effect->signal);
}

static void put_command(struct loop *loop, unsigned slot, enum wire_type type)
{
    if (peer_put_command(&loop->peers[slot], type))
        sched_garbage(&loop->sched, slot); /* no memory to ask it: end it without asking */
    else
        flush(loop, slot);
}

static void do_refresh(struct loop *loop, const struct sched_effect *effect)
{
    put_command(loop, effect->slot, WIRE_RECYCLE);
}

static void do_dismiss(struct loop *loop, const struct sched_effect *effect)
{
    put_command(loop, effect->slot, WIRE_SHUTDOWN);
}

/* What the worker's end means for the item that is blamed for it. loop->peers[slot] still is the dead worker. */
static void do_fail(struct loop *loop, const struct sched_effect *effect)
{
    struct job *job = effect->job;
    const struct peer *peer = effect->slot == SCHED_NO_SLOT ? NULL : &loop->peers[effect->slot];
    char what[WHAT_BYTES];
    if (effect->status == POOL_ECRASH)
        snprintf(what, sizeof what, "%s", peer->end_text);
    else if (effect->status == POOL_ETIMEOUT)
        snprintf(what, sizeof what, "was killed %" PRIu64 " ms after the item began, at its deadline",
                 job->timeout_ns / 1000000);
    else if (effect->status == POOL_EPROTO)
        snprintf(what, sizeof what, "broke the protocol and was killed");
    else if (effect->status == POOL_EBROKEN)
        snprintf(what, sizeof what, "the pool is broken: %.1200s", loop->start_text);
    else
        snprintf(what, sizeof what, "%s", pool_strerror(effect->status));
    for (uint64_t i = 0; i < effect->count; i++)
        fail_item(loop, job, effect->first + i, effect->status, 0, peer, what);
}

static void do_end_job(struct loop *loop, const struct sched_effect *effect)
{
    effect->job->ended = true;
    loop->jobs_ended++;
}

static void do_break(struct loop *loop, const struct sched_effect *effect)
{
    (void)effect;
    loop->broken = true;
}

static void perform(struct loop *loop)
{
    static void (*const performers[])(struct loop *, const struct sched_effect *) = {
        [SCHED_START] = do_start,     [SCHED_SEND] = do_send,       [SCHED_SIGNAL] = do_signal,
        [SCHED_REFRESH] = do_refresh, [SCHED_DISMISS] = do_dismiss, [SCHED_FAIL] = do_fail,
        [SCHED_END_JOB] = do_end_job, [SCHED_BREAK] = do_break,
    };
    struct sched_effect effect;
    while (sched_next(&loop->sched, &effect))
        performers[effect.kind](loop, &effect);
    set_timer(loop);
}

/* ---- what workers say ---- */

static void take_failures(struct loop *loop, struct job *job, const struct peer *peer, const struct peer_report *report)
{
    char what[64] = "";
    for (uint32_t i = 0; i < report->failure_count; i++) {
        struct wire_failure failure = wire_decode_failure(report->failures + (size_t)i * WIRE_FAILURE_BYTES);
        if (job_would_keep(job, report->first + failure.offset))
            snprintf(what, sizeof what, "returned %d", failure.code);
        fail_item(loop, job, report->first + failure.offset, POOL_ETASK, failure.code, peer, what);
    }
}

static bool take_result(struct loop *loop, struct job *job, const struct peer *peer, const struct peer_report *report)
{
    char what[WHAT_BYTES];
    if (report->code) {
        snprintf(what, sizeof what, "returned %d%s%s", report->code, *report->text ? ": " : "", report->text);
        fail_item(loop, job, report->first, POOL_ETASK, report->code, peer, what);
    } else if (report->reply_lost) {
        fail_item(loop, job, report->first, -ENOMEM, 0, peer, "replied with more than there is memory for");
    } else if (job->replies) {
        job->replies[report->first] = (struct pool_bytes){report->reply, report->reply_size};
    }
    return report->code || report->reply_lost;
}

static void take_error(struct loop *loop, struct job *job, const struct peer *peer, const struct peer_report *report)
{
    char what[WHAT_BYTES];
    snprintf(what, sizeof what, "could not run it: %s%s%s", pool_strerror(report->code), *report->text ? ": " : "",
             report->text);
    for (uint64_t i = 0; i < report->count; i++)
        fail_item(loop, job, report->first + i, report->code, 0, peer, what);
}

static void take_items(struct loop *loop, unsigned slot, enum peer_news news, const struct peer_report *report)
{
    const struct peer *peer = &loop->peers[slot];
    struct job *job = sched_head(&loop->sched, slot)->job;
    uint64_t failures = 0;
    if (sched_state(&loop->sched, slot) != SLOT_READY) { /* being killed: too late, whatever it says */
        free(report->reply);
        return;
    }
    if (news == PEER_RESULTS) {
        take_failures(loop, job, peer, report);
        failures = report->failure_count;
    } else if (news == PEER_RESULT) {
        failures = take_result(loop, job, peer, report);
    } else {
        take_error(loop, job, peer, report);
        failures = report->count;
    }
    sched_items_ended(&loop->sched, slot, report->count, failures, report->elapsed_ns, report->worn);
}

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
        sched_eof(&loop->sched, slot);
        return false;
    case PEER_GARBAGE:
        stop_reading(loop, peer);
        sched_garbage(&loop->sched, slot);
        return false;
    case PEER_READY:
        sched_ready(&loop->sched, slot);
        return true;
    case PEER_FAILED:
        take_failed(loop, slot, &report);
        return true;
    default:
        take_items(loop, slot, news, &report);
        return true;
    }
}

static void read_replies(struct loop *loop, unsigned slot)
{
    struct peer *peer = &loop->peers[slot];
    if (!peer->watched)
        return;
    chan_rearm(&peer->chan);
    while (take_news(loop, slot))
        ;
    if (chan_has_output(&peer->chan))
        flush(loop, slot); /* a greeting for an image that has just said hello */
}

/* ---- ends ---- */

static void describe_failed_start(struct loop *loop, struct peer *peer)
{
    char what[WHAT_BYTES];
    if (peer->expects == PEER_EXPECTS_RESULTS || peer->explained)
        return;
    bool mute = peer->expects == PEER_EXPECTS_HELLO;
    snprintf(what, sizeof what, "%.1000s before it was ready%s", peer->end_text,
             mute && loop->backend->capabilities & BACKEND_NEEDS_INIT ? " (is pool_init() the first statement of main?)"
                                                                      : "");
    note_failed_start(loop, POOL_EBROKEN, peer, what);
}

static void note_end(struct loop *loop, unsigned slot, const struct child_exit *how, const char *backend_text)
{
    struct peer *peer = &loop->peers[slot];
    if (*backend_text)
        snprintf(peer->end_text, sizeof peer->end_text, "%s", backend_text);
    else if (sched_state(&loop->sched, slot) == SLOT_DYING && peer->expects != PEER_EXPECTS_RESULTS &&
             sched_verdict(&loop->sched, slot) == POOL_ETIMEOUT)
        snprintf(peer->end_text, sizeof peer->end_text, "was killed after start_timeout_ms");
    else
        describe_exit(how, peer->end_text, sizeof peer->end_text);
}

static void look_at_exit(struct loop *loop, unsigned slot)
{
    struct peer *peer = &loop->peers[slot];
    struct child_exit how;
    char text[256] = "";
    if (!peer_is_open(peer))
        return;
    int rc = loop->backend->reap(loop->backend_state, &peer->child, &how, text);
    if (rc == BACKEND_MOVED && watch(loop, peer->child.exit_fd, slot, ABOUT_EXIT, EPOLLIN))
        sched_garbage(&loop->sched,
                      slot); /* its end cannot be watched for: see to it, and look again at the next SIGKILL */
    if (rc)
        return;
    read_replies(loop, slot); /* everything that it had said */
    note_end(loop, slot, &how, text);
    describe_failed_start(loop, peer);
    sched_unread(&loop->sched, slot, peer_read_position(peer));
    stop_reading(loop, peer);
    watch_output(loop, slot, false);
    peer_close(peer);
    sched_exited(&loop->sched, slot);
}

/* ---- passes ---- */

static void handle_event(struct loop *loop, uint64_t data)
{
    unsigned slot = (unsigned)(data >> ABOUT_BITS);
    uint64_t expirations;
    switch (data & ((1 << ABOUT_BITS) - 1)) {
    case ABOUT_REPLIES:
        read_replies(loop, slot);
        break;
    case ABOUT_REQUESTS:
        if (peer_is_open(&loop->peers[slot]))
            flush(loop, slot);
        break;
    case ABOUT_EXIT:
        look_at_exit(loop, slot);
        break;
    default:
        (void)!fd_read(loop->timer_fd, &expirations, sizeof expirations);
        loop->timer_ns = SCHED_NEVER;
        break;
    }
}

int loop_wait(const struct loop *loop, struct epoll_event events[LOOP_EVENTS], int timeout_ms)
{
    int count = epoll_wait(loop->epoll_fd, events, LOOP_EVENTS, timeout_ms);
    return count < 0 ? 0 : count;
}

void loop_handle(struct loop *loop, struct epoll_event events[LOOP_EVENTS], int count)
{
    sched_clock(&loop->sched, loop_now_ns());
    for (;;) {
        for (int i = 0; i < count; i++)
            handle_event(loop, events[i].data.u64);
        if (count < LOOP_EVENTS)
            break;
        count = loop_wait(loop, events, 0); /* nothing may be unread when time is acted on */
    }
    sched_expire(&loop->sched);
    perform(loop);
}

/* What has happened to workers while nobody drove is not to be blamed on what they are sent now. */
static void catch_up(struct loop *loop)
{
    struct epoll_event events[LOOP_EVENTS];
    if (loop_now_ns() - loop->sched.now_ns > UNDRIVEN_NS)
        loop_handle(loop, events, loop_wait(loop, events, 0));
    sched_clock(&loop->sched, loop_now_ns());
}

void loop_submit(struct loop *loop, struct job *job)
{
    catch_up(loop);
    sched_submit(&loop->sched, job);
    perform(loop);
}

void loop_cancel(struct loop *loop, struct job *job, int status)
{
    sched_cancel(&loop->sched, job, status);
    perform(loop);
}

void loop_close(struct loop *loop)
{
    sched_clock(&loop->sched, loop_now_ns());
    sched_close(&loop->sched);
    perform(loop);
}

bool loop_is_down(const struct loop *loop)
{
    return sched_all_gone(&loop->sched);
}

unsigned loop_live_count(const struct loop *loop)
{
    unsigned count = 0;
    for (unsigned i = 0; i < loop->sched.slot_count; i++)
        count += peer_is_open(&loop->peers[i]);
    return count;
}

void loop_boot(struct loop *loop)
{
    sched_clock(&loop->sched, loop_now_ns());
    sched_boot(&loop->sched);
    perform(loop);
}

/* ---- set-up ---- */

static int keep_fd(int *fd_out, int fd_or_error)
{
    if (fd_or_error < 0)
        return fd_or_error;
    *fd_out = fd_or_error;
    return 0;
}

int loop_init(struct loop *loop, const struct loop_options *options)
{
    *loop = (struct loop){.backend = options->backend,
                          .max_result_bytes = options->max_result_bytes,
                          .epoll_fd = -1,
                          .timer_fd = -1,
                          .timer_ns = SCHED_NEVER,
                          .start_error = POOL_EBROKEN};
    int rc = sched_init(&loop->sched, &options->sched);
    if (rc)
        return rc;
    loop->peers = calloc(loop->sched.slot_count, sizeof *loop->peers);
    for (unsigned i = 0; loop->peers && i < loop->sched.slot_count; i++)
        peer_init(&loop->peers[i]);
    rc = loop->peers ? 0 : -ENOMEM;
    if (!rc)
        rc = keep_fd(&loop->epoll_fd, fd_take_above_stdio(epoll_create1(EPOLL_CLOEXEC)));
    if (!rc)
        rc = keep_fd(&loop->timer_fd, fd_take_above_stdio(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)));
    if (!rc)
        rc = watch(loop, loop->timer_fd, 0, ABOUT_TIME, EPOLLIN);
    if (rc) {
        loop_clear(loop);
        return rc;
    }
    loop->backend_state = options->backend_state;
    loop->config = options->config;
    loop->config_size = options->config_size;
    return 0;
}

static void release(struct loop *loop)
{
    free(loop->peers);
    free(loop->config);
    loop->peers = NULL;
    loop->config = NULL;
    loop->backend_state = NULL;
    functions_clear(&loop->functions);
    sched_clear(&loop->sched);
    fd_close(&loop->epoll_fd);
    fd_close(&loop->timer_fd);
}

void loop_clear(struct loop *loop)
{
    for (unsigned i = 0; loop->peers && i < loop->sched.slot_count; i++) {
        if (peer_is_open(&loop->peers[i]))
            discard(loop, &loop->peers[i].child);
        peer_close(&loop->peers[i]);
    }
    if (loop->backend_state)
        loop->backend->close(loop->backend_state);
    release(loop);
}

void loop_abandon(struct loop *loop)
{
    for (unsigned i = 0; loop->peers && i < loop->sched.slot_count; i++) {
        struct backend_child *child = &loop->peers[i].child;
        if (child->pidfd != child->exit_fd)
            fd_close(&child->pidfd);
        fd_close(&child->exit_fd);
        peer_close(&loop->peers[i]);
    }
    if (loop->backend_state)
        loop->backend->abandon(loop->backend_state); /* what it holds beside fds is the child's small loss */
    release(loop);
}
