/* conformance_numbered: tasks that get a number and reply with one, for the conformance files about single tasks. */
#ifndef CONFORMANCE_NUMBERED_H
#define CONFORMANCE_NUMBERED_H

#include "conformance.h"

/* ---- in workers ---- */

uint64_t number_of(const struct pool_call *call); /* UINT64_MAX: the input is no number */
int reply_number(struct pool_call *call, uint64_t number);
int triple(struct pool_call *call); /* marks the board, if the worker has one */

/* ---- in the host ---- */

struct pool_task *submit_with(struct pool *pool, pool_task_fn *fn, uint64_t number,
                              const struct pool_task_options *options);
struct pool_task *submit(struct pool *pool, pool_task_fn *fn, uint64_t number);

/* Of a task that has ended; end_of waits for it. */
struct pool_result result_of(const struct pool_task *task);
struct pool_result end_of(struct pool_task *task);
uint64_t reply_of(const struct pool_task *task);

/* Wait for a task that runs triple(), and release it. */
void expect_triple(struct pool_task *task, uint64_t number);

#endif
