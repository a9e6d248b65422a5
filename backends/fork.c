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
    return state->cwd_fd < 0 ? state->cwd_fd : 0;
}

static int make_copy(const void *state, int fds[CHILD_FD_COUNT], struct local_process *process_out)
{
    return local_fork(state, fds, process_out);
}

static int fork_start(void *state, const struct backend_greeting *greeting, struct backend_child *child_out,
                      char *message)
{
    (void)message;
    return local_start(greeting, make_copy, state, child_out);
}

static void fork_abandon(void *opaque)
{
    struct local_original *state = opaque;
    fd_close(&state->cwd_fd);
}

static void fork_lose(void *opaque)
{
    struct local_original *state = opaque;
    state->cwd_fd = -1;
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
    .lose = fork_lose,
};
