/* loop_glance: what busy workers have to say, without the epoll. See loop.h.
 *
 * To ask a pipe costs half as much as to ask the epoll for it, which counts where somebody asks all the time. */
#include "fd.h"
#include "loop_inner.h"

void loop_aim(const struct loop *loop, struct loop_glance *glance_out)
{
    unsigned busy = loop->sched.busy_count;
    glance_out->count = 0;
    if (busy > LOOP_GLANCED)
        return;
    for (unsigned slot = 0; slot < loop->sched.slot_count && glance_out->count < busy; slot++)
        if (sched_head(&loop->sched, slot) && loop->peers[slot].watched)
            glance_out->at[glance_out->count++] =
                (struct loop_glanced){.slot = slot, .reply_fd = loop->peers[slot].child.reply_fd};
}

bool loop_glance(const struct loop_glance *glance)
{
    for (unsigned i = 0; i < glance->count; i++)
        if (fd_unread(glance->at[i].reply_fd))
            return true;
    return false;
}

void loop_read_glanced(struct loop *loop, const struct loop_glance *glance)
{
    for (unsigned i = 0; i < glance->count; i++)
        if (loop->peers[glance->at[i].slot].watched) /* it may be another worker's by now */
            loop_read_replies(loop, glance->at[i].slot);
}
