/* stream: a source and a sink, bounded in flight.
 *
 * The items are tasks with a queue of their own, in a window of max_in_flight places. One thread does it all: it takes
 * items from the source while there is room, gives results to the sink as they come (or as their turn comes), and
 * drives the pool when neither is possible. Both callbacks run without the pool's lock.
 * Must not know: how tasks run. */
#include "clock.h"
#include "error.h"
#include "options.h"
#include "submit.h"
#include <errno.h>
#include <stdlib.h>

#define LOOK_NS UINT64_C(1000000)
enum { ITEMS_PER_WORKER = 16 };

struct stream {
    struct pool *pool;
    pool_task_fn *fn;
    pool_source_fn *source;
    pool_sink_fn *sink;
    void *arg;
    struct pool_stream_options options;
    unsigned kind;

    struct task_queue ended;
    /* Those in flight: ordered by index % window_room, else [0, taken - sunk) in any order. */
    struct pool_task **window;
    size_t window_room;
    uint64_t taken, sunk;   /* from the source, to the sink */
    uint64_t driven_ns;     /* when the pool was last driven here */
    struct pool_bytes held; /* taken, and no room for it yet */
    bool holds, at_end;
    int error;    /* why no more is taken: the caller's or ours */
    bool stopped; /* by the caller, or since the source lied: the sink sees no more */
};

/* ---- the window ---- */

static size_t in_flight(const struct stream *stream)
{
    return (size_t)(stream->taken - stream->sunk);
}

static size_t place_of(const struct stream *stream, uint64_t index)
{
    return (size_t)(index % stream->window_room);
}

/* Room for one more. */
static int make_room(struct stream *stream)
{
    size_t room = stream->window_room * 2 + 32;
    if (in_flight(stream) < stream->window_room)
        return 0;
    struct pool_task **window = calloc(room, sizeof(struct pool_task *));
    if (!window)
        return -ENOMEM;
    for (size_t i = 0; i < stream->window_room; i++) {
        struct pool_task *task = stream->window[i];
        task->stream_place = stream->options.ordered ? (size_t)(task->item.index % room) : i;
        window[task->stream_place] = task;
    }
    free(stream->window);
    stream->window = window;
    stream->window_room = room;
    return 0;
}

static void put_in_window(struct stream *stream, struct pool_task *task)
{
    task->stream_place = stream->options.ordered ? place_of(stream, stream->taken) : in_flight(stream);
    task->item.index = stream->taken++;
    stream->window[task->stream_place] = task;
}

/* In a window without order the last one fills the gap. */
static void take_from_window(struct stream *stream, struct pool_task *task)
{
    struct pool_task **place = &stream->window[task->stream_place];
    stream->sunk++;
    struct pool_task **last = &stream->window[stream->options.ordered ? task->stream_place : in_flight(stream)];
    *place = NULL;
    if (place == last)
        return;
    *place = *last;
    (*place)->stream_place = task->stream_place;
    *last = NULL;
}

/* ---- callbacks ---- */

static void take_from_source(struct stream *stream)
{
    struct drive_callback callback;
    drive_begin_callback(stream->pool, &callback);
    stream->held = (struct pool_bytes){NULL, 0};
    int rc = stream->source(stream->arg, &stream->held);
    drive_end_callback(&callback);
    stream->holds = rc > 0;
    stream->at_end = rc <= 0;
    if (rc < 0) {
        stream->error = error_set(rc, "the stream's source stopped it with %d", rc);
        stream->stopped = true;
    } else if (rc > 0 && !stream->held.data && stream->held.size) {
        stream->error = error_set(-EINVAL, "the stream's source gave NULL with a size of %zu", stream->held.size);
        stream->stopped = stream->at_end = true;
        stream->holds = false;
    }
}

static void give_to_sink(struct stream *stream, struct pool_task *task)
{
    struct drive_callback callback;
    struct pool_result result;
    uint64_t index = task->item.index;
    take_from_window(stream, task);
    task_describe(task, &result);
    drive_begin_callback(stream->pool, &callback);
    int rc = stream->sink(stream->arg, index, &result);
    drive_end_callback(&callback);
    drive_forget_task(stream->pool, task);
    if (!rc)
        return;
    stream->error = error_set(rc, "the stream's sink stopped it with %d", rc);
    stream->stopped = true;
}

/* ---- one step; the lock is held ---- */

static bool wants_item(const struct stream *stream)
{
    return !stream->error && !stream->at_end && !stream->holds && in_flight(stream) < stream->options.max_in_flight;
}

/* The item has been taken, so the sink is told of it, whatever became of the pool. */
static void end_unsent(struct stream *stream, struct pool_task *task, int error)
{
    int status = error == POOL_ECLOSED ? POOL_ECANCELED : error;
    struct task_outcome outcome = {.status = status, .text = pool_message(), .exit_code = -1};
    task->queue = &stream->ended;
    task->pool = stream->pool;
    stream->pool->handle_count++;
    task->submitted_ns = clock_now_ns();
    task_end(task, &outcome, task->submitted_ns);
    task_queue_append(&stream->ended, task);
}

static void submit_held(struct stream *stream)
{
    struct pool *pool = stream->pool;
    struct pool_task *task;
    stream->holds = false;
    struct task_input input = {.size = stream->held.size, .owned = stream->held.data};
    int rc = make_room(stream);
    if (!rc)
        rc = task_create(NULL, &input, &task);
    if (rc) {
        free(stream->held.data);
        stream->error = error_system(rc, "pool_stream");
        return;
    }
    task->item.timeout_ns = (uint64_t)stream->options.timeout_ms * 1000000u;
    put_in_window(stream, task);
    rc = drive_check_work(pool);
    if (!rc && pool->in_place)
        submit_in_place(pool, task, stream->fn, &stream->ended);
    else if (!rc)
        rc = submit_task(pool, task, stream->fn, stream->kind, &stream->ended);
    if (rc)
        end_unsent(stream, task, rc);
    stream->error = rc;
}

/* The next result for the sink; NULL: none yet. */
static struct pool_task *next_result(struct stream *stream)
{
    struct pool_task *task = stream->ended.first;
    if (stream->options.ordered)
        task = in_flight(stream) ? stream->window[place_of(stream, stream->sunk)] : NULL;
    if (!task || !task->ended)
        return NULL;
    task_queue_remove(&stream->ended, task);
    return task;
}

static void drive(struct stream *stream, uint64_t until_ns)
{
    drive_turn(stream->pool, until_ns, true);
    stream->driven_ns = clock_now_ns();
}

/* However slow the source is, results are not kept from the sink until the window is full. */
static void look_for_results(struct stream *stream)
{
    if (stream->taken > stream->sunk && clock_now_ns() - stream->driven_ns > LOOK_NS)
        drive(stream, 0);
}

static bool step(struct stream *stream)
{
    struct pool_task *task = next_result(stream);
    if (task) {
        give_to_sink(stream, task);
    } else if (stream->holds && submit_has_room(stream->pool, stream->held.size)) {
        submit_held(stream);
        look_for_results(stream);
    } else if (wants_item(stream)) {
        take_from_source(stream);
    } else if (stream->sunk < stream->taken || stream->holds) {
        drive(stream, DRIVE_FOREVER);
    } else {
        return false;
    }
    return !stream->stopped;
}

/* Nobody wants what is still in flight. */
static void drop_rest(struct stream *stream)
{
    struct pool *pool = stream->pool;
    for (size_t i = 0; i < stream->window_room; i++) {
        struct pool_task *task = stream->window[i];
        if (!task)
            continue;
        if (task->ended) {
            task_queue_remove(&stream->ended, task);
            drive_forget_task(pool, task);
            continue;
        }
        task->queue = NULL;
        task->dropped = true;
        loop_cancel_task(&pool->loop, task);
    }
    if (!pool->in_place)
        drive_note(pool);
    if (stream->holds)
        free(stream->held.data);
}

/* ---- pool_stream ---- */

static int settle_options(struct stream *stream, const struct pool_stream_options *given)
{
    struct pool_stream_options *options = &stream->options;
    *options = (struct pool_stream_options)POOL_STREAM_OPTIONS_INIT;
    int rc = options_import(options, sizeof *options, given, "pool_stream_options");
    if (rc)
        return rc;
    if (!stream->fn || !stream->source || !stream->sink)
        return error_set(-EINVAL, "pool_stream: fn, source or sink is NULL");
    if (options->reserved)
        return error_set(-EINVAL, "pool_stream_options.reserved must be 0");
    stream->kind = (options->timeout_ms ? LANE_DEADLINES : 0) | (options->at_most_once ? LANE_AT_MOST_ONCE : 0);
    return pool_check_deadline(options->timeout_ms);
}

static int run(struct stream *stream)
{
    struct pool *pool = stream->pool;
    size_t *max = &stream->options.max_in_flight;
    *max = *max ? *max : pool->in_place ? 1 : (size_t)pool->loop.sched.config.workers * ITEMS_PER_WORKER;
    uint32_t unused;
    /* Before anything is asked of the source. */
    int rc = pool->in_place ? 0 : drive_number(pool, (callable_fn *)stream->fn, &unused);
    if (rc)
        return rc;
    while (step(stream))
        continue;
    drop_rest(stream);
    free(stream->window);
    return stream->error;
}

int pool_stream(struct pool *pool, pool_task_fn *fn, pool_source_fn *source, pool_sink_fn *sink, void *arg,
                const struct pool_stream_options *options)
{
    struct stream stream = {.fn = fn, .source = source, .sink = sink, .arg = arg};
    int rc = settle_options(&stream, options);
    if (rc)
        return rc;
    stream.pool = pool ? pool : pool_default();
    if (!stream.pool)
        return pool_default_error();
    rc = drive_check_waiting(stream.pool, "pool_stream");
    if (rc)
        return rc;
    rc = drive_enter_for_work(stream.pool);
    if (!rc) {
        rc = run(&stream);
        drive_leave(stream.pool);
    }
    return rc;
}
