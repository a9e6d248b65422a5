/* child: what every worker process, and the forkserver, does first, whatever started it.
 *
 * Two halves. Before exec (or at once after fork) child_enter puts the new process into its defined state: signal
 * mask empty, dispositions default, SIGHUP, SIGINT and SIGQUIT ignored, /dev/null as stdin (and as stdout and stderr
 * where those are closed), working directory, its own fds at fixed numbers, the lifeline armed, every other fd closed.
 * It runs between fork and exec, perhaps in memory shared with the parent: no malloc, no stdio, no locks, no libc call
 * that keeps state (raw rt_sigaction: a sanitizer's table of handlers would be the parent's). All it needs was made
 * ready in a struct child_plan.
 * After exec child_adopt recognises such a process by its mark and finishes the set-up.
 *
 * Must not know: pools, frames, tasks. */
#ifndef PROCPOOL_CHILD_H
#define PROCPOOL_CHILD_H

#include <stdbool.h>

/* The fd numbers that every child has. */
enum {
    CHILD_IN_FD = 3,       /* worker: requests. server: its control socket */
    CHILD_OUT_FD = 4,      /* worker: replies.  server: a memfd with its set-up */
    CHILD_LIFELINE_FD = 5, /* read end of a pipe whose write end only the pool's owner holds */
    CHILD_SOCKET_FD = 6,   /* worker: where the fds of tasks come in. server: not there */
    CHILD_FD_COUNT = 4
};

#define CHILD_NO_FDS                                                                                                   \
    {                                                                                                                  \
        -1, -1, -1, -1                                                                                                 \
    }

enum child_role { CHILD_NONE, CHILD_WORKER, CHILD_SERVER };

struct child_plan {
    int fds[CHILD_FD_COUNT]; /* borrowed; become 3, 4, 5 and 6 in the child; the last may be -1 */
    int cwd_fd;              /* O_PATH; -1: leave the working directory as it is */
    bool is_settled;         /* a copy of a process that has called child_settle_copies: see there */
    /* for child_exec only: */
    int exe_fd; /* what is executed; -1 after fork: no exec follows */
    char *const *argv;
    char **envp; /* its last entry before NULL is the mark, see child_make_environment */
    enum child_role role;
    int error; /* set by child_exec: the errno that stopped it (memory is shared, CLONE_VM) */
};

/* Put this process into its defined state. 0 or a negative errno. */
int child_enter(struct child_plan *plan);

/* What a child's exit code is when it could not even become a worker. */
enum { CHILD_EXEC_FAILED = 127 };

/* The entry of a clone(CLONE_VM | CLONE_VFORK) child: child_enter, write the mark with this pid, exec. plan: a struct
 * child_plan. Returns only on failure, with plan->error set, and what it returns is the exit code. errno, which is the
 * parent's own, is not preserved. */
int child_exec(void *plan);

/* Block every signal, libc's internal ones included, around the start of a child: none of the parent's handlers may run
 * there before child_enter has reset them. Raw: a sanitizer or a libc would exempt some. */
struct child_signals {
    unsigned long bits[128 / 8 / sizeof(unsigned long)]; /* the kernel uses 8 bytes of it, on MIPS all 16 */
};
void child_block_signals(struct child_signals *saved_out);
void child_restore_signals(const struct child_signals *saved);

/* A copy of this process's environment with room for the mark as its last entry; malloc'd as one block, release with
 * free(). NULL: no memory. A stale mark in the environment is left out. */
char **child_make_environment(void);

/* Called by pool_init. Decides from the mark what this process is (a mark with another process's pid counts for
 * nothing), removes the mark from the environment, makes the fixed fds close-on-exec again, ends the process at once if
 * the lifeline is already cut, raises oom_score_adj. Under AT_SECURE the environment is whoever's started the program:
 * where its mark is right, which may be since the executable is a set-user-ID file, the process ends at once, and it is
 * CHILD_NONE otherwise. */
enum child_role child_adopt(void);

/* Whether this process was started as a child and child_adopt has not run yet: code before main must not start
 * workers. */
bool child_is_unborn(void);

/* The same finishing touch for a child made by fork alone (no mark), after child_enter: name, oom_score_adj, and a
 * guard that makes exit() flush stdout and stderr and end the process without the exit handlers it inherited. (Under
 * musl, which does not tell handlers the status, such an exit has status 1.) Called by backends. */
void child_settle(void);

/* In a process of which nothing but workers is copied, before the first: what child_settle does, and the dispositions
 * and standard streams of child_enter, for all of them. Nobody may change these things afterwards. 0 or a negative
 * errno. */
int child_settle_copies(void);

/* The name that ps and top show. */
void child_name(const char *name);
void child_name_worker(unsigned worker_id);

/* Exec this process's own program in place, with the same pid and the fixed fds: a fresh image in the state that
 * the first one was given (environment, interval timers, signal mask and dispositions, rlimits, umask, nice value, CPU
 * affinity, working directory). child_remember saves, before any user code runs, what child_restart restores. It also
 * closes every other fd, puts stdout and stderr back and collects zombies. What nothing can take back stays: session,
 * ids, capabilities, namespaces, seccomp. child_restart returns only on failure, a negative errno: the process is half
 * way then, signals blocked and fds closed, and must end. */
int child_remember(void);
int child_restart(void);

/* How a child died. known: false when nobody can tell any more (the host program took the status). */
struct child_exit {
    bool known;
    int signal;    /* 0: exited */
    int exit_code; /* -1 when killed by a signal or unknown */
};

#endif
