#include "job.h"
#include <stdlib.h>
#include <string.h>

/* What an item costs the protocol beside its bytes: it bounds runs of tiny items. */
enum { ITEM_OVERHEAD_BYTES = 64 };

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
    job->whole = (struct span){.job = job, .count = job->count};
    job->pending = NULL;
    job->pending_count = 0;
    job->unended_count = job->count;
    if (job->count)
        job_push(job, &job->whole);
}

void job_push(struct job *job, struct span *span)
{
    span->next = job->pending;
    job->pending = span;
    job->pending_count += span->count;
}

struct span *job_take_whole(struct job *job)
{
    struct span *span = job->pending;
    job->pending = span->next;
    job->pending_count -= span->count;
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
    job->pending_count -= count;
}

/* Each report takes a quarter off the weight of the older ones, so that a slow first call is soon forgotten. */
void job_measure(struct job *job, uint64_t items, uint64_t ns)
{
    ns = ns < UINT64_MAX / 8 ? ns : UINT64_MAX / 8;
    job->spent_items += items - job->spent_items / 4;
    job->spent_ns += ns - job->spent_ns / 4;
}

uint64_t job_item_ns(const struct job *job)
{
    return job->spent_items ? job->spent_ns / job->spent_items + 1 : 0;
}

static uint64_t fit_fixed(const struct job *job, uint64_t count, size_t max_bytes, size_t *bytes_out)
{
    size_t item_bytes = job->item_size > job->result_size ? job->item_size : job->result_size;
    uint64_t fit = max_bytes / item_bytes;
    fit = fit < count ? fit : count;
    fit = fit ? fit : 1;
    *bytes_out = (size_t)fit * item_bytes;
    return fit;
}

uint64_t job_fit(const struct job *job, uint64_t first, uint64_t count, size_t max_bytes, size_t *bytes_out)
{
    if (job->kind == JOB_FIXED)
        return fit_fixed(job, count, max_bytes, bytes_out);
    uint64_t fit = 0;
    size_t bytes = 0;
    while (fit < count) {
        size_t size = job->inputs[first + fit].size + ITEM_OVERHEAD_BYTES;
        if (fit && (bytes >= max_bytes || size > max_bytes - bytes))
            break;
        bytes += size;
        fit++;
    }
    *bytes_out = bytes;
    return fit;
}

bool job_would_keep(const struct job *job, uint64_t index)
{
    return !job->status || index < job->status_index;
}

void job_fail(struct job *job, uint64_t index, int status, int code, const char *text)
{
    if (job->status_out)
        job->status_out[index] = status;
    if (job->code_out)
        job->code_out[index] = code;
    if (!job_would_keep(job, index))
        return;
    job->status = status;
    job->status_index = index;
    free(job->message);
    job->message = text ? strdup(text) : NULL;
}
