/* lend: see lend.h.
 *
 * A region's number is its place in the array. As long as it lives it keeps its size; when a larger one is needed
 * another takes its place, and is announced to the parent under the same number. */
#include "lend.h"
#include "fd.h"
#include "memory.h"
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

static void release(struct lend_region *region)
{
    if (!region->data)
        return;
    munmap(region->data, region->size);
    if (!region->told)
        fd_close(&region->fd);
    *region = (struct lend_region){0};
}

/* A copy of the worker does not have it: nobody writes there after the worker's end. */
static bool make(struct lend_region *region, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size = (size + page - 1) / page * page;
    int fd = size ? memory_create("pool-reply", size) : -EOVERFLOW;
    void *data;
    if (fd < 0)
        return false;
    if (memory_map_alone(fd, size, PROT_READ | PROT_WRITE, &data)) {
        fd_close(&fd);
        return false;
    }
    *region = (struct lend_region){.data = data, .size = size, .fd = fd};
    return true;
}

/* The smallest that is large enough; else a number that has none; else one that is too small, to be replaced. */
static struct lend_region *choose(struct lend *lend, size_t size, const struct lend_region *beside)
{
    struct lend_region *best = NULL;
    for (unsigned i = 0; i < LEND_REGIONS; i++) {
        struct lend_region *region = &lend->regions[i];
        if (region->lent || region == beside)
            continue;
        bool fits = region->size >= size, best_fits = best && best->size >= size;
        if (!best || (fits && (!best_fits || region->size < best->size)) ||
            (!fits && !best_fits && best->data && !region->data))
            best = region;
    }
    return best;
}

struct lend_region *lend_find(struct lend *lend, size_t size, const struct lend_region *beside)
{
    size = size ? size : 1;
    struct lend_region *region = choose(lend, size, beside);
    if (region && region->size < size) {
        release(region);
        region = make(region, size) ? region : NULL;
    }
    if (!region)
        return NULL;
    region->has_pages = true;
    lend->end = lend_number(lend, region) < lend->end ? lend->end : lend_number(lend, region) + 1;
    return region;
}

unsigned lend_number(const struct lend *lend, const struct lend_region *region)
{
    return (unsigned)(region - lend->regions);
}

void lend_note_told(struct lend_region *region)
{
    region->told = true;
    fd_close(&region->fd);
}

int lend_take_back(struct lend *lend, uint64_t number, bool kept)
{
    struct lend_region *region = number < LEND_REGIONS ? &lend->regions[number] : NULL;
    if (!region || !region->lent)
        return -EINVAL;
    region->lent = false;
    if (!kept)
        release(region);
    return 0;
}

static bool is_idle(const struct lend_region *region)
{
    return region->has_pages && !region->lent;
}

size_t lend_idle_bytes(const struct lend *lend)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < lend->end; i++)
        bytes += is_idle(&lend->regions[i]) ? lend->regions[i].size : 0;
    return bytes;
}

/* What the parent knows of it goes on knowing: it has the region mapped, and reads nothing there. */
void lend_trim(struct lend *lend)
{
    for (unsigned i = 0; i < lend->end; i++) {
        struct lend_region *region = &lend->regions[i];
        if (!region->told)
            release(region);
        else if (is_idle(region))
            region->has_pages = madvise(region->data, region->size, MADV_REMOVE);
    }
}
