/* backend: the contract of a start method.
 *
 * A backend starts and ends processes and nothing else. It never sees a task frame, a pool or another backend. What
 * a started process does is the hooks' business; every process is set up by src/child.c in the same way.
 *
 * For all operations: calls for one backend object come one at a time (the pool's lock is held), from any thread. So
 * none calls fork() but by the hook, nor pthread_atfork(): another thread may be in there and wait for that lock.
 * Nothing here waits for another process to do something (vfork's wait for exec is the one exception: it is the
 * kernel's and bounded), so that a slow preload or initializer never blocks an event loop. Nothing raises SIGPIPE,
 * installs handlers or changes the signal mask for good. Errors are negative errno values, or a POOL_E… value with a
 * text in `message`.
 *
 * To add a start method: write one file with a `const struct backend`, add it to the table in backends/table.c and to
 * the list of the conformance suite. docs/start-methods.md walks through it. */
#ifndef PROCPOOL_BACKEND_H
#define PROCPOOL_BACKEND_H

#include "child.h"
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Room for the texts that operations give: `message` points to so much. */
enum { BACKEND_TEXT_BYTES = 256 };

/* What a backend can do, instead of optional operations. */
enum {
    BACKEND_NEEDS_INIT = 1, /* starts the executable anew: pool_init() must have been called */
    BACKEND_PRELOADS = 2,   /* runs the preload itself, once, before the first worker; else each worker does */
    BACKEND_RESTARTS = 4,   /* its workers can become fresh ones in place (child_restart) */
};

/* Documented positive outcomes. */
enum {
    BACKEND_RUNNING = 1, /* reap: it has not ended yet */
    BACKEND_MOVED = 2,   /* reap: it has not ended yet, and child->exit_fd is another fd now: watch that one */
    BACKEND_BUSY = 3, /* start: not now, try again in some milliseconds; nothing was made and it counts as no failure */
};

/* What a started process calls. The same in every image, since every image is this library. */
struct backend_hooks {
    /* Before this process is copied: what every copy would have to find out or to set up. May run twice. */
    void (*prepare_copies)(void);
    /* fork(), of this process prepared, by who is in `start`: another thread's fork() may copy this process meanwhile,
     * so all fds that `start` has made are in its *child_out by then. */
    pid_t (*fork)(void);
    /* Be a worker on CHILD_IN_FD and CHILD_OUT_FD; does not return. */
    void (*run_worker)(void) __attribute__((noreturn));
    /* In the server image: run the preload described by bytes. 0, or non-zero with a text. */
    int (*run_preload)(const void *bytes, size_t size, char *message_out, size_t message_size);
};

struct backend_setup {
    const struct backend_hooks *hooks; /* static */
    const void *preload;               /* opaque bytes for hooks->run_preload; borrowed, valid during open only */
    size_t preload_size;               /* 0: no preload */
};

/* What a worker is to read first; so short that any new pipe takes it in one piece. */
enum { BACKEND_GREETING_BYTES = 512 };

struct backend_greeting {
    const void *bytes; /* borrowed */
    size_t size;       /* 0: it is to be sent later */
};

/* One process, from start to reap. Made by start. The caller owns the fds before exit_fd and closes them whenever it
 * likes (closing the lifeline kills the process); exit_fd and pidfd are closed by reap when it returns 0. */
struct backend_child {
    int request_fd;     /* non-blocking */
    int request_end_fd; /* the child reads from it; while it is open no write to a dead one fails or raises SIGPIPE */
    int reply_fd;       /* non-blocking */
    int socket_fd;      /* non-blocking; for fds to the child, see fd_send. A send to a dead child raises no SIGPIPE */
    int lifeline_fd;    /* the child is killed by the kernel when the last copy of this is closed */
    int exit_fd;        /* poll for POLLIN; readable means: call reap */
    /* The process, once the pid is known; before that -1 or some fd that holds its place. May be exit_fd; where it is
     * another, a successor starts at the end of the process, before reap can say how it ended. */
    int pidfd;
    pid_t pid;          /* 0 until known. Never used to signal or wait once the child has been reaped */
    int pending_signal; /* backend's own: asked for before the pid was known */
    unsigned server;    /* backend's own: which of its helper processes was asked */
    uint64_t held_ms;   /* backend's own: when it was first seen to have ended and to be still its tracer's; 0 */
    size_t greeted;     /* bytes: those of the greeting, which is in the request pipe; 0: the caller sends it */
    /* backend's own: the other ends, while start is under way */
    int worker_fds[CHILD_FD_COUNT];
};

#define BACKEND_NO_CHILD                                                                                               \
    {                                                                                                                  \
        .request_fd = -1, .request_end_fd = -1, .reply_fd = -1, .socket_fd = -1, .lifeline_fd = -1, .exit_fd = -1,     \
        .pidfd = -1, .worker_fds = CHILD_NO_FDS                                                                        \
    }

/* Close and set to -1; each may run twice, and is async-signal-safe. Those of the caller; those that reap closes; all,
 * for a start that failed or that this process has nothing to do with. */
void backend_close_streams(struct backend_child *child);
void backend_close_exit(struct backend_child *child);
void backend_drop_child(struct backend_child *child);

struct backend {
    const char *name;
    unsigned capabilities;

    /* Make ready to start workers, with the environment and working directory of this moment. May start a helper
     * process, does not wait for it. On failure *state_out may be set or not: close(NULL or it) is legal either way.
     * message: written on failure when there is more to say than the error. */
    int (*open)(const struct backend_setup *setup, void **state_out, char *message);

    /* Start a worker. Where the greeting is there before the process is, that need not go to sleep for it. 0:
     * *child_out is filled, all fds above stdio and close-on-exec. BACKEND_BUSY, or an error: nothing is left behind,
     * and *child_out means nothing. That the process ends up as a worker is learnt from its hello, not from this. */
    int (*start)(void *state, const struct backend_greeting *greeting, struct backend_child *child_out, char *message);

    /* Send a signal. Never fails for a process that has ended; 0 or a negative errno. Before the pid is known the
     * strongest signal asked for is kept and sent then; a second SIGKILL moreover makes exit_fd readable at once, even
     * when the helper that should start the process is stuck (it is then replaced, and what else it was to start ends
     * as well). SIGTERM is followed by SIGCONT here, so that a stopped process sees it. */
    int (*kill)(void *state, struct backend_child *child, int signal);

    /* exit_fd is readable. 0: it has ended, *exit_out says how, exit_fd and pidfd are closed and -1, the zombie is
     * gone; message holds a text, or "", when the backend knows more than the status (a failed preload,
     * say; then pid may still be 0, since there never was a process, and known is false).
     * BACKEND_RUNNING, BACKEND_MOVED: not ended. May be called at any time. Does not wait for the process; where
     * somebody else reaps it, it may take 2 ms to learn the status from the kernel, and where it was traced it is asked
     * for again, for a second at most, until its tracer knows. */
    int (*reap)(void *state, struct backend_child *child, struct child_exit *exit_out, char *message);

    /* Release everything, helper processes included; every child has been reaped before. May block as long as the
     * kernel needs to end a killed helper. NULL is fine. */
    void (*close)(void *state);

    /* In a process that the application forked from this one: close the state's own fds (those of the children are the
     * caller's to close), touch no process. Async-signal-safe. The only other operation that may follow there is
     * close, which then frees memory and no more. Not for the copy that start makes on its way to become a worker,
     * which needs those fds and closes them itself. */
    void (*abandon)(void *state);

    /* The program has closed fds of this process: none can be trusted any more. Forget the state's own, but end helper
     * processes as far as lost_end can. Only abandon and close may follow; close then waits a moment for what was
     * ended. */
    void (*lose)(void *state);

    /* In an image that child_adopt recognised as this backend's server: serve; does not return. NULL: has no server. */
    void (*serve)(const struct backend_hooks *hooks);
};

/* The start methods, in the order in which messages list them; NULL-terminated. */
extern const struct backend *const backend_table[];

/* NULL: no such start method. */
const struct backend *backend_find(const char *name);

#endif
