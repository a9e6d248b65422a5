/* regions: see regions.h. The parent uses small numbers again and again; one that is beyond reason is refused like one
 * that there is no memory for. */
#include "regions.h"
#include "memory.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MAX_REGIONS = 1 << 24 };

static void unmap(struct region *region)
{
    if (region->data)
        munmap(region->data, region->size);
    *region = (struct region){0};
}

static int reserve(struct regions *regions, uint64_t number)
{
    if (number < regions->count)
        return 0;
    size_t count = ((size_t)number + 8) * 2;
    struct region *list = number < MAX_REGIONS ? realloc(regions->list, count * sizeof *list) : NULL;
    if (!list)
        return -ENOMEM;
    memset(list + regions->count, 0, (count - regions->count) * sizeof *list);
    regions->list = list;
    regions->count = count;
    return 0;
}

int regions_refuse(struct regions *regions, uint64_t number, int error)
{
    if (reserve(regions, number))
        return -ENOMEM;
    unmap(&regions->list[number]);
    regions->list[number].error = error;
    return 0;
}

int regions_map(struct regions *regions, uint64_t number, size_t size, int fd, bool writable)
{
    void *data = NULL;
    int rc =
        writable ? memory_map_alone(fd, size, PROT_READ | PROT_WRITE, &data) : memory_map(fd, size, PROT_READ, &data);
    int refused = regions_refuse(regions, number, rc);
    if (rc || refused) {
        if (!rc)
            munmap(data, size);
        return refused;
    }
    regions->list[number] = (struct region){.data = data, .size = size, .writable = writable};
    return 0;
}

int regions_unmap(struct regions *regions, uint64_t number)
{
    if (number >= regions->count)
        return -EINVAL;
    unmap(&regions->list[number]);
    return 0;
}

int regions_find(const struct regions *regions, uint64_t number, uint64_t offset, uint64_t size, bool writable,
                 uint8_t **data_out)
{
    static const struct region none;
    const struct region *region = number < regions->count ? &regions->list[number] : &none;
    if (region->error)
        return region->error;
    if (!region->data || offset > region->size || size > region->size - offset || (writable && !region->writable))
        return -EFAULT;
    *data_out = region->data + offset;
    return 0;
}
