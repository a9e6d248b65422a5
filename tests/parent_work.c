/* parent_work: maps, tasks and broadcasts: how they are made, what is known of them, and whether they end as they may.
 *
 * Their memory is of exactly their size and is given back as soon as they have ended, as a caller would: whoever still
 * holds a piece of it is seen by a sanitizer, and a body that is still to be sent by check_loans. */
#include "fd.h"
#include "parent_world.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 256 << 10, MAX_ITEMS = 200, SHORT_STRETCH = 12 };

size_t size_of(uint8_t code)
{
    return code < PARENT_SIZE_STEPS_FROM ? code : (size_t)(code - PARENT_SIZE_STEPS_FROM + 1) * PARENT_SIZE_STEP;
}

/* ---- making ---- */

/* NULL: the pool would refuse it, or the world is full. */
static struct work *new_work(enum work_kind kind)
{
    unsigned i = 0;
    while (i < MAX_WORKS && world.works[i].exists)
        i++;
    if (i == MAX_WORKS || world.closing || world.loop.broken || world.submitted > 16 * MOST_BYTES)
        return NULL;
    world.works[i] = (struct work){.kind = kind, .serial = ++world.next_serial};
    return &world.works[i];
}

static bool find_function(uint8_t function, uint32_t *number_out)
{
    char text[256];
    return loop_number(&world.loop, (callable_fn *)(uintptr_t)(function + 1u), number_out, text) == 0;
}

static void fill(uint8_t *bytes, size_t size)
{
    memset(bytes, (int)(world.submitted % 251), size);
    for (size_t i = 0; i < size; i += 64)
        bytes[i] = (uint8_t)(i / 64);
    world.submitted += size;
}

static void make_inputs(struct work *work, size_t size, bool uneven)
{
    work->inputs = own(work->count, sizeof *work->inputs);
    for (uint64_t i = 0; i < work->count; i++) {
        size_t its_size = uneven ? size * (i % 4) / 3 : size;
        if (!its_size)
            continue;
        work->inputs[i] = (struct pool_bytes){own(its_size, 1), its_size};
        fill(work->inputs[i].data, its_size);
    }
    work->job.inputs = work->inputs;
}

static void make_items(struct work *work)
{
    work->items = own(work->count, work->job.item_size);
    fill(work->items, (size_t)work->count * work->job.item_size);
    work->job.items = work->items;
    if (work->job.result_size)
        work->job.results = own(work->count, work->job.result_size);
}

static void make_map(struct work *work, const struct map_wish *wish)
{
    struct job *job = &work->job;
    size_t item_size = size_of(wish->item_size), result_size = size_of(wish->result_size);
    uint64_t most = MOST_BYTES / (item_size + result_size + 1), count = wish->count % (MAX_ITEMS + 1);
    work->count = count < most ? count : most;
    work->number = world.next_number;
    work->timeout_ns = wish->timeout_ms * UINT64_C(1000000);
    work->stops = wish->flags & MAP_STOP;
    work->items_known = own(work->count, sizeof *work->items_known);
    job->kind = wish->flags & MAP_BYTES ? JOB_BYTES : JOB_FIXED;
    job->count = work->count;
    job->number = work->number;
    job->chunk_size = wish->chunk_size;
    job->timeout_ns = work->timeout_ns;
    job->at_most_once = wish->flags & MAP_ONCE;
    job->stop_on_error = work->stops;
    job->status_out = wish->flags & MAP_NO_STATUS ? NULL : own(work->count, sizeof *job->status_out);
    job->code_out = wish->flags & MAP_NO_CODE ? NULL : own(work->count, sizeof *job->code_out);
    if (job->kind == JOB_BYTES) {
        make_inputs(work, item_size, wish->flags & MAP_UNEVEN);
        job->replies = wish->flags & MAP_NO_RESULTS ? NULL : own(work->count, sizeof *job->replies);
    } else {
        job->item_size = item_size ? item_size : 1;
        job->result_size = wish->flags & MAP_NO_RESULTS ? 0 : result_size;
        make_items(work);
    }
}

void give_map(const struct map_wish *wish)
{
    struct work *work = new_work(WORK_MAP);
    uint32_t number;
    if (!work || !find_function(wish->function, &number))
        return;
    make_map(work, wish);
    work->exists = true;
    work->job.function = number;
    trace("  work %u: %s, %lu items of %zu, results of %zu\n", (unsigned)(work - world.works),
          work->job.kind == JOB_FIXED ? "map" : "map of bytes", (unsigned long)work->count, work->job.item_size,
          work->job.result_size);
    job_begin(&work->job);
    loop_submit(&world.loop, &work->job);
}

/* As pool_submit and pool_stream do. */
static int make_task(const struct task_wish *wish, struct pool_task **task_out)
{
    size_t size = size_of(wish->size) * (wish->flags & TASK_LARGE ? 8 : 1);
    unsigned fd_count = wish->flags & TASK_FDS ? wish->flags / 8 % 4 + 1u : 0;
    int fds[4];
    uint8_t *input = own(size, 1);
    fill(input, size);
    uint8_t *owned = wish->flags & TASK_OWNS && size ? malloc(size) : NULL;
    if (owned)
        memcpy(owned, input, size);
    for (unsigned i = 0; i < fd_count; i++)
        fds[i] = world.loop.wake_fd; /* any fd will do */
    struct task_input given = {.data = owned ? NULL : input, .size = size, .owned = owned};
    int rc = task_create(NULL, &given, task_out);
    if (rc)
        free(owned);
    else if ((rc = task_add_fds(*task_out, fds, fd_count)) != 0)
        task_destroy(NULL, *task_out);
    disown(input);
    return rc;
}

static int hand_over(struct work *work, const struct task_wish *wish, uint32_t function)
{
    struct pool_task *task = work->task;
    unsigned kind = (wish->timeout_ms ? LANE_DEADLINES : 0u) | (wish->flags & TASK_ONCE ? LANE_AT_MOST_ONCE : 0u) |
                    (wish->flags & TASK_FDS ? LANE_FDS : 0u);
    work->number = world.next_number++;
    task->item.number = work->number;
    task->item.index = wish->flags & TASK_OF_STREAM ? world.next_index++ : work->number;
    task->item.timeout_ns = work->timeout_ns;
    task->tag = work;
    int rc = loop_add_task(&world.loop, task, function, kind);
    if (rc == LOOP_IS_DUE)
        loop_hand_out(&world.loop);
    if (rc < 0)
        world.next_number--;
    return rc < 0 ? rc : 0;
}

void give_task(const struct task_wish *wish)
{
    struct work *work = new_work(WORK_TASK);
    uint32_t function;
    if (!work || !find_function(wish->function, &function) || make_task(wish, &work->task))
        return;
    work->exists = true;
    work->count = 1;
    work->timeout_ns = wish->timeout_ms * UINT64_C(1000000);
    work->has_fds = wish->flags & TASK_FDS;
    work->is_kept = wish->flags & TASK_KEPT;
    work->items_known = own(1, sizeof *work->items_known);
    world.any_fds |= work->has_fds;
    trace("  work %u: a task of %zu\n", (unsigned)(work - world.works), work->task->item.size);
    int rc = hand_over(work, wish, function);
    if (!rc)
        return;
    REQUIRE(rc == -ENOMEM && world.was_scarce && work->items_known->fate == ITEM_WAITS);
    task_destroy(NULL, work->task);
    disown(work->items_known);
    work->exists = false;
}

void give_broadcast(uint8_t size_code, uint8_t function)
{
    size_t size = size_of(size_code);
    struct work *work = world.broadcasting || world.replay_count == MAX_REPLAYS ? NULL : new_work(WORK_BROADCAST);
    uint32_t number;
    void *input = malloc(size ? size : 1);
    if (!work || !input || !find_function(function, &number)) {
        free(input);
        return;
    }
    work->exists = world.broadcasting = true;
    work->inputs = own(1, sizeof *work->inputs);
    *work->inputs = (struct pool_bytes){input, size};
    fill(input, size);
    work->number = world.next_number;
    work->job = (struct job){.kind = JOB_BROADCAST, .number = work->number, .function = number, .inputs = work->inputs};
    trace("  work %u: a broadcast of %zu\n", (unsigned)(work - world.works), size);
    job_begin(&work->job);
    bytes_append(&work->replies, input, size); /* to compare replays with */
    loop_broadcast(&world.loop, &work->job);
}

void give_crowd(uint8_t count, uint8_t function)
{
    for (unsigned i = 0; i < count % 32u; i++) {
        struct work *work = new_work(WORK_TASK);
        const struct task_wish wish = {.function = function};
        if (!work)
            return;
        give_task(&wish);
        if (work->exists)
            cancel_work(work);
        look_at_works();
    }
}

/* Of thousands in a real one: it would take a world too long to see it replaced. */
bool __real_lane_is_stretched(const struct lane *lane);
bool __wrap_lane_is_stretched(const struct lane *lane)
{
    const struct job *job = &lane->job;
    return __real_lane_is_stretched(lane) ||
           (in_world && job->count - job->ring_base > SHORT_STRETCH + 4 * job->unended_count);
}

void cancel_work(struct work *work)
{
    bool ended = work->kind == WORK_TASK ? work->task->ended : work->job.ended;
    if (!work->exists || ended || work->kind == WORK_BROADCAST)
        return;
    trace("  work %u is cancelled\n", (unsigned)(work - world.works));
    work->canceled = true;
    if (work->kind == WORK_TASK)
        loop_cancel_task(&world.loop, work->task);
    else
        loop_cancel(&world.loop, &work->job, POOL_ECANCELED);
}

struct work *work_of_item(const struct span *span, uint64_t i)
{
    if (span->job->kind == JOB_LANE) {
        REQUIRE(lanes_task(span->job, i));
        return lanes_task(span->job, i)->tag;
    }
    for (unsigned k = 0; k < MAX_WORKS; k++)
        if (world.works[k].exists && span->job == &world.works[k].job) {
            REQUIRE(!span->job->ended);
            return &world.works[k];
        }
    give_up("what is sent was submitted", __FILE__, __LINE__);
}

/* ---- how items may end ---- */

/* Whether an item may have ended so with no answer from a worker. */
static bool may_end_with(const struct work *work, int status)
{
    switch (status) {
    case POOL_ECRASH:
        return world.any_exit;
    case POOL_EPROTO:
        return world.any_exit; /* it was killed for it: see check_process */
    case POOL_ETIMEOUT:
        return work->timeout_ns;
    case POOL_ECANCELED:
        return work->canceled || work->stops || (world.closing && world.mode != POOL_DRAIN);
    case POOL_EBROKEN:
        return world.loop.broken;
    case -EAGAIN:
    case -ETOOMANYREFS: /* workers that do not receive the fds that were sent before */
        return work->has_fds;
    default:
        return status == -ENOMEM && world.was_scarce;
    }
}

/* True: it succeeded, and its reply is to be looked at. */
static bool check_outcome(const struct work *work, const struct item *item, int status, int code)
{
    REQUIRE(item->fate != ITEM_IS_AWAY || work->canceled);
    if (world.was_scarce && status && !code)
        return false;
    if (item->fate == ITEM_FAILED) {
        REQUIRE(status == item->status && code == item->code);
    } else if (item->fate != ITEM_SUCCEEDED) {
        REQUIRE(status && !code && may_end_with(work, status));
    } else {
        REQUIRE(!status && !code);
    }
    return item->fate == ITEM_SUCCEEDED && !status;
}

static void check_reply(const struct work *work, const struct item *item, const void *data, size_t size)
{
    REQUIRE(size == item->reply_size);
    if (size)
        REQUIRE(data && !memcmp(data, work->replies.data + item->reply_at, size));
    else
        REQUIRE(!data);
}

static void check_text(const char *text)
{
    for (; text && *text; text++)
        REQUIRE((uint8_t)*text >= ' ');
}

/* ---- maps ---- */

static void check_map_item(const struct work *work, uint64_t i)
{
    const struct job *job = &work->job;
    const struct item *item = &work->items_known[i];
    if (!job->status_out) {
        REQUIRE(item->fate != ITEM_IS_AWAY && (job->status || item->fate == ITEM_SUCCEEDED));
        return;
    }
    int code = job->code_out ? job->code_out[i] : item->code;
    bool succeeded = check_outcome(work, item, job->status_out[i], code);
    if (succeeded && job->kind == JOB_FIXED && job->result_size)
        check_reply(work, item, job->results + i * job->result_size, job->result_size);
    if (succeeded && job->replies)
        check_reply(work, item, job->replies[i].data, job->replies[i].size);
    if (!succeeded && job->replies)
        REQUIRE(!job->replies[i].data && !job->replies[i].size);
}

static void check_map(const struct work *work)
{
    const struct job *job = &work->job;
    uint64_t why = job->count; /* the first that failed, one of those that were cancelled only if there is no other */
    REQUIRE(!job->unended_count && !job->pending && !job->queued && !job->spans_out);
    for (uint64_t i = 0; i < job->count; i++) {
        check_map_item(work, i);
        if (job->status_out && job->status_out[i] &&
            (why == job->count || (job->status_out[why] == POOL_ECANCELED && job->status_out[i] != POOL_ECANCELED)))
            why = i;
    }
    if (job->status_out && why < job->count)
        REQUIRE(job->status == job->status_out[why] && job->status_index == why);
    REQUIRE(!job->status_out || (why < job->count) == (job->status != 0));
    REQUIRE(job->status ? job->message || world.was_scarce : !job->message);
    check_text(job->message);
}

/* While it goes on: what has ended, and nothing else, is counted as such. */
static void check_map_so_far(const struct work *work)
{
    uint64_t ended = 0;
    for (uint64_t i = 0; i < work->count && work->job.status_out; i++)
        ended += work->items_known[i].fate >= ITEM_SUCCEEDED || work->job.status_out[i];
    REQUIRE(!work->job.status_out || work->count - work->job.unended_count == ended || world.was_scarce);
}

/* ---- tasks ---- */

static void check_task(const struct work *work)
{
    const struct item *item = &work->items_known[0];
    struct pool_result result;
    task_describe(work->task, &result);
    bool succeeded = check_outcome(work, item, result.status, result.code);
    REQUIRE(result.attempts == item->times_sent);
    REQUIRE((result.worker_id == POOL_NOT_A_WORKER) == !item->times_sent && !result.worker_pid == !item->times_sent);
    REQUIRE(result.run_ns == (item->fate >= ITEM_SUCCEEDED ? item->run_ns : 0) || world.was_scarce);
    REQUIRE(result.signal == 0 || result.status == POOL_ECRASH || result.status == POOL_ETIMEOUT);
    REQUIRE(!work->task->item.fds && !work->task->owned_input);
    check_text(result.message);
    if (succeeded)
        check_reply(work, item, result.data, result.data_size);
    else
        REQUIRE(!result.data && !result.data_size);
}

/* ---- broadcasts ---- */

static void remember_replay(const struct work *work)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < world.replay_count; i++) {
        if (world.replays[i].function == work->job.function)
            bytes_clear(&world.replays[i].input);
        else
            world.replays[kept++] = world.replays[i];
    }
    struct replay *replay = &world.replays[kept];
    *replay = (struct replay){.function = work->job.function, .serial = work->serial};
    bytes_append(&replay->input, work->replies.data, work->replies.size);
    world.replay_count = kept + 1;
}

/* Whoever is ready has run it. */
static void check_broadcast(const struct work *work)
{
    for (unsigned i = 0; i < world.process_count && !work->job.status; i++) {
        const struct process *process = &world.processes[i];
        unsigned slot = process->exists && !process->reaped ? slot_of(process) : SCHED_NO_SLOT;
        if (slot != SCHED_NO_SLOT && sched_state(&world.loop.sched, slot) == SLOT_READY)
            REQUIRE(process->broadcast == work->serial);
    }
    if (work->job.status != work->failure)
        REQUIRE(may_end_with(work, work->job.status));
    check_text(work->job.message);
}

void settle_broadcasts(void)
{
    if (!world.broadcasting)
        return;
    for (unsigned i = 0; i < MAX_WORKS; i++) {
        struct work *work = &world.works[i];
        if (!work->exists || work->settled || work->kind != WORK_BROADCAST || !work->job.ended)
            continue;
        work->settled = true;
        world.broadcasting = false;
        REQUIRE(work->job.status || !work->inputs->data); /* it was kept */
        if (!work->job.status)
            remember_replay(work);
    }
}

/* ---- what has ended ---- */

/* Its memory is the caller's again. */
static void check_loans(const struct work *work)
{
    for (unsigned i = 0; i < world.process_count; i++) {
        const struct process *process = &world.processes[i];
        unsigned slot = process->exists && !process->reaped ? slot_of(process) : SCHED_NO_SLOT;
        if (slot == SCHED_NO_SLOT || !chan_has_output(&world.loop.peers[slot].chan))
            continue;
        for (size_t k = 0; k < process->loan_count; k++)
            REQUIRE(process->loans[k].serial != work->serial || process->loans[k].end <= process->written);
    }
}

/* The process may use it again as soon as it is told; if it is still the same one. */
static void note_given_back(const struct holding *holding)
{
    struct process *process = &world.processes[holding->process];
    struct lent *lent = &process->lents[holding->number];
    if (!holding->serial || !process->exists || lent->serial != holding->serial)
        return;
    lent->held = false;
    lent->untold = true;
}

/* As pool_task_free does it. */
void free_kept(struct kept *kept)
{
    struct pool_result result;
    task_describe(kept->task, &result);
    REQUIRE(result.data_size == kept->reply.size);
    REQUIRE(!result.data_size || !memcmp(result.data, kept->reply.data, result.data_size));
    const struct borrow *lender = kept->task->region ? kept->task->region->owner : NULL;
    task_destroy(NULL, kept->task);
    note_given_back(&kept->holding);
    bytes_clear(&kept->reply);
    kept->task = NULL;
    if (lender && lender->is_urgent)
        loop_tell_returns(&world.loop);
}

static void keep_task(struct work *work)
{
    struct pool_result result;
    unsigned i = 0;
    while (i < MAX_KEPT && world.kept[i].task)
        i++;
    if (i == MAX_KEPT || !work->is_kept)
        return;
    task_describe(work->task, &result);
    world.kept[i] = (struct kept){.task = work->task, .holding = work->holding};
    bytes_append(&world.kept[i].reply, result.data, result.data_size);
    work->task = NULL;
    work->holding = (struct holding){0};
}

static void discard_work(struct work *work)
{
    struct job *job = &work->job;
    for (uint64_t i = 0; i < work->count; i++) {
        if (job->replies)
            free(job->replies[i].data);
        if (work->inputs)
            disown(work->inputs[i].data);
    }
    if (work->kind == WORK_BROADCAST)
        free(work->inputs->data);
    if (work->task)
        task_destroy(NULL, work->task);
    note_given_back(&work->holding);
    disown(work->inputs);
    disown(work->items);
    disown(job->results);
    disown(job->replies);
    disown(job->status_out);
    disown(job->code_out);
    disown(work->items_known);
    bytes_clear(&work->replies);
    free(job->message);
    work->exists = false;
}

static void look_at_job(struct work *work)
{
    if (!work->job.ended) {
        if (work->kind == WORK_MAP)
            check_map_so_far(work);
        return;
    }
    trace("  work %u has ended with %d\n", (unsigned)(work - world.works), work->job.status);
    if (work->kind == WORK_MAP)
        check_map(work);
    else
        check_broadcast(work);
    check_loans(work);
    discard_work(work);
}

static void take_tasks(void)
{
    while (world.loop.ended_tasks.first) {
        struct pool_task *task = world.loop.ended_tasks.first;
        struct work *work = task->tag;
        task_queue_remove(&world.loop.ended_tasks, task);
        REQUIRE(task->ended && work->exists && work->task == task);
        trace("  work %u has ended with %d\n", (unsigned)(work - world.works), task->status);
        check_task(work);
        check_loans(work);
        keep_task(work);
        discard_work(work);
    }
}

void look_at_works(void)
{
    settle_broadcasts();
    take_tasks();
    for (unsigned i = 0; i < MAX_WORKS; i++)
        if (world.works[i].exists && world.works[i].kind != WORK_TASK)
            look_at_job(&world.works[i]);
}

/* The loop is gone, and they may not have ended. */
void discard_works(void)
{
    settle_broadcasts();
    for (unsigned i = 0; i < MAX_WORKS; i++)
        if (world.works[i].exists)
            discard_work(&world.works[i]);
    for (unsigned i = 0; i < MAX_KEPT; i++)
        if (world.kept[i].task)
            free_kept(&world.kept[i]);
    for (unsigned i = 0; i < world.replay_count; i++)
        bytes_clear(&world.replays[i].input);
}
