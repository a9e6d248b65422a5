/* lend: memory that this worker lends to the parent for its replies. See borrow.h for the other side.
 *
 * A task asks for a region and writes its reply there; then the region is lent until the parent gives it back, with its
 * pages warm. They stay so while replies follow one another. There is a bounded number of regions: with all of them
 * lent, replies travel.
 * Must not know: frames, tasks. */
#ifndef PROCPOOL_LEND_H
#define PROCPOOL_LEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LEND_REGIONS = 64 };

struct lend_region {
    uint8_t *data; /* NULL: there is none of this number */
    size_t size;
    int fd; /* until the parent has it */
    bool told, lent;
    bool has_pages; /* it may have been written to */
};

struct lend {
    unsigned end;                /* no number from here on was ever used */
    struct lend_region *regions; /* LEND_REGIONS of them, by number, the caller's; zero to begin with */
};

/* A region of at least `size` bytes that is not lent and is not `beside`. NULL: no memory, no fd, or all are lent. */
struct lend_region *lend_find(struct lend *lend, size_t size, const struct lend_region *beside);
unsigned lend_number(const struct lend *lend, const struct lend_region *region);

/* The parent has its fd. */
void lend_note_told(struct lend_region *region);
/* The parent has given it back; and, unless it is kept, has forgotten it. -EINVAL: it was not lent. */
int lend_take_back(struct lend *lend, uint64_t number, bool kept);
/* What is not lent: how much there is of it, and to give its pages back to the system. */
size_t lend_idle_bytes(const struct lend *lend);
void lend_trim(struct lend *lend);

#endif
