/* job: see job.h. Pending spans stand in the order of their indices and do not overlap. */
#include "job.h"
#include <stdlib.h>
#include <string.h>

/* What an item costs the protocol beside its bytes: it bounds runs of tiny items. */
enum { ITEM_OVERHEAD_BYTES = 64 };
/* One long item spoils the average of a hundred reports of short ones: it counts for no more than a few times what came
 * last. */
enum { LAST_TIMES = 4 };
/* The first call in a worker takes up to some ten microseconds more than the next. Until so much was measured that is
 * not counted, nor is anything known of the least: who has enough for longer than expected can give some back, but who
 * runs out has to wait for a parent that is asleep, or kept from its CPU. */
enum { COLD_NS = 100000, FIRST_CALL_NS = 20000, FIRST_CALL_TIMES = 4 };
enum { FORGET = 16 }; /* reports, until an extreme is forgotten by and by */
/* So many large replies in a row, and the next is expected to be large: not where a few of them come among many small
 * ones, which would all have to be sent one by one. */
enum { LARGE_IN_A_ROW = 2 };

static void clear_outputs(const struct job *job)
{
    for (uint64_t i = 0; job->status_out && i < job->count; i++)
        job->status_out[i] = 0;
    for (uint64_t i = 0; job->code_out && i < job->count; i++)
        job->code_out[i] = 0;
    for (uint64_t i = 0; job->replies && i < job->count; i++)
        job->replies[i] = (struct pool_bytes){NULL, 0};
}

void job_begin(struct job *job)
{
    clear_outputs(job);
    job->stepwise = job->timeout_ns || job->has_deadlines || job->at_most_once || job->kind == JOB_BROADCAST;
    /* What is behind an item that must not run twice may have begun when its worker is killed; and only a run of
     * fixed-size items can be stopped by a failure in it. */
    job->alone = job->at_most_once || job->has_fds || (job->stop_on_error && job->kind == JOB_BYTES);
    job->whole = (struct span){.job = job, .count = job->count};
    job->pending = job->pending_tail = NULL;
    job->pending_count = 0;
    job->unended_count = job->count;
    job->reply_bytes = job->kind == JOB_FIXED && !job->results_in ? job->result_size : 0;
    if (job->count)
        job_push(job, &job->whole);
}

/* ---- items ---- */

struct job_item job_item(const struct job *job, uint64_t i)
{
    if (job->kind == JOB_LANE)
        return *job->ring[i & job->ring_mask];
    bool shared = job->kind == JOB_BROADCAST;
    const struct pool_bytes *input = &job->inputs[shared ? 0 : i];
    return (struct job_item){.data = input->data,
                             .size = input->size,
                             .buffer = job->inputs_in ? job->inputs_in[i] : NULL,
                             .index = shared ? 0 : i};
}

uint64_t job_timeout_ns(const struct job *job, uint64_t i)
{
    return job->has_deadlines && job_is_live(job, i) ? job->ring[i & job->ring_mask]->timeout_ns : job->timeout_ns;
}

uint64_t job_count_live(const struct job *job, const struct span *span)
{
    uint64_t count = job->kind == JOB_LANE ? 0 : span->count;
    for (uint64_t i = span->first; job->kind == JOB_LANE && i < span->first + span->count; i++)
        count += job_is_live(job, i);
    return count;
}

uint64_t job_live_run(const struct job *job, uint64_t first, uint64_t count)
{
    uint64_t run = job->kind == JOB_LANE ? 0 : count;
    while (run < count && job_is_live(job, first + run))
        run++;
    return run;
}

uint64_t job_front_number(const struct job *job)
{
    return job->kind == JOB_LANE ? job->ring[job->pending->first & job->ring_mask]->number : job->number;
}

void job_note_slot(const struct job *job, const struct span *span, unsigned slot)
{
    for (uint64_t i = span->first; job->kind == JOB_LANE && i < span->first + span->count; i++)
        if (job_is_live(job, i))
            job->ring[i & job->ring_mask]->slot = slot;
}

/* ---- pending spans ---- */

/* What comes back belongs near the front, and what is new at the end. */
void job_push(struct job *job, struct span *span)
{
    bool is_last = !job->pending || job->pending_tail->first < span->first;
    struct span **link = is_last && job->pending ? &job->pending_tail->next : &job->pending;
    while (*link && (*link)->first < span->first)
        link = &(*link)->next;
    span->next = *link;
    *link = span;
    if (!span->next)
        job->pending_tail = span;
    job->pending_count += job_count_live(job, span);
}

struct span *job_take_whole(struct job *job)
{
    struct span *span = job->pending;
    job->pending = span->next;
    if (!job->pending)
        job->pending_tail = NULL;
    job->pending_count -= job_count_live(job, span);
    span->next = NULL;
    return span;
}

void job_cut(struct job *job, uint64_t count, struct span *cut_out)
{
    struct span *front = job->pending;
    *cut_out = *front;
    cut_out->next = NULL;
    cut_out->count = count;
    front->first += count;
    front->count -= count;
    front->attempts = 0;
    job->pending_count -= job_count_live(job, cut_out);
}

static void note_least(struct job *job, uint64_t item_ns)
{
    uint64_t more_ns = item_ns > job->least_ns ? item_ns - job->least_ns : 0;
    more_ns = more_ns < job->least_ns ? more_ns : job->least_ns;
    job->least_ns = more_ns && job->least_ns ? job->least_ns + more_ns / FORGET : item_ns;
}

static uint64_t less_first_calls(uint64_t item_ns)
{
    uint64_t least_ns = item_ns / FIRST_CALL_TIMES + 1;
    return item_ns > least_ns + FIRST_CALL_NS ? item_ns - FIRST_CALL_NS : least_ns;
}

/* Each report takes a quarter off the weight of the older ones, so that a slow first call is soon forgotten. */
void job_measure(struct job *job, uint64_t items, uint64_t ns)
{
    ns = ns < UINT64_MAX / 8 ? ns : UINT64_MAX / 8;
    job->spent_items += items - job->spent_items / 4;
    job->spent_ns += ns - job->spent_ns / 4;
    job->cold_ns += job->cold_ns < COLD_NS ? ns : 0;
    uint64_t last_ns = ns / items + 1, mean_ns = job->spent_ns / job->spent_items + 1;
    mean_ns = mean_ns < LAST_TIMES * last_ns ? mean_ns : LAST_TIMES * last_ns;
    bool is_cold = job->cold_ns < COLD_NS;
    job->item_ns = is_cold ? less_first_calls(mean_ns) : mean_ns;
    if (!is_cold)
        note_least(job, last_ns);
}

void job_note_reply(struct job *job, uint64_t bytes)
{
    uint64_t less = bytes < job->reply_bytes ? (job->reply_bytes - bytes + FORGET - 1) / FORGET : 0;
    job->reply_bytes = less ? job->reply_bytes - less : bytes;
    job->large_replies = bytes > JOB_LARGE_BYTES ? job->large_replies + 1 : 0;
}

/* ---- sizes and costs ---- */

static uint64_t fit_fixed(const struct job *job, uint64_t count, size_t max_bytes, size_t *bytes_out)
{
    size_t out = job->items_in ? 0 : job->item_size, in = job->results_in ? 0 : job->result_size;
    size_t item_bytes = out > in ? out : in;
    uint64_t fit = item_bytes ? max_bytes / item_bytes : count;
    fit = fit < count ? fit : count;
    fit = fit ? fit : 1;
    *bytes_out = (size_t)fit * item_bytes;
    return fit;
}

static size_t travelling_bytes(const struct job *job, uint64_t i)
{
    return job_is_shared(job, i) ? 0 : job_input_size(job, i);
}

/* For what is by itself there may be other ways than the pipe. But what the caller wants together stays so. */
static bool fits_alone(const struct job *job, uint64_t i)
{
    bool is_large = travelling_bytes(job, i) > JOB_LARGE_BYTES || job->large_replies >= LARGE_IN_A_ROW;
    return is_large && !job->chunk_size;
}

uint64_t job_fit(const struct job *job, uint64_t first, uint64_t count, size_t max_bytes, size_t *bytes_out)
{
    if (job->kind == JOB_FIXED)
        return fit_fixed(job, count, max_bytes, bytes_out);
    uint64_t fit = 0;
    size_t bytes = 0;
    bool is_alone = false;
    while (fit < count && job_is_live(job, first + fit) && !is_alone) {
        size_t size = travelling_bytes(job, first + fit) + ITEM_OVERHEAD_BYTES;
        is_alone = fits_alone(job, first + fit);
        if (fit && (is_alone || bytes >= max_bytes || size > max_bytes - bytes))
            break;
        bytes += size;
        fit++;
    }
    *bytes_out = bytes;
    return fit;
}

bool job_would_keep(const struct job *job, uint64_t index, int status)
{
    bool was_cut_off = job->status == POOL_ECANCELED, is_cut_off = status == POOL_ECANCELED;
    if (job->status && was_cut_off == is_cut_off)
        return index < job->status_index;
    return !job->status || was_cut_off;
}

void job_fail(struct job *job, uint64_t index, int status, int code, const char *text)
{
    if (job->status_out)
        job->status_out[index] = status;
    if (job->code_out)
        job->code_out[index] = code;
    if (!job_would_keep(job, index, status))
        return;
    job->status = status;
    job->status_index = index;
    free(job->message);
    job->message = text ? strdup(text) : NULL;
}
