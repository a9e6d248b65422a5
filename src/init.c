/* init: pool_init, and what a process becomes by it. The one place where the pool's side and the worker's meet.
 * Must not know: what either does. */
#include "backend.h"
#include "child.h"
#include "pool.h"
#include "procpool.h"
#include "registry.h"
#include "worker.h"
#include <unistd.h>

static bool initialized;

/* What is prepared takes locks of libc's. */
static pid_t fork_prepared(void)
{
    drive_begin_fork();
    worker_prepare_copies();
    pid_t pid = fork();
    if (pid)
        drive_end_fork();
    return pid;
}

static const struct backend_hooks hooks = {.prepare_copies = worker_prepare_copies,
                                           .fork = fork_prepared,
                                           .run_worker = worker_run,
                                           .run_preload = worker_preload};

/* There is one start method with a server, whichever its name. */
static void serve(void)
{
    for (const struct backend *const *backend = backend_table; *backend; backend++)
        if ((*backend)->serve)
            (*backend)->serve(&hooks);
}

int pool_init(void)
{
    if (initialized)
        return 0;
    initialized = true;
    switch (child_adopt()) {
    case CHILD_WORKER:
        worker_run();
    case CHILD_SERVER:
        serve();
        break;
    case CHILD_NONE:
        registry_watch_forks();
        break;
    }
    return 0;
}

bool pool_is_initialized(void)
{
    return initialized;
}

const struct backend_hooks *pool_hooks(void)
{
    return &hooks;
}
