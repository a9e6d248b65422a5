/* flight: the spans in flight at one worker, and who is to blame when it dies. Pure.
 *
 * Results come in the order of sending, so the spans form a queue. A worker reports everything before it begins a
 * stepwise span, and each item of that before the next: an unreported item of the first span, if that is stepwise, is
 * the one it died of, and nothing behind it had begun. Otherwise every span before the first stepwise one is in doubt,
 * and is sent again stepwise. A lone item is alone in doubt. What the worker had not even read has not begun. A worker
 * that was killed for what is no longer wanted, or since it could not be reached, blames nobody, but for an item that
 * must not run twice.
 *
 * From the end of the queue items can be taken back, if the worker agrees that it has not begun them (see claims.h):
 * they are in flight no more, wherever they run next.
 * Must not know: slots, processes, time. */
#ifndef PROCPOOL_FLIGHT_H
#define PROCPOOL_FLIGHT_H

#include "job.h"

enum { FLIGHT_UNREAD_DEATHS = 3 }; /* that many workers may die before they read a span; then it is to blame */

struct flight {
    struct span *head, **tail;
    unsigned run_count;
    uint64_t cost_ns; /* expected, of all */
    uint64_t taken;   /* items behind all spans that were taken back: the worker still has to step over them */
    size_t bytes;
};

void flight_init(struct flight *flight);
void flight_append(struct flight *flight, struct span *span);
struct span *flight_pop(struct flight *flight);       /* the first */
struct span *flight_drop_last(struct flight *flight); /* the one appended last */

/* Items at the end that can be taken back, and what they are expected to cost: those that are not begun for certain, so
 * never the first of all; and not behind one that must stay. */
uint64_t flight_takeable(const struct flight *flight, uint64_t *cost_ns_out);
/* Take the last `items` of these. Their spans, last first; `spare` is one of them when a span had to be cut. */
struct span *flight_take_back(struct flight *flight, uint64_t items, struct span *spare);

/* Whether the span's items are to be reported one by one. */
bool flight_is_stepwise(const struct span *span);

struct flight_death {
    int verdict;            /* the status it was killed for; 0: it died of itself, or by a hand from outside */
    uint64_t read_position; /* how far it had read its stream */
    bool cut_off;           /* it was killed since nothing could be sent to it, whatever it had still to say */
    unsigned max_attempts;
};

struct flight_blame {
    struct job *job; /* NULL: nobody fails */
    uint64_t index;
    int status;
    unsigned attempts;
};

/* The worker has died. Empties the flight: returns its spans, last first, to be put back in that order (those without
 * items to be released), without the item that fails, which *blame_out names. */
struct span *flight_settle(struct flight *flight, const struct flight_death *death, struct flight_blame *blame_out);

#endif
