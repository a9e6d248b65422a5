/* forkserver: what passes between the pool's process and its forkserver.
 *
 * Both are the same executable, so a change of layout needs no version. Two kinds of socket, all SOCK_SEQPACKET:
 *
 *   control socket  one for the server (its CHILD_IN_FD). One message per worker to be started: a byte that says
 *                   nothing, and FORKSERVER_REQUEST_FDS fds.
 *   exit socket     one per worker, and all that the server has to say of that worker: STARTED with its pid and
 *                   pidfd, then ENDED with how; or REFUSED with a text, and there is no worker. Its end without ENDED
 *                   or REFUSED means that the server is gone. No worker holds one.
 *
 * The preload's bytes are a file, the server's CHILD_OUT_FD; an empty one means that there is no preload. */
#ifndef PROCPOOL_FORKSERVER_H
#define PROCPOOL_FORKSERVER_H

#include "backend.h"

/* The fds of a request: the server's end of the exit socket, and the worker's own. The exit socket comes first: when
 * the server's table is full the kernel drops the last ones, and the refusal still finds its way. */
enum {
    FORKSERVER_REQUEST_EXIT,
    FORKSERVER_REQUEST_WORKER,
    FORKSERVER_REQUEST_FDS = FORKSERVER_REQUEST_WORKER + CHILD_FD_COUNT
};

#define FORKSERVER_NO_FDS                                                                                              \
    {                                                                                                                  \
        -1, -1, -1, -1, -1                                                                                             \
    }

/* A report's first byte, and what follows it (see buf.h). */
enum {
    FORKSERVER_STARTED = 1, /* u32 pid, with the pidfd attached */
    FORKSERVER_ENDED = 2,   /* struct child_exit: u8 known, u8 signal, u32 exit code */
    FORKSERVER_REFUSED = 3, /* text to the end of the message */
};

enum { FORKSERVER_REPORT_BYTES = 1 + BACKEND_TEXT_BYTES };

void forkserver_serve(const struct backend_hooks *hooks);

#endif
