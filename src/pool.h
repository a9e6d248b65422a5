/* pool: what the rooms of the public API share: a pool from outside.
 *
 *   pool.c        pools come and go; a job is run to its end; the default pool
 *   map.c         maps
 *   submit.c      one task at a time
 *   stream.c      a source and a sink
 *   broadcast.c   a task on every worker
 *   share.c       shared buffers
 *   process.c     event loops; numbers
 *   init.c        pool_init
 *
 * Must not know: how items and results are laid out (map.c, submit.c, stream.c). */
#ifndef PROCPOOL_POOL_H
#define PROCPOOL_POOL_H

#include "drive.h"

/* Called about ten times a second while waiting, without the lock; non-zero cancels what has not been sent. */
struct pool_progress {
    int (*report)(void *arg, size_t done, size_t count);
    void *arg;
};

/* Run a job to its end. job: as for job_begin, which is called here when it is certain to run, its function field not
 * set yet; fn is what it runs. 0 with job->ended; or an error, and nothing was run: POOL_EFORKED, POOL_ECLOSED,
 * POOL_EBROKEN, POOL_EBUILD, -ENOMEM, -EDEADLK; the thread's message is set. */
int pool_run(struct pool *pool, struct job *job, callable_fn *fn, const struct pool_progress *progress);

/* 0, or the error that pool_run would give. */
int pool_check(struct pool *pool);

/* Why pool_default() gave NULL just now, on this thread. */
int pool_default_error(void);

/* pool_default(), but NULL when it was never made. */
struct pool *pool_default_if_made(void);

/* When a task of the pool was freed, the lock held, which this releases: the pool's memory goes with its last task. */
void pool_release(struct pool *pool);

/* A deadline of the caller's in ms: 0, or -EINVAL with the message set. */
int pool_check_deadline(int64_t timeout_ms);

/* What every process that a backend starts calls. */
const struct backend_hooks *pool_hooks(void);

/* Whether pool_init was called. */
bool pool_is_initialized(void);

#endif
