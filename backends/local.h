/* local: children of this very process.
 *
 * What `fork`, `spawn` and the forkserver (for its server, and within the server for the workers) have in common: the
 * three pipes and the socket of a worker, the two ways to make a process, signals by pidfd, and taking the exit status
 * of exactly one process. Not a start method itself; it keeps no state of its own.
 *
 * Must not know: pools, frames, which start method calls. */
#ifndef PROCPOOL_LOCAL_H
#define PROCPOOL_LOCAL_H

#include "backend.h"
#include <stdbool.h>

/* ---- channels ---------------------------------------------------------------------------------------------------- */

/* Make the three pipes and the socket of a worker: this process's ends go into *child, the worker's into worker_fds in
 * the order of CHILD_IN_FD, and the greeting into the first. 0 or a negative errno; what was made stays in both, to be
 * closed by backend_drop_child and local_close_fds. */
int local_make_channels(struct backend_child *child, const struct backend_greeting *greeting,
                        int worker_fds[CHILD_FD_COUNT]);

/* The worker has its fds, or will never have them: close them here, but for the one that stays in *child. */
void local_release_worker_fds(struct backend_child *child, int worker_fds[CHILD_FD_COUNT]);

/* A pipe for a lifeline, as small as pipes can be: many of them count against the user's limit. */
int local_make_lifeline(int ends_out[2]);

/* Close and set to -1. May run twice. */
void local_close_fds(int *fds, size_t count);

/* ---- processes --------------------------------------------------------------------------------------------------- */

struct local_process {
    pid_t pid; /* 0: none */
    int pidfd; /* -1: none */
};

/* This executable as it is now, ready to be started anew with this moment's environment and working directory. */
struct local_image {
    int exe_fd, cwd_fd;
    char *argv[2];
    char **envp;
    void *stack;
};

#define LOCAL_NO_IMAGE                                                                                                 \
    {                                                                                                                  \
        .exe_fd = -1, .cwd_fd = -1                                                                                     \
    }

/* 0 or a negative errno, then to be cleared all the same. Clearing may run twice. */
int local_image_init(struct local_image *image);
void local_image_clear(struct local_image *image);
/* In a forked child: see the operation `abandon`. */
void local_image_close_fds(struct local_image *image);

/* See the operation `lose`. */
void local_image_lose(struct local_image *image);

/* An fd of the current working directory, for fchdir in a child; or a negative errno. */
int local_open_cwd(void);

/* Start the image; blocks until it has been executed. fds are borrowed and become CHILD_IN_FD and so on. 0 or a
 * negative errno, which is exec's own where exec failed. (Under tools that do not let the child share memory a failed
 * exec shows as an exit with CHILD_EXEC_FAILED instead.) */
int local_exec(const struct local_image *image, enum child_role role, const int fds[CHILD_FD_COUNT],
               struct local_process *process_out);

/* What the copies of this process are to know. */
struct local_original {
    const struct backend_hooks *hooks;
    int cwd_fd;      /* -1: the working directory stays */
    bool is_settled; /* child_settle_copies was called, and streams hold nothing */
};

/* Fork; the copy becomes a worker with these fds, of which one is closed here in any case. 0 or a negative errno. */
int local_fork(const struct local_original *original, int fds[CHILD_FD_COUNT], struct local_process *process_out);

/* The operation `start` by either of these: `make` makes the process, with its own fds, which it may close, from the
 * backend's state. */
typedef int local_make_fn(const void *state, int fds[CHILD_FD_COUNT], struct local_process *process_out);
int local_start(const struct backend_greeting *greeting, local_make_fn *make, const void *state,
                struct backend_child *child_out);

/* Its programs have a thread that nobody made, from the first thread or fork on. */
bool local_under_thread_sanitizer(void);

/* Send a signal, SIGTERM with SIGCONT. 0 also when the process has ended; else a negative errno. */
int local_kill(struct local_process process, int signal);

/* BACKEND_RUNNING, or 0: the process has ended, its zombie is gone (whoever took it), *exit_out tells what is known.
 * For a process that is not this one's child too, as far as the kernel tells. Does not wait for the process; while it
 * has ended, and its tracer does not know yet, there is a pause of a millisecond in each call. */
int local_collect(int pidfd, struct child_exit *exit_out);

/* Kill it, wait for it and for it alone, close its pidfd. Nothing when there is none. Where the pidfd was lost (see
 * lost.h) it is only waited for a moment. */
void local_end(struct local_process *process);

/* The operations `kill` and `reap` for a child that local_exec or local_fork made, whose exit_fd is its pidfd. */
int local_kill_child(void *state, struct backend_child *child, int signal);
int local_reap_child(void *state, struct backend_child *child, struct child_exit *exit_out, char *message);

#endif
