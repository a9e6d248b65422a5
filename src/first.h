/* first: an array that begins in a place of its own, and moves to an allocator's memory when it outgrows that.
 *
 * In a process that was just forked each page costs that is written to, and the first block of an allocator's costs
 * half a dozen: the allocator's own, and those of its neighbours. So what every worker needs before its first item lies
 * beside its owner.
 * Must not know: what the array holds. */
#ifndef PROCPOOL_FIRST_H
#define PROCPOOL_FIRST_H

#include <stdlib.h>
#include <string.h>

/* realloc to `size` bytes, of which `used` have to stay. NULL: no memory, and nothing has changed. */
static inline void *first_grow(void *array, void *first, size_t used, size_t size)
{
    if (array != first)
        return realloc(array, size);
    void *larger = malloc(size);
    return larger ? memcpy(larger, first, used) : NULL;
}

static inline void first_free(void *array, const void *first)
{
    if (array && array != first)
        free(array); /* not for NULL either: its code would have to be mapped */
}

#endif
