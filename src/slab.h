/* slab: memory for objects of one size, many of which come and go in about the same order.
 *
 * They lie one behind the other in blocks of 2 MiB, which are mapped as they are needed and unmapped when the last
 * object in them is gone. So to have one costs a few instructions, a million of them cost few page faults, and what a
 * peak took goes back to the system, whatever else was allocated meanwhile: all but one block, which is kept for what
 * comes next.
 *
 * In a build with AddressSanitizer every object is malloc'd instead, so that the use of one that was given back is
 * found.
 * Must not know: what the objects are, locks. */
#ifndef PROCPOOL_SLAB_H
#define PROCPOOL_SLAB_H

#include <stddef.h>

enum { SLAB_BLOCK_BYTES = 2 << 20 };

struct slab_block;

struct slab {
    size_t object_size, places; /* in a block */
    struct slab_block *open;    /* with room and with objects; those that are full are in no list */
    struct slab_block *spare;   /* an empty one, or NULL */
    size_t block_count;
};

/* object_size: well below SLAB_BLOCK_BYTES. */
void slab_init(struct slab *slab, size_t object_size);
/* When every object was given back. May run twice. */
void slab_clear(struct slab *slab);

/* Memory for an object, aligned to 16. NULL: there is none. */
void *slab_take(struct slab *slab);
void slab_give(struct slab *slab, void *object);

#endif
