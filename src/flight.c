/* flight: see flight.h. The sums (runs, cost, bytes) are at any time those of the spans in the queue. */
#include "flight.h"
#include <utlist.h>

void flight_init(struct flight *flight)
{
    *flight = (struct flight){.tail = &flight->head};
}

void flight_append(struct flight *flight, struct span *span)
{
    span->next = NULL;
    *flight->tail = span;
    flight->tail = &span->next;
    flight->run_count++;
    flight->cost_ns += span->cost_ns;
    flight->bytes += span->bytes;
}

static struct span *take(struct flight *flight, struct span **link)
{
    struct span *span = *link;
    *link = span->next;
    if (!*link)
        flight->tail = link;
    flight->run_count--;
    flight->cost_ns -= span->cost_ns;
    flight->bytes -= span->bytes;
    return span;
}

struct span *flight_pop(struct flight *flight)
{
    return take(flight, &flight->head);
}

struct span *flight_drop_last(struct flight *flight)
{
    struct span **link = &flight->head;
    while ((*link)->next)
        link = &(*link)->next;
    return take(flight, link);
}

/* Those in doubt run where they are, as they were sent; a broadcast is for this worker; what is alone is begun at once;
 * and a chunk whose size the caller chose stays together. */
static bool must_stay(const struct span *span)
{
    return span->suspect || span->job->alone || span->job->chunk_size > 1 || span->job->kind == JOB_BROADCAST;
}

uint64_t flight_takeable(const struct flight *flight, uint64_t *cost_ns_out)
{
    uint64_t items = 0;
    *cost_ns_out = 0;
    for (const struct span *span = flight->head; span; span = span->next) {
        uint64_t count = span->count - (span == flight->head);
        bool stays = must_stay(span);
        items = stays ? 0 : items + count;
        *cost_ns_out = stays ? 0 : *cost_ns_out + span->cost_ns / span->count * count;
    }
    return items;
}

static struct span *last_of(const struct flight *flight)
{
    struct span *span = flight->head;
    while (span->next)
        span = span->next;
    return span;
}

static void cut_end(struct flight *flight, struct span *span, uint64_t items, struct span *cut_out)
{
    uint64_t cost_ns = span->cost_ns / span->count * items;
    size_t bytes = span->bytes / span->count * items;
    *cut_out = *span;
    cut_out->first += span->count - items;
    cut_out->count = items;
    cut_out->attempts = 0;
    cut_out->next = NULL;
    span->count -= items;
    span->cost_ns -= cost_ns;
    span->bytes -= bytes;
    flight->cost_ns -= cost_ns;
    flight->bytes -= bytes;
}

struct span *flight_take_back(struct flight *flight, uint64_t items, struct span *spare)
{
    struct span *returned = NULL;
    flight->taken += items;
    while (items) {
        struct span *span = last_of(flight);
        if (span->count > items) {
            cut_end(flight, span, items, spare);
            span = spare;
        } else {
            flight_drop_last(flight);
        }
        items -= span->count;
        LL_APPEND(returned, span);
    }
    return returned;
}

bool flight_is_stepwise(const struct span *span)
{
    return span->suspect || span->job->stepwise;
}

/* Whether one of the span's items may have begun: it had been read. That something was not read does not count at a
 * deadline, which is one for a stopped worker too, and counts only a few times, so that nobody waits for ever for
 * workers that die before they read. */
static bool may_have_begun(const struct span *span, const struct flight_death *death)
{
    bool read = span->begin_position <= death->read_position && span->begin_position != UINT64_MAX;
    return read || death->verdict == POOL_ETIMEOUT || span->unread_deaths >= FLIGHT_UNREAD_DEATHS;
}

/* The span's first item has killed its worker for certain. */
static void convict(struct span *span, const struct flight_death *death, struct flight_blame *blame_out)
{
    struct job *job = span->job;
    span->attempts++;
    bool final = death->verdict == POOL_ETIMEOUT || job->at_most_once || job->cancel_status ||
                 job->kind == JOB_BROADCAST || span->attempts >= death->max_attempts;
    span->suspect = !final;
    if (!final)
        return;
    *blame_out = (struct flight_blame){.job = job,
                                       .index = span->first,
                                       .status = death->verdict ? death->verdict : POOL_ECRASH,
                                       .attempts = span->attempts};
    span->first++;
    span->count--;
    span->attempts = 0;
}

/* It was killed for what is no longer there, or with all it had; or, which is no reason to try for ever, cut off. */
static bool is_innocent(const struct span *head, const struct flight_death *death)
{
    bool may_be_tried = !head->job->at_most_once && head->unread_deaths < FLIGHT_UNREAD_DEATHS;
    return death->verdict == POOL_ECANCELED || (death->cut_off && may_be_tried);
}

struct span *flight_settle(struct flight *flight, const struct flight_death *death, struct flight_blame *blame_out)
{
    struct span *returned = NULL;
    *blame_out = (struct flight_blame){0};
    flight->taken = 0;
    if (!flight->head)
        return NULL;
    bool alone = flight->run_count == 1 && flight->head->count == 1;
    bool innocent = is_innocent(flight->head, death);
    bool begun = !innocent && may_have_begun(flight->head, death);
    bool certain =
        begun && job_is_live(flight->head->job, flight->head->first) && (alone || flight_is_stepwise(flight->head));
    if (certain)
        convict(flight->head, death, blame_out);
    for (bool doubtful = begun && !certain; flight->head;) {
        struct span *span = flight_pop(flight);
        doubtful = doubtful && !flight_is_stepwise(span) && may_have_begun(span, death);
        span->suspect |= doubtful;
        span->unread_deaths += death->cut_off || (!begun && !innocent);
        LL_PREPEND(returned, span);
    }
    return returned;
}
