/* once: what is made at first need, by one thread.
 *
 * As pthread_once, whose code a process that was just forked would have to map to learn that it is made already.
 * Must not know: what is made. */
#ifndef PROCPOOL_ONCE_H
#define PROCPOOL_ONCE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct once {
    atomic_bool is_done;
    pthread_once_t gate;
};

#define ONCE_INIT                                                                                                      \
    {                                                                                                                  \
        .gate = PTHREAD_ONCE_INIT                                                                                      \
    }

static inline void once_call(struct once *once, void (*make)(void))
{
    if (atomic_load_explicit(&once->is_done, memory_order_acquire))
        return;
    pthread_once(&once->gate, make);
    atomic_store_explicit(&once->is_done, true, memory_order_release);
}

#endif
