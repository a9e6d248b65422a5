/* chaos_memory: where the host has what it submits: in memory of its own, or anywhere in a buffer that it shares with
 * the workers of the pool (see chaos.h). To whoever submits it is the same, but for this: what is in a buffer is not
 * copied, and so must stay as it is. */
#include "chaos.h"
#include <stdlib.h>

enum { OFFSETS = 12, ALIGNMENT = 8 };

struct memory take_memory(struct arena *arena, struct dice *dice, size_t size)
{
    struct memory memory = {0};
    if (dice_one_in(dice, 3))
        memory.pool = arena->pool;
    size_t offset = memory.pool && dice_one_in(dice, 2) ? dice_below(dice, OFFSETS) * ALIGNMENT : 0;
    memory.base = memory.pool ? pool_buffer_alloc(memory.pool, offset + size) : calloc(1, size);
    if (!memory.base)
        chaos_failed("no memory: %s", memory.pool ? pool_message() : "calloc");
    memory.data = memory.base + offset;
    count_up(COUNT_BUFFERS, memory.pool != NULL);
    return memory;
}

void give_memory(struct memory *memory)
{
    if (!memory->pool)
        free(memory->base);
    else if (pool_buffer_free(memory->pool, memory->base))
        chaos_failed("pool_buffer_free: %s", pool_message());
    *memory = (struct memory){0};
}
