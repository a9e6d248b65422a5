/* slab: see slab.h. The place that was given back last is taken first, and one that was never used only when there is
 * none: so few pages are touched. */
#include "slab.h"
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <utlist.h>

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
enum { USES_MALLOC = true };
#else
enum { USES_MALLOC = false };
#endif

/* An object that was given back. */
struct slab_place {
    struct slab_place *next;
};

/* At the beginning of its memory, which is aligned to its size: an object's address tells its block. */
struct slab_block {
    struct slab_block *next, *prev; /* among the open ones */
    struct slab_place *given_back;
    size_t used, begun; /* objects; places from the first on that were ever used since the block was empty */
};

enum { PLACES_AT = 64, ALIGNMENT = 16 };
static_assert(sizeof(struct slab_block) <= PLACES_AT, "places begin behind the head");

void slab_init(struct slab *slab, size_t object_size)
{
    size_t size = (object_size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    *slab = (struct slab){.object_size = size, .places = (SLAB_BLOCK_BYTES - PLACES_AT) / size};
}

/* ---- blocks ---- */

static void unmap(void *memory, size_t size)
{
    if (size)
        munmap(memory, size);
}

/* Twice as much, of which the part that is aligned stays. */
static struct slab_block *map_aligned(void)
{
    uint8_t *memory =
        mmap(NULL, 2 * (size_t)SLAB_BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)memory % SLAB_BLOCK_BYTES;
    unmap(memory, before);
    unmap(memory + before + SLAB_BLOCK_BYTES, SLAB_BLOCK_BYTES - before);
    return (struct slab_block *)(void *)(memory + before);
}

/* The first one may stay almost empty; those behind it are about to be filled: as one large page, if the system gives
 * it. */
static struct slab_block *new_block(struct slab *slab)
{
    int errno_before = errno;
    struct slab_block *block = map_aligned();
    if (block && slab->block_count++)
        madvise(block, SLAB_BLOCK_BYTES, MADV_HUGEPAGE);
    errno = errno_before;
    return block;
}

static void drop_block(struct slab *slab, struct slab_block *block)
{
    int errno_before = errno;
    slab->block_count--;
    unmap(block, SLAB_BLOCK_BYTES);
    errno = errno_before;
}

static bool is_full(const struct slab *slab, const struct slab_block *block)
{
    return block->used == slab->places;
}

static struct slab_block *block_of(void *object)
{
    uint8_t *bytes = object;
    return (struct slab_block *)(void *)(bytes - (uintptr_t)bytes % SLAB_BLOCK_BYTES);
}

static struct slab_block *open_block(struct slab *slab)
{
    struct slab_block *block = slab->spare ? slab->spare : new_block(slab);
    slab->spare = NULL;
    if (block) {
        block->given_back = NULL;
        block->begun = 0;
        DL_APPEND(slab->open, block);
    }
    return block;
}

static void close_block(struct slab *slab, struct slab_block *block)
{
    DL_DELETE(slab->open, block);
    if (slab->spare)
        drop_block(slab, block);
    else
        slab->spare = block;
}

void slab_clear(struct slab *slab)
{
    assert(!slab->open);
    if (slab->spare)
        drop_block(slab, slab->spare);
    slab->spare = NULL;
}

/* ---- objects ---- */

static void *take_place(const struct slab *slab, struct slab_block *block)
{
    struct slab_place *place = block->given_back;
    block->used++;
    if (!place)
        return (uint8_t *)block + PLACES_AT + slab->object_size * block->begun++;
    block->given_back = place->next;
    return place;
}

void *slab_take(struct slab *slab)
{
    if (USES_MALLOC)
        return malloc(slab->object_size);
    struct slab_block *block = slab->open ? slab->open : open_block(slab);
    if (!block)
        return NULL;
    void *object = take_place(slab, block);
    if (is_full(slab, block))
        DL_DELETE(slab->open, block);
    return object;
}

void slab_give(struct slab *slab, void *object)
{
    if (USES_MALLOC) {
        free(object);
        return;
    }
    struct slab_block *block = block_of(object);
    struct slab_place *place = object;
    if (is_full(slab, block))
        DL_APPEND(slab->open, block);
    place->next = block->given_back;
    block->given_back = place;
    if (!--block->used)
        close_block(slab, block);
}
