/* pool: the object behind the public API: a loop, its lock, and whose turn it is to drive.
 *
 * One mutex covers the loop. A thread that waits drives the loop itself; when several wait, one drives and the others sleep until
 * their job has ended or the place is free. The mutex is released only while epoll waits (and for callbacks).
 * A fork() of the program holds every pool's lock across it; in the child the pools are marked, their fds closed.
 * Must not know: how items and results are laid out (map.c). */
#ifndef PROCPOOL_POOL_H
#define PROCPOOL_POOL_H

#include "loop.h"
#include <pthread.h>

struct pool {
    struct pool *next, *prev; /* in the list of all pools */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct loop loop;
    bool in_place; /* inside a worker: runs tasks in the calling thread; has no loop */
    bool forked;   /* this is a copy in a forked child */
    bool closing;
    bool driving;
    unsigned users;    /* threads inside a call */
    unsigned sleepers; /* among them: waiting for `changed` */
};

/* Called about every pool_progress_ms while waiting, without the lock; non-zero cancels what has not been sent. */
struct pool_progress {
    int (*report)(void *arg, size_t done, size_t count);
    void *arg;
};

/* Run a job to its end. job: as for job_begin, which is called here when it is certain to run, its function field not set yet; fn is what it runs. 0 with job->ended; or an error, and
 * nothing was run: POOL_EFORKED, POOL_ECLOSED, POOL_EBROKEN, POOL_EBUILD, -ENOMEM; the thread's message is set. */
int pool_run(struct pool *pool, struct job *job, callable_fn *fn, const struct pool_progress *progress);

/* 0, or the error that pool_run would give. */
int pool_check(struct pool *pool);

/* Why pool_default() gave NULL just now, on this thread. */
int pool_default_error(void);

/* What every process that a backend starts calls. */
const struct backend_hooks *pool_hooks(void);

/* Whether pool_init was called. */
bool pool_is_initialized(void);

#endif
