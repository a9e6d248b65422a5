/* sched_take: what a worker has not begun is taken back from it: when, how much of it, and what becomes of it.
 *
 *   for who has nothing to do   half of it, so that neither soon has to ask the other again, nor waits for the parent
 *                               to go on
 *   from who is stalled         all, so that others get on with it; where items are long but the one that comes next,
 *                               for a while, so that the worker goes on without a pause
 *   for a cancelled task        all of it, or the worker is killed for the task
 *
 * What was taken back is stepped over before anything more is sent there; but more may be taken back meanwhile.
 * Must not know: what is sent next. */
#include "bits.h"
#include "sched_inner.h"
#include <utlist.h>

#define WORTH_NS UINT64_C(50000) /* what it is worth to move elsewhere */
/* A worker that has been at an item for so long is taken for one that does not come to the next soon, when another has
 * nothing to do. */
#define LONG_ITEM_NS UINT64_C(250000)
/* As long as an item may take of which more than one is queued behind another: long ones that take no longer than they
 * are known to do are not taken back only to be sent again. */
#define LONG_STALLED_NS (SCHED_QUEUED_NS / 2)
/* And after so long, for one that does not come to it at all. Below that what it costs to have nothing to go on with,
 * two wake-ups or 150 microseconds, would be more than half a percent. */
#define STUCK_NS UINT64_C(32000000)

/* ---- what may be taken ---- */

/* Whether a worker has an item that was cancelled while it was there. */
static bool has_gap(const struct flight *flight)
{
    for (const struct span *span = flight->head; span; span = span->next)
        if (job_count_live(span->job, span) != span->count)
            return true;
    return false;
}

static uint64_t count_takeable(const struct sched_slot *slot)
{
    uint64_t unused;
    return flight_takeable(&slot->flight, &unused);
}

/* Whether the item that comes next is better left to the worker for a while. A short one it would have ended before it
 * could be sent more. */
static bool may_keep_one(const struct sched_slot *slot)
{
    const struct span *head = slot->flight.head;
    const struct span *next = head->count > 1 ? head : head->next;
    return job_item_ns(next->job) >= WORTH_NS;
}

/* When the next of long items turn out to be short, what was kept is looked at anew. */
void sched_measure(struct sched *sched, struct job *job, uint64_t items, uint64_t elapsed_ns)
{
    bool were_long = job_item_ns(job) >= WORTH_NS;
    job_measure(job, items, elapsed_ns);
    if (were_long && job_item_ns(job) < WORTH_NS)
        sched_look_at(sched, sched->now_ns);
}

/* Unless it comes to its next item before, it is asked then. */
uint64_t sched_stalls_ns(const struct sched_slot *slot)
{
    uint64_t after_ns = SCHED_STALLED_NS;
    if (may_keep_one(slot))
        after_ns = count_takeable(slot) > 1 ? LONG_STALLED_NS : STUCK_NS;
    return slot->moved_ns + after_ns;
}

/* ---- asking ---- */

/* For the last `items` that it may not have begun, which may need a span more. */
static bool ask_back(struct sched *sched, struct sched_slot *slot, uint64_t items, struct sched_effect *effect)
{
    bool asks = items && slot->state == SLOT_READY && (sched->free_spans || !sched_add_spans(sched, 64));
    if (items && !asks)
        return false; /* for want of memory again later */
    slot->asked = true;
    sched_note_capacity(sched, slot);
    *effect = (struct sched_effect){.kind = SCHED_TAKE_BACK, .slot = (unsigned)(slot - sched->slots), .count = items};
    return asks;
}

bool sched_ask_back(struct sched *sched, struct sched_slot *slot, struct sched_effect *effect)
{
    uint64_t items = count_takeable(slot);
    bool keeps_one =
        items > 1 && may_keep_one(slot) && !has_gap(&slot->flight) && sched->now_ns - slot->moved_ns < STUCK_NS;
    return ask_back(sched, slot, items - keeps_one, effect);
}

/* Those that have been at one item for long give back what waits behind it. */
void sched_look_for_stalled(struct sched *sched)
{
    uint64_t next_ns = SCHED_NEVER;
    sched->look_ns = SCHED_NEVER;
    for (unsigned i = 0; i < sched->slot_count; i++) {
        struct sched_slot *slot = &sched->slots[i];
        if (!bit_get(sched->tails, i))
            continue;
        uint64_t until_ns = sched_stalls_ns(slot);
        if (until_ns <= sched->now_ns)
            sched_command(sched, slot, COMMAND_TAKE);
        else
            next_ns = until_ns < next_ns ? until_ns : next_ns;
    }
    sched_look_at(sched, next_ns);
    sched_ask_who_works(sched); /* who wants to be looked at for another reason says so again */
}

/* Whether what waits at the slot is worth another's while: much of it, if there is a CPU for that; or what is before it
 * takes long. If it is not now it may be soon. */
static bool is_worth_taking(struct sched *sched, const struct sched_slot *slot, uint64_t cost_ns)
{
    bool spare = sched->busy_count < sched->config.cpus;
    uint64_t stays_until_ns = slot->moved_ns + LONG_ITEM_NS;
    if ((spare && cost_ns >= WORTH_NS) || stays_until_ns <= sched->now_ns)
        return true;
    sched_look_at(sched, stays_until_ns);
    return false;
}

static bool take_from_best(struct sched *sched, struct sched_effect *effect)
{
    struct sched_slot *best = NULL;
    uint64_t best_ns = 0, best_items = 0;
    for (unsigned word = 0; word * 64 < sched->slot_count; word++)
        for (uint64_t bits = sched->tails[word]; bits; bits &= bits - 1) {
            struct sched_slot *slot = &sched->slots[word * 64 + (unsigned)__builtin_ctzll(bits)];
            uint64_t cost_ns, items = flight_takeable(&slot->flight, &cost_ns);
            if (!items || cost_ns < best_ns || !is_worth_taking(sched, slot, cost_ns))
                continue;
            best = slot;
            best_ns = cost_ns;
            best_items = items;
        }
    return best && ask_back(sched, best, best_items - best_items / 2, effect);
}

/* There is somebody with nothing to do, and nothing to be done but what waits at others. */
bool sched_next_take_back(struct sched *sched, struct sched_effect *effect)
{
    bool wanted = !sched->queue && !sched->refusal && bit_first(sched->tails, sched->slot_count) != SCHED_NO_SLOT &&
                  bit_first(sched->idle, sched->slot_count) != SCHED_NO_SLOT;
    return wanted && take_from_best(sched, effect);
}

/* ---- what came of it ---- */

/* ask_back has seen to it that there is a free span, should one have to be cut. */
static void take_end(struct sched *sched, struct sched_slot *slot, uint64_t items)
{
    struct span *spare = sched->free_spans;
    LL_DELETE(sched->free_spans, spare);
    spare->count = 0;
    struct span *returned = flight_take_back(&slot->flight, items, spare);
    if (spare->count)
        spare->job->spans_out++;
    else
        LL_PREPEND(sched->free_spans, spare);
    slot->tasks_left += slot->tasks_left == UINT64_MAX ? 0 : items;
    slot->asked = false;
    while (returned) {
        struct span *span = returned;
        LL_DELETE(returned, span);
        sched_give_back(sched, span);
    }
}

void sched_taken_back(struct sched *sched, unsigned slot_index, uint64_t items)
{
    struct sched_slot *slot = &sched->slots[slot_index];
    if (items)
        take_end(sched, slot, items);
    if (slot->state == SLOT_READY && has_gap(&slot->flight))
        sched_step(sched, slot, SLOT_TERMINATE);
    sched_note_capacity(sched, slot);
}

void sched_skipped(struct sched *sched, unsigned slot_index, uint64_t items)
{
    struct sched_slot *slot = &sched->slots[slot_index];
    slot->flight.taken -= items;
    sched_note_capacity(sched, slot);
    sched_replace_if_worn(sched, slot);
}

/* ---- one task ---- */

/* Whether the worker may not have begun item i of the lane, which it has. */
static bool may_be_taken_back(const struct sched_slot *slot, const struct job *lane, uint64_t i)
{
    const struct span *head = slot->flight.head;
    return count_takeable(slot) && !(head->job == lane && head->first == i);
}

/* It is taken back if its worker has not begun it; else the worker is killed for it, unless it is gone and the item was
 * to blame. */
void sched_take_item(struct sched *sched, struct sched_slot *slot, const struct job *lane, uint64_t i)
{
    if (slot->blame.job == lane && slot->blame.index == i) {
        slot->blame.job = NULL;
        slot->commands &= ~(unsigned)COMMAND_FAIL;
    } else if (slot->state == SLOT_READY && may_be_taken_back(slot, lane, i)) {
        sched_command(sched, slot, COMMAND_TAKE);
    } else if (slot->state == SLOT_READY) {
        sched_step(sched, slot, SLOT_TERMINATE);
    }
}
