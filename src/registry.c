/* registry: see registry.h.
 *
 * The order of locks, in all of the library: the default pool's, the registry's, then a pool's own. */
#include "registry.h"
#include <utlist.h>

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t default_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pool *registry;
static struct pool *default_pool;

static void before_fork(void)
{
    struct pool *pool;
    if (drive_holds_a_lock())
        return;
    pthread_mutex_lock(&default_lock);
    pthread_mutex_lock(&registry_lock);
    DL_FOREACH(registry, pool)
    pthread_mutex_lock(&pool->lock);
}

static void after_fork_in_parent(void)
{
    struct pool *pool;
    if (drive_holds_a_lock())
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
    bool is_sealed = drive_holds_a_lock();
    drive_become_copy();
    if (!is_sealed) {
        DL_FOREACH(registry, pool)
        abandon(pool);
    }
    registry = NULL;
    default_pool = NULL;
    registry_lock = default_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

void registry_enter(struct pool *pool)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&registry_lock);
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

struct pool *registry_default(int (*make)(struct pool **), int *error_out)
{
    pthread_mutex_lock(&default_lock);
    *error_out = default_pool ? 0 : make(&default_pool);
    struct pool *pool = default_pool;
    pthread_mutex_unlock(&default_lock);
    return pool;
}
