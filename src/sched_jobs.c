/* sched_jobs: which items wait, in which order, and when a job is over.
 *
 * Jobs with pending items stand in a queue by the number of the first of them. A span is in one place: free, pending in
 * its job, at a slot, or doomed; `spans_out` of a job counts the last two, so that no span outlives its job. What ends
 * without being run is doomed: told piece by piece, without the gaps of tasks that were cancelled.
 * Must not know: what slots do. */
#include "sched_inner.h"
#include <errno.h>
#include <stdlib.h>
#include <utlist.h>

/* ---- spans ---- */

int sched_add_spans(struct sched *sched, size_t count)
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
    if (span == &span->job->whole)
        span->count = 0;
    else if (span->job->kind != JOB_BROADCAST) /* that one is the slot's */
        LL_PREPEND(sched->free_spans, span);
}

/* ---- jobs ---- */

/* By the number of the first pending item. Maps have the number that the next task got, so they go first. */
static bool comes_later(const struct job *job, const struct job *other)
{
    uint64_t number = job_front_number(job), other_number = job_front_number(other);
    return number > other_number || (number == other_number && job->kind == JOB_LANE && other->kind != JOB_LANE);
}

/* Behind what has the same place. From the end, which is where what is new belongs. */
static void enqueue(struct sched *sched, struct job *job)
{
    struct job *before = sched->queue ? sched->queue->prev : NULL; /* utlist: the last one */
    while (before && comes_later(before, job))
        before = before == sched->queue ? NULL : before->prev;
    DL_APPEND_ELEM(sched->queue, before, job);
    job->queued = true;
}

static void dequeue(struct sched *sched, struct job *job)
{
    DL_DELETE(sched->queue, job);
    job->queued = false;
    sched_ask(sched, QUESTION_TAKES);
}

/* Off the front of a lane what was cancelled; then the job's place in the queue is where its first pending item
 * belongs. */
void sched_settle_front(struct sched *sched, struct job *job)
{
    while (job->pending && !job_is_live(job, job->pending->first)) {
        struct span *front = job->pending;
        front->first++;
        front->count--;
        front->attempts = 0;
        if (!front->count)
            release_span(sched, job_take_whole(job));
    }
    sched_ask(sched, QUESTION_SENDS);
    bool in_place = job->queued && job->pending && !(job->next && comes_later(job, job->next)) &&
                    !(job != sched->queue && comes_later(job->prev, job));
    if (in_place)
        return;
    if (job->queued)
        dequeue(sched, job);
    if (job->pending)
        enqueue(sched, job);
}

/* The span's items, which are in no list any more, end with status: told by the next effects. */
void sched_doom(struct sched *sched, struct span *span, int status)
{
    span->status = status;
    job_note_slot(span->job, span, JOB_NO_MORE);
    LL_APPEND(sched->doomed, span);
    sched_ask(sched, QUESTION_DOOMED);
}

void sched_put_back(struct sched *sched, struct span *span)
{
    struct job *job = span->job;
    int status = job->cancel_status ? job->cancel_status : sched->refusal;
    if (status) {
        sched_doom(sched, span, status);
        return;
    }
    job_note_slot(job, span, JOB_NO_SLOT);
    job->spans_out--;
    job_push(job, span);
    sched->pending_items += job_count_live(job, span);
    sched_ask(sched, QUESTION_STARTS);
    sched_settle_front(sched, job);
}

void sched_note_ended(struct sched *sched, struct job *job)
{
    DL_APPEND(sched->ended, job);
    sched_ask(sched, QUESTION_ENDED);
}

/* When its last item has ended and no worker has a span of it, be it one of gaps. */
void sched_end_if_over(struct sched *sched, struct job *job)
{
    if (!job->unended_count && !job->spans_out && (job->kind != JOB_LANE || job->retired))
        sched_note_ended(sched, job);
}

/* A span that was out is of no further use. */
void sched_use_up(struct sched *sched, struct span *span)
{
    span->job->spans_out--;
    release_span(sched, span);
}

void sched_end_items(struct sched *sched, struct job *job, uint64_t count)
{
    job->unended_count -= count;
    sched->unended_items -= count;
    sched_ask(sched, QUESTION_SENDS);
    sched_end_if_over(sched, job);
    sched_wind_down(sched);
}

void sched_submit(struct sched *sched, struct job *job)
{
    sched->unended_items += job->count;
    if (!job->count) {
        sched_end_items(sched, job, 0);
        return;
    }
    sched->pending_items += job->pending_count;
    enqueue(sched, job);
    sched_ask_who_works(sched);
    if (sched->refusal)
        sched_cancel(sched, job, sched->refusal);
}

/* A span for one more item at the end of a lane. NULL: no memory. */
static struct span *tail_span(struct sched *sched, struct job *lane)
{
    struct span *span = &lane->whole;
    if (span->count) {
        if (!sched->free_spans && sched_add_spans(sched, 64))
            return NULL;
        span = sched->free_spans;
        LL_DELETE(sched->free_spans, span);
    }
    *span = (struct span){.job = lane, .first = lane->count - 1, .count = 1};
    return span;
}

int sched_add(struct sched *sched, struct job *lane)
{
    struct span *tail = lane->pending_tail;
    bool extends = tail && !tail->suspect && !tail->unread_deaths && tail->first + tail->count == lane->count - 1;
    struct span *span = extends ? NULL : tail_span(sched, lane);
    if (!extends && !span)
        return -ENOMEM;
    if (extends) {
        tail->count++;
        lane->pending_count++;
    } else {
        job_push(lane, span);
    }
    lane->unended_count++;
    sched->unended_items++;
    sched->pending_items++;
    if (!lane->queued)
        enqueue(sched, lane);
    sched_ask_who_works(sched);
    if (sched->refusal)
        sched_cancel(sched, lane, sched->refusal);
    return 0;
}

void sched_retire(struct sched *sched, struct job *lane)
{
    lane->retired = true;
    sched_end_if_over(sched, lane);
}

void sched_cancel(struct sched *sched, struct job *job, int status)
{
    job->cancel_status = job->cancel_status ? job->cancel_status : status;
    sched->pending_items -= job->pending_count;
    while (job->pending) {
        job->spans_out++;
        sched_doom(sched, job_take_whole(job), job->cancel_status);
    }
    if (job->queued)
        dequeue(sched, job);
    sched_ask_who_works(sched);
}

void sched_refuse(struct sched *sched, int status)
{
    sched->refusal = sched->refusal ? sched->refusal : status;
    while (sched->queue)
        sched_cancel(sched, sched->queue, sched->refusal);
}

/* The first of the span's items, up to a gap. */
static void tell_doomed(struct span *span, uint64_t run, struct sched_effect *effect)
{
    struct job *job = span->job;
    *effect = (struct sched_effect){.kind = SCHED_FAIL,
                                    .slot = SCHED_NO_SLOT,
                                    .job = job,
                                    .first = span->first,
                                    .count = run,
                                    .status = span->status};
    span->first += run;
    span->count -= run;
}

bool sched_next_doomed(struct sched *sched, struct sched_effect *effect)
{
    while (sched->doomed) {
        struct span *span = sched->doomed;
        struct job *job = span->job;
        while (span->count && !job_is_live(job, span->first))
            span->first++, span->count--;
        uint64_t run = job_live_run(job, span->first, span->count);
        tell_doomed(span, run, effect);
        if (!span->count) {
            LL_DELETE(sched->doomed, span);
            sched_use_up(sched, span);
        }
        if (job->kind == JOB_BROADCAST) {
            sched_end_part(sched, &sched->slots[effect->first], true);
            return true;
        }
        if (run) {
            sched_end_items(sched, job, run);
            return true;
        }
        sched_end_if_over(sched, job);
    }
    return false;
}

bool sched_next_ended(struct sched *sched, struct sched_effect *effect)
{
    struct job *job = sched->ended;
    if (!job)
        return false;
    DL_DELETE(sched->ended, job);
    *effect = (struct sched_effect){.kind = SCHED_END_JOB, .slot = SCHED_NO_SLOT, .job = job};
    return true;
}

/* `count` items off the front of the job as a span of their own. NULL: no memory. */
struct span *sched_take_span(struct sched *sched, struct job *job, uint64_t count)
{
    if (count == job->pending->count)
        return job_take_whole(job);
    if (!sched->free_spans && sched_add_spans(sched, 64))
        return NULL;
    struct span *span = sched->free_spans;
    LL_DELETE(sched->free_spans, span);
    job_cut(job, count, span);
    return span;
}
