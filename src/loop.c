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
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>

#define UNDRIVEN_NS UINT64_C(1000000) /* after this long it is worth a look before work is handed out */
enum { WHAT_BYTES = 1400 };           /* "worker 3 (pid 4711) ..." fits LOOP_TEXT_BYTES with it */

/* What an epoll event is about: this and the slot are its data. */
enum { ABOUT_REPLIES, ABOUT_REQUESTS, ABOUT_EXIT, ABOUT_TIME, ABOUT_WAKE, ABOUT_BITS = 3 };

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

/* Nothing more for a worker that is being killed, or cannot answer. */
static void stop_writing(struct loop *loop, unsigned slot)
{
    peer_mute(&loop->peers[slot]);
    watch_output(loop, slot, false);
}

static void flush(struct loop *loop, unsigned slot)
{
    int rc = chan_flush(&loop->peers[slot].chan);
    watch_output(loop, slot, rc == CHAN_AGAIN);
    if (rc < 0) { /* the kernel has no memory for the pipe's pages, say */
        stop_writing(loop, slot);
        sched_unreachable(&loop->sched, slot);
    }
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

static const char *const nouns[] = {
    [JOB_FIXED] = "item", [JOB_BYTES] = "item", [JOB_LANE] = "task", [JOB_BROADCAST] = "broadcast"};

/* What became of an item that failed. */
struct failure {
    int status, code;
    const struct peer *peer; /* whose doing it was; NULL: nobody's */
    const char *what;        /* in words; after "worker 1 (pid 4711) " where there is a peer */
};

/* "task 17 of parse in /usr/bin/x: worker 1 (pid 4711) was killed by signal 11 (Segmentation fault)" */
static void describe_failure(const struct loop *loop, const struct job *job, uint64_t number,
                             const struct failure *failure, char text[LOOP_TEXT_BYTES])
{
    char name[512], of[64] = "";
    callable_name(functions_pointer(&loop->setup.functions, job->function), name, sizeof name);
    if (job->kind != JOB_BROADCAST)
        snprintf(of, sizeof of, " %" PRIu64, number);
    int size = snprintf(text, LOOP_TEXT_BYTES, "%s%s of %s: ", nouns[job->kind], of, name);
    if (failure->peer)
        size += snprintf(text + size, LOOP_TEXT_BYTES - (size_t)size, "worker %u (pid %d) ", failure->peer->worker_id,
                         (int)failure->peer->child.pid);
    snprintf(text + size, LOOP_TEXT_BYTES - (size_t)size, "%s", failure->what);
}

static void count_failure(struct loop *loop, const struct job *job, int status)
{
    if (job->kind == JOB_BROADCAST)
        return;
    loop->counts.canceled += status == POOL_ECANCELED;
    loop->counts.failed += status != POOL_ECANCELED;
}

static void fail_task(struct loop *loop, const struct job *job, uint64_t i, const struct failure *failure,
                      uint64_t run_ns)
{
    struct pool_task *task = lanes_task(job, i);
    char text[LOOP_TEXT_BYTES];
    if (!task)
        return; /* it was cancelled before */
    bool died = failure->peer && (failure->status == POOL_ECRASH || failure->status == POOL_ETIMEOUT);
    struct task_outcome outcome = {.status = failure->status, .code = failure->code, .run_ns = run_ns, .exit_code = -1};
    if (died && failure->peer->end.known) {
        outcome.signal = failure->peer->end.signal;
        outcome.exit_code = failure->peer->end.signal ? -1 : failure->peer->end.exit_code;
    }
    describe_failure(loop, job, task->item.index, failure, text);
    outcome.text = text;
    count_failure(loop, job, failure->status);
    task_end(task, &outcome, loop->sched.now_ns);
}

static void fail_item(struct loop *loop, struct job *job, uint64_t i, const struct failure *failure, uint64_t run_ns)
{
    char text[LOOP_TEXT_BYTES];
    if (job->kind == JOB_LANE) {
        fail_task(loop, job, i, failure, run_ns);
        return;
    }
    bool wanted = job_would_keep(job, i);
    if (wanted)
        describe_failure(loop, job, i, failure, text);
    count_failure(loop, job, failure->status);
    job_fail(job, i, failure->status, failure->code, wanted ? text : NULL);
}

/* The scheduler knows that these have ended: those of a lane leave it. */
static void take_away(struct loop *loop, struct job *job, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; job->kind == JOB_LANE && i < first + count; i++) {
        struct pool_task *task = lanes_take(job, i);
        if (task)
            task_queue_append(&loop->ended_tasks, task);
    }
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

/* A worker is listened to only when its pid is known, which may be told later than it says that it is ready: else its first items would be
 * nobody's. 0 or a negative errno. */
static int listen_if_known(struct loop *loop, unsigned slot)
{
    struct peer *peer = &loop->peers[slot];
    if (!peer->child.pid || peer->was_watched)
        return 0;
    int rc = watch(loop, peer->child.reply_fd, slot, ABOUT_REPLIES, EPOLLIN);
    peer->watched = peer->was_watched = !rc;
    return rc;
}

static int adopt(struct loop *loop, unsigned slot, const struct backend_child *child, unsigned worker_id)
{
    struct peer *peer = &loop->peers[slot];
    int rc = peer_open(peer, child, worker_id, &loop->setup);
    if (!rc)
        rc = watch(loop, child->exit_fd, slot, ABOUT_EXIT, EPOLLIN);
    peer->watches_exit = !rc;
    if (!rc)
        rc = listen_if_known(loop, slot);
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
    fd_close(&child->socket_fd);
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

static void note_sent(const struct peer *peer, const struct span *span)
{
    for (uint64_t i = span->first; span->job->kind == JOB_LANE && i < span->first + span->count; i++)
        task_note_sent(lanes_task(span->job, i), peer->worker_id, peer->child.pid);
}

/* More fds of this user are under way in sockets than the kernel allows, or it has no room: this passes, and the item, which the worker
 * has not been sent, is not to blame. */
static bool is_congestion(int rc)
{
    return rc == -EAGAIN || rc == -ETOOMANYREFS || rc == -ENOBUFS;
}

static void do_send(struct loop *loop, const struct sched_effect *effect)
{
    struct peer *peer = &loop->peers[effect->slot];
    int rc = peer_put_span(peer, effect->span, effect->stepwise);
    if (is_congestion(rc)) {
        sched_unreachable(&loop->sched, effect->slot);
        return;
    }
    if (rc) {
        sched_unsent(&loop->sched, effect->slot, rc);
        return;
    }
    note_sent(peer, effect->span);
    flush(loop, effect->slot);
}

/* Without memory for it the next SIGKILL tries again. */
static void watch_exit(struct loop *loop, unsigned slot)
{
    struct peer *peer = &loop->peers[slot];
    if (!peer->watches_exit)
        peer->watches_exit = !watch(loop, peer->child.exit_fd, slot, ABOUT_EXIT, EPOLLIN);
}

static void do_signal(struct loop *loop, const struct sched_effect *effect)
{
    stop_writing(loop, effect->slot);
    watch_exit(loop, effect->slot);
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
    char what[WHAT_BYTES];
    struct failure failure = {.status = effect->status,
                              .peer = effect->slot == SCHED_NO_SLOT ? NULL : &loop->peers[effect->slot],
                              .what = what};
    if (effect->status == POOL_ECRASH)
        snprintf(what, sizeof what, "%s", failure.peer->end_text);
    else if (effect->status == POOL_ETIMEOUT)
        snprintf(what, sizeof what, "was killed %" PRIu64 " ms after the item began, at its deadline",
                 job_timeout_ns(job, effect->first) / 1000000);
    else if (effect->status == POOL_EPROTO)
        snprintf(what, sizeof what, "broke the protocol and was killed");
    else if (effect->status == POOL_EBROKEN)
        snprintf(what, sizeof what, "the pool is broken: %.1200s", loop->start_text);
    else
        snprintf(what, sizeof what, "%s", pool_strerror(effect->status));
    for (uint64_t i = 0; i < effect->count; i++)
        fail_item(loop, job, effect->first + i, &failure, 0);
    take_away(loop, job, effect->first, effect->count);
}

/* From now on workers run it as they start, in the order of submission; an earlier one of the same function not any more. */
static void keep_replay(struct loop *loop, struct job *job)
{
    struct peer_setup *setup = &loop->setup;
    struct pool_bytes *input = (struct pool_bytes *)(uintptr_t)job->inputs;
    size_t kept = 0;
    for (size_t i = 0; i < setup->replay_count; i++) {
        if (setup->replays[i].function == job->function)
            free(setup->replays[i].input.data); /* every worker that was greeted with it has run it, or is gone */
        else
            setup->replays[kept++] = setup->replays[i];
    }
    setup->replays[kept] = (struct peer_replay){.function = job->function, .input = *input};
    setup->replay_count = kept + 1;
    *input = (struct pool_bytes){NULL, 0};
}

static void end_broadcast(struct loop *loop, struct job *job)
{
    if (!job->status && (job->left_count || !job->run_count))
        job->status = loop->sched.refusal;
    if (!job->status)
        keep_replay(loop, job);
}

static void do_end_job(struct loop *loop, const struct sched_effect *effect)
{
    struct job *job = effect->job;
    if (job->kind == JOB_LANE) {
        lanes_release(&loop->lanes, (struct lane *)job); /* its first member */
        return;
    }
    if (job->kind == JOB_BROADCAST)
        end_broadcast(loop, job);
    job->ended = true;
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
        struct wire_failure failed = wire_decode_failure(report->failures + (size_t)i * WIRE_FAILURE_BYTES);
        struct failure failure = {.status = POOL_ETASK, .code = failed.code, .peer = peer, .what = what};
        if (job_would_keep(job, report->first + failed.offset))
            snprintf(what, sizeof what, "returned %d", failed.code);
        fail_item(loop, job, report->first + failed.offset, &failure, 0);
    }
}

static void take_reply(struct loop *loop, struct job *job, const struct peer_report *report)
{
    if (job->kind == JOB_LANE) {
        struct task_outcome outcome = {
            .exit_code = -1, .reply = report->reply, .reply_size = report->reply_size, .run_ns = report->elapsed_ns};
        task_end(lanes_task(job, report->first), &outcome, loop->sched.now_ns);
    } else if (job->replies) {
        job->replies[report->first] = (struct pool_bytes){report->reply, report->reply_size};
    }
}

static bool take_result(struct loop *loop, struct job *job, const struct peer *peer, const struct peer_report *report)
{
    char what[WHAT_BYTES];
    struct failure failure = {.status = POOL_ETASK, .code = report->code, .peer = peer, .what = what};
    if (!report->code && !report->reply_lost) {
        take_reply(loop, job, report);
        return false;
    }
    snprintf(what, sizeof what, "returned %d%s%s", report->code, *report->text ? ": " : "", report->text);
    if (!report->code) {
        failure.status = -ENOMEM;
        failure.what = "replied with more than there is memory for";
    }
    fail_item(loop, job, report->first, &failure, report->elapsed_ns);
    return true;
}

static void take_error(struct loop *loop, struct job *job, const struct peer *peer, const struct peer_report *report)
{
    char what[WHAT_BYTES];
    struct failure failure = {.status = report->code, .peer = peer, .what = what};
    snprintf(what, sizeof what, "could not run it: %s%s%s", pool_strerror(report->code), *report->text ? ": " : "",
             report->text);
    for (uint64_t i = 0; i < report->count; i++)
        fail_item(loop, job, report->first + i, &failure, report->elapsed_ns / report->count);
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
    if (job->kind != JOB_BROADCAST)
        loop->counts.succeeded += report->count - failures;
    struct span *span = sched_head(&loop->sched, slot);
    sched_items_ended(&loop->sched, slot, report->count, failures, report->elapsed_ns, report->worn);
    if (span == sched_head(&loop->sched, slot))
        peer_note_answered(span);
    take_away(loop, job, report->first, report->count);
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
        stop_writing(loop, slot);
        sched_eof(&loop->sched, slot);
        return false;
    case PEER_GARBAGE:
        stop_reading(loop, peer);
        stop_writing(loop, slot);
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
    if (peer->was_watched && !peer->watched)
        return; /* its stream has ended */
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
    peer->end = *how;
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
    if (rc == BACKEND_MOVED) {
        peer->watches_exit = false;
        watch_exit(loop, slot);
        if (!peer->watches_exit)
            sched_garbage(&loop->sched, slot);
    }
    if (rc && listen_if_known(loop, slot))
        sched_garbage(&loop->sched, slot);
    if (rc)
        return;
    read_replies(loop, slot); /* everything that it had said */
    note_end(loop, slot, &how, text);
    describe_failed_start(loop, peer);
    sched_unread(&loop->sched, slot, peer_read_position(peer));
    stop_reading(loop, peer);
    watch_output(loop, slot, false);
    loop->counts.bytes_out += peer->chan.sent_bytes;
    loop->counts.bytes_in += peer->bytes_in;
    peer_close(peer);
    sched_exited(&loop->sched, slot);
}

/* ---- passes ---- */

static void handle_event(struct loop *loop, uint64_t data)
{
    unsigned slot = (unsigned)(data >> ABOUT_BITS);
    uint64_t times;
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
    case ABOUT_WAKE:
        (void)!fd_read(loop->wake_fd, &times, sizeof times);
        break;
    default:
        (void)!fd_read(loop->timer_fd, &times, sizeof times);
        loop->timer_ns = SCHED_NEVER;
        break;
    }
}

void loop_wake(const struct loop *loop)
{
    uint64_t once = 1;
    (void)!fd_write(loop->wake_fd, &once, sizeof once);
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
    uint64_t now_ns = loop_now_ns();
    if (now_ns - loop->sched.now_ns > UNDRIVEN_NS) {
        loop_handle(loop, events, loop_wait(loop, events, 0));
        now_ns = loop_now_ns();
    }
    sched_clock(&loop->sched, now_ns);
}

int loop_number(struct loop *loop, callable_fn *fn, uint32_t *number_out, char *message)
{
    return functions_number(&loop->setup.functions, fn, number_out, message);
}

void loop_submit(struct loop *loop, struct job *job)
{
    catch_up(loop);
    loop->counts.submitted += job->count;
    sched_submit(&loop->sched, job);
    perform(loop);
}

void loop_cancel(struct loop *loop, struct job *job, int status)
{
    sched_cancel(&loop->sched, job, status);
    perform(loop);
}

int loop_submit_task(struct loop *loop, struct pool_task *task, uint32_t function, unsigned kind)
{
    catch_up(loop);
    task->submitted_ns = loop->sched.now_ns;
    int rc = lanes_add(&loop->lanes, &loop->sched, task, function, kind);
    if (rc)
        return rc;
    loop->counts.submitted++;
    perform(loop);
    return 0;
}

void loop_cancel_task(struct loop *loop, struct pool_task *task)
{
    struct job *job = &task->lane->job;
    struct failure failure = {.status = POOL_ECANCELED, .what = "it was cancelled"};
    uint64_t i = task->index;
    fail_task(loop, job, i, &failure, 0);
    sched_clock(&loop->sched, loop_now_ns());
    sched_cancel_item(&loop->sched, job, i);
    task_queue_append(&loop->ended_tasks, task);
    perform(loop);
}

/* Room for its replay is made now, so that its success cannot fail. */
void loop_broadcast(struct loop *loop, struct job *job)
{
    size_t count = loop->setup.replay_count + 1;
    struct peer_replay *replays = realloc(loop->setup.replays, count * sizeof *replays);
    if (replays)
        loop->setup.replays = replays;
    catch_up(loop);
    if (replays) {
        sched_broadcast(&loop->sched, job);
        perform(loop);
    } else {
        job->status = -ENOMEM;
        job->ended = true;
    }
}

void loop_shutdown(struct loop *loop, enum pool_shutdown_mode mode)
{
    sched_clock(&loop->sched, loop_now_ns());
    sched_shutdown(&loop->sched, mode);
    perform(loop);
}

bool loop_is_down(const struct loop *loop)
{
    return sched_all_gone(&loop->sched) && !loop->sched.unended_items && !loop->sched.broadcast;
}

unsigned loop_live_count(const struct loop *loop)
{
    unsigned count = 0;
    for (unsigned i = 0; i < loop->sched.slot_count; i++)
        count += peer_is_open(&loop->peers[i]);
    return count;
}

/* "worker 3 (pid 4712) runs task 17 of parse in /usr/bin/x" */
static int describe_worker(const struct loop *loop, unsigned slot, char *text, size_t size)
{
    const struct peer *peer = &loop->peers[slot];
    const struct span *head = sched_head(&loop->sched, slot);
    char name[512];
    if (!head)
        return snprintf(text, size, "worker %u (pid %d) has not ended", peer->worker_id, (int)peer->child.pid);
    bool live = job_is_live(head->job, head->first) && head->job->kind != JOB_FIXED;
    uint64_t number = live ? job_item(head->job, head->first).index : head->first;
    callable_name(functions_pointer(&loop->setup.functions, head->job->function), name, sizeof name);
    return snprintf(text, size, "worker %u (pid %d) runs %s %" PRIu64 " of %s", peer->worker_id, (int)peer->child.pid,
                    nouns[head->job->kind], number, name);
}

void loop_describe_rest(const struct loop *loop, char *text_out, size_t size)
{
    size_t end = 0;
    text_out[0] = '\0';
    for (unsigned i = 0; i < loop->sched.slot_count && end + 2 < size; i++) {
        if (!peer_is_open(&loop->peers[i]))
            continue;
        if (end)
            end += (size_t)snprintf(text_out + end, size - end, "; ");
        end += (size_t)describe_worker(loop, i, text_out + end, size - end);
    }
}

void loop_add_bytes(const struct loop *loop, uint64_t *out, uint64_t *in)
{
    *out += loop->counts.bytes_out;
    *in += loop->counts.bytes_in;
    for (unsigned i = 0; loop->peers && i < loop->sched.slot_count; i++) {
        *out += peer_is_open(&loop->peers[i]) ? loop->peers[i].chan.sent_bytes : 0;
        *in += peer_is_open(&loop->peers[i]) ? loop->peers[i].bytes_in : 0;
    }
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
                          .setup.max_result_bytes = options->max_result_bytes,
                          .epoll_fd = -1,
                          .timer_fd = -1,
                          .wake_fd = -1,
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
        rc = keep_fd(&loop->wake_fd, fd_take_above_stdio(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
    if (!rc)
        rc = watch(loop, loop->timer_fd, 0, ABOUT_TIME, EPOLLIN);
    if (!rc)
        rc = watch(loop, loop->wake_fd, 0, ABOUT_WAKE, EPOLLIN);
    if (rc) {
        loop_clear(loop);
        return rc;
    }
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
    loop->peers = NULL;
    loop->backend_state = NULL;
    functions_clear(&loop->setup.functions);
    loop->setup = (struct peer_setup){0};
    lanes_clear(&loop->lanes);
    sched_clear(&loop->sched);
    fd_close(&loop->epoll_fd);
    fd_close(&loop->timer_fd);
    fd_close(&loop->wake_fd);
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
    lanes_close_fds(&loop->lanes);
    release(loop);
}
