/* faults: what the three parts of the fault injection share: the system that fails (faults_system.c), the scenarios
 * that run on it (faults_scenarios.c), and the runner that tries every fault at every place (faults.c).
 *
 * A fault is a way in which one call into the system may fail: a function and what it gives instead of success. A plan
 * says which fault is to happen, and when: at the Nth such call of the scenario, or from the Nth on. It lies in memory
 * that runner and host share. In the host it is in force from faults_begin to faults_end; in workers it never is, but
 * for what a started process does between clone and exec, or between fork and its own loop, where there are faults of
 * its own. */
#ifndef FAULTS_H
#define FAULTS_H

#include <procpool.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>

/* ---- faults ---- */

enum fault {
    NO_FAULT,
    /* Groups: any of the calls below that say so. Made for a system that has run out of something for good. */
    FAULT_MEMORY,
    FAULT_FDS,
    FAULT_PROCESSES,
    /* Memory. */
    FAULT_MALLOC,
    FAULT_CALLOC,
    FAULT_REALLOC,
    FAULT_ALIGNED_ALLOC,
    FAULT_STRDUP,
    FAULT_GETLINE,
    FAULT_MMAP,
    FAULT_MREMAP,
    FAULT_EPOLL_CTL,
    FAULT_WRITE_NO_MEMORY,
    FAULT_WRITEV_NO_MEMORY,
    FAULT_SENDMSG_NO_MEMORY,
    /* Places in the table of fds. */
    FAULT_OPEN,
    FAULT_FOPEN,
    FAULT_OPENDIR,
    FAULT_PIPE2,
    FAULT_SOCKETPAIR,
    FAULT_DUP,
    FAULT_EPOLL_CREATE,
    FAULT_TIMERFD_CREATE,
    FAULT_EVENTFD,
    FAULT_MEMFD_CREATE,
    FAULT_FALLOCATE,
    FAULT_PIDFD_OPEN,
    FAULT_RECVMSG_FDS_LOST,
    /* Processes and threads. */
    FAULT_FORK,
    FAULT_CLONE,
    FAULT_PTHREAD_CREATE,
    /* What must not make a difference. */
    FAULT_OPEN_EINTR,
    FAULT_READ_EINTR,
    FAULT_READV_EINTR,
    FAULT_WRITE_EINTR,
    FAULT_WRITEV_EINTR,
    FAULT_SENDMSG_EINTR,
    FAULT_RECVMSG_EINTR,
    FAULT_POLL_EINTR,
    FAULT_EPOLL_WAIT_EINTR,
    FAULT_READ_SHORT,
    FAULT_READV_SHORT,
    FAULT_WRITE_SHORT,
    FAULT_WRITEV_SHORT,
    FAULT_WRITE_FULL,
    FAULT_WRITEV_FULL,
    FAULT_SENDMSG_FULL,
    FAULT_SENDMSG_TOO_MANY_FDS,
    FAULT_PIPE_CAPACITY,
    FAULT_CLOSE_RANGE_UNKNOWN,
    FAULT_PIDFD_SIGNAL_UNKNOWN,
    /* What no kernel should do to a pipe, but a reader that believes it must end all the same. */
    FAULT_READ_EIO,
    FAULT_READV_EIO,
    /* In a process that is being started. */
    FAULT_CHILD_FCNTL,
    FAULT_CHILD_FCHDIR,
    FAULT_CHILD_OPENAT,
    FAULT_CHILD_DUP3,
    FAULT_CHILD_EXECVE,
    FAULT_CHILD_CLOSE_RANGE,
    FAULT_COUNT
};

enum {
    HARMLESS = 1, /* everything must go as if it had not happened */
    LASTS = 2,    /* also tried as one that does not go away */
    IN_CHILD = 4, /* of a process that is being started, not of the host */
    TIRES = 8,    /* harmless, but not for ever: what lasts is felt */
};

struct fault_form {
    const char *name;
    int error;
    enum fault group;
    unsigned traits;
};

extern const struct fault_form fault_forms[FAULT_COUNT];

/* NO_FAULT: no such name. */
enum fault fault_named(const char *name);

/* ---- the plan ---- */

struct fault_plan {
    enum fault fault;
    uint64_t nth; /* counted from 1; 0: only count */
    /* From the Nth call on. Of what is interrupted or cut short: every other, or nothing would ever come through. */
    bool lasting;

    _Atomic uint64_t counts[FAULT_COUNT];
    atomic_bool has_happened;
    _Atomic uintptr_t caller; /* the address it was called from, relative to the executable */
    atomic_int error;         /* what it gave */
};

/* From here on calls are counted, and the plan is in force; until here. Allocations made in between are remembered. */
void faults_begin(struct fault_plan *plan);
void faults_end(void);

/* Around what the scenario itself does: this thread's calls go through, uncounted. */
void faults_pause(void);
void faults_resume(void);

/* Memory that is to be freed by the library: remembered as its own would be, and never refused. */
void *faults_malloc(size_t size);

/* Allocations that are left; the size of one of them, and who made it. */
size_t faults_live_allocations(size_t *size_out, uintptr_t *caller_out);

/* ---- scenarios ---- */

struct scenario {
    const char *name;
    void (*run)(void);
};

extern const struct scenario scenarios[]; /* ended by one without a name */

/* The start method, and the plan that is in force. */
extern const char *start_method;
extern const struct fault_plan *plan;

/* End the host: its scenario went wrong. */
noreturn void scenario_failed(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Wait a moment in a loop that waits for something; it fails the scenario when that never comes. since_ms: from
 * now_ms. */
void be_patient(uint64_t since_ms, const char *what);
uint64_t now_ms(void);

#endif
