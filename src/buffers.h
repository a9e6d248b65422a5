/* buffers: memory of the caller's that workers can map, and which of it a pointer points into.
 *
 * A buffer is a memfd, mapped here for reading and writing, and in a worker when it is first told of it. It is known by
 * its address to the caller and by a number to workers; numbers are small and used again. It goes when the caller has
 * freed it and nothing that is under way lies in it any more. A copy of this process does not have the memory, whoever
 * made it: what is shared with workers is not to be shared with others by accident.
 * Must not know: workers, tasks, locks. */
#ifndef PROCPOOL_BUFFERS_H
#define PROCPOOL_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t *data; /* at the start of a page */
    size_t size;
    int fd; /* -1: memory of this process alone */
    uint32_t number;
    unsigned uses; /* things under way that lie in it */
    bool freed;    /* by the caller: to be destroyed when it has no uses any more; nothing new lies in it */
};

struct buffers {
    struct buffer **by_address; /* ascending */
    _Atomic(size_t) count;      /* looked at without a lock, to see that there are none */
    size_t capacity;
    uint64_t *numbers; /* bitmap of those that are taken */
    unsigned number_count;
};

/* A new one of `size` bytes (not 0), zero. shared: workers are to have it. 0 or a negative errno. */
int buffers_add(struct buffers *buffers, size_t size, bool shared, struct buffer **buffer_out);
/* The caller's: which is at this address, NULL: none. */
struct buffer *buffers_at(const struct buffers *buffers, const void *data);
/* In which `size` bytes (not 0) at `data` lie from end to end, with one use more; NULL: in none. */
struct buffer *buffers_hold(const struct buffers *buffers, const void *data, size_t size);

/* Unmapped here. */
void buffers_destroy(struct buffers *buffers, struct buffer *buffer);

/* When there are none any more; or, in a copy of this process, to close its fds and forget them. May run twice. */
void buffers_clear(struct buffers *buffers);
void buffers_abandon(struct buffers *buffers);
/* Their fds may be another's by now; the memory stays. */
void buffers_forget_fds(struct buffers *buffers);

#endif
