/* spin: for how long it pays to look for news again and again before going to sleep. Pure: it is told the time and
 * answers.
 *
 * Whoever does not sleep need not be woken, and to be woken on another CPU costs more than all else about a small task.
 * But a spin takes a CPU from whoever could use it, worst of all from the one who is to bring the news. So a spin is
 * short, and after spins that found nothing waits pass without one: 0, 1, 3, 7 and so on. One in which the clock jumped
 * counts among these: somebody else had the CPU meanwhile, most likely who brought the news, and would have had it
 * sooner without the spin. Where spinning never pays this comes to nothing; where it always does, one that fails now
 * and then costs no more than itself.
 *
 * The same code serves whoever waits in the pool and the worker that is out of work.
 * Must not know: the clock, what is waited for. */
#ifndef PROCPOOL_SPIN_H
#define PROCPOOL_SPIN_H

#include <stdbool.h>
#include <stdint.h>

struct spin {
    uint64_t limit_ns; /* of one spin; 0: never */
    uint64_t until_ns; /* of the one that goes on */
    uint64_t last_ns;  /* when it last looked */
    bool first_look;   /* has not been told of yet */
    bool lost_cpu;     /* while it went on */
    unsigned losses;   /* spins that did not pay, minus those that did */
    unsigned passes;   /* waits to let pass */
};

/* Whether to spin in the wait that begins now. If so: look, and go on looking while spin_goes_on, told of each look and
 * when it was, says so. */
bool spin_begin(struct spin *spin);
bool spin_goes_on(struct spin *spin, bool found, uint64_t now_ns);

/* Between two looks, which keep others from the pipe: about as long as one takes. */
enum { SPIN_PAUSES = 4 };
#if defined(__x86_64__) || defined(__i386__)
static inline void spin_pause(void)
{
    for (int i = 0; i < SPIN_PAUSES; i++)
        __builtin_ia32_pause();
}
#elif defined(__aarch64__)
static inline void spin_pause(void)
{
    for (int i = 0; i < SPIN_PAUSES; i++)
        __asm__ volatile("yield");
}
#else
static inline void spin_pause(void)
{
}
#endif

#endif
