/* loop: passes over what has happened, and the effects that follow. See loop.h, and loop_inner.h for the other
 * rooms. */
#include "loop.h"
#include "bits.h"
#include "clock.h"
#include "fd.h"
#include "loop_inner.h"
#include "procpool.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>

enum { CONGESTED_SENDS = 2 }; /* for one item, before it fails of that */
/* Whose memory for what is large was not used for so long gives it up: to have it again takes up to some ms. */
#define UNUSED_NS   UINT64_C(1000000000)
#define CHECK_NS    UINT64_C(1900000000) /* between two looks at whether workers can be heard */
#define UNDRIVEN_NS UINT64_C(1000000)    /* after this long everything is looked at before anything else */
#define BEHIND_NS   UINT64_C(100000)     /* by who submits: workers may have done what they had */
/* So much is handed out together while no worker is idle, but no more than this part of what is under way: or workers
 * would run dry. */
enum { GATHER_TASKS = 32, GATHER_SHARE = 4, GATHER_BYTES = 32 << 10 };

static uint64_t wake_ns_of(const struct loop *loop)
{
    uint64_t wake_ns = sched_wake_ns(&loop->sched);
    return wake_ns < loop->trim_ns ? wake_ns : loop->trim_ns;
}

static void set_timer(struct loop *loop)
{
    uint64_t wake_ns = wake_ns_of(loop);
    if (wake_ns == loop->timer_ns || loop->is_lost)
        return;
    struct itimerspec when = {0}; /* disarmed */
    if (wake_ns != SCHED_NEVER)
        when.it_value = clock_timespec(wake_ns);
    loop->misses_fds |= timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) != 0;
    loop->timer_ns = wake_ns;
}

/* ---- performing effects ---- */

static void note_sent(const struct peer *peer, const struct span *span)
{
    for (uint64_t i = span->first; span->job->kind == JOB_LANE && i < span->first + span->count; i++)
        task_note_sent(lanes_task(span->job, i), peer->worker_id, peer->child.pid);
}

/* More fds of this user are under way in sockets than the kernel allows, or it has no room. This passes mostly: the
 * worker is replaced, and the item, which it has not been sent, goes to another. */
static bool is_congestion(int rc)
{
    return rc == -EAGAIN || rc == -ETOOMANYREFS || rc == -ENOBUFS;
}

static void do_send(struct loop *loop, const struct sched_effect *effect)
{
    struct peer *peer = &loop->peers[effect->slot];
    bool behind = sched_head(&loop->sched, effect->slot) != effect->span;
    peer->may_spin = sched_spares_cpu(&loop->sched);
    int rc = peer_put_span(peer, effect->span, effect->stepwise, behind || effect->span->count > 1);
    if (is_congestion(rc) && effect->span->unread_deaths < CONGESTED_SENDS) {
        sched_unreachable(&loop->sched, effect->slot);
        return;
    }
    if (fd_is_lost(rc)) {
        loop->misses_fds = true;
        return;
    }
    if (rc) {
        sched_unsent(&loop->sched, effect->slot, rc);
        return;
    }
    note_sent(peer, effect->span);
    loop->has_large_items |= peer_has_large_items(peer);
    bit_set(loop->unsent, effect->slot, true);
}

/* ---- memory for what is large ---- */

/* Once in a while as long as there is such memory, or it may be wanted soon, whoever is at work. */
static void plan_trim(struct loop *loop)
{
    if (loop->has_large_items && loop->trim_ns == SCHED_NEVER)
        loop->trim_ns = loop->sched.now_ns + UNUSED_NS;
}

/* Who has not used it since the last time gives it up. */
static void trim(struct loop *loop)
{
    loop->has_large_items = false;
    for (unsigned i = 0; i < loop->sched.slot_count; i++) {
        if (sched_state(&loop->sched, i) != SLOT_READY || !peer_has_large_items(&loop->peers[i]))
            continue;
        peer_trim(&loop->peers[i]);
        loop->has_large_items |= peer_has_large_items(&loop->peers[i]);
        bit_set(loop->unsent, i, true);
    }
}

static void trim_if_due(struct loop *loop)
{
    if (loop->sched.now_ns < loop->trim_ns)
        return;
    loop->trim_ns = SCHED_NEVER;
    trim(loop);
}

/* The tasks among the last `count` items that slot has in flight were not tried there. */
static void note_taken_back(struct loop *loop, unsigned slot, uint64_t count)
{
    uint64_t before = -count; /* how many stay */
    for (const struct span *span = sched_head(&loop->sched, slot); span; span = span->next)
        before += span->count;
    for (const struct span *span = sched_head(&loop->sched, slot); span; span = span->next) {
        uint64_t stays = before < span->count ? before : span->count;
        before -= stays;
        for (uint64_t i = span->first + stays; span->job->kind == JOB_LANE && i < span->first + span->count; i++)
            if (job_is_live(span->job, i))
                task_note_taken_back(lanes_task(span->job, i));
    }
}

static void do_take_back(struct loop *loop, const struct sched_effect *effect)
{
    uint64_t count = peer_take_back(&loop->peers[effect->slot], effect->count);
    note_taken_back(loop, effect->slot, count);
    sched_taken_back(&loop->sched, effect->slot, count);
}

static void do_signal(struct loop *loop, const struct sched_effect *effect)
{
    loop_stop_writing(loop, effect->slot);
    loop_watch_exit(loop, effect->slot);
    int rc = loop->backend->kill(loop->backend_state, &loop->peers[effect->slot].child, effect->signal);
    loop->misses_fds |= fd_is_lost(rc);
}

static void put_command(struct loop *loop, unsigned slot, enum wire_type type)
{
    if (peer_put_command(&loop->peers[slot], type))
        sched_garbage(&loop->sched, slot); /* no memory to ask it: end it without asking */
    else
        bit_set(loop->unsent, slot, true);
}

static void do_refresh(struct loop *loop, const struct sched_effect *effect)
{
    put_command(loop, effect->slot, WIRE_RECYCLE);
}

static void do_dismiss(struct loop *loop, const struct sched_effect *effect)
{
    put_command(loop, effect->slot, WIRE_SHUTDOWN);
}

static void do_break(struct loop *loop, const struct sched_effect *effect)
{
    (void)effect;
    loop->broken = true;
}

/* Whether there was anything: the scheduler may have been told that a worker cannot be reached. */
static bool flush_unsent(struct loop *loop)
{
    unsigned slot = bit_first(loop->unsent, loop->sched.slot_count);
    bool any = slot != BITS_NONE;
    for (; slot != BITS_NONE; slot = bit_first(loop->unsent, loop->sched.slot_count)) {
        bit_set(loop->unsent, slot, false);
        loop_flush_requests(loop, slot);
    }
    return any;
}

/* The next effect, with no start left to be done before it. */
static bool next_effect(struct loop *loop, struct sched_effect *effect_out)
{
    bool any = sched_next(&loop->sched, effect_out);
    if (!loop->start_count || (any && effect_out->kind == SCHED_START))
        return any;
    loop_start_planned(loop);
    return any || sched_next(&loop->sched, effect_out);
}

static void perform_effects(struct loop *loop)
{
    static void (*const performers[])(struct loop *, const struct sched_effect *) = {
        [SCHED_START] = loop_plan_start, [SCHED_SEND] = do_send,       [SCHED_SIGNAL] = do_signal,
        [SCHED_REFRESH] = do_refresh,    [SCHED_DISMISS] = do_dismiss, [SCHED_FAIL] = loop_fail_items,
        [SCHED_END_JOB] = loop_end_job,  [SCHED_BREAK] = do_break,     [SCHED_TAKE_BACK] = do_take_back,
    };
    struct sched_effect effect;
    while (!loop->misses_fds && next_effect(loop, &effect))
        performers[effect.kind](loop, &effect);
}

/* Whether it has given up now what the program has closed, so that there is more to be done. Who reads what workers say
 * without the lock comes by when that is done. */
static bool gives_up(struct loop *loop)
{
    bool may = loop->misses_fds && !atomic_load_explicit(&loop->is_glanced_at, memory_order_acquire);
    if (may)
        loop_lose(loop);
    return may;
}

static void perform(struct loop *loop)
{
    do {
        do
            perform_effects(loop);
        while (!loop->misses_fds && flush_unsent(loop));
        loop->gathered_tasks = 0;
        loop->gathered_bytes = 0;
        plan_trim(loop);
        set_timer(loop);
    } while (gives_up(loop));
}

/* ---- passes ---- */

static void handle_event(struct loop *loop, uint64_t data)
{
    unsigned slot = (uint32_t)data >> ABOUT_BITS;
    uint64_t times;
    if ((data & ~(uint64_t)UINT32_MAX) != loop_tag(loop)) {
        loop->misses_fds = true; /* the epoll is another's */
        return;
    }
    switch (data & ((1 << ABOUT_BITS) - 1)) {
    case ABOUT_REPLIES:
        loop_hear(loop, slot);
        break;
    case ABOUT_REQUESTS:
        if (peer_is_open(&loop->peers[slot]))
            loop_flush_requests(loop, slot);
        break;
    case ABOUT_EXIT:
        loop_look_at_exit(loop, slot);
        break;
    case ABOUT_END:
        loop_note_end(loop, slot);
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

void loop_wake(struct loop *loop)
{
    uint64_t once = 1;
    if (!loop->is_lost)
        loop->misses_fds |= fd_is_lost((int)fd_write(loop->wake_fd, &once, sizeof once));
}

_Static_assert(1 + SCHED_LISTENED <= FD_NAP_MAX, "there is room for all that may end a nap");

bool loop_plan_nap(const struct loop *loop, struct loop_nap *nap_out)
{
    struct sched_nap nap = sched_nap(&loop->sched);
    *nap_out = (struct loop_nap){.fd_count = 1, .fds = {loop->wake_fd}};
    for (unsigned i = 0; i < nap.listened_count; i++)
        nap_out->fds[nap_out->fd_count++] = loop->peers[nap.listened[i]].chan.in_fd;
    for (unsigned i = 0; i < loop->sched.slot_count && nap.ns; i++)
        if (loop->peers[i].watches_output)
            nap.ns = 0; /* it waits for the rest */
    nap_out->until_ns = loop->sched.now_ns + nap.ns;
    return nap.ns;
}

/* By what was known when the workers were last looked at: who woke one may have been kept from its CPU by it since. */
void loop_nap(const struct loop_nap *nap)
{
    uint64_t now_ns = clock_now_ns();
    if (now_ns < nap->until_ns)
        fd_nap(nap->fds, nap->fd_count, nap->until_ns - now_ns);
}

int loop_wait(const struct loop *loop, struct epoll_event events[LOOP_EVENTS], int timeout_ms)
{
    int count = epoll_wait(loop->epoll_fd, events, LOOP_EVENTS, timeout_ms);
    if (count < 0)
        return errno == EINTR ? 0 : LOOP_NO_FDS;
    return count;
}

bool loop_needs_timer(const struct loop *loop)
{
    return loop->timer_ns != SCHED_NEVER;
}

/* Whether there may be more. */
static bool handle_events(struct loop *loop, const struct epoll_event events[LOOP_EVENTS], int count)
{
    if (loop->is_lost)
        return false; /* meanwhile */
    loop->misses_fds |= count == LOOP_NO_FDS;
    for (int i = 0; i < count && !loop->misses_fds; i++)
        handle_event(loop, events[i].data.u64);
    return count == LOOP_EVENTS && !loop->misses_fds;
}

static void handle_all(struct loop *loop, struct epoll_event events[LOOP_EVENTS], int count)
{
    sched_clock(&loop->sched, clock_now_ns());
    loop->looked_ns = loop->sched.now_ns;
    while (handle_events(loop, events, count))
        count = loop_wait(loop, events, 0); /* nothing may be unread when time is acted on */
    if (!loop->misses_fds)
        sched_expire(&loop->sched);
}

/* Nothing tells of it when what a worker would be heard by was closed, and the epoll was not. */
static void check_if_due(struct loop *loop)
{
    if (loop->is_lost || loop->sched.now_ns - loop->checked_ns < CHECK_NS)
        return;
    loop->checked_ns = loop->sched.now_ns;
    loop->misses_fds |= !loop_can_hear(loop);
}

void loop_handle(struct loop *loop, struct epoll_event events[LOOP_EVENTS], int count)
{
    handle_all(loop, events, count);
    check_if_due(loop);
    trim_if_due(loop);
    perform(loop);
}

static void take_glanced(struct loop *loop, const struct loop_glance *glance)
{
    loop_take_glanced(loop, glance);
    loop_look_away(loop); /* not before: nobody may act on the time while what was read is not told */
    perform(loop);
}

void loop_handle_glanced(struct loop *loop, const struct loop_glance *glance)
{
    sched_clock(&loop->sched, clock_now_ns());
    take_glanced(loop, glance);
}

bool loop_is_overdue(const struct loop *loop)
{
    return loop->sched.now_ns - loop->looked_ns > UNDRIVEN_NS;
}

static bool is_behind(const struct loop *loop, uint64_t now_ns)
{
    return now_ns - loop->looked_ns > BEHIND_NS;
}

bool loop_look_in(struct loop *loop, bool waits)
{
    struct loop_glance glance;
    sched_clock(&loop->sched, clock_now_ns());
    if (loop_is_overdue(loop))
        return false;
    loop_aim(loop, &glance);
    bool suffices = loop_glance_suffices(loop, &glance);
    if (suffices) {
        loop_skip_quiet(loop, &glance);
        suffices = loop_glance(loop, &glance) || !waits;
    }
    if (suffices)
        take_glanced(loop, &glance);
    else
        loop_look_away(loop);
    return suffices;
}

/* What has happened to workers while nobody drove is not to be blamed on what they are sent now; and who submits for
 * long has enough for workers that have ended what they had. But if somebody is looking at them right now that is
 * done. */
static void catch_up(struct loop *loop, uint64_t now_ns)
{
    struct epoll_event events[LOOP_EVENTS];
    if (is_behind(loop, now_ns) && !loop->is_lost &&
        !atomic_load_explicit(&loop->is_glanced_at, memory_order_acquire)) {
        handle_all(loop, events, loop_wait(loop, events, 0));
        perform(loop); /* and nothing is given up for want of work, which comes */
        now_ns = clock_now_ns();
    }
    sched_clock(&loop->sched, now_ns);
}

int loop_number(struct loop *loop, callable_fn *fn, uint32_t *number_out, char *message)
{
    return functions_number(&loop->setup.functions, fn, number_out, message);
}

void loop_submit(struct loop *loop, struct job *job)
{
    catch_up(loop, clock_now_ns());
    loop->counts.submitted += job->count;
    sched_submit(&loop->sched, job);
    perform(loop);
}

void loop_cancel(struct loop *loop, struct job *job, int status)
{
    sched_cancel(&loop->sched, job, status);
    perform(loop);
}

static bool has_gathered(const struct loop *loop)
{
    return loop->gathered_tasks >= GATHER_TASKS || loop->gathered_bytes >= GATHER_BYTES ||
           (uint64_t)loop->gathered_tasks * GATHER_SHARE >= loop->sched.unended_items;
}

int loop_add_task(struct loop *loop, struct pool_task *task, uint32_t function, unsigned kind)
{
    task->submitted_ns = clock_now_ns();
    int rc = lanes_add(&loop->lanes, &loop->sched, task, function, kind);
    if (rc)
        return rc;
    loop->counts.submitted++;
    loop->gathered_tasks++;
    loop->gathered_bytes += task_held_bytes(task);
    sched_clock(&loop->sched, task->submitted_ns);
    bool is_due = is_behind(loop, task->submitted_ns) || has_gathered(loop) || !sched_may_gather(&loop->sched);
    return is_due ? LOOP_IS_DUE : 0;
}

void loop_hand_out(struct loop *loop)
{
    catch_up(loop, loop->sched.now_ns); /* which loop_add_task has just told */
    perform(loop);
}

void loop_cancel_task(struct loop *loop, struct pool_task *task)
{
    struct job *job = &task->lane->job;
    struct failure failure = {.status = POOL_ECANCELED, .what = "it was cancelled"};
    uint64_t i = task->index;
    loop_fail_task(loop, job, i, &failure, 0);
    sched_clock(&loop->sched, clock_now_ns());
    sched_cancel_item(&loop->sched, job, i);
    task_queue_append(&loop->ended_tasks, task);
    perform(loop);
}

void loop_tell_returns(struct loop *loop)
{
    for (unsigned i = 0; i < loop->sched.slot_count; i++) {
        if (sched_state(&loop->sched, i) != SLOT_READY || !loop->peers[i].borrow.is_urgent)
            continue;
        peer_put_returns(&loop->peers[i]);
        bit_set(loop->unsent, i, true);
    }
    perform(loop);
}

/* Whoever is about to end is not told: its memory goes with it. */
void loop_drop_buffer(struct loop *loop, const struct buffer *buffer)
{
    if (!loop->peers)
        return;
    for (unsigned i = 0; i < loop->sched.slot_count; i++) {
        if (sched_state(&loop->sched, i) != SLOT_READY)
            continue;
        if (peer_put_unmap(&loop->peers[i], buffer)) /* it would take the next of this number for this one */
            sched_garbage(&loop->sched, i);
        else
            bit_set(loop->unsent, i, true);
    }
    perform(loop);
}

/* Room for its replay is made now, so that its success cannot fail. */
void loop_broadcast(struct loop *loop, struct job *job)
{
    size_t count = loop->setup.replay_count + 1;
    struct peer_replay *replays = realloc(loop->setup.replays, count * sizeof *replays);
    if (replays)
        loop->setup.replays = replays;
    catch_up(loop, clock_now_ns());
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
    loop->misses_fds |= !loop->is_lost && !loop_has_fds(loop); /* or others may be told to end */
    sched_clock(&loop->sched, clock_now_ns());
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

void loop_add_bytes(const struct loop *loop, uint64_t *out, uint64_t *in)
{
    *out += loop->counts.bytes_out;
    *in += loop->counts.bytes_in;
    for (unsigned i = 0; loop->peers && i < loop->sched.slot_count; i++) {
        *out += peer_is_open(&loop->peers[i]) ? peer_bytes_out(&loop->peers[i]) : 0;
        *in += peer_is_open(&loop->peers[i]) ? loop->peers[i].bytes_in : 0;
    }
}

void loop_boot(struct loop *loop)
{
    sched_clock(&loop->sched, clock_now_ns());
    sched_boot(&loop->sched);
    perform(loop);
}
