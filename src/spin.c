#include "spin.h"

/* Between two looks there is a system call or two. Interrupts take less than this, another process more. */
#define JUMP_NS UINT64_C(10000)
enum { MOST_LOSSES = 10 };

bool spin_begin(struct spin *spin, uint64_t now_ns)
{
    if (!spin->limit_ns)
        return false;
    if (spin->passes) {
        spin->passes--;
        return false;
    }
    spin->until_ns = now_ns + spin->limit_ns;
    spin->last_ns = now_ns;
    spin->lost_cpu = false;
    return true;
}

bool spin_goes_on(struct spin *spin, uint64_t now_ns)
{
    spin->lost_cpu = now_ns - spin->last_ns > JUMP_NS;
    spin->last_ns = now_ns;
    return !spin->lost_cpu && now_ns < spin->until_ns;
}

void spin_end(struct spin *spin, bool found)
{
    if (found && !spin->lost_cpu) {
        spin->losses -= spin->losses > 0;
        return;
    }
    spin->passes = (1u << spin->losses) - 1;
    spin->losses += spin->losses < MOST_LOSSES;
}
