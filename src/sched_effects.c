/* sched_effects: what the engine wants next: commands to slots, ends to be told, starts, and items for whoever can take
 * them.
 *
 * They are taken one at a time, and worked out when they are taken: nothing is planned ahead but the commands that an
 * event has left at a slot. What has had no effect is not worked out again before something has changed (see enum
 * sched_question).
 * Must not know: why a slot is in its state. */
#include "bits.h"
#include "chunk.h"
#include "sched_inner.h"
#include <errno.h>

#define SHORT_ITEM_NS UINT64_C(20000) /* to wake a worker costs more */
/* While a worker is idle short items wait no longer for a busy one than CROWD_NS; and where there is a CPU for the idle
 * one, than LITTLE_NS. */
#define CROWD_NS  UINT64_C(1000000)
#define LITTLE_NS UINT64_C(250000)

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
    if (first == COMMAND_TAKE && sched_ask_back(sched, slot, effect))
        return true;
    if (first == COMMAND_TAKE)
        sched_taken_back(sched, i, 0);
    if (!first || first == COMMAND_TAKE)
        return next_command(sched, effect);
    effect->slot = i;
    fill_command(slot, first, effect);
    if (first != COMMAND_FAIL)
        return true;
    if (slot->blame.job->stop_on_error)
        sched_cancel(sched, slot->blame.job, POOL_ECANCELED);
    if (slot->blame.job->kind == JOB_BROADCAST)
        sched_end_one_part(sched, true);
    else
        sched_end_items(sched, slot->blame.job, 1);
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

/* Whether one that has begun since starts have failed is to find out whether they do again. One that began before may
 * take as long as a start may. */
static bool is_tried(const struct sched *sched)
{
    bool any = false;
    for (unsigned i = 0; i < sched->slot_count; i++)
        any |= sched->slots[i].state == SLOT_STARTING && sched->slots[i].failures_before == sched->failures;
    return any;
}

/* Replacements are started when there are more pending items than workers that wait for one or are about to; one by one
 * where starts have failed and nobody is ready. */
static bool wants_start(const struct sched *sched)
{
    const unsigned *count = sched->state_count;
    unsigned live = count[SLOT_STARTING] + count[SLOT_READY] + count[SLOT_CLOSED] + count[SLOT_DYING];
    unsigned places = sched->config.workers + sched->leaving_count;
    unsigned idle = count[SLOT_READY] > sched->busy_count ? count[SLOT_READY] - sched->busy_count : 0;
    bool needed = sched->starts_owed || sched_broadcast_is_stranded(sched) ||
                  (sched->queue && sched->pending_items > count[SLOT_STARTING] + idle);
    bool over = sched->refusal || (sched->closing && !sched->unended_items && !sched->broadcast);
    bool may = needed && !over && live < places && sched->now_ns >= sched->next_start_ns;
    return may && (!sched->failed_starts || count[SLOT_READY] || !is_tried(sched));
}

static bool next_start(struct sched *sched, struct sched_effect *effect)
{
    unsigned i = wants_start(sched) ? bit_first(sched->empty, sched->slot_count) : SCHED_NO_SLOT;
    if (i == SCHED_NO_SLOT)
        return false;
    sched->starts_owed -= sched->starts_owed > 0;
    bit_set(sched->empty, i, false);
    sched_step(sched, &sched->slots[i], SLOT_START);
    return next_command(sched, effect);
}

/* The first of these whose worker came to the item that it is at less than `within_ns` ago, and has nothing to step
 * over. */
static unsigned first_moving(const struct sched *sched, const uint64_t *slots, uint64_t within_ns)
{
    for (unsigned word = 0; word * 64 < sched->slot_count; word++)
        for (uint64_t bits = slots[word]; bits; bits &= bits - 1) {
            unsigned i = word * 64 + (unsigned)__builtin_ctzll(bits);
            const struct sched_slot *slot = &sched->slots[i];
            if (sched->now_ns - slot->moved_ns < within_ns && !slot->flight.taken)
                return i;
        }
    return SCHED_NO_SLOT;
}

static bool is_short(const struct job *job)
{
    uint64_t item_ns = job_item_ns(job);
    return item_ns && item_ns < SHORT_ITEM_NS && !job->alone;
}

/* More workers than CPUs do not make short items faster, and to wake one costs more than a hundred of them: those that
 * are at work are filled first. Items that are not short may be waiting for something else than a CPU. */
static bool may_crowd(const struct sched *sched, const struct job *job)
{
    return is_short(job) && sched->busy_count >= sched->config.cpus;
}

/* To do all there is takes one worker less time than to wake another, and who waits for one alone may spin. */
static bool is_little(const struct sched *sched, const struct job *job)
{
    return is_short(job) && sched->unended_items * job_item_ns(job) < SHORT_ITEM_NS;
}

/* For how many workers there is work to be shared out. */
static unsigned count_sharers(const struct sched *sched, const struct job *job)
{
    bool crowds = may_crowd(sched, job) && sched->config.cpus < sched->config.workers;
    return is_little(sched, job) ? 1 : crowds ? sched->config.cpus : sched->config.workers;
}

/* For how long after a busy worker has last got on the job's items wait for it rather than be given to an idle one; 0:
 * not at all. */
static uint64_t patience_ns(const struct sched *sched, const struct job *job)
{
    if (job->pending->suspect)
        return 0;
    return may_crowd(sched, job) ? CROWD_NS : is_little(sched, job) ? LITTLE_NS : 0;
}

/* The busy slot for which they are better kept: it is getting on. */
static unsigned worth_waiting_for(const struct sched *sched, const struct job *job)
{
    uint64_t within_ns = patience_ns(sched, job);
    if (!within_ns)
        return SCHED_NO_SLOT;
    unsigned slot = first_moving(sched, sched->room, within_ns);
    return slot == SCHED_NO_SLOT ? first_moving(sched, sched->tails, within_ns) : slot;
}

/* Nobody is idle, or those that are would not be woken for it; and it will be looked at again. */
bool sched_may_gather(const struct sched *sched)
{
    const struct job *job = sched->queue;
    bool waits = bit_first(sched->idle, sched->slot_count) == SCHED_NO_SLOT ||
                 (job && sched->look_ns != SCHED_NEVER && worth_waiting_for(sched, job) != SCHED_NO_SLOT);
    return waits && !sched->refusal && !wants_start(sched);
}

/* One that can queue a little more, for items of which it is known how long they take. One that has been at an item for
 * long may be so for ever. */
static unsigned choose_room(const struct sched *sched, const struct job *job)
{
    uint64_t item_ns = job_item_ns(job);
    bool queues = item_ns && !job->pending->suspect;
    if (!queues || !chunk_may_queue(job, count_sharers(sched, job)))
        return SCHED_NO_SLOT;
    return first_moving(sched, sched->room, SCHED_STALLED_NS);
}

/* An idle slot; else one that can queue more. */
static unsigned choose_slot(struct sched *sched, const struct job *job)
{
    unsigned idle = bit_first(sched->idle, sched->slot_count);
    if (idle == SCHED_NO_SLOT)
        return choose_room(sched, job);
    unsigned busy = worth_waiting_for(sched, job);
    if (busy == SCHED_NO_SLOT)
        return idle;
    unsigned room = choose_room(sched, job);
    if (room == SCHED_NO_SLOT)
        sched_look_at(sched, sched->slots[busy].moved_ns + patience_ns(sched, job)); /* should it not get on */
    return room;
}

/* While anybody is busy a span will come free; otherwise nothing would ever happen again. */
static bool give_up_without_memory(struct sched *sched, struct job *job, struct sched_effect *effect)
{
    if (sched->busy_count)
        return false;
    struct span *span = job_take_whole(job);
    sched->pending_items -= job_count_live(job, span);
    sched_settle_front(sched, job);
    job->spans_out++;
    sched_doom(sched, span, -ENOMEM);
    return sched_next_doomed(sched, effect);
}

static bool next_send(struct sched *sched, struct sched_effect *effect)
{
    struct job *job = sched->queue;
    unsigned i = job ? choose_slot(sched, job) : SCHED_NO_SLOT;
    if (i == SCHED_NO_SLOT)
        return false;
    struct sched_slot *slot = &sched->slots[i];
    size_t bytes;
    struct span *span =
        sched_take_span(sched, job, chunk_choose(job, count_sharers(sched, job), slot->tasks_left, &bytes));
    if (!span)
        return give_up_without_memory(sched, job, effect);
    job->spans_out++;
    span->bytes = bytes;
    span->cost_ns = span->count * job_item_ns(job);
    sched->pending_items -= span->count; /* no gaps in it: job_fit stops at one */
    sched_settle_front(sched, job);
    job_note_slot(job, span, i);
    sched_append_run(sched, slot, span);
    if (slot->flight.head == span)
        sched_arm_deadline(sched, slot);
    sched_note_capacity(sched, slot);
    *effect = (struct sched_effect){
        .kind = SCHED_SEND, .slot = i, .span = span, .job = job, .stepwise = flight_is_stepwise(span)};
    return true;
}

static bool (*const answers[])(struct sched *, struct sched_effect *) = {
    [QUESTION_ENDED] = sched_next_ended, [QUESTION_COMMANDS] = next_command,      [QUESTION_DOOMED] = sched_next_doomed,
    [QUESTION_BROKEN] = next_broken,     [QUESTION_STARTS] = next_start,          [QUESTION_PARTS] = sched_next_part,
    [QUESTION_SENDS] = next_send,        [QUESTION_TAKES] = sched_next_take_back,
};
_Static_assert(SCHED_ALL_QUESTIONS == (1u << QUESTION_COUNT) - 1, "each has a bit");

/* That a job has ended comes first: a worker that is told to start afresh after that is not part of a broadcast. An
 * answer may raise earlier questions anew: a span that had gaps alone may have been the last that kept a lane. */
bool sched_next(struct sched *sched, struct sched_effect *effect_out)
{
    bool any = false;
    while (sched->questions && !any) {
        unsigned question = (unsigned)__builtin_ctz(sched->questions), bit = 1u << question;
        sched->questions &= ~bit;
        any = answers[question](sched, effect_out);
        sched->questions |= any ? bit : 0; /* there may be more */
    }
    return any;
}
