/* sched_nap: for how long nobody needs the parent.
 *
 * While the workers have enough to do, each report would still wake the parent, for nothing but to read it and to fill
 * up what was full before. Where the workers keep all CPUs busy it takes one from them for that, 15 to 30 microseconds
 * each time, which is some per cent beside items of a millisecond. So it sleeps for a part of the time that they surely
 * have enough for, whatever they report, and then reads all of it at once. Results come later by that, but by less than
 * they have waited in the queue. A few that have not enough (one is at a long item, of which all but the next was taken
 * back) keep nobody awake: they are listened to, and what they report ends the sleep.
 * Must not know: how one sleeps. */
#include "sched_inner.h"

#define LONGEST_NAP_NS  UINT64_C(2000000)
#define SHORTEST_NAP_NS UINT64_C(200000) /* what it takes to fall asleep and to wake up is small beside this */
/* What may gather meanwhile: half a small pipe, since a worker waits where it is full. */
#define REPORT_BYTES UINT64_C(32768)
/* Of reports beside the results, about: of a run and of what is reported by itself a frame, of small replies, which go
 * together, a part of one. */
enum { FRAME_BYTES = 40, SMALL_REPLY_BYTES = 16, SMALL_BYTES = 2 << 10 };

static uint64_t count_beside(const struct span *span, uint64_t items)
{
    if (flight_is_stepwise(span))
        return items * FRAME_BYTES;
    if (span->job->kind == JOB_FIXED)
        return FRAME_BYTES;
    return items * (span->job->reply_bytes > SMALL_BYTES ? FRAME_BYTES : SMALL_REPLY_BYTES);
}

/* What the slot has enough for, at the least. */
static uint64_t enough_ns(const struct sched_slot *slot)
{
    uint64_t ns = 0, bytes = 1;
    for (const struct span *span = slot->flight.head; span; span = span->next) {
        uint64_t behind = span->count - (span == slot->flight.head);
        ns += behind * span->job->least_ns;
        bytes += behind * span->job->reply_bytes + count_beside(span, behind);
    }
    return bytes <= REPORT_BYTES ? ns : ns / (bytes / REPORT_BYTES + 1);
}

/* When time itself leads to something. Who is stalled is looked for when the nap is over, unless somebody waits for
 * what is behind. */
static uint64_t ns_until_due(const struct sched *sched)
{
    bool is_idle = sched->state_count[SLOT_READY] > sched->busy_count;
    uint64_t due_ns = is_idle ? sched->look_ns : SCHED_NEVER;
    for (unsigned i = 0; i < sched->slot_count; i++)
        due_ns = sched->slots[i].due_ns < due_ns ? sched->slots[i].due_ns : due_ns;
    return due_ns > sched->now_ns ? due_ns - sched->now_ns : 0;
}

static bool is_needed_soon(const struct sched *sched)
{
    const unsigned *count = sched->state_count;
    return !sched->queue || sched->queue->stop_on_error ||
           count[SLOT_READY] + count[SLOT_EMPTY] != sched->slot_count; /* or some come or go */
}

/* How many that are at work have enough, and for how long. The others are listened to. */
static unsigned count_provided(const struct sched *sched, struct sched_nap *nap)
{
    unsigned provided = 0;
    for (unsigned i = 0; i < sched->slot_count && nap->ns; i++) {
        const struct sched_slot *slot = &sched->slots[i];
        if (!slot->flight.head && !slot->flight.taken)
            continue;
        uint64_t slot_ns = slot->flight.taken ? 0 : enough_ns(slot) / 4 * 3;
        if (slot_ns >= SHORTEST_NAP_NS) {
            nap->ns = slot_ns < nap->ns ? slot_ns : nap->ns;
            provided++;
        } else if (nap->listened_count < SCHED_LISTENED) {
            nap->listened[nap->listened_count++] = i;
        } else {
            nap->ns = 0;
        }
    }
    return provided;
}

/* Asked when there is nothing to do: so what is pending is for nobody now. Workers without anything would not be woken
 * for it. */
struct sched_nap sched_nap(const struct sched *sched)
{
    struct sched_nap nap = {.ns = is_needed_soon(sched) ? 0 : LONGEST_NAP_NS};
    uint64_t due_in_ns = nap.ns ? ns_until_due(sched) : 0;
    nap.ns = due_in_ns < nap.ns ? due_in_ns : nap.ns;
    unsigned provided = count_provided(sched, &nap);
    bool pays = nap.ns >= SHORTEST_NAP_NS && job_item_ns(sched->queue) < nap.ns * provided;
    nap.ns = pays ? nap.ns : 0;
    return nap;
}
