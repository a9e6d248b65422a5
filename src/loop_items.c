/* loop_items: what became of items: their results and failures go to the arrays of a map or into tasks, in numbers and
 * in words. See loop.h. */
#include "loop_inner.h"
#include "procpool.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const nouns[] = {
    [JOB_FIXED] = "item", [JOB_BYTES] = "item", [JOB_LANE] = "task", [JOB_BROADCAST] = "broadcast"};

/* "task 17 of parse in /usr/bin/x: worker 1 (pid 4711) was killed by signal 11 (Segmentation fault)" */
static void describe_failure(const struct loop *loop, const struct job *job, uint64_t number,
                             const struct failure *failure, char text[LOOP_TEXT_BYTES])
{
    char name[512], of[64] = "";
    functions_name(&loop->setup.functions, job->function, name, sizeof name);
    if (job->kind != JOB_BROADCAST)
        snprintf(of, sizeof of, " %" PRIu64, number);
    int size = snprintf(text, LOOP_TEXT_BYTES, "%s%s of %s: ", nouns[job->kind], of, name);
    if (failure->peer)
        size += snprintf(text + size, LOOP_TEXT_BYTES - (size_t)size, "worker %u (pid %d) ", failure->peer->worker_id,
                         (int)failure->peer->child.pid);
    snprintf(text + size, LOOP_TEXT_BYTES - (size_t)size, "%s", failure->what);
}

static void count_failure(struct loop *loop, const struct job *job, int status)
{
    if (job->kind == JOB_BROADCAST)
        return;
    loop->counts.canceled += status == POOL_ECANCELED;
    loop->counts.failed += status != POOL_ECANCELED;
}

void loop_fail_task(struct loop *loop, const struct job *job, uint64_t i, const struct failure *failure,
                    uint64_t run_ns)
{
    struct pool_task *task = lanes_task(job, i);
    char text[LOOP_TEXT_BYTES];
    if (!task)
        return; /* it was cancelled before */
    bool died = failure->peer && (failure->status == POOL_ECRASH || failure->status == POOL_ETIMEOUT);
    struct task_outcome outcome = {.status = failure->status, .code = failure->code, .run_ns = run_ns, .exit_code = -1};
    if (died && failure->peer->end.known) {
        outcome.signal = failure->peer->end.signal;
        outcome.exit_code = failure->peer->end.signal ? -1 : failure->peer->end.exit_code;
    }
    describe_failure(loop, job, task->item.index, failure, text);
    outcome.text = text;
    count_failure(loop, job, failure->status);
    task_end(task, &outcome, loop->sched.now_ns);
}

static void fail_item(struct loop *loop, struct job *job, uint64_t i, const struct failure *failure, uint64_t run_ns)
{
    char text[LOOP_TEXT_BYTES];
    if (job->kind == JOB_LANE) {
        loop_fail_task(loop, job, i, failure, run_ns);
        return;
    }
    bool wanted = job_would_keep(job, i, failure->status);
    if (wanted)
        describe_failure(loop, job, i, failure, text);
    count_failure(loop, job, failure->status);
    job_fail(job, i, failure->status, failure->code, wanted ? text : NULL);
}

/* The scheduler knows that these have ended: those of a lane leave it. */
static void take_away(struct loop *loop, struct job *job, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; job->kind == JOB_LANE && i < first + count; i++) {
        struct pool_task *task = lanes_take(job, i);
        if (task)
            task_queue_append(&loop->ended_tasks, task);
    }
}

/* ---- what workers say of items ---- */

static void take_results(struct loop *loop, struct job *job, const struct peer *peer, const struct peer_report *report)
{
    char what[64] = "";
    job_note_reply(job, report->body_bytes / report->count);
    for (uint32_t i = 0; i < report->failure_count; i++) {
        struct wire_failure failed = wire_decode_failure(report->failures + (size_t)i * WIRE_FAILURE_BYTES);
        struct failure failure = {.status = POOL_ETASK, .code = failed.code, .peer = peer, .what = what};
        if (job_would_keep(job, report->first + failed.offset, POOL_ETASK))
            snprintf(what, sizeof what, "returned %d", failed.code);
        fail_item(loop, job, report->first + failed.offset, &failure, 0);
    }
}

static void take_reply(struct loop *loop, struct job *job, const struct peer_report *report)
{
    if (job->kind == JOB_LANE) {
        struct task_outcome outcome = {.exit_code = -1,
                                       .reply = report->reply,
                                       .region = report->region,
                                       .reply_size = report->reply_size,
                                       .run_ns = report->elapsed_ns};
        task_end(lanes_task(job, report->first), &outcome, loop->sched.now_ns);
    } else if (job->replies) {
        job->replies[report->first] = (struct pool_bytes){report->reply, report->reply_size};
    }
}

static bool take_result(struct loop *loop, struct job *job, const struct peer *peer, const struct peer_report *report)
{
    char what[WHAT_BYTES];
    struct failure failure = {.status = POOL_ETASK, .code = report->code, .peer = peer, .what = what};
    job_note_reply(job, report->region ? 0 : report->reply_size); /* what is lent does not travel */
    if (!report->code && !report->reply_error) {
        take_reply(loop, job, report);
        return false;
    }
    snprintf(what, sizeof what, "returned %d%s%s", report->code, *report->text ? ": " : "", report->text);
    if (!report->code) {
        failure.status = report->reply_error;
        failure.what = report->reply_error == -ENOMEM ? "replied with more than there is memory for"
                                                      : "replied in memory of its own, which there is no fd to map by";
    }
    fail_item(loop, job, report->first, &failure, report->elapsed_ns);
    return true;
}

static void *reply_memory(const struct job *job, uint64_t i, size_t size)
{
    return job->kind == JOB_LANE ? task_reply_memory(lanes_task(job, i), size) : malloc(size);
}

/* Copies of the replies, where they are wanted; how many there was no memory for. */
static uint64_t take_replies(struct loop *loop, struct job *job, const struct peer *peer,
                             const struct peer_report *report)
{
    bool wanted = job->kind == JOB_LANE || job->replies;
    const uint8_t *at = report->replies;
    uint64_t failures = 0;
    for (uint64_t i = 0; i < report->count; i++) {
        struct wire_reply reply;
        at = wire_decode_reply(at, &reply);
        size_t size = wanted ? reply.size : 0;
        struct peer_report one = {.first = report->first + i, .count = 1, .elapsed_ns = reply.elapsed_ns, .text = ""};
        one.reply = size ? reply_memory(job, one.first, size) : NULL;
        one.reply_size = one.reply ? size : 0;
        one.reply_error = size && !one.reply ? -ENOMEM : 0;
        if (one.reply)
            memcpy(one.reply, reply.bytes, size);
        failures += take_result(loop, job, peer, &one);
    }
    return failures;
}

static void take_error(struct loop *loop, struct job *job, const struct peer *peer, const struct peer_report *report)
{
    char what[WHAT_BYTES];
    struct failure failure = {.status = report->code, .peer = peer, .what = what};
    snprintf(what, sizeof what, "could not run it: %s%s%s", pool_strerror(report->code), *report->text ? ": " : "",
             report->text);
    for (uint64_t i = 0; i < report->count; i++)
        fail_item(loop, job, report->first + i, &failure, report->elapsed_ns / report->count);
}

/* How many of the items have failed. */
static uint64_t take_report(struct loop *loop, struct job *job, const struct peer *peer, enum peer_news news,
                            const struct peer_report *report)
{
    switch (news) {
    case PEER_RESULTS:
        take_results(loop, job, peer, report);
        return report->failure_count;
    case PEER_RESULT:
        return take_result(loop, job, peer, report);
    case PEER_REPLIES:
        return take_replies(loop, job, peer, report);
    default:
        take_error(loop, job, peer, report);
        return report->count;
    }
}

void loop_take_items(struct loop *loop, unsigned slot, enum peer_news news, const struct peer_report *report)
{
    struct span *span = sched_head(&loop->sched, slot);
    struct job *job = span->job;
    if (sched_state(&loop->sched, slot) != SLOT_READY) { /* being killed: too late, whatever it says */
        free(report->reply);
        borrow_give_back(report->region);
        return;
    }
    uint64_t failures = take_report(loop, job, &loop->peers[slot], news, report);
    if (job->kind != JOB_BROADCAST)
        loop->counts.succeeded += report->count - failures;
    sched_items_ended(&loop->sched, slot, report->count, failures, report->elapsed_ns, report->worn);
    if (span == sched_head(&loop->sched, slot))
        peer_note_answered(span, report->count);
    take_away(loop, job, report->first, report->count);
}

/* ---- what the scheduler says of items ---- */

/* What the worker's end means for the item that is blamed for it. loop->peers[slot] still is the dead worker. */
void loop_fail_items(struct loop *loop, const struct sched_effect *effect)
{
    struct job *job = effect->job;
    char what[WHAT_BYTES];
    struct failure failure = {.status = effect->status,
                              .peer = effect->slot == SCHED_NO_SLOT ? NULL : &loop->peers[effect->slot],
                              .what = what};
    if (effect->status == POOL_ECRASH)
        snprintf(what, sizeof what, "%s", failure.peer->end_text);
    else if (effect->status == POOL_ETIMEOUT)
        snprintf(what, sizeof what, "was killed %" PRIu64 " ms after the item began, at its deadline",
                 job_timeout_ns(job, effect->first) / 1000000);
    else if (effect->status == POOL_EPROTO)
        snprintf(what, sizeof what, "broke the protocol and was killed");
    else if (effect->status == POOL_EBROKEN)
        snprintf(what, sizeof what, "the pool is broken: %.1200s", loop->start_text);
    else
        snprintf(what, sizeof what, "%s", pool_strerror(effect->status));
    for (uint64_t i = 0; i < effect->count; i++)
        fail_item(loop, job, effect->first + i, &failure, 0);
    take_away(loop, job, effect->first, effect->count);
}

/* From now on workers run it as they start, in the order of submission; an earlier one of the same function not any
 * more. */
static void keep_replay(struct loop *loop, struct job *job)
{
    struct peer_setup *setup = &loop->setup;
    struct pool_bytes *input = (struct pool_bytes *)(uintptr_t)job->inputs;
    size_t kept = 0;
    for (size_t i = 0; i < setup->replay_count; i++) {
        if (setup->replays[i].function == job->function)
            free(setup->replays[i].input.data); /* every worker that was greeted with it has run it, or is gone */
        else
            setup->replays[kept++] = setup->replays[i];
    }
    setup->replays[kept] = (struct peer_replay){.function = job->function, .input = *input};
    setup->replay_count = kept + 1;
    *input = (struct pool_bytes){NULL, 0};
}

static void end_broadcast(struct loop *loop, struct job *job)
{
    if (!job->status && (job->left_count || !job->run_count))
        job->status = loop->sched.refusal;
    if (!job->status)
        keep_replay(loop, job);
}

void loop_end_job(struct loop *loop, const struct sched_effect *effect)
{
    struct job *job = effect->job;
    if (job->kind == JOB_LANE) {
        lanes_release(&loop->lanes, (struct lane *)job); /* its first member */
        return;
    }
    if (job->kind == JOB_BROADCAST)
        end_broadcast(loop, job);
    job->ended = true;
    loop->jobs_ended++;
}

/* ---- what is left ---- */

/* "worker 3 (pid 4712) runs task 17 of parse in /usr/bin/x" */
static int describe_worker(const struct loop *loop, unsigned slot, char *text, size_t size)
{
    const struct peer *peer = &loop->peers[slot];
    const struct span *head = sched_head(&loop->sched, slot);
    char name[512];
    if (!head)
        return snprintf(text, size, "worker %u (pid %d) has not ended", peer->worker_id, (int)peer->child.pid);
    bool live = job_is_live(head->job, head->first) && head->job->kind != JOB_FIXED;
    uint64_t number = live ? job_item(head->job, head->first).index : head->first;
    functions_name(&loop->setup.functions, head->job->function, name, sizeof name);
    return snprintf(text, size, "worker %u (pid %d) runs %s %" PRIu64 " of %s", peer->worker_id, (int)peer->child.pid,
                    nouns[head->job->kind], number, name);
}

void loop_describe_rest(const struct loop *loop, char *text_out, size_t size)
{
    size_t end = 0;
    text_out[0] = '\0';
    for (unsigned i = 0; i < loop->sched.slot_count && end + 2 < size; i++) {
        if (!peer_is_open(&loop->peers[i]))
            continue;
        if (end)
            end += (size_t)snprintf(text_out + end, size - end, "; ");
        end += (size_t)describe_worker(loop, i, text_out + end, size - end);
    }
}
