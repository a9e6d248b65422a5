#include "borrow.h"
#include "fd.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

static uint64_t bit_of(uint64_t number)
{
    return UINT64_C(1) << number;
}

static void destroy(struct borrowed *region)
{
    munmap((void *)(uintptr_t)region->data, region->size);
    free(region);
}

/* The number means nothing any more. */
static void forget(struct borrow *borrow, uint64_t number)
{
    struct borrowed *region = borrow->regions[number];
    borrow->regions[number] = NULL;
    borrow->without_fd &= ~bit_of(number);
    borrow->without_memory &= ~bit_of(number);
    borrow->returned &= ~bit_of(number);
    if (region && region->held)
        region->owner = NULL;
    else if (region)
        destroy(region);
}

/* NULL: there is no memory for it. */
static struct borrowed *map(struct borrow *borrow, uint64_t number, size_t size, int fd)
{
    struct borrowed *region = malloc(sizeof *region);
    void *data = region && fd >= 0 ? mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (data == MAP_FAILED) {
        free(region);
        return NULL;
    }
    *region = (struct borrowed){.owner = borrow, .data = data, .size = size, .number = (unsigned)number};
    return region;
}

int borrow_note(struct borrow *borrow, uint64_t number, uint64_t size, int fd)
{
    if (number >= BORROW_REGIONS || !size || size > SIZE_MAX / 2 || (fd >= 0 && !fd_is_memory(fd, (size_t)size)))
        return -EINVAL;
    forget(borrow, number);
    borrow->given_up &= ~bit_of(number);
    borrow->regions[number] = map(borrow, number, (size_t)size, fd);
    if (!borrow->regions[number])
        *(fd < 0 ? &borrow->without_fd : &borrow->without_memory) |= bit_of(number);
    return 0;
}

int borrow_hold(struct borrow *borrow, uint64_t number, uint64_t size, struct borrowed **region_out)
{
    if (number >= BORROW_REGIONS)
        return -EINVAL;
    struct borrowed *region = borrow->regions[number];
    if ((borrow->without_fd | borrow->without_memory) & bit_of(number)) {
        int error = borrow->without_fd & bit_of(number) ? -EMFILE : -ENOMEM;
        forget(borrow, number);
        borrow->given_up |= bit_of(number);
        return error;
    }
    if (!region || region->held || borrow->returned & bit_of(number) || !size || size > region->size)
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
    if (keep) {
        borrow->returned |= bit_of(region->number);
    } else {
        borrow->given_up |= bit_of(region->number);
        forget(borrow, region->number);
    }
}

bool borrow_next_return(struct borrow *borrow, unsigned *number_out, bool *kept_out)
{
    uint64_t *bits = borrow->returned ? &borrow->returned : &borrow->given_up;
    if (!*bits)
        return false;
    *kept_out = bits == &borrow->returned;
    *number_out = (unsigned)__builtin_ctzll(*bits);
    *bits &= *bits - 1;
    return true;
}

void borrow_clear(struct borrow *borrow)
{
    for (unsigned i = 0; i < BORROW_REGIONS; i++)
        forget(borrow, i);
    borrow->given_up = 0;
}
