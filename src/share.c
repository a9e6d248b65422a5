/* share: the caller's memory that workers can map. See buffers.h.
 * Must not know: who maps it, what lies in it. */
#include "error.h"
#include "pool.h"
#include <errno.h>

void *pool_buffer_alloc(struct pool *pool, size_t size)
{
    struct buffer *buffer = NULL;
    pool = pool ? pool : pool_default();
    if (!pool)
        return NULL;
    if (!size) {
        error_set(-EINVAL, "pool_buffer_alloc: size is 0");
        return NULL;
    }
    if (drive_enter(pool))
        return NULL;
    int rc = buffers_add(&pool->buffers, size, !pool->in_place, &buffer);
    if (rc)
        error_system(rc, "pool_buffer_alloc");
    else
        pool->handle_count++;
    drive_leave(pool);
    return rc ? NULL : buffer->data;
}

/* The last use of it is this one, or one that is under way. The lock is held. */
static int free_buffer(struct pool *pool, void *data)
{
    struct buffer *buffer = buffers_at(&pool->buffers, data);
    if (!buffer)
        return error_set(-EINVAL, "pool_buffer_free: %p is no buffer of this pool", data);
    buffer->freed = true;
    buffer->uses++;
    drive_let_go(pool, buffer);
    return 0;
}

int pool_buffer_free(struct pool *pool, void *data)
{
    if (!data)
        return 0;
    pool = pool ? pool : pool_default_if_made();
    if (!pool)
        return error_set(-EINVAL, "pool_buffer_free: %p is no buffer: there is no default pool", data);
    if (drive_is_copy(pool))
        return drive_enter(pool); /* which says why not */
    drive_begin_call();
    drive_lock(pool);
    int rc = free_buffer(pool, data);
    pool_release(pool);
    drive_end_call();
    return rc;
}
