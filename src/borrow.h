/* borrow: memory that a worker has lent for its replies, in the parent.
 *
 * A worker announces a region (a memfd of its own) once and then replies in it, again and again: a reply is held by its
 * task, and given back when that is freed. The worker is not believed: memory that could shrink under a reader, or is
 * less than was said, is refused, and so is a region that is held already. What it writes there later only spoils its
 * own replies. A region outlives its worker as long as it is held. To be reused is worth something, so some stay mapped
 * on both sides; what is more is given up. A copy of this process does not have the memory: it would keep it from going
 * back to the system, and see in it the replies that come later.
 * Must not know: frames, tasks, workers. */
#ifndef PROCPOOL_BORROW_H
#define PROCPOOL_BORROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BORROW_REGIONS = 64, BORROW_KEPT = 2, BORROW_LARGE_BYTES = 1 << 20 };

struct borrow;

struct borrowed {
    struct borrow *owner; /* NULL: its worker is gone, or does not know it any more */
    const uint8_t *data;  /* for reading alone; NULL: in a copy of the process that mapped it */
    size_t size;
    unsigned number;
    bool held;
};

/* All of it by number. */
struct borrow {
    size_t sizes[BORROW_REGIONS]; /* as announced; 0: it was not */
    struct borrowed **regions;    /* each NULL if it could not be mapped. NULL: there is none, as for most workers */
    uint64_t without_fd;          /* bitmap: that is why; else for want of memory */
    uint64_t returned, given_up;  /* bitmaps: the worker is to be told; until then it keeps the memory */
    bool is_urgent; /* at once, though it may have nothing to do: there is much that could go back to the system */
};

/* The worker has announced `size` bytes of fd (which stays the caller's; -1: there was no room for it). What it
 * announced before by this number is forgotten. 0; -EINVAL: it is lying. */
int borrow_note(struct borrow *borrow, uint64_t number, uint64_t size, int fd);
/* It has replied with the first `size` bytes of a region. 0, with the region held; -EMFILE, -ENOMEM: there was no fd,
 * no memory to map it; -EINVAL: it is lying. */
int borrow_hold(struct borrow *borrow, uint64_t number, uint64_t size, struct borrowed **region_out);
/* NULL is fine, here and below. */
void borrow_give_back(struct borrowed *region);
/* In a copy of this process: there may be something else where the memory was. */
void borrow_abandon(struct borrowed *region);
void borrow_abandon_all(struct borrow *borrow);

/* Whether the worker is to be told something; and what next; false: nothing. */
static inline bool borrow_owes(const struct borrow *borrow)
{
    return borrow->returned | borrow->given_up;
}
bool borrow_next_return(struct borrow *borrow, unsigned *number_out, bool *kept_out);

/* Its worker is gone. What is held stays. May run twice. */
void borrow_clear(struct borrow *borrow);

#endif
