/* pages: memory that is asked for with regard to its pages.
 *
 * The kernel makes the pages of new memory one by one as they are first written to, at a cost that is several times
 * that of the copy which fills them. Pages of 2 MiB cost that once for 512 of the small ones, so memory that is about
 * to be filled from end to end is worth asking for them. That is a hint: what it does depends on the system
 * (/sys/kernel/mm/transparent_hugepage), and nothing else depends on it. And a page that is written to after a fork is
 * copied, as long as the other process has it: what that has no use for is better kept from it.
 * Must not know: whose memory it is. */
#ifndef PROCPOOL_PAGES_H
#define PROCPOOL_PAGES_H

#include <stddef.h>

/* `size` bytes of malloc'd memory at `memory` are about to be filled. Cheap where they are few. Allocated memory stays
 * what it was: it may be reallocated and freed as ever. */
void pages_expect(void *memory, size_t size);

/* `size` bytes, zero, which get pages as they are used, and which copies of this process do not have: in these the
 * pointer must be forgotten. NULL: no memory. pages_destroy: NULL is fine. */
void *pages_create_alone(size_t size);
void pages_destroy(void *memory, size_t size);

#endif
