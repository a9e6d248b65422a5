/* bits: sets of small numbers as bitmaps of 64-bit words. Pure; knows nothing. */
#ifndef PROCPOOL_BITS_H
#define PROCPOOL_BITS_H

#include <stdbool.h>
#include <stdint.h>

#define BITS_NONE ((unsigned)-1)

static inline void bit_set(uint64_t *bits, unsigned i, bool value)
{
    uint64_t mask = UINT64_C(1) << (i % 64);
    bits[i / 64] = value ? bits[i / 64] | mask : bits[i / 64] & ~mask;
}

static inline bool bit_get(const uint64_t *bits, unsigned i)
{
    return bits[i / 64] >> (i % 64) & 1;
}

/* The lowest bit that is set, or BITS_NONE. */
static inline unsigned bit_first(const uint64_t *bits, unsigned count)
{
    for (unsigned word = 0; word * 64 < count; word++)
        if (bits[word])
            return word * 64 + (unsigned)__builtin_ctzll(bits[word]);
    return BITS_NONE;
}

#endif
