/* spin: see spin.h. A spin that did not pay doubles how many waits pass without one, a spin that did halves that
 * again. */
#include "spin.h"

/* Between two looks there is a system call or two. Another process that had the CPU meanwhile takes more than this; so
 * do some interrupts, which does not matter. */
#define JUMP_NS UINT64_C(3000)
enum { MOST_LOSSES = 10 };

bool spin_begin(struct spin *spin)
{
    if (!spin->limit_ns)
        return false;
    if (spin->passes) {
        spin->passes--;
        return false;
    }
    spin->first_look = true;
    spin->lost_cpu = false;
    return true;
}

static void end(struct spin *spin, bool pays)
{
    if (pays) {
        spin->losses -= spin->losses > 0;
        return;
    }
    spin->passes = (1u << spin->losses) - 1;
    spin->losses += spin->losses < MOST_LOSSES;
}

bool spin_goes_on(struct spin *spin, bool found, uint64_t now_ns)
{
    if (spin->first_look)
        spin->until_ns = now_ns + spin->limit_ns;
    else
        spin->lost_cpu |= now_ns - spin->last_ns > JUMP_NS;
    spin->last_ns = now_ns;
    bool was_there = found && spin->first_look; /* so nobody would have slept, and it tells nothing */
    spin->first_look = false;
    if (!found && now_ns < spin->until_ns)
        return true;
    if (!was_there)
        end(spin, found && !spin->lost_cpu);
    return false;
}
