/* registry: see registry.h.
 *
 * The order of locks, in all of the library: libc's own for forks and their handlers, the default pool's, the
 * registry's, then a pool's own. So nobody forks, or calls pthread_atfork, who holds one of these: see drive.h; and the
 * default pool is made without a lock, others waiting for it. */
#include "registry.h"
#include <utlist.h>

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t default_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pool *registry;
static pthread_cond_t default_made = PTHREAD_COND_INITIALIZER;
static struct pool *default_pool;
static bool makes_default;

static void before_fork(void)
{
    struct pool *pool;
    if (drive_is_at_work())
        return;
    pthread_mutex_lock(&default_lock);
    pthread_mutex_lock(&registry_lock);
    DL_FOREACH(registry, pool)
        pthread_mutex_lock(&pool->lock);
}

static void after_fork_in_parent(void)
{
    struct pool *pool;
    if (drive_is_at_work())
        return;
    DL_FOREACH(registry, pool)
        pthread_mutex_unlock(&pool->lock);
    pthread_mutex_unlock(&registry_lock);
    pthread_mutex_unlock(&default_lock);
}

/* The child keeps no fd of any pool: a lifeline that it held would outlive its owner. Nor does it close what is not the
 * pool's any more. */
static void abandon(struct pool *pool)
{
    drive_forget_threads(pool);
    if (!loop_has_fds(&pool->loop))
        loop_forget_fds(&pool->loop);
    loop_abandon(&pool->loop);
    drive_close_fds(pool);
    pool->handle_count -= pool->buffers.count; /* there is nothing left of them that could be freed */
    buffers_abandon(&pool->buffers);
}

static void after_fork_in_child(void)
{
    struct pool *pool;
    bool is_sealed = drive_is_at_work();
    drive_become_copy();
    if (is_sealed) {
        registry_lock = default_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER; /* other threads may have them */
    } else {
        DL_FOREACH(registry, pool)
            abandon(pool);
        pthread_mutex_unlock(&registry_lock);
        pthread_mutex_unlock(&default_lock);
    }
    registry = NULL;
    default_pool = NULL;
    makes_default = false;
    default_made = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

void registry_watch_forks(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
}

void registry_enter(struct pool *pool)
{
    registry_watch_forks();
    pthread_mutex_lock(&registry_lock);
    drive_lock(pool);
    DL_APPEND(registry, pool);
    pthread_mutex_unlock(&registry_lock);
}

void registry_leave(struct pool *pool)
{
    if (drive_is_copy(pool))
        return; /* the child's registry began anew */
    pthread_mutex_lock(&registry_lock);
    DL_DELETE(registry, pool);
    pthread_mutex_unlock(&registry_lock);
}

/* Without the lock meanwhile. */
static int make_default(int (*make)(struct pool **))
{
    struct pool *pool = NULL;
    makes_default = true;
    pthread_mutex_unlock(&default_lock);
    int rc = make(&pool);
    pthread_mutex_lock(&default_lock);
    default_pool = pool;
    makes_default = false;
    pthread_cond_broadcast(&default_made);
    return rc;
}

static void await_default(void)
{
    drive_begin_call();
    while (makes_default)
        pthread_cond_wait(&default_made, &default_lock);
    drive_end_call();
}

struct pool *registry_default(int (*make)(struct pool **), int *error_out)
{
    pthread_mutex_lock(&default_lock);
    if (makes_default)
        await_default();
    *error_out = default_pool ? 0 : make_default(make);
    struct pool *pool = default_pool;
    pthread_mutex_unlock(&default_lock);
    return pool;
}
