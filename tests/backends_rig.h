/* backends_rig: what the tests of start methods share: a worker that knows a handful of commands and a preload that
 * does what its bytes say (backends_worker.c), and what drives a start method through its contract (backends_rig.c).
 *
 * The worker reads commands of COMMAND_BYTES from CHILD_IN_FD and answers each with REPLY_BYTES of text on
 * CHILD_OUT_FD. */
#ifndef BACKENDS_RIG_H
#define BACKENDS_RIG_H

#include "backend.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { COMMAND_BYTES = 64, REPLY_BYTES = 1024, DEADLINE_MS = 60000, MESSAGE_BYTES = 256, FULL_HOUSE = 16 };

/* ---- backends_worker.c ---- */

/* The sum of everything, so that "exactly the same" can be told in a few bytes. */
unsigned long sum_environment(void);
void list_fds(char *text);
void ignore_signal(int signal);

extern bool prepared; /* by the process that this one was copied from */

void take_statuses(int signal);

/* Registered where copies are made of; they must not run it. */
void inherited_handler(void);

extern const struct backend_hooks hooks;

/* ---- backends_rig.c ---- */

struct rig {
    const struct backend *backend;
    void *state;
};

extern char message[MESSAGE_BYTES];
struct rig open_rig_with(const struct backend *backend, const char *preload);
struct rig open_rig(void **prestate);
void close_rig(struct rig *rig);

extern const struct backend_greeting no_greeting; /* these workers expect none */

void start_child(struct rig *rig, struct backend_child *child);
void command(struct backend_child *child, const char *text);

/* False: the worker has gone without an answer. */
bool try_answer(struct backend_child *child, char *text);
const char *ask(struct backend_child *child, const char *text);

/* Until it has ended. */
struct child_exit await_end(struct rig *rig, struct backend_child *child);

/* Until the pid is known (or it has ended). */
void await_pid(struct rig *rig, struct backend_child *child);
void dismiss(struct rig *rig, struct backend_child *child);
void count_fds(char *text);
bool is(void **prestate, const char *name);
bool under_valgrind(void);
pid_t server_of(struct backend_child *child);

/* What this process and those that it starts write to stdout meanwhile; less than a pipe holds. */
struct capture {
    int read_fd, stdout_fd;
};

struct capture begin_capture(void);
void end_capture(struct capture *capture, char *text_out, size_t size);

int pidfd_of(pid_t pid);

/* In every main: be the worker or the server that this process was started as, or return. */
void be_what_this_was_started_as(void);

/* A case that holds for every start method: *prestate is the backend. */
struct backend_case {
    const char *name;
    void (*run)(void **prestate);
};

#define CASE(function)                                                                                                 \
    {                                                                                                                  \
#function, function                                                                                            \
    }

/* How many failed, at each entry of backend_table. */
int run_for_all(const struct backend_case *cases, size_t count);

#endif
