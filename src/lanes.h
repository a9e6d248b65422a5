/* lanes: which lane a task belongs to.
 *
 * A pool has a lane for each function and kind of task that it was given, made at first need and kept; one that has
 * become too long for what is in it is retired and replaced.
 * Must not know: workers, what tasks do. */
#ifndef PROCPOOL_LANES_H
#define PROCPOOL_LANES_H

#include "sched.h"
#include "task.h"

struct lanes {
    struct lane **current; /* function * LANE_KINDS + kind */
    size_t count;
    struct lane *retired;
};

/* Ends with every task: none of them is in a lane any more. */
void lanes_clear(struct lanes *lanes);

/* Put the task into its lane and tell the scheduler. kind: LANE_... or'ed. -ENOMEM: it is in none. */
int lanes_add(struct lanes *lanes, struct sched *sched, struct pool_task *task, uint32_t function, unsigned kind);

/* The scheduler has told the end of a retired lane. */
void lanes_release(struct lanes *lanes, struct lane *lane);

/* The task that is item i of a lane's job; NULL: it was cancelled. lanes_take also drops it from the lane. */
struct pool_task *lanes_task(const struct job *job, uint64_t i);
struct pool_task *lanes_take(struct job *job, uint64_t i);

/* Close the fds of every task, in a copy of this process. */
void lanes_close_fds(struct lanes *lanes);
/* They are not to be closed by anybody. */
void lanes_forget_fds(struct lanes *lanes);

#endif
