/* claims: which of its items a worker has begun, in a word of memory that it shares with the parent; so the parent can
 * take back the rest.
 *
 * Both sides count the items that go to the worker, in the order of the stream, from the frame on that brought the
 * page: the count at an item is its ticket. The worker claims tickets before it begins them, one at a time when items
 * are long, in blocks when they are short; the parent takes back the last so many of those that were sent and not
 * claimed, and may do so again. Either is one compare-and-swap on the same word, so an item is begun or taken back and
 * never both. What was taken back the worker steps over as it comes to it, and says so; until it has said that of all
 * the parent sends nothing more, and then lifts the stop.
 *
 *     tickets   0 ......... begun ........... stop ......... sent
 *               begun, or     may be begun      taken back
 *               stepped over
 *
 * The page is the worker's as much as the parent's: a hostile one can say that it has begun all or nothing, and that is
 * all; the parent bounds what it takes by what it has in flight. The memory cannot be shrunk under the parent (see
 * memory.h). There is room in it for the worker's bell, too (see chan.h), which has nothing to do with claims.
 * Must not know: what items are. */
#ifndef PROCPOOL_CLAIMS_H
#define PROCPOOL_CLAIMS_H

#include <stdatomic.h>
#include <stdint.h>

struct claims_page;

struct claims {
    struct claims_page *page; /* NULL: there is none, and every item may be begun */
};

/* The parent's side. *fd_out is to be sent to the worker, and closed. A forked child of this process does not have the
 * page. 0 or a negative errno, with nothing to clear; claims_clear may run twice. */
int claims_create(struct claims *claims, int *fd_out);
void claims_clear(struct claims *claims);

/* Of the last `most` of `sent` items as many as the worker has not begun, counted from the end: it will not begin them.
 * 0 while it has not mapped the page. While there is a stop, `sent` is where it stands. */
uint32_t claims_take_back(const struct claims *claims, uint32_t sent, uint32_t most);
/* It has stepped over all of them. */
void claims_lift_stop(const struct claims *claims);

/* The worker's bell; NULL without a page. */
_Atomic uint32_t *claims_bell(const struct claims *claims);

/* The worker's side, with what it was sent. */
int claims_map(struct claims *claims, int fd);
/* How many items from `ticket` on it may begin now, at most `most`; 0: this one was taken back. */
uint32_t claims_begin(const struct claims *claims, uint32_t ticket, uint32_t most);

#endif
