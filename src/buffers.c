/* buffers: see buffers.h.
 *
 * They are kept in the order of their addresses, since pointers are looked up far more often than buffers are made. One
 * that was freed stays mapped, and in the list, until nothing under way lies in it: so its address cannot come again
 * before. */
#include "buffers.h"
#include "bits.h"
#include "fd.h"
#include "memory.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- numbers ---- */

/* The lowest that is free. */
static int take_number(struct buffers *buffers, uint32_t *number_out)
{
    unsigned number = 0;
    while (number < buffers->number_count && bit_get(buffers->numbers, number))
        number++;
    if (number == buffers->number_count) {
        uint64_t *numbers = realloc(buffers->numbers, (number / 64 + 1) * sizeof *numbers);
        if (!numbers)
            return -ENOMEM;
        numbers[number / 64] = 0;
        buffers->numbers = numbers;
        buffers->number_count = number + 64;
    }
    bit_set(buffers->numbers, number, true);
    *number_out = number;
    return 0;
}

/* ---- addresses ---- */

/* How many begin at or below `data`. */
static size_t count_to(const struct buffers *buffers, const void *data)
{
    size_t low = 0, high = buffers->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (buffers->by_address[middle]->data <= (const uint8_t *)data)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct buffer *find(const struct buffers *buffers, const void *data, size_t size)
{
    size_t place = buffers->count ? count_to(buffers, data) : 0;
    if (!place)
        return NULL;
    struct buffer *buffer = buffers->by_address[place - 1];
    size_t offset = (size_t)((const uint8_t *)data - buffer->data);
    bool inside = offset < buffer->size && size <= buffer->size - offset;
    return inside && !buffer->freed ? buffer : NULL;
}

struct buffer *buffers_at(const struct buffers *buffers, const void *data)
{
    struct buffer *buffer = find(buffers, data, 1);
    return buffer && buffer->data == data ? buffer : NULL;
}

struct buffer *buffers_hold(const struct buffers *buffers, const void *data, size_t size)
{
    struct buffer *buffer = find(buffers, data, size);
    if (buffer)
        buffer->uses++;
    return buffer;
}

static int reserve(struct buffers *buffers)
{
    if (buffers->count < buffers->capacity)
        return 0;
    size_t capacity = buffers->capacity * 2 + 8;
    struct buffer **by_address = realloc(buffers->by_address, capacity * sizeof(struct buffer *));
    if (!by_address)
        return -ENOMEM;
    buffers->by_address = by_address;
    buffers->capacity = capacity;
    return 0;
}

static void insert(struct buffers *buffers, struct buffer *buffer)
{
    size_t place = count_to(buffers, buffer->data);
    struct buffer **at = buffers->by_address + place;
    memmove(at + 1, at, (buffers->count - place) * sizeof(struct buffer *));
    *at = buffer;
    buffers->count++;
}

/* ---- one buffer ---- */

/* Private memory behaves the same to its owner, so that both are freed alike. */
static int map_shared(struct buffer *buffer)
{
    buffer->fd = memory_create("pool-buffer", buffer->size);
    if (buffer->fd < 0)
        return buffer->fd;
    void *data;
    int rc = memory_map_alone(buffer->fd, buffer->size, PROT_READ | PROT_WRITE, &data);
    if (rc)
        fd_close(&buffer->fd);
    else
        buffer->data = data;
    return rc;
}

static int map_private(struct buffer *buffer)
{
    int errno_before = errno;
    void *data = mmap(NULL, buffer->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int rc = (int)fd_outcome(data == MAP_FAILED ? -1 : 0, errno_before);
    buffer->fd = -1;
    buffer->data = rc ? NULL : data;
    return rc;
}

int buffers_add(struct buffers *buffers, size_t size, bool shared, struct buffer **buffer_out)
{
    struct buffer *buffer = calloc(1, sizeof *buffer);
    if (!buffer || reserve(buffers)) {
        free(buffer);
        return -ENOMEM;
    }
    buffer->size = size;
    int rc = shared ? map_shared(buffer) : map_private(buffer);
    if (!rc && (rc = take_number(buffers, &buffer->number)) != 0) {
        munmap(buffer->data, buffer->size);
        fd_close(&buffer->fd);
    }
    if (rc) {
        free(buffer);
        return rc;
    }
    insert(buffers, buffer);
    *buffer_out = buffer;
    return 0;
}

void buffers_destroy(struct buffers *buffers, struct buffer *buffer)
{
    size_t place = count_to(buffers, buffer->data);
    struct buffer **at = buffers->by_address + place - 1;
    memmove(at, at + 1, (buffers->count - place) * sizeof(struct buffer *));
    buffers->count--;
    bit_set(buffers->numbers, buffer->number, false);
    munmap(buffer->data, buffer->size);
    fd_close(&buffer->fd);
    free(buffer);
}

void buffers_clear(struct buffers *buffers)
{
    free(buffers->by_address);
    free(buffers->numbers);
    *buffers = (struct buffers){0};
}

void buffers_forget_fds(struct buffers *buffers)
{
    for (size_t i = 0; i < buffers->count; i++)
        buffers->by_address[i]->fd = -1;
}

void buffers_abandon(struct buffers *buffers)
{
    for (size_t i = 0; i < buffers->count; i++) {
        fd_close(&buffers->by_address[i]->fd);
        free(buffers->by_address[i]);
    }
    buffers_clear(buffers);
}
