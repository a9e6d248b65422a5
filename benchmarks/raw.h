/* raw: processes and pipes with nothing around them, which is what the library is compared with.
 *
 * Two kinds. A *link* is one forked child with a pipe each way that runs a given function: for throughput and round
 * trips, where it does not matter how the child came about. A *crew* is processes started by the means of a given start
 * method: for the cost of starting. It waits for any child of this process, so no pool may live beside it. */
#ifndef PROCPOOL_RAW_H
#define PROCPOOL_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* All of size bytes; false at end of file. */
bool raw_read(int fd, void *data, size_t size);
void raw_write(int fd, const void *data, size_t size);
/* The same without sleeping for the first spin_ns: it tries again and again instead, then sleeps as long as it takes.
 * raw_spin prepares fd for it; with 0 it is raw_read, and fd stays as it was. */
void raw_spin(int fd, uint64_t spin_ns);
bool raw_read_spinning(int fd, void *data, size_t size, uint64_t spin_ns);

/* ---- links ------------------------------------------------------------------------------------------------- */

struct raw_link {
    pid_t pid;
    int to, from;
};

typedef void raw_child_fn(int in, int out, const void *arg);

/* Fork a child that runs fn and ends. pipe_bytes: capacity to ask for, 0: the default. The capacity is had in full or
 * as far as the system's limit for users goes; returns what it is. */
size_t raw_link_start(struct raw_link *link, size_t pipe_bytes, raw_child_fn *fn, const void *arg);
void raw_link_stop(struct raw_link *link);

/* ---- crews ------------------------------------------------------------------------------------------------- */

enum raw_method {
    RAW_FORK,       /* fork */
    RAW_SPAWN,      /* posix_spawn of this executable */
    RAW_FORKSERVER, /* fork in a process that was started by posix_spawn of this executable */
};

enum { RAW_MAX_WORKERS = 16 };

struct raw_crew {
    enum raw_method method;
    unsigned count;
    pid_t server; /* RAW_FORKSERVER; it is started by raw_crew_open */
    struct raw_seat {
        int order[2], reply[2]; /* pipes of one worker, and of whoever takes its place */
    } seats[RAW_MAX_WORKERS];
    int demand[2]; /* RAW_FORKSERVER: a byte for each worker to start */
};

/* What a worker says when it is asked. */
struct raw_hello {
    uint64_t asked_ns; /* when it read the question */
    pid_t pid;
    int reserved;
};

/* For the second statement of main: a process that was started by a crew does not return from here. */
void raw_main(int argc, char **argv);

void raw_crew_open(struct raw_crew *crew, const char *backend, unsigned count);
/* Start a worker in each seat. */
void raw_crew_start(struct raw_crew *crew);
/* Ask each worker, and wait for what they say. */
void raw_crew_ask(struct raw_crew *crew, struct raw_hello *hellos_out);
/* Have the worker of the first seat kill itself, and wait for its end by the event of a pidfd. */
void raw_crew_kill(struct raw_crew *crew, pid_t pid);
/* Let the workers end and wait for all of them. */
void raw_crew_close(struct raw_crew *crew);

#endif
