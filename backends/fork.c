/* fork: workers are copies of the calling process as it is when they start.
 *
 * A real fork(), so that the program's atfork handlers and libc's own locks are seen to. Only the calling thread is
 * copied: locks that other threads held stay locked in the worker, which is why this is never the default. */
#include "fd.h"
#include "local.h"
#include <errno.h>
#include <stdlib.h>

static int fork_open(const struct backend_setup *setup, void **state_out, char *message)
{
    (void)message;
    struct local_original *state = malloc(sizeof *state);
    if (!state)
        return -ENOMEM;
    *state = (struct local_original){.hooks = setup->hooks, .cwd_fd = local_open_cwd()};
    *state_out = state;
    setup->hooks->prepare_copies();
    return state->cwd_fd < 0 ? state->cwd_fd : 0;
}

static int fork_start(void *opaque, const struct backend_greeting *greeting, struct backend_child *child_out,
                      char *message)
{
    (void)message;
    struct local_original *state = opaque;
    struct backend_child child = BACKEND_NO_CHILD;
    struct local_process process;
    int worker_fds[CHILD_FD_COUNT] = CHILD_NO_FDS;
    int error = local_make_channels(&child, greeting, worker_fds);
    if (!error)
        error = local_fork(state, worker_fds, &process);
    local_close_fds(worker_fds, CHILD_FD_COUNT);
    if (error) {
        local_drop_child(&child);
        return error;
    }
    local_adopt_process(&child, process);
    *child_out = child;
    return 0;
}

static void fork_abandon(void *opaque)
{
    struct local_original *state = opaque;
    fd_close(&state->cwd_fd);
}

static void fork_close(void *opaque)
{
    struct local_original *state = opaque;
    if (!state)
        return;
    fd_close(&state->cwd_fd);
    free(state);
}

const struct backend backend_fork = {
    .name = "fork",
    .open = fork_open,
    .start = fork_start,
    .kill = local_kill_child,
    .reap = local_reap_child,
    .close = fork_close,
    .abandon = fork_abandon,
};
