/* sched: the events as the engine is told of them, the end of the pool, and questions. What is done about an event at
 * a slot is in sched_slots.c; see sched_inner.h for the other rooms. */
#include "bits.h"
#include "sched_inner.h"
#include <errno.h>
#include <stdlib.h>
#include <utlist.h>

/* ---- set-up ---- */

int sched_init(struct sched *sched, const struct sched_config *config)
{
    *sched = (struct sched){.config = *config, .wake_ns = SCHED_NEVER, .look_ns = SCHED_NEVER};
    sched->config.cpus = config->cpus ? config->cpus : config->workers;
    sched->slot_count = config->workers + (config->wears_out && !config->restarts ? config->workers : 1);
    size_t words = ((size_t)sched->slot_count + 63) / 64;
    sched->slots = calloc(sched->slot_count, sizeof *sched->slots);
    sched->idle = calloc(words * 7, sizeof *sched->idle); /* all seven bitmaps */
    if (!sched->slots || !sched->idle || sched_add_spans(sched, (size_t)sched->slot_count * SCHED_MAX_RUNS)) {
        sched_clear(sched);
        return -ENOMEM;
    }
    sched->room = sched->idle + words;
    sched->empty = sched->room + words;
    sched->commanded = sched->empty + words;
    sched->owing = sched->commanded + words;
    sched->tails = sched->owing + words;
    sched->worker_ids = sched->tails + words;
    for (unsigned i = 0; i < sched->slot_count; i++) {
        sched_clear_slot(&sched->slots[i]);
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

/* ---- events ---- */

void sched_boot(struct sched *sched)
{
    sched->starts_owed = sched->config.workers;
    sched_ask(sched, QUESTION_STARTS);
}

void sched_limit_workers(struct sched *sched, unsigned workers)
{
    sched->config.workers = workers;
    sched->starts_owed = 0;
}

void sched_not_started(struct sched *sched, unsigned slot)
{
    sched_step(sched, &sched->slots[slot], SLOT_NOT_STARTED);
}

void sched_start_later(struct sched *sched, unsigned slot)
{
    sched_step(sched, &sched->slots[slot], SLOT_PUT_OFF);
}

void sched_ready(struct sched *sched, unsigned slot)
{
    sched_step(sched, &sched->slots[slot], SLOT_SAYS_READY);
}

void sched_failed(struct sched *sched, unsigned slot)
{
    sched_step(sched, &sched->slots[slot], SLOT_SAYS_FAILED);
}

void sched_garbage(struct sched *sched, unsigned slot)
{
    sched_step(sched, &sched->slots[slot], SLOT_SAYS_GARBAGE);
}

void sched_unreachable(struct sched *sched, unsigned slot)
{
    sched->slots[slot].cut_off = !sched->slots[slot].verdict;
    sched_step(sched, &sched->slots[slot], SLOT_KILL);
}

void sched_eof(struct sched *sched, unsigned slot)
{
    sched_step(sched, &sched->slots[slot], SLOT_EOF);
}

void sched_gone(struct sched *sched, unsigned slot)
{
    sched_step(sched, &sched->slots[slot], SLOT_GONE);
}

void sched_unread(struct sched *sched, unsigned slot, uint64_t read_position)
{
    sched->slots[slot].read_position = read_position;
}

void sched_exited(struct sched *sched, unsigned slot)
{
    sched_step(sched, &sched->slots[slot], SLOT_EXITED);
}

void sched_items_ended(struct sched *sched, unsigned slot_index, uint64_t items, uint64_t failures, uint64_t elapsed_ns,
                       bool worn)
{
    struct sched_slot *slot = &sched->slots[slot_index];
    if (sched_step(sched, slot, SLOT_SAYS_ENDED) != SLOT_ACCEPT)
        return;
    struct span *span = slot->flight.head;
    struct job *job = span->job;
    bool of_broadcast = job->kind == JOB_BROADCAST;
    span->first += items;
    span->count -= items;
    span->attempts = 0;
    job->failed |= failures && of_broadcast;
    sched_measure(sched, job, items, elapsed_ns);
    slot->worn |= worn && !of_broadcast; /* it will say so again, when it has done something else */
    slot->useful = slot->has_ended = true;
    bool stopped = failures && job->stop_on_error; /* the worker has not begun the rest of the span */
    if (stopped)
        sched_cancel(sched, job, POOL_ECANCELED);
    if (!span->count)
        sched_use_up(sched, sched_pop_run(sched, slot));
    else if (stopped)
        sched_put_back(sched, sched_pop_run(sched, slot));
    sched_arm_deadline(sched, slot);
    if (of_broadcast)
        sched_end_part(sched, slot, true);
    sched_note_capacity(sched, slot);
    if (!of_broadcast)
        sched_end_items(sched, job, items);
    sched_replace_if_worn(sched, slot); /* last: unless that has wound the pool down */
}

void sched_unsent(struct sched *sched, unsigned slot_index, int status)
{
    struct sched_slot *slot = &sched->slots[slot_index];
    struct span *last = flight_drop_last(&slot->flight);
    sched->busy_count -= !slot->flight.head;
    slot->tasks_left += slot->tasks_left == UINT64_MAX || last->job->kind == JOB_BROADCAST ? 0 : last->count;
    last->job->failed |= last->job->kind == JOB_BROADCAST;
    sched_doom(sched, last, status);
    if (!slot->flight.head)
        slot->due_ns = SCHED_NEVER;
    sched_note_capacity(sched, slot);
}

void sched_clock(struct sched *sched, uint64_t now_ns)
{
    sched->now_ns = now_ns;
    if (now_ns >= sched->wake_ns)
        sched_ask_who_works(sched);
}

void sched_expire(struct sched *sched)
{
    if (sched->now_ns < sched->wake_ns)
        return;
    if (sched->look_ns <= sched->now_ns)
        sched_look_for_stalled(sched);
    for (unsigned i = 0; i < sched->slot_count; i++)
        if (sched->slots[i].due_ns <= sched->now_ns)
            sched_step(sched, &sched->slots[i], SLOT_DUE);
    sched_plan_wake(sched);
}

uint64_t sched_wake_ns(const struct sched *sched)
{
    return sched->wake_ns;
}

/* ---- the end ---- */

static void kill_unwanted(struct sched *sched, struct sched_slot *slot, enum slot_event event)
{
    slot->unwanted = true;
    slot->verdict = slot->verdict ? slot->verdict : POOL_ECANCELED;
    sched_step(sched, slot, event);
}

/* When the pool is closing and nothing is left to do: workers that are ready end in order, those that start afresh when
 * they are (a kill could hit their finalizers), the others at once. */
void sched_wind_down(struct sched *sched)
{
    if (!sched->closing || sched->unended_items || sched->broadcast)
        return;
    for (unsigned i = 0; i < sched->slot_count; i++) {
        struct sched_slot *slot = &sched->slots[i];
        if (slot->state == SLOT_READY)
            sched_step(sched, slot, SLOT_RETIRE);
        else if (slot->state == SLOT_STARTING && slot->renewing)
            slot->unwanted = true;
        else if (slot->state == SLOT_STARTING || slot->state == SLOT_CLOSED)
            kill_unwanted(sched, slot, SLOT_KILL);
    }
}

static void kill_all(struct sched *sched, enum slot_event event)
{
    for (unsigned i = 0; i < sched->slot_count; i++)
        if (sched->slots[i].state != SLOT_EMPTY)
            kill_unwanted(sched, &sched->slots[i], event);
}

void sched_shutdown(struct sched *sched, enum pool_shutdown_mode mode)
{
    if (sched->closing && mode <= sched->mode)
        return;
    sched->closing = true;
    sched->mode = mode;
    if (mode != POOL_DRAIN) {
        sched_refuse(sched, POOL_ECANCELED);
        sched_refuse_broadcast(sched);
    }
    if (mode == POOL_TERMINATE || mode == POOL_KILL)
        kill_all(sched, mode == POOL_KILL ? SLOT_KILL : SLOT_TERMINATE);
    sched_wind_down(sched);
}

void sched_cancel_item(struct sched *sched, struct job *lane, uint64_t i)
{
    struct job_item *item = lane->ring[i & lane->ring_mask];
    unsigned slot = item->slot;
    lane->ring[i & lane->ring_mask] = NULL; /* a gap from now on */
    if (slot == JOB_NO_SLOT) {
        lane->pending_count--;
        sched->pending_items--;
        sched_settle_front(sched, lane);
    } else if (slot != JOB_NO_MORE) {
        sched_take_item(sched, &sched->slots[slot], lane, i);
    }
    sched_end_items(sched, lane, 1);
}

void sched_break_pool(struct sched *sched)
{
    sched->broken = sched->tell_broken = true;
    sched_ask(sched, QUESTION_BROKEN);
    sched_refuse(sched, POOL_EBROKEN);
    sched_refuse_broadcast(sched);
    for (unsigned i = 0; i < sched->slot_count; i++)
        if (sched->slots[i].state == SLOT_STARTING)
            kill_unwanted(sched, &sched->slots[i], SLOT_KILL);
}

/* None of them is to blame for anything, and nothing starts any more: what they had comes back, and is refused. */
void sched_lose(struct sched *sched)
{
    if (!sched->broken)
        sched_break_pool(sched);
    for (unsigned i = 0; i < sched->slot_count; i++) {
        struct sched_slot *slot = &sched->slots[i];
        if (slot->state == SLOT_EMPTY)
            continue;
        slot->unwanted = true;
        slot->cut_off = !slot->verdict;
        sched_step(sched, slot, SLOT_EXITED);
    }
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

bool sched_was_ready(const struct sched *sched)
{
    return sched->ever_ready;
}

unsigned sched_busy_count(const struct sched *sched)
{
    unsigned count = 0;
    for (unsigned i = 0; i < sched->slot_count; i++)
        count += sched->slots[i].state == SLOT_READY && sched->slots[i].flight.head;
    return count;
}

bool sched_spares_cpu(const struct sched *sched)
{
    return sched->busy_count && sched->busy_count < sched->config.cpus;
}

bool sched_all_gone(const struct sched *sched)
{
    return sched->state_count[SLOT_EMPTY] == sched->slot_count;
}
