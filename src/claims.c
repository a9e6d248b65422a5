/* claims: see claims.h. Both sides change one word of 64 bits, so that each sees either all or nothing of what the
 * other did. */
#include "claims.h"
#include "fd.h"
#include "memory.h"
#include <stddef.h>
#include <sys/mman.h>

/* In the word: `begun` in the low bits, `stop` above, then whether there is a stop. Tickets are counted modulo 2^31,
 * which is far more than can be in flight. */
#define TICKET_BITS 31
#define TICKET_MASK ((UINT32_C(1) << TICKET_BITS) - 1)
#define STOPPED     (UINT64_C(1) << 63)

enum { CACHE_LINE_BYTES = 64 };

struct claims_page {
    _Atomic uint64_t word;
    _Atomic uint32_t mapped; /* by the worker: from now on it keeps to the word */
    _Alignas(CACHE_LINE_BYTES) _Atomic uint32_t bell;
};

/* How far b is ahead of a; 0 when it is behind. */
static uint32_t ahead(uint32_t a, uint32_t b)
{
    uint32_t distance = (b - a) & TICKET_MASK;
    return distance <= TICKET_MASK / 2 ? distance : 0;
}

static uint32_t begun_of(uint64_t word)
{
    return (uint32_t)word & TICKET_MASK;
}

static uint32_t stop_of(uint64_t word)
{
    return (uint32_t)(word >> TICKET_BITS) & TICKET_MASK;
}

static uint64_t make_word(uint32_t begun, uint32_t stop, uint64_t stopped)
{
    return (uint64_t)(begun & TICKET_MASK) | (uint64_t)(stop & TICKET_MASK) << TICKET_BITS | stopped;
}

_Atomic uint32_t *claims_bell(const struct claims *claims)
{
    return claims->page ? &claims->page->bell : NULL;
}

/* ---- the parent ---- */

int claims_create(struct claims *claims, int *fd_out)
{
    int fd = memory_create("pool-claims", sizeof *claims->page);
    if (fd < 0)
        return fd;
    void *page = NULL;
    int rc = memory_map_alone(fd, sizeof *claims->page, PROT_READ | PROT_WRITE, &page);
    claims->page = page;
    if (rc)
        fd_close(&fd);
    else
        *fd_out = fd;
    return rc;
}

void claims_clear(struct claims *claims)
{
    if (claims->page)
        munmap(claims->page, sizeof *claims->page);
    claims->page = NULL;
}

uint32_t claims_take_back(const struct claims *claims, uint32_t sent, uint32_t most)
{
    uint32_t count;
    if (!claims->page || !atomic_load(&claims->page->mapped))
        return 0;
    uint64_t word = atomic_load(&claims->page->word);
    do {
        count = ahead(begun_of(word), sent);
        count = count < most ? count : most;
        if (!count)
            return 0;
    } while (
        !atomic_compare_exchange_weak(&claims->page->word, &word, make_word(begun_of(word), sent - count, STOPPED)));
    return count;
}

void claims_lift_stop(const struct claims *claims)
{
    atomic_fetch_and(&claims->page->word, ~STOPPED);
}

/* ---- the worker ---- */

int claims_map(struct claims *claims, int fd)
{
    void *page = NULL;
    int rc = memory_map(fd, sizeof *claims->page, PROT_READ | PROT_WRITE, &page);
    claims->page = page;
    if (!rc)
        atomic_store(&claims->page->mapped, 1);
    return rc;
}

uint32_t claims_begin(const struct claims *claims, uint32_t ticket, uint32_t most)
{
    uint32_t count;
    if (!claims->page)
        return most;
    uint64_t word = atomic_load(&claims->page->word);
    do {
        count = word & STOPPED ? ahead(ticket, stop_of(word)) : most;
        count = count < most ? count : most;
        if (!count)
            return 0;
    } while (!atomic_compare_exchange_weak(&claims->page->word, &word,
                                           make_word(ticket + count, stop_of(word), word & STOPPED)));
    return count;
}
