/* lanes: see lanes.h. A lane begins with its job, and a task with its item: by that a job of the scheduler's leads back
 * to the lane, and an item of it to the task. */
#include "lanes.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

static struct lane *lane_of(struct job *job)
{
    return (struct lane *)job; /* its first member */
}

static void destroy_retired(struct lanes *lanes, struct lane *lane)
{
    DL_DELETE2(lanes->retired, lane, prev_retired, next_retired);
    lane_destroy(lane);
}

void lanes_clear(struct lanes *lanes)
{
    for (size_t i = 0; i < lanes->count; i++)
        lane_destroy(lanes->current[i]);
    while (lanes->retired)
        destroy_retired(lanes, lanes->retired);
    free(lanes->current);
    *lanes = (struct lanes){0};
}

static int make_room(struct lanes *lanes, size_t place)
{
    if (place < lanes->count)
        return 0;
    size_t count = (place + 1) * 2;
    struct lane **current = realloc(lanes->current, count * sizeof(struct lane *));
    if (!current)
        return -ENOMEM;
    memset(current + lanes->count, 0, (count - lanes->count) * sizeof(struct lane *));
    lanes->current = current;
    lanes->count = count;
    return 0;
}

/* The lane for one more task of this function and kind. NULL: no memory. */
static struct lane *find(struct lanes *lanes, struct sched *sched, uint32_t function, unsigned kind)
{
    size_t place = (size_t)function * LANE_KINDS + kind;
    if (make_room(lanes, place))
        return NULL;
    struct lane *lane = lanes->current[place];
    if (lane && !lane_is_stretched(lane))
        return lane;
    struct lane *fresh = lane_create(function, kind);
    if (!fresh)
        return lane; /* a long one will do */
    lanes->current[place] = fresh;
    if (lane) {
        DL_APPEND2(lanes->retired, lane, prev_retired, next_retired);
        sched_retire(sched, &lane->job);
    }
    return fresh;
}

int lanes_add(struct lanes *lanes, struct sched *sched, struct pool_task *task, uint32_t function, unsigned kind)
{
    struct lane *lane = find(lanes, sched, function, kind);
    if (!lane || lane_reserve(lane))
        return -ENOMEM;
    lane_add(lane, &task->item);
    task->lane = lane;
    task->index = lane->job.count - 1;
    if (!sched_add(sched, &lane->job))
        return 0;
    lane->job.count--;
    lane->job.ring[task->index & lane->job.ring_mask] = NULL;
    task->lane = NULL;
    return -ENOMEM;
}

void lanes_release(struct lanes *lanes, struct lane *lane)
{
    destroy_retired(lanes, lane);
}

struct pool_task *lanes_task(const struct job *job, uint64_t i)
{
    return (struct pool_task *)job->ring[i & job->ring_mask]; /* its first member */
}

struct pool_task *lanes_take(struct job *job, uint64_t i)
{
    struct pool_task *task = lanes_task(job, i);
    if (task)
        lane_drop(lane_of(job), i);
    return task;
}

static void for_each_task(struct lane *lane, void (*act)(struct pool_task *task))
{
    for (uint64_t i = lane ? lane->job.ring_base : 0; lane && i < lane->job.count; i++) {
        struct pool_task *task = lanes_task(&lane->job, i);
        if (task)
            act(task);
    }
}

static void for_each(struct lanes *lanes, void (*act)(struct pool_task *task))
{
    struct lane *lane;
    for (size_t i = 0; i < lanes->count; i++)
        for_each_task(lanes->current[i], act);
    DL_FOREACH2(lanes->retired, lane, next_retired)
        for_each_task(lane, act);
}

void lanes_close_fds(struct lanes *lanes)
{
    for_each(lanes, task_close_fds);
}

void lanes_forget_fds(struct lanes *lanes)
{
    for_each(lanes, task_forget_fds);
}
