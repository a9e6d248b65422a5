/* backend: what is the same for the fds of every process, whichever start method made it. See backend.h. */
#include "backend.h"
#include "fd.h"

void backend_close_streams(struct backend_child *child)
{
    fd_close(&child->request_fd);
    fd_close(&child->request_end_fd);
    fd_close(&child->reply_fd);
    fd_close(&child->socket_fd);
    fd_close(&child->lifeline_fd);
}

void backend_close_exit(struct backend_child *child)
{
    if (child->exit_fd == child->pidfd)
        child->exit_fd = -1;
    fd_close(&child->exit_fd);
    fd_close(&child->pidfd);
}

void backend_drop_child(struct backend_child *child)
{
    backend_close_streams(child);
    backend_close_exit(child);
    for (unsigned i = 0; i < CHILD_FD_COUNT; i++)
        fd_close(&child->worker_fds[i]);
}
