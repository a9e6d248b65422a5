/* loop_glance: what busy workers have to say, without the epoll. See loop.h.
 *
 * To ask the epoll first costs more than to read a pipe in which there may be nothing: where there is something the
 * read is needed anyway, and the epoll asks that pipe once more at the next turn. It counts where somebody asks all the
 * time.
 *
 * Who spins looks without the pool's lock; meanwhile nobody else reads what workers say, whatever else they do with the
 * loop. Who only comes by keeps it. */
#include "loop_inner.h"

void loop_aim(struct loop *loop, struct loop_glance *glance_out)
{
    unsigned busy = loop->sched.busy_count;
    glance_out->count = 0;
    for (unsigned slot = 0; busy <= LOOP_GLANCED && slot < loop->sched.slot_count && glance_out->count < busy; slot++)
        if (sched_head(&loop->sched, slot) && loop->peers[slot].watches_replies)
            glance_out->slots[glance_out->count++] = slot;
    atomic_store_explicit(&loop->is_glanced_at, glance_out->count > 0, memory_order_release);
}

bool loop_glance(struct loop *loop, const struct loop_glance *glance)
{
    bool any = false;
    for (unsigned i = 0; i < glance->count; i++)
        any |= chan_look(&loop->peers[glance->slots[i]].chan);
    return any;
}

void loop_skip_quiet(struct loop *loop, struct loop_glance *glance)
{
    unsigned count = 0;
    for (unsigned i = 0; i < glance->count; i++)
        if (peer_has_rung(&loop->peers[glance->slots[i]]))
            glance->slots[count++] = glance->slots[i];
    glance->count = count;
}

void loop_look_away(struct loop *loop)
{
    atomic_store_explicit(&loop->is_glanced_at, false, memory_order_release);
}

void loop_take_glanced(struct loop *loop, const struct loop_glance *glance)
{
    for (unsigned i = 0; i < glance->count; i++)
        if (loop->peers[glance->slots[i]].watches_replies) /* it may be another worker's by now */
            loop_take_replies(loop, glance->slots[i]);
}

bool loop_glance_suffices(const struct loop *loop, const struct loop_glance *glance)
{
    bool suffices = glance->count && sched_ready_count(&loop->sched) == loop->sched.config.workers;
    for (unsigned i = 0; i < glance->count; i++)
        suffices = suffices && !loop->peers[glance->slots[i]].watches_output;
    return suffices;
}
