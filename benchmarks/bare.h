/* bare: the least that a pool must do to have its workers begin: a limit beside that of bare processes.
 *
 * A bare pool keeps the promises of a pool and has nothing else of one. Each worker has pipes for requests and replies,
 * a socket for fds, a lifeline and a pidfd, and the pool waits for all of them with one epoll; a write to a dead one
 * raises no SIGPIPE. A worker resets its signals, keeps no fd but its own, reads /dev/null as stdin, arms its lifeline,
 * asks to be killed before its parent when memory runs out, and says hello; only then is it given something to do. With
 * `forkserver` all workers of one start are asked for with one message and reported with one. No frames, no queue, no
 * errors, no threads. */
#ifndef PROCPOOL_BARE_H
#define PROCPOOL_BARE_H

#include "raw.h"

enum { BARE_FDS = 4 }; /* of a worker: requests, replies, lifeline, socket */

struct bare_pool {
    bool is_served; /* by a server; else the workers are forked */
    unsigned count;
    int epoll;
    int control; /* to the server */
    pid_t server;
    struct bare_seat {
        int ends[BARE_FDS]; /* the pool's, of the worker that is there */
        int request_end;    /* the worker's, so that writing to one that is dead raises no SIGPIPE */
        int pidfd;
        bool greeted;
    } seats[RAW_MAX_WORKERS];
};

/* For the third statement of main: the server of a bare pool, and its workers, do not return from here. */
void bare_main(int argc, char **argv);

/* As with a crew (see raw.h); backend is fork or forkserver. */
void bare_open(struct bare_pool *pool, const char *backend, unsigned count);
void bare_start(struct bare_pool *pool);
/* Give each worker something to do once it has said hello, and wait for what they say. */
void bare_ask(struct bare_pool *pool, struct raw_hello *hellos_out);
/* Have the worker of the first seat kill itself, wait for its end, and clear the seat. */
void bare_kill(struct bare_pool *pool);
void bare_close(struct bare_pool *pool);

#endif
