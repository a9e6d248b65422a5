/* spawn: every worker is this executable, started afresh.
 *
 * Created as by vfork, so the size of the calling process does not matter and its threads do no harm. The image, the
 * environment and the working directory are those of open's moment, however late a worker starts. */
#include "local.h"
#include <errno.h>
#include <stdlib.h>

static int spawn_open(const struct backend_setup *setup, void **state_out, char *message)
{
    (void)setup; /* the fresh image finds its hooks by itself */
    (void)message;
    struct local_image *image = malloc(sizeof *image);
    if (!image)
        return -ENOMEM;
    *state_out = image;
    return local_image_init(image);
}

static int make_image(const void *state, int fds[CHILD_FD_COUNT], struct local_process *process_out)
{
    return local_exec(state, CHILD_WORKER, fds, process_out);
}

static int spawn_start(void *state, const struct backend_greeting *greeting, struct backend_child *child_out,
                       char *message)
{
    (void)message;
    return local_start(greeting, make_image, state, child_out);
}

static void spawn_abandon(void *state)
{
    local_image_close_fds(state);
}

static void spawn_lose(void *state)
{
    local_image_lose(state);
}

static void spawn_close(void *state)
{
    if (state)
        local_image_clear(state);
    free(state);
}

const struct backend backend_spawn = {
    .name = "spawn",
    .capabilities = BACKEND_NEEDS_INIT | BACKEND_RESTARTS,
    .open = spawn_open,
    .start = spawn_start,
    .kill = local_kill_child,
    .reap = local_reap_child,
    .close = spawn_close,
    .abandon = spawn_abandon,
    .lose = spawn_lose,
};
