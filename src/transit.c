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

/* Each ring begins with a page, however large these are. */
struct transit_memory {
    uint8_t items[TRANSIT_RING_BYTES];
    uint8_t results[TRANSIT_RING_BYTES];
    _Atomic uint32_t mapped; /* by the worker */
};

/* ---- the parent ---- */

/* All of it now, when it can be refused: who touches a page that there is no memory for is killed. */
static int allocate(int fd)
{
    int rc;
    do
        rc = fallocate(fd, 0, 0, sizeof(struct transit_memory)) ? -errno : 0;
    while (rc == -EINTR);
    return rc;
}

int transit_create(struct transit *transit, int *fd_out)
{
    int fd = memory_create("pool-transit", sizeof *transit->memory);
    if (fd < 0)
        return fd;
    void *memory;
    int rc = allocate(fd);
    if (!rc)
        rc = memory_map_alone(fd, sizeof *transit->memory, PROT_READ | PROT_WRITE, &memory);
    if (rc) {
        fd_close(&fd);
        return rc;
    }
    *transit = (struct transit){.memory = memory};
    *fd_out = fd;
    return 0;
}

void transit_clear(struct transit *transit)
{
    if (transit->memory)
        munmap(transit->memory, sizeof *transit->memory);
    *transit = (struct transit){0};
}

/* Where nothing is under way, at the start again: fewer pages, and those that the caches have. Else no room reaches
 * over the end. */
bool transit_take(struct transit *transit, size_t size, struct transit_room *room_out)
{
    if (!transit->memory || size > TRANSIT_RING_BYTES || !atomic_load(&transit->memory->mapped))
        return false;
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    bool empty = transit->begin == transit->end;
    uint64_t at = transit->end, offset = at % TRANSIT_RING_BYTES;
    if (offset && (empty || size > TRANSIT_RING_BYTES - offset))
        at += TRANSIT_RING_BYTES - offset;
    uint64_t begin = empty ? at : transit->begin;
    if (at + size - begin > TRANSIT_RING_BYTES)
        return false;
    transit->begin = begin;
    transit->end = at + size;
    *room_out = (struct transit_room){.offset = (size_t)(at % TRANSIT_RING_BYTES), .end = transit->end};
    return true;
}

void transit_release(struct transit *transit, uint64_t end)
{
    transit->begin = end > transit->begin ? end : transit->begin;
}

uint8_t *transit_items(const struct transit *transit, size_t offset)
{
    return transit->memory->items + offset;
}

uint8_t *transit_results(const struct transit *transit, size_t offset)
{
    return transit->memory->results + offset;
}

/* ---- the worker ---- */

int transit_map(struct transit *transit, int fd)
{
    void *memory;
    int rc = memory_map(fd, sizeof *transit->memory, PROT_READ | PROT_WRITE, &memory);
    if (rc)
        return rc;
    *transit = (struct transit){.memory = memory};
    if (madvise(transit->memory->results, sizeof *transit->memory - TRANSIT_RING_BYTES, MADV_DONTFORK)) {
        rc = -errno;
        transit_clear(transit);
        return rc;
    }
    atomic_store(&transit->memory->mapped, 1);
    return 0;
}

bool transit_has(const struct transit *transit, uint64_t offset, uint64_t size)
{
    return transit->memory && offset <= TRANSIT_RING_BYTES && size <= TRANSIT_RING_BYTES - offset;
}
