/* forkserver: workers are copies of a small server, which is this executable started afresh.
 *
 * This is the pool's side; the server's is forkserver_serve.c, and forkserver.h is what passes between them.
 *
 * Nothing here waits for the server, which may be busy with its preload, stopped or dead. A server that died is
 * replaced when the next worker is wanted. One that leaves a worker unstarted until the pool gives up on it (a second
 * SIGKILL) is taken for stuck and killed. Workers outlive their server: their lifelines are the pool's, and what there
 * is to know of them then is known by pidfd. */
#include "forkserver.h"
#include "buf.h"
#include "fd.h"
#include "local.h"
#include "lost.h"
#include "memory.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* ---- the server -------------------------------------------------------------------------------------------------- */

struct server {
    unsigned number; /* from 1 */
    struct local_process process;
    int control_fd;
    int lifeline_fd;
};

#define NO_SERVER                                                                                                      \
    {                                                                                                                  \
        .process = {.pidfd = -1}, .control_fd = -1, .lifeline_fd = -1                                                  \
    }

struct forkserver {
    struct local_image image;
    int setup_fd; /* a memfd with the preload's bytes */
    unsigned server_count;
    struct server server;
    struct server leaving;      /* one that takes no more requests and is about to end */
    struct child_exit last_end; /* of the last server that ended; .known false: none did, or nobody can tell */
};

static void server_end(struct server *server)
{
    fd_close(&server->control_fd);
    fd_close(&server->lifeline_fd); /* which kills it where this process, another user's by now, may not */
    local_end(&server->process);
}

static int server_start(struct forkserver *forkserver)
{
    struct server server = NO_SERVER;
    server.number = ++forkserver->server_count;
    int control[2] = {-1, -1}, lifeline[2] = {-1, -1};
    int error = fd_socketpair(control);
    if (!error)
        error = local_make_lifeline(lifeline);
    if (!error)
        error = fd_set_nonblocking(control[0]);
    if (!error) {
        const int fds[CHILD_FD_COUNT] = {control[1], forkserver->setup_fd, lifeline[0], -1};
        error = local_exec(&forkserver->image, CHILD_SERVER, fds, &server.process);
    }
    fd_close(&control[1]);
    fd_close(&lifeline[0]);
    server.control_fd = control[0];
    server.lifeline_fd = lifeline[1];
    if (error)
        server_end(&server);
    else
        forkserver->server = server;
    return error;
}

/* Take note of the server's end, if it has ended. */
static void server_check(struct forkserver *forkserver)
{
    struct server *server = &forkserver->server;
    if (server->process.pidfd < 0 || local_collect(server->process.pidfd, &forkserver->last_end) == BACKEND_RUNNING)
        return;
    fd_close(&server->process.pidfd);
    server->process.pid = 0;
    server_end(server);
}

/* It takes no more requests. If that is since its preload failed it may still be answering those it has: so it is left
 * alone, and keeps its lifeline, until it has ended or the next one comes to this. */
static void server_dismiss(struct forkserver *forkserver)
{
    server_end(&forkserver->leaving);
    forkserver->leaving = forkserver->server;
    fd_close(&forkserver->leaving.control_fd);
    forkserver->server = (struct server)NO_SERVER;
}

static int server_request(struct forkserver *forkserver, const int fds[FORKSERVER_REQUEST_FDS])
{
    server_check(forkserver);
    int error = forkserver->server.process.pidfd < 0 ? server_start(forkserver) : 0;
    return error ? error : fd_send(forkserver->server.control_fd, "", 1, fds, FORKSERVER_REQUEST_FDS);
}

static bool has_gone(int error)
{
    return error == -EPIPE || error == -ECONNRESET;
}

/* ETOOMANYREFS: too many fds of this user are under way in sockets, which passes as the server takes them. */
static int server_ask(struct forkserver *forkserver, const int fds[FORKSERVER_REQUEST_FDS])
{
    int error = server_request(forkserver, fds);
    if (has_gone(error)) {
        server_dismiss(forkserver);
        error = server_request(forkserver, fds);
    }
    if (has_gone(error))
        return 0; /* a fresh one, at once: like any server's death, the exit socket's end will tell it */
    return error == -EAGAIN || error == -ETOOMANYREFS || error == -ENOBUFS ? BACKEND_BUSY : error;
}

/* ---- open, start, kill ------------------------------------------------------------------------------------------- */

enum { MEMFD_NOEXEC_SEAL = 8 }; /* Linux 6.3 asks for it, headers lack it */

static int make_setup(const struct backend_setup *setup, int *fd_out)
{
    int refused = memory_check_limit(setup->preload_size);
    if (refused)
        return refused;
    int fd = fd_take_above_stdio(memfd_create("procpool-setup", MFD_CLOEXEC | MEMFD_NOEXEC_SEAL));
    if (fd == -EINVAL)
        fd = fd_take_above_stdio(memfd_create("procpool-setup", MFD_CLOEXEC));
    if (fd < 0)
        return fd;
    *fd_out = fd;
    return fd_write_all(fd, setup->preload, setup->preload_size);
}

static int forkserver_open(const struct backend_setup *setup, void **state_out, char *message)
{
    (void)message;
    struct forkserver *forkserver = malloc(sizeof *forkserver);
    if (!forkserver)
        return -ENOMEM;
    *forkserver =
        (struct forkserver){.image = LOCAL_NO_IMAGE, .setup_fd = -1, .server = NO_SERVER, .leaving = NO_SERVER};
    *state_out = forkserver;
    int error = local_image_init(&forkserver->image);
    if (!error)
        error = make_setup(setup, &forkserver->setup_fd);
    return error ? error : server_start(forkserver); /* now, so that its preload has a start on the first worker */
}

/* The child's pidfd arrives later; its place in the fd table is held from the beginning, by some other fd, so that it
 * is start that fails when the table is full. */
static int hold_pidfd_place(struct backend_child *child)
{
    child->pidfd = fd_dup(child->exit_fd);
    return child->pidfd < 0 ? child->pidfd : 0;
}

static int make_exit_socket(struct backend_child *child, int *server_end_out)
{
    int ends[2];
    int error = fd_socketpair(ends);
    if (error)
        return error;
    child->exit_fd = ends[0];
    *server_end_out = ends[1];
    error = fd_set_nonblocking(child->exit_fd);
    return error ? error : hold_pidfd_place(child);
}

static int forkserver_start(void *state, const struct backend_greeting *greeting, struct backend_child *child_out,
                            char *message)
{
    (void)message;
    struct backend_child child = BACKEND_NO_CHILD;
    int fds[FORKSERVER_REQUEST_FDS] = FORKSERVER_NO_FDS;
    int result = local_make_channels(&child, greeting, fds + FORKSERVER_REQUEST_WORKER);
    if (!result)
        result = make_exit_socket(&child, &fds[FORKSERVER_REQUEST_EXIT]);
    if (!result)
        result = server_ask(state, fds);
    local_release_worker_fds(&child, fds + FORKSERVER_REQUEST_WORKER);
    fd_close(&fds[FORKSERVER_REQUEST_EXIT]);
    child.server = ((struct forkserver *)state)->server.number;
    if (result)
        backend_drop_child(&child);
    else
        *child_out = child;
    return result;
}

/* There may never be a process to kill, and nobody may ever say so: the caller learns of the end by our own hand. */
static void give_up(struct forkserver *forkserver, struct backend_child *child)
{
    struct server *server = &forkserver->server;
    shutdown(child->exit_fd, SHUT_RDWR);
    if (server->process.pidfd < 0 || server->number != child->server)
        return;
    local_kill(server->process, SIGKILL);
    fd_close(&server->lifeline_fd);
    server_dismiss(forkserver);
}

/* It is dead and its server does not say so, being stopped perhaps: reap goes on by the pidfd. */
static void bypass_server(struct backend_child *child)
{
    if (child->exit_fd != child->pidfd && fd_poll(child->pidfd, POLLIN, 0))
        shutdown(child->exit_fd, SHUT_RDWR);
}

/* Its pidfd was lost on its way through a full fd table: what is left is the lifeline, which kills, and the server's
 * word. */
static int kill_blindly(struct backend_child *child, int signal)
{
    if (signal != SIGKILL)
        return 0;
    if (child->lifeline_fd < 0)
        shutdown(child->exit_fd, SHUT_RDWR);
    fd_close(&child->lifeline_fd);
    return 0;
}

static int kill_started(void *state, struct backend_child *child, int signal)
{
    if (child->pidfd < 0)
        return kill_blindly(child, signal);
    if (signal == SIGKILL && child->pending_signal == SIGKILL)
        bypass_server(child);
    if (signal == SIGKILL)
        child->pending_signal = SIGKILL;
    return local_kill_child(state, child, signal);
}

static int forkserver_kill(void *state, struct backend_child *child, int signal)
{
    if (child->pid)
        return kill_started(state, child, signal);
    bool again = child->pending_signal == SIGKILL;
    if (!again)
        child->pending_signal = signal; /* a server that is merely slow starts it, and then it is sent */
    else if (signal == SIGKILL)
        give_up(state, child);
    return 0;
}

/* ---- reap: a worker's story -------------------------------------------------------------------------------------- */

static int finish(struct backend_child *child)
{
    backend_close_exit(child);
    return 0;
}

static int note_started(struct backend_child *child, struct buf_reader *report, int pidfd)
{
    child->pid = (pid_t)buf_read_u32(report);
    child->pidfd = pidfd;
    if (child->pending_signal)
        kill_started(NULL, child, child->pending_signal);
    return BACKEND_RUNNING;
}

static int note_ended(struct backend_child *child, struct buf_reader *report, struct child_exit *exit_out)
{
    exit_out->known = buf_read_u8(report);
    exit_out->signal = buf_read_u8(report);
    exit_out->exit_code = (int)buf_read_u32(report);
    return finish(child);
}

static int note_refused(struct backend_child *child, const struct buf_reader *report, char *message)
{
    snprintf(message, BACKEND_TEXT_BYTES, "%.*s", (int)(report->end - report->at), (const char *)report->at);
    return finish(child);
}

/* A dying process closes its sockets some microseconds before it can be waited for. */
enum { DYING_MS = 2 };

static void describe_death(struct forkserver *forkserver, char *message)
{
    const struct child_exit *end = &forkserver->last_end;
    if (forkserver->server.process.pidfd >= 0)
        fd_poll(forkserver->server.process.pidfd, POLLIN, DYING_MS);
    server_check(forkserver);
    int length = snprintf(message, BACKEND_TEXT_BYTES, "the forkserver died before it had started this worker");
    if (end->known && end->signal)
        snprintf(message + length, BACKEND_TEXT_BYTES - (size_t)length, " (signal %d)", end->signal);
    else if (end->known)
        snprintf(message + length, BACKEND_TEXT_BYTES - (size_t)length,
                 " (exit code %d; is pool_init() the first statement of main?)", end->exit_code);
}

/* The server is gone. What is left of the story is told by the worker's pidfd, if we have it. */
static int note_orphaned(struct forkserver *forkserver, struct backend_child *child, char *message)
{
    if (!child->pid && child->pending_signal == SIGKILL)
        snprintf(message, BACKEND_TEXT_BYTES, "killed before the forkserver had started this worker");
    else if (!child->pid)
        describe_death(forkserver, message);
    if (!child->pid || child->pidfd < 0)
        return finish(child);
    fd_close(&child->exit_fd);
    child->exit_fd = child->pidfd;
    return BACKEND_MOVED;
}

/* One report. BACKEND_RUNNING: the story goes on. */
static int read_report(struct forkserver *forkserver, struct backend_child *child, struct child_exit *exit_out,
                       char *message)
{
    uint8_t bytes[FORKSERVER_REPORT_BYTES];
    int pidfd = -1;
    size_t fd_count = 1;
    if (!child->pid)
        fd_close(&child->pidfd); /* make room for the real one */
    ssize_t size = fd_receive(child->exit_fd, bytes, sizeof bytes, &pidfd, &fd_count);
    struct buf_reader report = buf_reader(bytes, size > 0 ? (size_t)size : 0);
    switch (buf_read_u8(&report)) {
    case FORKSERVER_STARTED:
        return note_started(child, &report, pidfd);
    case FORKSERVER_ENDED:
        return note_ended(child, &report, exit_out);
    case FORKSERVER_REFUSED:
        return note_refused(child, &report, message);
    default:
        return note_orphaned(forkserver, child, message);
    }
}

static int forkserver_reap(void *state, struct backend_child *child, struct child_exit *exit_out, char *message)
{
    if (child->exit_fd == child->pidfd)
        return local_reap_child(state, child, exit_out, message);
    struct child_exit how = {.exit_code = -1};
    message[0] = 0;
    if (!fd_poll(child->exit_fd, POLLIN, 0))
        return BACKEND_RUNNING;
    int result = read_report(state, child, &how, message);
    if (!result)
        *exit_out = how;
    return result;
}

static void forkserver_abandon(void *state)
{
    struct forkserver *forkserver = state;
    struct server *servers[] = {&forkserver->server, &forkserver->leaving};
    for (size_t i = 0; i < 2; i++) {
        fd_close(&servers[i]->control_fd);
        fd_close(&servers[i]->lifeline_fd);
        fd_close(&servers[i]->process.pidfd);
    }
    fd_close(&forkserver->setup_fd);
    local_image_close_fds(&forkserver->image);
}

/* What has become of them is waited for in server_end. */
static void server_lose(struct server *server)
{
    lost_end(server->process.pid, &server->lifeline_fd);
    server->control_fd = server->process.pidfd = -1;
}

static void forkserver_lose(void *state)
{
    struct forkserver *forkserver = state;
    server_lose(&forkserver->server);
    server_lose(&forkserver->leaving);
    forkserver->setup_fd = -1;
    local_image_lose(&forkserver->image);
}

static void forkserver_close(void *state)
{
    struct forkserver *forkserver = state;
    if (!forkserver)
        return;
    server_end(&forkserver->server);
    server_end(&forkserver->leaving);
    fd_close(&forkserver->setup_fd);
    local_image_clear(&forkserver->image);
    free(forkserver);
}

const struct backend backend_forkserver = {
    .name = "forkserver",
    .capabilities = BACKEND_NEEDS_INIT | BACKEND_PRELOADS,
    .open = forkserver_open,
    .start = forkserver_start,
    .kill = forkserver_kill,
    .reap = forkserver_reap,
    .close = forkserver_close,
    .abandon = forkserver_abandon,
    .lose = forkserver_lose,
    .serve = forkserver_serve,
};
