/* submit: tasks from the caller's hand into the pool and back.
 *
 * A task is in one of three places: with the loop, until it has ended; in the queue of those that pool_next hands out;
 * or with the caller alone. It may be claimed (pool_wait) or dropped (pool_task_free) before it has ended, and then
 * goes into no queue.
 * Must not know: frames, slots. */
#ifndef PROCPOOL_SUBMIT_H
#define PROCPOOL_SUBMIT_H

#include "pool.h"

/* Give a task to the pool, whose lock is held and which takes work: 0; POOL_EBUILD, -ENOMEM, with the message set and
 * the task the caller's still. queue: where it goes when it has ended. */
int submit_task(struct pool *pool, struct pool_task *task, pool_task_fn *fn, unsigned kind, struct task_queue *queue);

/* Run it in the calling thread, at once. */
void submit_in_place(struct pool *pool, struct pool_task *task, pool_task_fn *fn, struct task_queue *queue);

/* Whether `size` more bytes of input may go. */
bool submit_has_room(const struct pool *pool, size_t size);

#endif
