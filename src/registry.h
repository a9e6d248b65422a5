/* registry: all pools of this process, for fork() alone.
 *
 * A fork() of the program holds every pool's lock across it; in the child the pools are marked and their fds closed, so
 * that it neither holds lifelines open nor closes reused numbers. A fork that a backend makes in the middle of a pool's
 * work is left alone: its child closes every fd by itself.
 * Must not know: what pools do. */
#ifndef PROCPOOL_REGISTRY_H
#define PROCPOOL_REGISTRY_H

#include "drive.h"

/* Best while there is one thread; else with the first pool. A fork() in another thread that has begun by then knows
 * nothing of it, and musl then does what is to be done after it all the same. */
void registry_watch_forks(void);

/* A pool that has no fds yet. Its lock is taken, so that whoever forks waits until it is whole, or finds none. */
void registry_enter(struct pool *pool);
void registry_leave(struct pool *pool);

/* The process-wide pool, made by `make` at first use; what make failed with in *error_out. */
struct pool *registry_default(int (*make)(struct pool **), int *error_out);

#endif
