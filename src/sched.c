#include "sched.h"
#include "bits.h"
#include "chunk.h"
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <utlist.h>

/* What waits at a worker is bounded in time, since it cannot be taken back, and in bytes, since it fills pipes. */
#define QUEUED_NS    UINT64_C(4000000)
#define QUEUED_BYTES ((size_t)512 << 10)

#define START_PAUSE_NS UINT64_C(10000000) /* after the first failed start; doubles up to */
enum { START_PAUSE_DOUBLINGS = 7 };
#define BUSY_PAUSE_NS UINT64_C(2000000)    /* after a start that was put off */
#define EXIT_PAUSE_NS UINT64_C(1000000000) /* for a worker that has closed its pipe; between SIGKILLs */

/* Commands that wait to be taken as effects, in the order in which they are taken. */
enum { COMMAND_FAIL = 1, COMMAND_START = 2, COMMAND_SIGNAL = 4, COMMAND_REFRESH = 8, COMMAND_DISMISS = 16 };

struct sched_slot {
    enum slot_state state;
    bool ready;    /* has said so since it was started, or started afresh */
    bool unwanted; /* killed because nobody needs it: its end is no failed start */
    bool worn;
    bool useful;   /* has ended an item */
    bool renewing; /* starts afresh in place: what it was before ends in order first */
    int verdict;
    unsigned worker_id;
    bool numbered; /* worker_id is this worker's; one that was dismissed leaves it to its replacement */
    uint64_t due_ns;
    uint64_t tasks_left; /* items it may still be sent */

    struct flight flight;
    uint64_t read_position; /* of the stream to the worker, when it died; SCHED_NEVER: not known, so all of it */

    unsigned commands;
    int signal;                /* COMMAND_SIGNAL */
    struct flight_blame blame; /* COMMAND_FAIL */
};

struct sched_span_block {
    struct sched_span_block *next;
    struct span spans[];
};

/* ---- spans ---- */

static int add_spans(struct sched *sched, size_t count)
{
    struct sched_span_block *block = malloc(sizeof *block + count * sizeof block->spans[0]);
    if (!block)
        return -ENOMEM;
    LL_PREPEND(sched->span_blocks, block);
    for (size_t i = 0; i < count; i++)
        LL_PREPEND(sched->free_spans, &block->spans[i]);
    return 0;
}

static void release_span(struct sched *sched, struct span *span)
{
    if (span != &span->job->whole)
        LL_PREPEND(sched->free_spans, span);
}

/* ---- set-up ---- */

static void clear_slot(struct sched_slot *slot)
{
    *slot = (struct sched_slot){.state = SLOT_EMPTY, .due_ns = SCHED_NEVER, .read_position = SCHED_NEVER};
    flight_init(&slot->flight);
}

int sched_init(struct sched *sched, const struct sched_config *config)
{
    *sched = (struct sched){.config = *config, .wake_ns = SCHED_NEVER};
    sched->slot_count = config->workers * (config->wears_out && !config->restarts ? 2 : 1);
    size_t words = ((size_t)sched->slot_count + 63) / 64;
    sched->slots = calloc(sched->slot_count, sizeof *sched->slots);
    sched->idle = calloc(words * 5, sizeof *sched->idle); /* all five bitmaps */
    if (!sched->slots || !sched->idle || add_spans(sched, (size_t)sched->slot_count * SCHED_MAX_RUNS)) {
        sched_clear(sched);
        return -ENOMEM;
    }
    sched->room = sched->idle + words;
    sched->empty = sched->room + words;
    sched->commanded = sched->empty + words;
    sched->worker_ids = sched->commanded + words;
    for (unsigned i = 0; i < sched->slot_count; i++) {
        clear_slot(&sched->slots[i]);
        bit_set(sched->empty, i, true);
    }
    sched->state_count[SLOT_EMPTY] = sched->slot_count;
    return 0;
}

void sched_clear(struct sched *sched)
{
    while (sched->span_blocks) {
        struct sched_span_block *block = sched->span_blocks;
        LL_DELETE(sched->span_blocks, block);
        free(block);
    }
    free(sched->slots);
    free(sched->idle);
    *sched = (struct sched){0};
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

/* The deadline of the item that slot is at, which begins now. */
static void arm_deadline(struct sched *sched, struct sched_slot *slot)
{
    uint64_t timeout_ns = slot->flight.head ? slot->flight.head->job->timeout_ns : 0;
    slot->due_ns = SCHED_NEVER;
    if (timeout_ns)
        set_due(sched, slot, timeout_ns);
}

/* ---- jobs ---- */

static void enqueue(struct sched *sched, struct job *job, bool in_front)
{
    struct job **list = job->cancel_status ? &sched->canceled : &sched->queue;
    if (in_front)
        DL_PREPEND(*list, job);
    else
        DL_APPEND(*list, job);
    job->queued = true;
}

static void dequeue(struct sched *sched, struct job *job)
{
    struct job **list = job->cancel_status ? &sched->canceled : &sched->queue;
    DL_DELETE(*list, job);
    job->queued = false;
}

static void put_back(struct sched *sched, struct span *span)
{
    struct job *job = span->job;
    if (sched->broken && !job->cancel_status)
        job->cancel_status = POOL_EBROKEN; /* it had nothing pending when the pool broke */
    job_push(job, span);
    sched->pending_items += span->count;
    if (!job->queued)
        enqueue(sched, job, true);
}

static void note_taken(struct sched *sched, struct job *job, uint64_t count)
{
    sched->pending_items -= count;
    if (!job->pending)
        dequeue(sched, job);
}

static void wind_down(struct sched *sched);

static void end_items(struct sched *sched, struct job *job, uint64_t count)
{
    job->unended_count -= count;
    if (job->unended_count)
        return;
    DL_APPEND(sched->ended, job);
    sched->job_count--;
    wind_down(sched);
}

void sched_submit(struct sched *sched, struct job *job)
{
    sched->job_count++;
    sched->pending_items += job->pending_count;
    if (sched->broken)
        job->cancel_status = POOL_EBROKEN;
    if (job->count)
        enqueue(sched, job, false);
    else
        end_items(sched, job, 0);
}

void sched_cancel(struct sched *sched, struct job *job, int status)
{
    if (job->cancel_status)
        return;
    bool queued = job->queued;
    if (queued)
        dequeue(sched, job);
    job->cancel_status = status;
    if (queued)
        enqueue(sched, job, false);
}

/* ---- slots ---- */

static void command(struct sched *sched, struct sched_slot *slot, unsigned commands)
{
    slot->commands |= commands;
    bit_set(sched->commanded, (unsigned)(slot - sched->slots), true);
}

/* Whether a slot can be sent items now: at once, or behind what it has. */
static void note_capacity(struct sched *sched, struct sched_slot *slot)
{
    unsigned i = (unsigned)(slot - sched->slots);
    bool takes = slot->state == SLOT_READY && !slot->worn && slot->tasks_left;
    bool may_queue = slot->flight.run_count < SCHED_MAX_RUNS && slot->flight.cost_ns < QUEUED_NS &&
                     slot->flight.bytes < QUEUED_BYTES;
    bit_set(sched->idle, i, takes && !slot->flight.run_count);
    bit_set(sched->room, i, takes && slot->flight.run_count && may_queue && !slot->flight.head->suspect);
}

static void append_run(struct sched *sched, struct sched_slot *slot, struct span *span)
{
    sched->busy_count += !slot->flight.head;
    flight_append(&slot->flight, span);
    if (slot->tasks_left != UINT64_MAX)
        slot->tasks_left -= span->count < slot->tasks_left ? span->count : slot->tasks_left;
}

static struct span *pop_run(struct sched *sched, struct sched_slot *slot)
{
    struct span *span = flight_pop(&slot->flight);
    sched->busy_count -= !slot->flight.head;
    return span;
}

/* A worker is gone: the item that it died of fails, the others run again elsewhere. */
static void settle(struct sched *sched, struct sched_slot *slot)
{
    struct flight_death death = {slot->verdict, slot->read_position, sched->config.max_attempts};
    sched->busy_count -= slot->flight.head != NULL;
    struct span *returned = flight_settle(&slot->flight, &death, &slot->blame);
    if (slot->blame.job)
        command(sched, slot, COMMAND_FAIL);
    while (returned) {
        struct span *span = returned;
        LL_DELETE(returned, span);
        if (span->count)
            put_back(sched, span);
        else
            release_span(sched, span);
    }
}

static void break_pool(struct sched *sched);

/* A start that has failed is tried again whether or not there is work for it now. */
static void owe_start(struct sched *sched)
{
    sched->starts_owed += sched->starts_owed < sched->config.workers;
}

static void count_failed_start(struct sched *sched)
{
    unsigned doublings = sched->failed_starts < START_PAUSE_DOUBLINGS ? sched->failed_starts : START_PAUSE_DOUBLINGS;
    sched->failed_starts++;
    owe_start(sched);
    pause_starts(sched, START_PAUSE_NS << doublings);
    if (sched->failed_starts >= SCHED_FAILED_STARTS && !sched->state_count[SLOT_READY] && !sched->broken)
        break_pool(sched);
}

static void give_signal(struct sched *sched, struct sched_slot *slot, int signal, uint64_t then_after_ns)
{
    slot->signal = signal;
    slot->commands &= ~(unsigned)(COMMAND_REFRESH | COMMAND_DISMISS); /* too late to ask */
    command(sched, slot, COMMAND_SIGNAL);
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
    slot->worn = false;
    slot->verdict = 0;
    slot->tasks_left = sched->config.max_tasks_per_worker ? sched->config.max_tasks_per_worker : UINT64_MAX;
    set_due(sched, slot, sched->config.start_timeout_ns);
}

static void do_launch(struct sched *sched, struct sched_slot *slot)
{
    clear_slot(slot);
    slot->state = SLOT_STARTING;
    slot->worker_id = 0;
    while (bit_get(sched->worker_ids, slot->worker_id))
        slot->worker_id++;
    bit_set(sched->worker_ids, slot->worker_id, true);
    slot->numbered = true;
    await_ready(sched, slot);
    command(sched, slot, COMMAND_START);
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
    slot->due_ns = SCHED_NEVER;
    slot->commands &= COMMAND_FAIL; /* signals for a process that is gone mean nothing */
    bit_set(sched->empty, (unsigned)(slot - sched->slots), true);
}

static void do_count_failure(struct sched *sched, struct sched_slot *slot)
{
    vacate(sched, slot);
    count_failed_start(sched);
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
    sched->failed_starts = 0;
    sched->next_start_ns = sched->now_ns;
    wind_down(sched);
}

static void do_await_exit(struct sched *sched, struct sched_slot *slot)
{
    set_due(sched, slot, EXIT_PAUSE_NS);
}

static void do_refresh(struct sched *sched, struct sched_slot *slot)
{
    await_ready(sched, slot);
    slot->renewing = true;
    command(sched, slot, COMMAND_REFRESH);
}

static void do_dismiss(struct sched *sched, struct sched_slot *slot)
{
    release_number(sched, slot);
    set_due(sched, slot, sched->config.start_timeout_ns);
    command(sched, slot, COMMAND_DISMISS);
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

static void do_kill_softly(struct sched *sched, struct sched_slot *slot)
{
    slot->verdict = POOL_ETIMEOUT;
    if (sched->config.kill_grace_ns)
        give_signal(sched, slot, SIGTERM, sched->config.kill_grace_ns);
    else
        give_signal(sched, slot, SIGKILL, EXIT_PAUSE_NS);
}

static void do_kill_now(struct sched *sched, struct sched_slot *slot)
{
    give_signal(sched, slot, SIGKILL, EXIT_PAUSE_NS);
}

static void do_bury(struct sched *sched, struct sched_slot *slot)
{
    bool idle_from_the_start = !slot->flight.head && !slot->useful;
    settle(sched, slot);
    vacate(sched, slot);
    if (slot->unwanted)
        return;
    if (!slot->ready)
        count_failed_start(sched);
    else if (idle_from_the_start)
        pause_starts(sched, START_PAUSE_NS); /* workers that die before they are given anything: not in a spin */
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
    [SLOT_REFRESH] = do_refresh,
    [SLOT_DISMISS] = do_dismiss,
    [SLOT_KILL_GARBAGE] = do_kill_garbage,
    [SLOT_KILL_LATE] = do_kill_late,
    [SLOT_KILL_SOFTLY] = do_kill_softly,
    [SLOT_KILL_NOW] = do_kill_now,
    [SLOT_BURY] = do_bury,
};

static enum slot_action step(struct sched *sched, struct sched_slot *slot, enum slot_event event)
{
    enum slot_state before = slot->state;
    enum slot_action action = slot_step(&slot->state, event);
    sched->state_count[before]--;
    sched->state_count[slot->state]++;
    actions[action](sched, slot);
    note_capacity(sched, slot);
    return action;
}

/* ---- events ---- */

void sched_boot(struct sched *sched)
{
    sched->starts_owed = sched->config.workers;
}

void sched_limit_workers(struct sched *sched, unsigned workers)
{
    sched->config.workers = workers;
    sched->starts_owed = 0;
}

void sched_not_started(struct sched *sched, unsigned slot)
{
    step(sched, &sched->slots[slot], SLOT_NOT_STARTED);
}

void sched_start_later(struct sched *sched, unsigned slot)
{
    step(sched, &sched->slots[slot], SLOT_PUT_OFF);
}

void sched_ready(struct sched *sched, unsigned slot)
{
    step(sched, &sched->slots[slot], SLOT_SAYS_READY);
}

void sched_failed(struct sched *sched, unsigned slot)
{
    step(sched, &sched->slots[slot], SLOT_SAYS_FAILED);
}

void sched_garbage(struct sched *sched, unsigned slot)
{
    step(sched, &sched->slots[slot], SLOT_SAYS_GARBAGE);
}

void sched_eof(struct sched *sched, unsigned slot)
{
    step(sched, &sched->slots[slot], SLOT_EOF);
}

void sched_unread(struct sched *sched, unsigned slot, uint64_t read_position)
{
    sched->slots[slot].read_position = read_position;
}

void sched_exited(struct sched *sched, unsigned slot)
{
    step(sched, &sched->slots[slot], SLOT_EXITED);
}

/* A worker that has nothing in flight and is worn out starts afresh, here or elsewhere. */
static void replace_if_worn(struct sched *sched, struct sched_slot *slot)
{
    if (slot->state == SLOT_READY && !slot->flight.head && (slot->worn || !slot->tasks_left))
        step(sched, slot, sched->config.restarts ? SLOT_RESTART : SLOT_RETIRE);
}

void sched_items_ended(struct sched *sched, unsigned slot_index, uint64_t items, uint64_t failures, uint64_t elapsed_ns,
                       bool worn)
{
    struct sched_slot *slot = &sched->slots[slot_index];
    if (step(sched, slot, SLOT_SAYS_ENDED) != SLOT_ACCEPT)
        return;
    struct span *span = slot->flight.head;
    struct job *job = span->job;
    span->first += items;
    span->count -= items;
    span->attempts = 0;
    job_measure(job, items, elapsed_ns);
    slot->worn |= worn;
    slot->useful = true;
    bool stopped = failures && job->stop_on_error; /* the worker has not begun the rest of the span */
    if (stopped)
        sched_cancel(sched, job, POOL_ECANCELED);
    if (!span->count)
        release_span(sched, pop_run(sched, slot));
    else if (stopped)
        put_back(sched, pop_run(sched, slot));
    arm_deadline(sched, slot);
    note_capacity(sched, slot);
    end_items(sched, job, items);
    replace_if_worn(sched, slot); /* last: unless that has wound the pool down */
}

void sched_unsent(struct sched *sched, unsigned slot_index, int status)
{
    struct sched_slot *slot = &sched->slots[slot_index];
    struct span *last = flight_drop_last(&slot->flight);
    sched->busy_count -= !slot->flight.head;
    slot->tasks_left += slot->tasks_left == UINT64_MAX ? 0 : last->count;
    sched_cancel(sched, last->job, status);
    put_back(sched, last);
    if (!slot->flight.head)
        slot->due_ns = SCHED_NEVER;
    note_capacity(sched, slot);
}

void sched_clock(struct sched *sched, uint64_t now_ns)
{
    sched->now_ns = now_ns;
}

void sched_expire(struct sched *sched)
{
    if (sched->now_ns < sched->wake_ns)
        return;
    sched->wake_ns = sched->next_start_ns > sched->now_ns ? sched->next_start_ns : SCHED_NEVER;
    for (unsigned i = 0; i < sched->slot_count; i++) {
        struct sched_slot *slot = &sched->slots[i];
        if (slot->due_ns <= sched->now_ns)
            step(sched, slot, SLOT_DUE);
        if (slot->due_ns < sched->wake_ns)
            sched->wake_ns = slot->due_ns;
    }
}

uint64_t sched_wake_ns(const struct sched *sched)
{
    return sched->wake_ns;
}

/* ---- the end ---- */

static void kill_unwanted(struct sched *sched, struct sched_slot *slot)
{
    slot->unwanted = true;
    step(sched, slot, SLOT_KILL);
}

/* When the pool is closing and nothing is left to do: workers that are ready end in order, those that start afresh when they are
 * (a kill could hit their finalizers), the others at once. */
static void wind_down(struct sched *sched)
{
    if (!sched->closing || sched->job_count)
        return;
    for (unsigned i = 0; i < sched->slot_count; i++) {
        struct sched_slot *slot = &sched->slots[i];
        if (slot->state == SLOT_READY)
            step(sched, slot, SLOT_RETIRE);
        else if (slot->state == SLOT_STARTING && slot->renewing)
            slot->unwanted = true;
        else if (slot->state == SLOT_STARTING || slot->state == SLOT_CLOSED)
            kill_unwanted(sched, slot);
    }
}

void sched_close(struct sched *sched)
{
    sched->closing = true;
    wind_down(sched);
}

static void break_pool(struct sched *sched)
{
    sched->broken = sched->tell_broken = true;
    while (sched->queue)
        sched_cancel(sched, sched->queue, POOL_EBROKEN);
    for (unsigned i = 0; i < sched->slot_count; i++)
        if (sched->slots[i].state == SLOT_STARTING)
            kill_unwanted(sched, &sched->slots[i]);
}

/* ---- effects ---- */

static void fill_command(struct sched_slot *slot, unsigned kind, struct sched_effect *effect)
{
    static const struct {
        unsigned command;
        enum sched_effect_kind kind;
    } kinds[] = {{COMMAND_FAIL, SCHED_FAIL},
                 {COMMAND_START, SCHED_START},
                 {COMMAND_SIGNAL, SCHED_SIGNAL},
                 {COMMAND_REFRESH, SCHED_REFRESH},
                 {COMMAND_DISMISS, SCHED_DISMISS}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].command == kind)
            effect->kind = kinds[i].kind;
    effect->worker_id = slot->worker_id;
    effect->signal = slot->signal;
    effect->job = slot->blame.job;
    effect->first = slot->blame.index;
    effect->count = 1;
    effect->status = slot->blame.status;
    effect->attempts = slot->blame.attempts;
}

static bool next_command(struct sched *sched, struct sched_effect *effect)
{
    unsigned i = bit_first(sched->commanded, sched->slot_count);
    if (i == SCHED_NO_SLOT)
        return false;
    struct sched_slot *slot = &sched->slots[i];
    unsigned first = slot->commands & -slot->commands;
    slot->commands &= ~first;
    bit_set(sched->commanded, i, slot->commands != 0);
    if (!first)
        return next_command(sched, effect);
    effect->slot = i;
    fill_command(slot, first, effect);
    if (first == COMMAND_FAIL) {
        if (slot->blame.job->stop_on_error)
            sched_cancel(sched, slot->blame.job, POOL_ECANCELED);
        end_items(sched, slot->blame.job, 1);
    }
    return true;
}

static bool next_canceled(struct sched *sched, struct sched_effect *effect)
{
    struct job *job = sched->canceled;
    if (!job)
        return false;
    struct span *span = job_take_whole(job);
    note_taken(sched, job, span->count);
    *effect = (struct sched_effect){.kind = SCHED_FAIL,
                                    .slot = SCHED_NO_SLOT,
                                    .job = job,
                                    .first = span->first,
                                    .count = span->count,
                                    .status = job->cancel_status};
    release_span(sched, span);
    end_items(sched, job, effect->count);
    return true;
}

static bool next_ended(struct sched *sched, struct sched_effect *effect)
{
    struct job *job = sched->ended;
    if (!job)
        return false;
    DL_DELETE(sched->ended, job);
    *effect = (struct sched_effect){.kind = SCHED_END_JOB, .slot = SCHED_NO_SLOT, .job = job};
    return true;
}

static bool next_broken(struct sched *sched, struct sched_effect *effect)
{
    if (!sched->tell_broken)
        return false;
    sched->tell_broken = false;
    *effect = (struct sched_effect){.kind = SCHED_BREAK, .slot = SCHED_NO_SLOT};
    return true;
}

/* Replacements are started when there are more pending items than workers that wait for one or are about to. */
static bool wants_start(const struct sched *sched)
{
    const unsigned *count = sched->state_count;
    unsigned live = count[SLOT_STARTING] + count[SLOT_READY] + count[SLOT_CLOSED] + count[SLOT_DYING];
    unsigned idle = count[SLOT_READY] > sched->busy_count ? count[SLOT_READY] - sched->busy_count : 0;
    bool needed = sched->starts_owed || (sched->queue && sched->pending_items > count[SLOT_STARTING] + idle);
    bool over = sched->broken || (sched->closing && !sched->job_count);
    return needed && !over && live < sched->config.workers && sched->now_ns >= sched->next_start_ns;
}

static bool next_start(struct sched *sched, struct sched_effect *effect)
{
    unsigned i = wants_start(sched) ? bit_first(sched->empty, sched->slot_count) : SCHED_NO_SLOT;
    if (i == SCHED_NO_SLOT)
        return false;
    sched->starts_owed -= sched->starts_owed > 0;
    bit_set(sched->empty, i, false);
    step(sched, &sched->slots[i], SLOT_START);
    return next_command(sched, effect);
}

/* An idle slot; else, for items that are known to be short, one that can queue a little more. */
static unsigned choose_slot(const struct sched *sched, const struct job *job)
{
    unsigned slot = bit_first(sched->idle, sched->slot_count);
    uint64_t item_ns = job_item_ns(job);
    bool may_queue = item_ns && item_ns < QUEUED_NS && !job->pending->suspect && chunk_may_queue(job);
    return slot == SCHED_NO_SLOT && may_queue ? bit_first(sched->room, sched->slot_count) : slot;
}

/* `count` items off the front of the job as a span of their own. NULL: no memory, and a span will come free. */
static struct span *take_span(struct sched *sched, struct job *job, uint64_t count)
{
    if (count < job->pending->count && (sched->free_spans || add_spans(sched, 64) == 0)) {
        struct span *span = sched->free_spans;
        LL_DELETE(sched->free_spans, span);
        job_cut(job, count, span);
        return span;
    }
    bool bounded = count == job->pending->count || job->pending != &job->whole;
    return bounded ? job_take_whole(job) : NULL;
}

static bool next_send(struct sched *sched, struct sched_effect *effect)
{
    struct job *job = sched->queue;
    unsigned i = job ? choose_slot(sched, job) : SCHED_NO_SLOT;
    if (i == SCHED_NO_SLOT)
        return false;
    struct sched_slot *slot = &sched->slots[i];
    size_t bytes;
    struct span *span = take_span(sched, job, chunk_choose(job, sched->config.workers, slot->tasks_left, &bytes));
    if (!span)
        return false;
    span->bytes = bytes;
    span->cost_ns = span->count * job_item_ns(job);
    note_taken(sched, job, span->count);
    append_run(sched, slot, span);
    if (slot->flight.head == span)
        arm_deadline(sched, slot);
    note_capacity(sched, slot);
    *effect = (struct sched_effect){
        .kind = SCHED_SEND, .slot = i, .span = span, .job = job, .stepwise = flight_is_stepwise(span)};
    return true;
}

bool sched_next(struct sched *sched, struct sched_effect *effect_out)
{
    return next_command(sched, effect_out) || next_canceled(sched, effect_out) || next_broken(sched, effect_out) ||
           next_ended(sched, effect_out) || next_start(sched, effect_out) || next_send(sched, effect_out);
}

/* ---- questions ---- */

struct span *sched_head(const struct sched *sched, unsigned slot)
{
    return sched->slots[slot].flight.head;
}

enum slot_state sched_state(const struct sched *sched, unsigned slot)
{
    return sched->slots[slot].state;
}

int sched_verdict(const struct sched *sched, unsigned slot)
{
    return sched->slots[slot].verdict;
}

unsigned sched_ready_count(const struct sched *sched)
{
    return sched->state_count[SLOT_READY];
}

bool sched_all_gone(const struct sched *sched)
{
    return sched->state_count[SLOT_EMPTY] == sched->slot_count;
}
