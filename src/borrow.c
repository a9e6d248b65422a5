/* borrow: see borrow.h.
 *
 * A number that was announced is held by a reply; or owed to the worker: its bit is in `returned`, or in `given_up`
 * where the memory is unmapped here already; or the worker may use it for its next reply. */
#include "borrow.h"
#include "bits.h"
#include "memory.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

static void destroy(struct borrowed *region)
{
    if (region->data)
        munmap((void *)(uintptr_t)region->data, region->size);
    free(region);
}

static struct borrowed *region_of(const struct borrow *borrow, unsigned number)
{
    return borrow->regions ? borrow->regions[number] : NULL;
}

/* The number means nothing any more. */
static void forget(struct borrow *borrow, unsigned number)
{
    struct borrowed *region = region_of(borrow, number);
    borrow->sizes[number] = 0;
    bit_set(&borrow->without_fd, number, false);
    bit_set(&borrow->returned, number, false);
    if (!region)
        return;
    borrow->regions[number] = NULL;
    if (region->held)
        region->owner = NULL;
    else
        destroy(region);
}

/* NULL: there is no memory for it. */
static struct borrowed *map(struct borrow *borrow, unsigned number, size_t size, int fd)
{
    struct borrowed *region = malloc(sizeof *region);
    void *data;
    if (!region || memory_map_alone(fd, size, PROT_READ, &data)) {
        free(region);
        return NULL;
    }
    *region = (struct borrowed){.owner = borrow, .data = data, .size = size, .number = number};
    return region;
}

int borrow_note(struct borrow *borrow, uint64_t said, uint64_t size, int fd)
{
    if (said >= BORROW_REGIONS || !size || size > SIZE_MAX / 2 || (fd >= 0 && !memory_is_safe(fd, (size_t)size)))
        return -EINVAL;
    unsigned number = (unsigned)said;
    forget(borrow, number);
    bit_set(&borrow->given_up, number, false);
    borrow->sizes[number] = (size_t)size;
    bit_set(&borrow->without_fd, number, fd < 0);
    if (fd >= 0 && !borrow->regions)
        borrow->regions = calloc(BORROW_REGIONS, sizeof *borrow->regions);
    if (fd >= 0 && borrow->regions)
        borrow->regions[number] = map(borrow, number, (size_t)size, fd);
    return 0;
}

static void give_up(struct borrow *borrow, unsigned number)
{
    forget(borrow, number);
    bit_set(&borrow->given_up, number, true);
    borrow->is_urgent = true;
}

int borrow_hold(struct borrow *borrow, uint64_t said, uint64_t size, struct borrowed **region_out)
{
    unsigned number = (unsigned)said;
    if (said >= BORROW_REGIONS || !size || size > borrow->sizes[number])
        return -EINVAL;
    struct borrowed *region = region_of(borrow, number);
    if (!region) {
        int error = bit_get(&borrow->without_fd, number) ? -EMFILE : -ENOMEM;
        give_up(borrow, number);
        return error;
    }
    if (region->held || bit_get(&borrow->returned, number))
        return -EINVAL;
    region->held = true;
    *region_out = region;
    return 0;
}

static unsigned count_kept(const struct borrow *borrow)
{
    unsigned count = 0;
    for (unsigned i = 0; i < BORROW_REGIONS; i++)
        count += borrow->regions[i] && !borrow->regions[i]->held;
    return count;
}

void borrow_give_back(struct borrowed *region)
{
    struct borrow *borrow = region ? region->owner : NULL;
    if (!borrow) {
        if (region)
            destroy(region);
        return;
    }
    bool keep = count_kept(borrow) < BORROW_KEPT;
    region->held = false;
    if (!keep) {
        give_up(borrow, region->number);
        return;
    }
    bit_set(&borrow->returned, region->number, true);
    borrow->is_urgent |= region->size > BORROW_LARGE_BYTES;
}

void borrow_abandon(struct borrowed *region)
{
    if (region)
        region->data = NULL;
}

void borrow_abandon_all(struct borrow *borrow)
{
    for (unsigned i = 0; i < BORROW_REGIONS; i++)
        borrow_abandon(region_of(borrow, i));
}

bool borrow_next_return(struct borrow *borrow, unsigned *number_out, bool *kept_out)
{
    uint64_t *bits = borrow->returned ? &borrow->returned : &borrow->given_up;
    unsigned number = bit_first(bits, BORROW_REGIONS);
    if (number == BITS_NONE)
        return false;
    bit_set(bits, number, false);
    borrow->is_urgent &= borrow_owes(borrow);
    *kept_out = bits == &borrow->returned;
    *number_out = number;
    return true;
}

void borrow_clear(struct borrow *borrow)
{
    for (unsigned i = 0; i < BORROW_REGIONS; i++)
        forget(borrow, i);
    free(borrow->regions);
    *borrow = (struct borrow){0};
}
