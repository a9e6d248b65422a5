/* sched_slots: what is done about an event at a slot: the actions of slot.h's table.
 *
 * Here are a worker's start, its due time, what it has in flight, the signals that end it, and what becomes of its
 * items when it is gone; starts that fail, and the pauses between them. Each event goes through sched_step, which keeps
 * the bitmaps of slots that can be sent something.
 * Must not know: the order of jobs, what is sent next. */
#include "bits.h"
#include "sched_inner.h"
#include <assert.h>
#include <signal.h>
#include <utlist.h>

#define START_PAUSE_NS UINT64_C(10000000)  /* after the first failed start; it doubles with each that follows */
enum { START_PAUSE_DOUBLINGS = 7 };        /* but no more often than this */
#define BUSY_PAUSE_NS UINT64_C(2000000)    /* after a start that was put off */
#define EXIT_PAUSE_NS UINT64_C(1000000000) /* for a worker that has closed its pipe; between SIGKILLs */

void sched_clear_slot(struct sched_slot *slot)
{
    *slot = (struct sched_slot){.state = SLOT_EMPTY, .due_ns = SCHED_NEVER, .read_position = SCHED_NEVER};
    flight_init(&slot->flight);
}

/* ---- time ---- */

static void set_due(struct sched *sched, struct sched_slot *slot, uint64_t after_ns)
{
    slot->due_ns = after_ns < SCHED_NEVER - sched->now_ns ? sched->now_ns + after_ns : SCHED_NEVER;
    if (slot->due_ns < sched->wake_ns)
        sched->wake_ns = slot->due_ns;
}

static void pause_starts(struct sched *sched, uint64_t pause_ns)
{
    uint64_t until_ns = sched->now_ns + pause_ns;
    sched->next_start_ns = until_ns > sched->next_start_ns ? until_ns : sched->next_start_ns;
    if (sched->next_start_ns < sched->wake_ns)
        sched->wake_ns = sched->next_start_ns;
}

void sched_plan_wake(struct sched *sched)
{
    sched->wake_ns = sched->next_start_ns > sched->now_ns ? sched->next_start_ns : SCHED_NEVER;
    sched_look_at(sched, sched->look_ns);
    for (unsigned i = 0; i < sched->slot_count; i++)
        if (sched->slots[i].due_ns < sched->wake_ns)
            sched->wake_ns = sched->slots[i].due_ns;
}

/* The deadline of the item that slot is at, which begins now. */
void sched_arm_deadline(struct sched *sched, struct sched_slot *slot)
{
    const struct span *head = slot->flight.head;
    uint64_t timeout_ns = head ? job_timeout_ns(head->job, head->first) : 0;
    slot->due_ns = SCHED_NEVER;
    slot->moved_ns = sched->now_ns;
    slot->asked = false;
    if (timeout_ns)
        set_due(sched, slot, timeout_ns);
}

void sched_look_at(struct sched *sched, uint64_t ns)
{
    sched->look_ns = ns < sched->look_ns ? ns : sched->look_ns;
    sched->wake_ns = ns < sched->wake_ns ? ns : sched->wake_ns;
}

/* ---- slots ---- */

void sched_command(struct sched *sched, struct sched_slot *slot, unsigned commands)
{
    slot->commands |= commands;
    bit_set(sched->commanded, (unsigned)(slot - sched->slots), true);
    sched_ask(sched, QUESTION_COMMANDS);
}

/* Whether more can wait behind what it has: that is of known cost, and not much in number, time and bytes. A lone item
 * may take as long as it likes, since what is behind it can be taken back. Not behind the lone one that a worker begins
 * with: it has no page yet by which it could be asked. */
static bool may_queue(const struct sched *sched, const struct sched_slot *slot)
{
    const struct flight *flight = &slot->flight;
    const struct span *head = flight->head;
    if (!head || head->suspect || head->job->alone || !job_item_ns(head->job) || slot->owes)
        return false;
    bool is_lone = !head->next && head->count == 1;
    if (is_lone && !slot->has_ended && sched->config.workers > 1)
        return false;
    bool has_time = flight->cost_ns < SCHED_QUEUED_NS || (is_lone && slot->has_ended);
    return has_time && flight->run_count < SCHED_MAX_RUNS && flight->bytes < SCHED_QUEUED_BYTES;
}

/* Whether something waits behind its first item that another could have instead. */
static bool has_tail(const struct sched *sched, const struct sched_slot *slot)
{
    const struct span *head = slot->flight.head;
    return slot->state == SLOT_READY && head && !head->suspect && (head->next || head->count > 1) && !slot->asked &&
           sched->config.workers > 1;
}

/* Whether a slot can be sent items now: at once, or behind what it has. */
void sched_note_capacity(struct sched *sched, struct sched_slot *slot)
{
    unsigned i = (unsigned)(slot - sched->slots);
    bool ready = slot->state == SLOT_READY && !slot->flight.taken; /* what it has to step over comes first */
    bool takes = ready && !slot->worn && slot->tasks_left;
    bool is_due = ready && slot->owes && !slot->broadcast.count;
    bool tail = has_tail(sched, slot);
    bit_set(sched->idle, i, takes && !slot->flight.head && !slot->owes);
    bit_set(sched->room, i, takes && may_queue(sched, slot));
    bit_set(sched->owing, i, is_due);
    bit_set(sched->tails, i, tail);
    if (is_due)
        sched_ask(sched, QUESTION_PARTS);
    if (tail)
        sched_look_at(sched, sched_stalls_ns(slot));
    sched_ask(sched, sched->queue ? QUESTION_SENDS : QUESTION_TAKES);
}

void sched_append_run(struct sched *sched, struct sched_slot *slot, struct span *span)
{
    sched->busy_count += !slot->flight.head;
    slot->asked = false;
    flight_append(&slot->flight, span);
    if (slot->tasks_left != UINT64_MAX)
        slot->tasks_left -= span->count < slot->tasks_left ? span->count : slot->tasks_left;
}

struct span *sched_pop_run(struct sched *sched, struct sched_slot *slot)
{
    struct span *span = flight_pop(&slot->flight);
    sched->busy_count -= !slot->flight.head;
    return span;
}

/* ---- deaths ---- */

void sched_give_back(struct sched *sched, struct span *span)
{
    struct job *job = span->job;
    if (job_count_live(job, span)) {
        sched_put_back(sched, span);
        return;
    }
    sched_use_up(sched, span);
    sched_end_if_over(sched, job);
}

/* A worker is gone: the item that it died of will fail, the others run again elsewhere. */
static void settle(struct sched *sched, struct sched_slot *slot)
{
    struct flight_death death = {.verdict = slot->verdict,
                                 .read_position = slot->read_position,
                                 .cut_off = slot->cut_off,
                                 .max_attempts = sched->config.max_attempts};
    sched->busy_count -= slot->flight.head != NULL;
    struct span *returned = flight_settle(&slot->flight, &death, &slot->blame);
    if (slot->blame.job && slot->blame.job->kind == JOB_BROADCAST) {
        slot->blame.job->failed = true;
        slot->owes = false; /* its part ends when that is told */
    }
    while (returned) {
        struct span *span = returned;
        LL_DELETE(returned, span);
        if (span->job->kind == JOB_BROADCAST) {
            span->count = 0; /* not told as having run it: its replacement will */
            span->job->spans_out--;
            continue;
        }
        sched->counts.retried += job_count_live(span->job, span);
        sched_give_back(sched, span);
    }
}

/* A start that has failed is tried again whether or not there is work for it now. */
static void owe_start(struct sched *sched)
{
    sched->starts_owed += sched->starts_owed < sched->config.workers;
}

/* Those that began before the last of them failed have failed together with it, and count once: it may be one deed, or
 * one server, that ended them all. */
static void count_failed_start(struct sched *sched, const struct sched_slot *slot)
{
    bool together = sched->failed_starts && slot->failures_before != sched->failures;
    sched->failed_starts += !together;
    sched->failures += !together;
    unsigned earlier = sched->failed_starts - 1;
    unsigned doublings = earlier < START_PAUSE_DOUBLINGS ? earlier : START_PAUSE_DOUBLINGS;
    owe_start(sched);
    pause_starts(sched, START_PAUSE_NS << doublings);
    bool any = sched->state_count[SLOT_READY] || sched->state_count[SLOT_STARTING];
    if (sched->failed_starts >= SCHED_FAILED_STARTS && !any && !sched->broken)
        sched_break_pool(sched);
}

static void give_signal(struct sched *sched, struct sched_slot *slot, int signal, uint64_t then_after_ns)
{
    slot->signal = signal;
    slot->commands &= ~(unsigned)(COMMAND_REFRESH | COMMAND_DISMISS | COMMAND_TAKE); /* too late to ask */
    sched_command(sched, slot, COMMAND_SIGNAL);
    set_due(sched, slot, then_after_ns);
}

/* ---- what is done about an event at a slot ---- */

static void do_bug(struct sched *sched, struct sched_slot *slot)
{
    (void)sched;
    (void)slot;
    assert(false && "an event that cannot happen in this state");
}

static void do_nothing(struct sched *sched, struct sched_slot *slot)
{
    (void)sched;
    (void)slot;
}

static void await_ready(struct sched *sched, struct sched_slot *slot)
{
    slot->ready = false;
    slot->has_ended = false;
    slot->worn = false;
    slot->verdict = 0;
    slot->failures_before = sched->failures;
    slot->tasks_left = sched->config.max_tasks_per_worker ? sched->config.max_tasks_per_worker : UINT64_MAX;
    set_due(sched, slot, sched->config.start_timeout_ns);
}

static void do_launch(struct sched *sched, struct sched_slot *slot)
{
    sched_clear_slot(slot); /* it owes nothing: that was settled when it became empty */
    sched_take_part(sched, slot);
    slot->state = SLOT_STARTING;
    slot->worker_id = 0;
    while (bit_get(sched->worker_ids, slot->worker_id))
        slot->worker_id++;
    bit_set(sched->worker_ids, slot->worker_id, true);
    slot->numbered = true;
    await_ready(sched, slot);
    sched_command(sched, slot, COMMAND_START);
}

static void release_number(struct sched *sched, struct sched_slot *slot)
{
    if (slot->numbered)
        bit_set(sched->worker_ids, slot->worker_id, false);
    slot->numbered = false;
}

static void vacate(struct sched *sched, struct sched_slot *slot)
{
    release_number(sched, slot);
    sched->leaving_count -= slot->leaves;
    slot->leaves = false;
    sched_leave_broadcast(sched, slot);
    slot->due_ns = SCHED_NEVER;
    slot->commands &= COMMAND_FAIL; /* signals for a process that is gone mean nothing */
    bit_set(sched->empty, (unsigned)(slot - sched->slots), true);
}

static void do_count_failure(struct sched *sched, struct sched_slot *slot)
{
    vacate(sched, slot);
    count_failed_start(sched, slot);
}

static void do_try_later(struct sched *sched, struct sched_slot *slot)
{
    vacate(sched, slot);
    owe_start(sched);
    pause_starts(sched, BUSY_PAUSE_NS);
}

static void do_welcome(struct sched *sched, struct sched_slot *slot)
{
    slot->ready = true;
    slot->renewing = false;
    slot->due_ns = SCHED_NEVER;
    sched->ever_ready = true;
    sched->failed_starts = 0;
    sched->next_start_ns = sched->now_ns;
    if (!sched->state_count[SLOT_STARTING])
        sched_plan_wake(sched); /* or who waits would come back for starts that have succeeded */
    sched_wind_down(sched);
}

/* A worker that was ready and had, or has, something to do: its death is no failed start. */
static bool was_of_use(const struct sched_slot *slot)
{
    return slot->ready && (slot->flight.head || slot->useful);
}

/* It is gone, though it is not known yet how it ended: another starts meanwhile, and only what it died of, if anything,
 * waits for that. Not during a broadcast, which may be what it has died of: then nobody else is to start with it. */
static void do_leave(struct sched *sched, struct sched_slot *slot)
{
    if (slot->leaves || !was_of_use(slot) || slot->cut_off || sched->broadcast)
        return;
    settle(sched, slot);
    slot->leaves = true;
    sched->leaving_count++;
    release_number(sched, slot);
}

static void do_await_exit(struct sched *sched, struct sched_slot *slot)
{
    set_due(sched, slot, EXIT_PAUSE_NS);
}

static void do_refresh(struct sched *sched, struct sched_slot *slot)
{
    await_ready(sched, slot);
    sched_take_part(sched, slot); /* it is another worker from now on */
    sched->counts.recycled++;
    slot->renewing = true;
    sched_command(sched, slot, COMMAND_REFRESH);
}

static void do_dismiss(struct sched *sched, struct sched_slot *slot)
{
    slot->dismissed = true;
    release_number(sched, slot);
    sched_leave_broadcast(sched, slot);
    sched->counts.recycled += slot->worn || !slot->tasks_left;
    set_due(sched, slot, sched->config.start_timeout_ns);
    sched_command(sched, slot, COMMAND_DISMISS);
}

static void do_kill_garbage(struct sched *sched, struct sched_slot *slot)
{
    slot->verdict = POOL_EPROTO;
    give_signal(sched, slot, SIGKILL, EXIT_PAUSE_NS);
}

static void do_kill_late(struct sched *sched, struct sched_slot *slot)
{
    slot->verdict = POOL_ETIMEOUT;
    give_signal(sched, slot, SIGKILL, EXIT_PAUSE_NS);
}

static void give_soft_kill(struct sched *sched, struct sched_slot *slot)
{
    if (sched->config.kill_grace_ns)
        give_signal(sched, slot, SIGTERM, sched->config.kill_grace_ns);
    else
        give_signal(sched, slot, SIGKILL, EXIT_PAUSE_NS);
}

static void do_kill_overdue(struct sched *sched, struct sched_slot *slot)
{
    slot->verdict = POOL_ETIMEOUT;
    sched->counts.timeouts++;
    give_soft_kill(sched, slot);
}

static void do_kill_softly(struct sched *sched, struct sched_slot *slot)
{
    slot->verdict = POOL_ECANCELED;
    give_soft_kill(sched, slot);
}

static void do_kill_now(struct sched *sched, struct sched_slot *slot)
{
    give_signal(sched, slot, SIGKILL, EXIT_PAUSE_NS);
}

static void do_bury(struct sched *sched, struct sched_slot *slot)
{
    bool of_use = slot->leaves || was_of_use(slot);
    bool crashed = slot->ready && !slot->dismissed && (!slot->verdict || slot->verdict == POOL_EPROTO);
    if (!slot->leaves)
        settle(sched, slot);
    if (slot->blame.job)
        sched_command(sched, slot, COMMAND_FAIL);
    vacate(sched, slot);
    if (slot->unwanted)
        return;
    sched->counts.crashes += crashed;
    if (!slot->ready)
        count_failed_start(sched, slot);
    else if (!of_use || slot->cut_off)
        pause_starts(sched, START_PAUSE_NS); /* workers that cannot be given anything: not in a spin */
}

static void (*const actions[SLOT_ACTION_COUNT])(struct sched *, struct sched_slot *) = {
    [SLOT_BUG] = do_bug,
    [SLOT_NOTHING] = do_nothing,
    [SLOT_LAUNCH] = do_launch,
    [SLOT_COUNT_FAILURE] = do_count_failure,
    [SLOT_TRY_LATER] = do_try_later,
    [SLOT_WELCOME] = do_welcome,
    [SLOT_ACCEPT] = do_nothing, /* sched_items_ended does it */
    [SLOT_AWAIT_EXIT] = do_await_exit,
    [SLOT_LEAVE] = do_leave,
    [SLOT_REFRESH] = do_refresh,
    [SLOT_DISMISS] = do_dismiss,
    [SLOT_KILL_GARBAGE] = do_kill_garbage,
    [SLOT_KILL_LATE] = do_kill_late,
    [SLOT_KILL_OVERDUE] = do_kill_overdue,
    [SLOT_KILL_SOFTLY] = do_kill_softly,
    [SLOT_KILL_NOW] = do_kill_now,
    [SLOT_BURY] = do_bury,
};

enum slot_action sched_step(struct sched *sched, struct sched_slot *slot, enum slot_event event)
{
    enum slot_state before = slot->state;
    enum slot_action action = slot_step(&slot->state, event);
    sched->state_count[before]--;
    sched->state_count[slot->state]++;
    actions[action](sched, slot);
    if (action == SLOT_ACCEPT)
        return action; /* which is not all yet */
    sched_note_capacity(sched, slot);
    sched_ask(sched, QUESTION_STARTS);
    return action;
}

/* A worker that has nothing in flight and is worn out starts afresh, here or elsewhere. */
void sched_replace_if_worn(struct sched *sched, struct sched_slot *slot)
{
    bool worn = slot->worn || !slot->tasks_left;
    bool is_idle = slot->state == SLOT_READY && !slot->flight.head && !slot->flight.taken;
    if (is_idle && worn && !sched_must_not_wear_out(sched))
        sched_step(sched, slot, sched->config.restarts ? SLOT_RESTART : SLOT_RETIRE);
}
