/* place: see place.h. Outcomes are put as loop_items.c puts them, but for the worker in them. */
#include "place.h"
#include "call.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(struct job *job, uint64_t i, int code, const char *text)
{
    char words[CALL_TEXT_BYTES + 64];
    snprintf(words, sizeof words, "item %" PRIu64 " returned %d%s%s", i, code, *text ? ": " : "", text);
    job_fail(job, i, POOL_ETASK, code, words);
}

static bool is_stopped(struct job *job, uint64_t i)
{
    bool stopped = job->status && job->stop_on_error;
    if (stopped)
        job_fail(job, i, POOL_ECANCELED, 0, NULL);
    return stopped;
}

void place_run_map(struct job *job, pool_map_fn *fn)
{
    uint64_t outer_index = call_place.item_index;
    for (uint64_t i = 0; i < job->count; i++) {
        if (is_stopped(job, i))
            continue;
        call_place.item_index = i;
        int code = fn(job->items + i * job->item_size, job->results ? job->results + i * job->result_size : NULL, NULL);
        if (code)
            fail(job, i, code, "");
    }
    call_place.item_index = outer_index;
}

int place_run(pool_task_fn *fn, const struct job_item *item, char *text_out, struct pool_bytes *reply_out)
{
    struct pool_call call = {.max_reply_bytes = SIZE_MAX / 2, .fd_count = item->fd_count};
    uint64_t outer_index = call_place.item_index;
    if (item->fd_count)
        memcpy(call.fds, item->fds, item->fd_count * sizeof *call.fds);
    call_begin(&call, item->data, item->size, NULL, 0);
    call_place.item_index = item->index;
    int code = fn(&call);
    call_place.item_index = outer_index;
    memcpy(text_out, call.text, CALL_TEXT_BYTES);
    *reply_out = (struct pool_bytes){NULL, 0};
    if (code || !call.reply_size)
        free(call.reply);
    else
        *reply_out = (struct pool_bytes){call.reply, call.reply_size};
    return code;
}

void place_run_map_bytes(struct job *job, pool_task_fn *fn)
{
    char text[CALL_TEXT_BYTES];
    struct pool_bytes reply;
    for (uint64_t i = 0; i < job->count; i++) {
        struct job_item item = job_item(job, i);
        if (is_stopped(job, i))
            continue;
        int code = place_run(fn, &item, text, &reply);
        if (code)
            fail(job, i, code, text);
        else if (job->replies)
            job->replies[i] = reply;
        else
            free(reply.data);
    }
}
