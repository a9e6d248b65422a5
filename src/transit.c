/* transit: see transit.h. Both rings are taken and released together, by counters that the parent alone has: the worker
 * is told offsets. */
#include "transit.h"
#include "fd.h"
#include "memory.h"
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { ALIGNMENT = 64 };

typedef _Atomic uint32_t mapped_word;

/* Behind both rings, each of which begins with a page, however large these are. */
static mapped_word *mapped(const struct transit *transit)
{
    return (mapped_word *)(void *)(transit->memory + 2 * transit->ring_bytes);
}

static size_t total_bytes(size_t ring_bytes)
{
    return 2 * ring_bytes + sizeof(mapped_word);
}

/* ---- the parent ---- */

size_t transit_ring_for(size_t size)
{
    size_t ring_bytes = TRANSIT_LEAST_BYTES;
    if (size > TRANSIT_MOST_BYTES / 2)
        return 0;
    if (2 * size > ring_bytes)
        for (ring_bytes = 1 << 20; ring_bytes < 2 * size; ring_bytes *= 2)
            ;
    return ring_bytes;
}

/* All of it now, when it can be refused: who touches a page that there is no memory for is killed. */
static int allocate(int fd, size_t size)
{
    int rc;
    do
        rc = fallocate(fd, 0, 0, (off_t)size) ? -errno : 0;
    while (rc == -EINTR);
    return rc;
}

int transit_create(struct transit *transit, size_t ring_bytes, int *fd_out)
{
    size_t size = total_bytes(ring_bytes);
    int fd = memory_create("pool-transit", size);
    if (fd < 0)
        return fd;
    void *memory;
    int rc = allocate(fd, size);
    if (!rc)
        rc = memory_map_alone(fd, size, PROT_READ | PROT_WRITE, &memory);
    if (rc) {
        fd_close(&fd);
        return rc;
    }
    transit_clear(transit);
    transit->memory = memory;
    transit->ring_bytes = ring_bytes;
    *fd_out = fd;
    return 0;
}

/* The counters go on: what is told of later may name what was taken before. */
void transit_clear(struct transit *transit)
{
    if (transit->memory)
        munmap(transit->memory, total_bytes(transit->ring_bytes));
    *transit = (struct transit){.begin = transit->end, .end = transit->end};
}

/* Where nothing is under way, at the start again: fewer pages, and those that the caches have. Else no room reaches
 * over the end. */
bool transit_take(struct transit *transit, size_t size, struct transit_room *room_out)
{
    size_t ring_bytes = transit->ring_bytes;
    if (!transit->memory || size > ring_bytes || !atomic_load(mapped(transit)))
        return false;
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    bool unused = transit_is_unused(transit);
    uint64_t at = transit->end, offset = at % ring_bytes;
    if (offset && (unused || size > ring_bytes - offset))
        at += ring_bytes - offset;
    uint64_t begin = unused ? at : transit->begin;
    if (at + size - begin > ring_bytes)
        return false;
    transit->begin = begin;
    transit->end = at + size;
    transit->has_rested = false;
    *room_out = (struct transit_room){.offset = (size_t)(at % ring_bytes), .end = transit->end};
    return true;
}

void transit_release(struct transit *transit, uint64_t end)
{
    transit->begin = end > transit->begin ? end : transit->begin;
}

bool transit_has_rested(struct transit *transit)
{
    bool rested = transit->has_rested;
    transit->has_rested = transit_is_unused(transit);
    return rested;
}

uint8_t *transit_items(const struct transit *transit, size_t offset)
{
    return transit->memory + offset;
}

uint8_t *transit_results(const struct transit *transit, size_t offset)
{
    return transit->memory + transit->ring_bytes + offset;
}

/* ---- the worker ---- */

int transit_map(struct transit *transit, size_t ring_bytes, int fd)
{
    void *memory;
    transit_clear(transit);
    if (ring_bytes > TRANSIT_MOST_BYTES)
        return -EINVAL;
    int rc = memory_map(fd, total_bytes(ring_bytes), PROT_READ | PROT_WRITE, &memory);
    if (rc)
        return rc;
    transit->memory = memory;
    transit->ring_bytes = ring_bytes;
    if (madvise(transit_results(transit, 0), total_bytes(ring_bytes) - ring_bytes, MADV_DONTFORK)) {
        rc = -errno;
        transit_clear(transit);
        return rc;
    }
    atomic_store(mapped(transit), 1);
    return 0;
}

bool transit_has(const struct transit *transit, uint64_t offset, uint64_t size)
{
    return transit->memory && offset <= transit->ring_bytes && size <= transit->ring_bytes - offset;
}
