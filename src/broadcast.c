/* broadcast: a task on every worker, one broadcast after the other.
 *
 * Must not know: which workers there are; the scheduler does. */
#include "error.h"
#include "pool.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Broadcasts of other threads come first. */
static int await_turn(struct pool *pool)
{
    while (pool->broadcasting && !pool->closing && !pool->loop.broken)
        drive_turn(pool, DRIVE_FOREVER, true);
    return drive_check_work(pool);
}

static int run(struct pool *pool, struct job *job)
{
    pool->broadcasting = true;
    job->number = pool->next_number;
    job_begin(job);
    loop_broadcast(&pool->loop, job);
    drive_note(pool);
    while (!job->ended)
        drive_turn(pool, DRIVE_FOREVER, true);
    pool->broadcasting = false;
    drive_wake_all(pool); /* others may wait for their turn */
    if (job->status == POOL_EBROKEN && !job->message)
        return error_set(POOL_EBROKEN, "the pool is broken: %s", pool->loop.start_text);
    return job->status ? error_set(job->status, "%s", job->message ? job->message : pool_strerror(job->status)) : 0;
}

static int broadcast(struct pool *pool, pool_task_fn *fn, struct pool_bytes *input)
{
    struct job job = {.kind = JOB_BROADCAST, .inputs = input};
    int rc = drive_enter_for_work(pool);
    if (rc)
        return rc;
    rc = await_turn(pool);
    if (!rc)
        rc = drive_number(pool, (callable_fn *)fn, &job.function);
    if (!rc)
        rc = run(pool, &job);
    drive_leave(pool);
    free(job.message);
    return rc;
}

int pool_broadcast(struct pool *pool, pool_task_fn *fn, const void *input, size_t input_size)
{
    if (!pool || !fn || (!input && input_size))
        return error_set(-EINVAL, "pool_broadcast: %s is NULL", !pool ? "pool" : !fn ? "fn" : "input");
    if (pool->in_place)
        return error_set(-EINVAL, "pool_broadcast: a pool inside a worker has no workers");
    int rc = drive_check_waiting(pool, "pool_broadcast");
    if (rc)
        return rc;
    struct pool_bytes copy = {malloc(input_size ? input_size : 1), input_size};
    if (!copy.data)
        return error_system(-ENOMEM, "pool_broadcast");
    if (input_size)
        memcpy(copy.data, input, input_size);
    rc = broadcast(pool, fn, &copy);
    free(copy.data);
    return rc;
}
