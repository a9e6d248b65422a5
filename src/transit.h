/* transit: memory of one worker and the parent alone, through which travels what is large and lies in no shared buffer:
 * the arrays of maps, the inputs and replies of tasks.
 *
 * It costs two copies that way, in and out, where two pipes take four, and new pages for all of them. The parent copies
 * items there before it sends them, and says where they are; the worker puts the results beside them; and as it tells
 * of them the parent copies them to where they belong. Spans take room in the order in which they are sent, and give it
 * back in the same order: a ring.
 *
 *     | items: a ring | results: the same places in another | mapped |
 *
 * It is not used before the worker says, in that memory, that it has mapped it: a worker that cannot is sent its items
 * through the pipe. While nothing is under way it may be replaced by a larger one, or be given up. The memory is the
 * worker's as much as the parent's, so a hostile one can spoil what it is sent and what it answers, and that is all.
 * What a task forks has the items, as it would have had them from the pipe, but cannot write results there after its
 * worker's time.
 * Must not know: spans, frames. */
#ifndef PROCPOOL_TRANSIT_H
#define PROCPOOL_TRANSIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TRANSIT_LEAST_BYTES = 640 << 10, /* of a ring: as much of small items as may be under way, and a chunk */
    TRANSIT_MOST_BYTES = 8 << 20,
};

struct transit {
    uint8_t *memory; /* NULL: none */
    size_t ring_bytes;
    uint64_t begin, end; /* what is taken, counted from the beginning on and never reset */
    bool has_rested;     /* it was unused when that was last asked, and nothing was taken since */
};

/* Some room. `end` names it to transit_release. */
struct transit_room {
    size_t offset;
    uint64_t end;
};

/* How large a ring has to be for one room of `size` bytes to be in use and another to be filled. 0: none is. */
size_t transit_ring_for(size_t size);

/* The parent's side: in place of what there was, in which nothing is under way. *fd_out is to be sent to the worker,
 * and closed. A forked child of this process does not have the memory. 0; or a negative errno, with nothing changed.
 * transit_clear may run twice. */
int transit_create(struct transit *transit, size_t ring_bytes, int *fd_out);
void transit_clear(struct transit *transit);

/* Room for `size` bytes of items and as many of results, aligned to 64. false: there is none at present. */
bool transit_take(struct transit *transit, size_t size, struct transit_room *room_out);
/* That room is free again, and whatever was taken before it. */
void transit_release(struct transit *transit, uint64_t end);
static inline bool transit_is_unused(const struct transit *transit)
{
    return transit->begin == transit->end;
}
/* Whether it has been unused since this was last asked. */
bool transit_has_rested(struct transit *transit);

uint8_t *transit_items(const struct transit *transit, size_t offset);
uint8_t *transit_results(const struct transit *transit, size_t offset);
/* Which offset these are at. */
static inline size_t transit_offset(const struct transit *transit, const void *results)
{
    return (size_t)((const uint8_t *)results - transit->memory) - transit->ring_bytes;
}

/* The worker's side, with what it was sent; in place of what there was. 0 or a negative errno, with nothing to
 * clear. */
int transit_map(struct transit *transit, size_t ring_bytes, int fd);
/* `size` bytes at `offset` of either ring are there. */
bool transit_has(const struct transit *transit, uint64_t offset, uint64_t size);

#endif
