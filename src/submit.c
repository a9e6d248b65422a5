/* submit: see submit.h.
 *
 * Small tasks have a way of their own, there (submit_small) and back (take_ended): the lock is taken once, and there is
 * no system call but for what is sent. */
#include "submit.h"
#include "call.h"
#include "clock.h"
#include "error.h"
#include "options.h"
#include "place.h"
#include <errno.h>
#include <stdio.h>

/* ---- into the pool; the lock is held ---- */

bool submit_has_room(const struct pool *pool, size_t size)
{
    size_t room =
        pool->max_bytes_in_flight > pool->bytes_in_flight ? pool->max_bytes_in_flight - pool->bytes_in_flight : 0;
    return size <= room || !pool->bytes_in_flight;
}

static void count_in(struct pool *pool, struct pool_task *task, struct task_queue *queue)
{
    task->pool = pool;
    task->queue = queue;
    task->item.number = pool->next_number++;
    if (queue == &pool->ended) /* a stream's items have indices of their own */
        task->item.index = task->item.number;
    pool->handle_count++;
    pool->expected_count += queue == &pool->ended;
    pool->bytes_in_flight += task_held_bytes(task);
}

static void count_out(struct pool *pool, struct pool_task *task)
{
    pool->bytes_in_flight -= task_held_bytes(task);
    pool->expected_count -= task->queue == &pool->ended;
    pool->handle_count--;
    pool->next_number--;
}

static void hand_out(struct pool *pool)
{
    drive_begin_call();
    loop_hand_out(&pool->loop);
    drive_note(pool);
    drive_end_call();
}

int submit_task(struct pool *pool, struct pool_task *task, pool_task_fn *fn, unsigned kind, struct task_queue *queue)
{
    uint32_t function;
    int rc = drive_number(pool, (callable_fn *)fn, &function);
    if (rc)
        return rc;
    count_in(pool, task, queue);
    rc = loop_add_task(&pool->loop, task, function, kind);
    if (rc == LOOP_IS_DUE)
        hand_out(pool);
    if (rc >= 0)
        return 0;
    count_out(pool, task);
    return error_system(rc, "submitting a task");
}

void submit_in_place(struct pool *pool, struct pool_task *task, pool_task_fn *fn, struct task_queue *queue)
{
    char text[CALL_TEXT_BYTES], words[CALL_TEXT_BYTES + 64];
    struct pool_bytes reply;
    count_in(pool, task, queue);
    task->submitted_ns = clock_now_ns();
    uint64_t number = task->item.index;
    drive_unlock(pool); /* it may submit, wait and free itself */
    int code = place_run(fn, &task->item, text, &reply);
    drive_lock(pool);
    uint64_t now_ns = clock_now_ns();
    struct task_outcome outcome = {.status = code ? POOL_ETASK : 0,
                                   .code = code,
                                   .exit_code = -1,
                                   .text = code ? words : NULL,
                                   .reply = reply.data,
                                   .reply_size = reply.size,
                                   .run_ns = now_ns - task->submitted_ns};
    snprintf(words, sizeof words, "task %llu returned %d%s%s", (unsigned long long)number, code, *text ? ": " : "",
             text);
    task_note_sent(task, pool_worker_id(), 0);
    task_end(task, &outcome, now_ns);
    task_queue_append(&pool->loop.ended_tasks, task);
    drive_note(pool);
}

/* ---- pool_submit ---- */

static int check(const struct pool *pool, pool_task_fn *fn, const void *input, size_t input_size,
                 const struct pool_task_options *options)
{
    if (!pool || !fn)
        return error_set(-EINVAL, "pool_submit: %s is NULL", pool ? "fn" : "pool");
    if (!input && input_size)
        return error_set(-EINVAL, "pool_submit: input is NULL with a size of %zu", input_size);
    if (input_size > SIZE_MAX / 2)
        return error_set(-EOVERFLOW, "pool_submit: input_size is %zu", input_size);
    if (options->fd_count > POOL_TASK_FDS || (options->fd_count && !options->fds))
        return error_set(-EINVAL, "pool_submit: fd_count is %u: at most %d, and 0 without fds", options->fd_count,
                         POOL_TASK_FDS);
    return pool_check_deadline(options->timeout_ms);
}

static unsigned kind_of(const struct pool_task_options *options)
{
    return (options->timeout_ms ? LANE_DEADLINES : 0) | (options->at_most_once ? LANE_AT_MOST_ONCE : 0) |
           (options->fd_count ? LANE_FDS : 0);
}

/* 0, POOL_EAGAIN, or why there will never be room. */
static int await_room(struct pool *pool, size_t size, bool may_wait)
{
    while (!submit_has_room(pool, size)) {
        if (!may_wait)
            return error_set(POOL_EAGAIN, "pool_submit: %zu of max_bytes_in_flight (%zu) are in flight",
                             pool->bytes_in_flight, pool->max_bytes_in_flight);
        drive_turn(pool, DRIVE_FOREVER, true);
        int rc = drive_check_work(pool);
        if (rc)
            return rc;
    }
    return 0;
}

static int add_fds(struct pool_task *task, const struct pool_task_options *options)
{
    int rc = task_add_fds(task, options->fds, options->fd_count);
    return rc ? error_system(rc, "pool_submit") : 0;
}

static int submit_and_wait(struct pool *pool, pool_task_fn *fn, struct pool_task *task,
                           const struct pool_task_options *options, struct pool_task **task_out)
{
    bool may_wait = !options->no_wait && !drive_in_callback(pool);
    int rc = drive_enter_for_work(pool);
    if (rc)
        return rc;
    rc = await_room(pool, task_held_bytes(task), may_wait);
    if (!rc)
        rc = add_fds(task, options);
    if (!rc && pool->in_place)
        submit_in_place(pool, task, fn, &pool->ended);
    else if (!rc)
        rc = submit_task(pool, task, fn, kind_of(options), &pool->ended);
    if (rc)
        task_close_fds(task);
    else if (task_out)
        *task_out = task; /* under the lock: without a handle it may be gone afterwards */
    drive_leave(pool);
    return rc;
}

/* What the caller of pool_submit gave, and what is known of it. */
struct submission {
    pool_task_fn *fn;
    struct task_input input; /* its buffer is held */
    const struct pool_task_options *options;
    struct pool_task **task_out;
};

static int create(struct slab *slab, const struct submission *given, struct pool_task **task_out)
{
    const struct pool_task_options *options = given->options;
    int rc = task_create(slab, &given->input, task_out);
    if (rc)
        return error_system(rc, "pool_submit");
    (*task_out)->tag = options->tag;
    (*task_out)->item.timeout_ns = (uint64_t)options->timeout_ms * 1000000u;
    (*task_out)->held = given->task_out;
    return 0;
}

/* A large input is copied before the lock is taken. */
static int create_and_submit(struct pool *pool, const struct submission *given)
{
    struct pool_task *task;
    int rc = create(NULL, given, &task);
    if (rc)
        return rc;
    rc = submit_and_wait(pool, given->fn, task, given->options, given->task_out);
    if (rc)
        task_destroy(NULL, task);
    return rc;
}

static int give_small(struct pool *pool, const struct submission *given)
{
    struct pool_task *task;
    int rc = create(&pool->small_tasks, given, &task);
    if (rc)
        return rc;
    rc = submit_task(pool, task, given->fn, kind_of(given->options), &pool->ended);
    if (rc)
        task_destroy(&pool->small_tasks, task);
    else if (given->task_out)
        *given->task_out = task;
    return rc;
}

/* The common case, with the lock taken once: little is to be copied, there is room, and nothing to wait for.
 * POOL_PENDING: it has to be done otherwise; the buffer that the input lies in is known and held all the same. */
static int submit_small(struct pool *pool, struct submission *given)
{
    struct task_input *input = &given->input;
    bool may_refer = input->size && pool->buffers.count;
    if (!may_refer && (input->size > TASK_SMALL_BYTES || given->options->fd_count))
        return POOL_PENDING;
    int rc = drive_lock_for_work(pool);
    if (rc)
        return rc;
    input->buffer = may_refer ? buffers_hold(&pool->buffers, input->data, input->size) : NULL;
    size_t copied = input->buffer ? 0 : input->size;
    bool is_small = copied <= TASK_SMALL_BYTES && !given->options->fd_count && !pool->in_place;
    rc = is_small && submit_has_room(pool, copied) ? give_small(pool, given) : POOL_PENDING;
    drive_unlock(pool);
    return rc;
}

static void let_go_input(struct pool *pool, struct buffer *buffer)
{
    if (!buffer)
        return;
    drive_begin_call();
    drive_lock(pool);
    drive_let_go(pool, buffer);
    drive_unlock(pool);
    drive_end_call();
}

int pool_submit(struct pool *pool, pool_task_fn *fn, const void *input, size_t input_size,
                const struct pool_task_options *given, struct pool_task **task_out)
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    int rc = options_import(&options, sizeof options, given, "pool_task_options");
    if (!rc)
        rc = check(pool, fn, input, input_size, &options);
    if (rc)
        return rc;
    struct submission submission = {
        .fn = fn, .input = {.data = input, .size = input_size}, .options = &options, .task_out = task_out};
    rc = submit_small(pool, &submission);
    if (rc == POOL_PENDING)
        rc = create_and_submit(pool, &submission);
    if (rc)
        let_go_input(pool, submission.input.buffer);
    return rc;
}

/* ---- out of it ---- */

/* From now on pool_next does not hand it out. */
static void claim(struct pool *pool, struct pool_task *task)
{
    if (task->queue && task->ended)
        task_queue_remove(task->queue, task);
    else if (task->queue && !--pool->expected_count)
        drive_wake_all(pool); /* pool_next waits in vain */
    task->queue = NULL;
}

static int wait_for_task(struct pool *pool, struct pool_task *task, uint64_t until_ns)
{
    if (task->queue == &pool->ended)
        claim(pool, task);
    if (!task->ended && drive_in_callback(pool))
        return drive_check_waiting(pool, "pool_wait");
    for (bool first = true; !task->ended; first = false)
        if (!drive_turn(pool, until_ns, first))
            return POOL_PENDING;
    return 0;
}

int pool_wait(struct pool_task *task, int64_t timeout_ms)
{
    uint64_t until_ns;
    if (!task)
        return error_set(-EINVAL, "pool_wait: task is NULL");
    int rc = drive_until(timeout_ms, "pool_wait", &until_ns);
    if (rc)
        return rc;
    rc = drive_enter(task->pool);
    if (!rc) {
        rc = wait_for_task(task->pool, task, until_ns);
        drive_leave(task->pool);
    }
    return rc;
}

static void hand_over(struct pool *pool, struct pool_task *task, struct pool_task **task_out)
{
    claim(pool, task);
    task->held = true;
    *task_out = task;
}

static int take_next(struct pool *pool, uint64_t until_ns, struct pool_task **task_out)
{
    for (bool first = true; !pool->ended.first; first = false) {
        if (!pool->expected_count)
            return POOL_EMPTY;
        if (drive_in_callback(pool))
            return drive_check_waiting(pool, "pool_next");
        if (!drive_turn(pool, until_ns, first))
            return POOL_PENDING;
    }
    hand_over(pool, pool->ended.first, task_out);
    return 0;
}

/* The common case, when many are under way: nothing to wait for, and nothing that a cancelled thread could be in. */
static bool take_ended(struct pool *pool, struct pool_task **task_out)
{
    if (drive_is_copy(pool))
        return false;
    drive_lock(pool);
    struct pool_task *task = pool->ended.first;
    if (task)
        hand_over(pool, task, task_out);
    drive_unlock(pool);
    return task;
}

int pool_next(struct pool *pool, int64_t timeout_ms, struct pool_task **task_out)
{
    uint64_t until_ns;
    if (!pool || !task_out)
        return error_set(-EINVAL, "pool_next: %s is NULL", pool ? "task_out" : "pool");
    int rc = drive_until(timeout_ms, "pool_next", &until_ns);
    if (rc)
        return rc;
    if (take_ended(pool, task_out))
        return 0;
    rc = drive_enter(pool);
    if (!rc) {
        rc = take_next(pool, until_ns, task_out);
        drive_leave(pool);
    }
    return rc;
}

int pool_cancel(struct pool_task *task)
{
    if (!task)
        return error_set(-EINVAL, "pool_cancel: task is NULL");
    struct pool *pool = task->pool;
    int rc = drive_enter(pool);
    if (!rc) {
        rc = task->ended || pool->in_place ? POOL_ENDED : 0;
        if (!rc) {
            loop_cancel_task(&pool->loop, task);
            drive_note(pool);
        }
        drive_leave(pool);
    }
    return rc;
}

int pool_task_result(const struct pool_task *task, struct pool_result *result_out)
{
    if (!task || !result_out)
        return error_set(-EINVAL, "pool_task_result: %s is NULL", task ? "result_out" : "task");
    if (drive_is_copy(task->pool))
        return drive_enter(task->pool); /* which says why not */
    if (!task_has_ended(task))
        return POOL_PENDING;
    task_describe(task, result_out);
    return 0;
}

void *pool_task_tag(const struct pool_task *task)
{
    return task ? task->tag : NULL;
}

void pool_task_free(struct pool_task *task)
{
    if (!task || drive_is_sealed(task->pool))
        return;
    struct pool *pool = task->pool;
    drive_lock(pool);
    claim(pool, task);
    if (task->ended || drive_is_copy(pool)) /* a copy's tasks never end */
        drive_forget_task(pool, task);
    else
        task->dropped = true;
    pool_release(pool);
}
