/* forkserver: workers are copies of a small server, which is this executable started afresh.
 *
 * The server runs the preload once; every worker shares what it made, copy-on-write. Having one thread, it may fork
 * whatever the calling program's threads do, and its size is not that program's.
 *
 * Two kinds of socket, both SOCK_SEQPACKET. The control socket carries one message per worker to be started: a byte, and four
 * fds, namely the server's end of that worker's exit socket and the worker's own three. All the server has to say goes
 * through exit sockets, one per worker, so that a worker's story can be read without looking anybody up: first STARTED with
 * pid and pidfd, then ENDED with the status; or REFUSED with a text. An exit socket that ends without a status means that the
 * server died. Its workers live on: their lifelines are the pool's, and what there is to know of them is known by pidfd.
 *
 * The pool's process never waits for the server, which may be busy with its preload, stopped or dead. A server that died is
 * replaced when the next worker is wanted; one that leaves a worker unstarted until the pool gives up on it (SIGKILL) is
 * taken for stuck and killed. */
#include "buf.h"
#include "fd.h"
#include "local.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { STARTED = 1, ENDED = 2, REFUSED = 3 };

enum { TEXT_BYTES = 256, REPORT_BYTES = 1 + 4 + TEXT_BYTES };

/* The fds of a request. The exit socket comes first: when the server's table is full the kernel drops the last ones, and
 * the refusal still finds its way. */
enum { REQUEST_EXIT, REQUEST_WORKER, REQUEST_FDS = REQUEST_WORKER + CHILD_FD_COUNT };

/* ---- the pool's side: the server --------------------------------------------------------------------------------- */

struct server {
    unsigned number; /* from 1 */
    struct local_process process;
    int control_fd;
    int lifeline_fd;
};

#define NO_SERVER                                                                                            \
    {                                                                                                        \
        .process = {.pidfd = -1}, .control_fd = -1, .lifeline_fd = -1                                        \
    }

struct forkserver {
    struct local_image image;
    int setup_fd; /* a memfd with the preload's bytes */
    unsigned server_count;
    struct server server;
    struct server leaving;      /* one that takes no more requests and is about to end */
    struct child_exit last_end; /* of the last server that ended; .known 0: none did, or nobody can tell */
};

static void server_end(struct server *server)
{
    fd_close(&server->control_fd);
    local_end(&server->process);
    fd_close(&server->lifeline_fd);
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
        const int fds[CHILD_FD_COUNT] = {control[1], forkserver->setup_fd, lifeline[0]};
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
    if (server->process.pidfd < 0 ||
        local_collect(server->process.pidfd, &forkserver->last_end) == BACKEND_RUNNING)
        return;
    fd_close(&server->process.pidfd);
    server_end(server);
}

/* It takes no more requests. If that is since its preload failed it may still be answering those it has: so it is left alone,
 * and keeps its lifeline, until it has ended or the next one comes to this. */
static void server_dismiss(struct forkserver *forkserver)
{
    server_end(&forkserver->leaving);
    forkserver->leaving = forkserver->server;
    fd_close(&forkserver->leaving.control_fd);
    forkserver->server = (struct server)NO_SERVER;
}

static int server_request(struct forkserver *forkserver, const int fds[REQUEST_FDS])
{
    server_check(forkserver);
    int error = forkserver->server.process.pidfd < 0 ? server_start(forkserver) : 0;
    return error ? error : fd_send(forkserver->server.control_fd, "", 1, fds, REQUEST_FDS);
}

/* ETOOMANYREFS: too many fds of this user are under way in sockets, which passes as the server takes them. */
static int server_ask(struct forkserver *forkserver, const int fds[REQUEST_FDS])
{
    int error = server_request(forkserver, fds);
    if (error == -EPIPE || error == -ECONNRESET) {
        server_dismiss(forkserver);
        error = server_request(forkserver, fds);
    }
    return error == -EAGAIN || error == -ETOOMANYREFS || error == -ENOBUFS ? BACKEND_BUSY : error;
}

/* ---- the pool's side: operations --------------------------------------------------------------------------------- */

enum { MEMFD_NOEXEC_SEAL = 8 }; /* Linux 6.3 asks for it, headers lack it */

static int write_all(int fd, const char *bytes, size_t size)
{
    while (size) {
        ssize_t count = fd_write(fd, bytes, size);
        if (count < 0)
            return (int)count;
        bytes += count;
        size -= (size_t)count;
    }
    return 0;
}

static int make_setup(const struct backend_setup *setup, int *fd_out)
{
    int fd = fd_take_above_stdio(memfd_create("procpool-setup", MFD_CLOEXEC | MEMFD_NOEXEC_SEAL));
    if (fd == -EINVAL)
        fd = fd_take_above_stdio(memfd_create("procpool-setup", MFD_CLOEXEC));
    if (fd < 0)
        return fd;
    *fd_out = fd;
    return write_all(fd, setup->preload, setup->preload_size);
}

static int forkserver_open(const struct backend_setup *setup, void **state_out, char *message)
{
    (void)message;
    struct forkserver *forkserver = malloc(sizeof *forkserver);
    if (!forkserver)
        return -ENOMEM;
    *forkserver = (struct forkserver){
        .image = LOCAL_NO_IMAGE, .setup_fd = -1, .server = NO_SERVER, .leaving = NO_SERVER};
    *state_out = forkserver;
    int error = local_image_init(&forkserver->image);
    if (!error)
        error = make_setup(setup, &forkserver->setup_fd);
    return error ? error
                 : server_start(forkserver); /* now, so that its preload has a start on the first worker */
}

/* The child's pidfd arrives later; its place in the fd table is held from the beginning, by some other fd, so that it is start
 * that fails when the table is full. */
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

static int forkserver_start(void *state, struct backend_child *child_out, char *message)
{
    (void)message;
    struct backend_child child = LOCAL_NO_CHILD;
    int fds[REQUEST_FDS] = {-1, -1, -1, -1};
    int result = local_make_pipes(&child, fds + REQUEST_WORKER);
    if (!result)
        result = make_exit_socket(&child, &fds[REQUEST_EXIT]);
    if (!result)
        result = server_ask(state, fds);
    local_close_fds(fds, REQUEST_FDS);
    child.server = ((struct forkserver *)state)->server.number;
    if (result)
        local_drop_child(&child);
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
    server_dismiss(forkserver);
}

static int forkserver_kill(void *state, struct backend_child *child, int signal)
{
    if (child->pid)
        return local_kill_child(state, child, signal);
    if (child->pending_signal != SIGKILL)
        child->pending_signal = signal;
    if (signal == SIGKILL)
        give_up(state, child);
    return 0;
}

/* ---- the pool's side: a worker's story --------------------------------------------------------------------------- */

static int finish(struct backend_child *child)
{
    fd_close(&child->exit_fd);
    fd_close(&child->pidfd);
    return 0;
}

static int note_started(struct backend_child *child, struct buf_reader *report, int pidfd)
{
    child->pid = (pid_t)buf_read_u32(report);
    child->pidfd = pidfd;
    if (child->pending_signal)
        local_kill_child(NULL, child, child->pending_signal);
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
    snprintf(message, TEXT_BYTES, "%.*s", (int)(report->end - report->at), (const char *)report->at);
    return finish(child);
}

/* A dying process closes its sockets some microseconds before it can be waited for. */
enum { DYING_MS = 2 };

static void describe_death(struct forkserver *forkserver, const struct backend_child *child, char *message)
{
    const struct child_exit *end = &forkserver->last_end;
    if (child->pending_signal == SIGKILL) {
        snprintf(message, TEXT_BYTES, "killed before the forkserver had started this worker");
        return;
    }
    if (forkserver->server.process.pidfd >= 0)
        fd_poll(forkserver->server.process.pidfd, POLLIN, DYING_MS);
    server_check(forkserver);
    int length = snprintf(message, TEXT_BYTES, "the forkserver died before it had started this worker");
    if (end->known && end->signal)
        snprintf(message + length, TEXT_BYTES - (size_t)length, " (signal %d)", end->signal);
    else if (end->known)
        snprintf(message + length, TEXT_BYTES - (size_t)length, " (exit code %d)", end->exit_code);
}

/* The server is gone. What is left of the story is told by the worker's pidfd, if we have it. */
static int note_orphaned(struct forkserver *forkserver, struct backend_child *child, char *message)
{
    if (!child->pid)
        describe_death(forkserver, child, message);
    if (!child->pid || child->pidfd < 0)
        return finish(child);
    fd_close(&child->exit_fd);
    child->exit_fd = child->pidfd;
    return BACKEND_MOVED;
}

/* One report. BACKEND_RUNNING: the story goes on. */
static int read_report(struct forkserver *forkserver, struct backend_child *child,
                       struct child_exit *exit_out, char *message)
{
    uint8_t bytes[REPORT_BYTES];
    int pidfd = -1;
    size_t fd_count = 1;
    if (!child->pid)
        fd_close(&child->pidfd); /* make room for the real one */
    ssize_t size = fd_receive(child->exit_fd, bytes, sizeof bytes, &pidfd, &fd_count);
    struct buf_reader report = buf_reader(bytes, size > 0 ? (size_t)size : 0);
    switch (buf_read_u8(&report)) {
    case STARTED:
        return note_started(child, &report, pidfd);
    case ENDED:
        return note_ended(child, &report, exit_out);
    case REFUSED:
        return note_refused(child, &report, message);
    default:
        return note_orphaned(forkserver, child, message);
    }
}

static int forkserver_reap(void *state, struct backend_child *child, struct child_exit *exit_out,
                           char *message)
{
    if (child->exit_fd == child->pidfd)
        return local_reap_child(state, child, exit_out, message);
    struct child_exit how = {.exit_code = -1};
    int result = BACKEND_RUNNING;
    message[0] = 0;
    while (result == BACKEND_RUNNING && fd_poll(child->exit_fd, POLLIN, 0))
        result = read_report(state, child, &how, message);
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
    fd_close(&forkserver->image.exe_fd);
    fd_close(&forkserver->image.cwd_fd);
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

/* ---- the server's side: preload ---------------------------------------------------------------------------------- */

/* What a directory of subdirectories has as link count is 2 plus their number, and these are the threads. */
static long count_threads(void)
{
    struct stat tasks;
    return stat("/proc/self/task", &tasks) ? 0 : (long)tasks.st_nlink - 2;
}

enum { THREAD_EXIT_TRIES = 200 };

/* How many threads there are above `before`. One that was joined lingers for a moment. */
static long count_new_threads(long before)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    long count = count_threads() - before;
    for (int i = 0; count > 0 && i < THREAD_EXIT_TRIES; i++) {
        nanosleep(&pause, NULL);
        count = count_threads() - before;
    }
    return count;
}

static int call_preload(const struct backend_hooks *hooks, char *text_out)
{
    struct stat setup;
    char said[TEXT_BYTES] = "";
    if (fstat(CHILD_OUT_FD, &setup) || !setup.st_size)
        return 0;
    size_t size = (size_t)setup.st_size;
    void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, CHILD_OUT_FD, 0);
    if (bytes == MAP_FAILED) {
        snprintf(text_out, TEXT_BYTES, "preload failed: no memory for its argument");
        return -ENOMEM;
    }
    int code = hooks->run_preload(bytes, size, said, sizeof said);
    munmap(bytes, size);
    if (code)
        snprintf(text_out, TEXT_BYTES, "preload failed with code %d%s%.200s", code, *said ? ": " : "", said);
    return code;
}

/* Once, so that no worker writes it again; what cannot be written now is dropped for the same reason. */
static void flush_output(FILE *stream)
{
    fflush(stream);
    __fpurge(stream);
}

static int preload(const struct backend_hooks *hooks, char *text_out)
{
    /* Threads that are there already are none of the preload's: a library's constructor, or a sanitizer, made them. */
    long threads_before = count_threads() + local_under_thread_sanitizer();
    int error = call_preload(hooks, text_out);
    flush_output(stdout);
    flush_output(stderr);
    if (error)
        return error;
    long left = count_new_threads(threads_before);
    if (left > 0)
        snprintf(text_out, TEXT_BYTES,
                 "preload left %ld thread%s running, which no copy of the server would have", left,
                 left > 1 ? "s" : "");
    return left > 0 ? -EBUSY : 0;
}

/* ---- the server's side: workers ---------------------------------------------------------------------------------- */

struct worker {
    struct local_process process;
    int exit_fd;
};

/* Whether this is the server: what forks without exec from here on is not. */
static bool serving;

/* A process that the preload left behind would keep the server's sockets open after its end. */
static void leave_server(void)
{
    if (!serving)
        return;
    serving = false;
    for (int fd = CHILD_IN_FD; fd <= CHILD_LIFELINE_FD; fd++) {
        int own = fd;
        fd_close(&own);
    }
}

static void report_refused(int exit_fd, const char *text)
{
    uint8_t bytes[REPORT_BYTES];
    struct buf_writer report = buf_writer(bytes, sizeof bytes);
    buf_write_u8(&report, REFUSED);
    buf_write_bytes(&report, text, strlen(text));
    fd_send(exit_fd, bytes, buf_written(&report), NULL, 0);
}

static void report_started(const struct worker *worker)
{
    uint8_t bytes[REPORT_BYTES];
    struct buf_writer report = buf_writer(bytes, sizeof bytes);
    buf_write_u8(&report, STARTED);
    buf_write_u32(&report, (uint32_t)worker->process.pid);
    fd_send(worker->exit_fd, bytes, buf_written(&report), &worker->process.pidfd, 1);
}

static void report_ended(const struct worker *worker, const struct child_exit *how)
{
    uint8_t bytes[REPORT_BYTES];
    struct buf_writer report = buf_writer(bytes, sizeof bytes);
    buf_write_u8(&report, ENDED);
    buf_write_u8(&report, (uint8_t)how->known);
    buf_write_u8(&report, (uint8_t)how->signal);
    buf_write_u32(&report, (uint32_t)how->exit_code);
    fd_send(worker->exit_fd, bytes, buf_written(&report), NULL, 0);
}

static void worker_destroy(struct worker *worker)
{
    fd_close(&worker->process.pidfd);
    fd_close(&worker->exit_fd);
    free(worker);
}

static int worker_create(const struct backend_hooks *hooks, const int fds[CHILD_FD_COUNT], int epoll_fd,
                         struct worker **worker_out)
{
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return -ENOMEM;
    worker->exit_fd = -1;
    int error = local_fork(fds, -1, hooks, &worker->process);
    if (error) {
        free(worker);
        return error;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = worker};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, worker->process.pidfd, &event)) {
        error = -errno;
        local_end(&worker->process);
        worker_destroy(worker);
        return error;
    }
    *worker_out = worker;
    return 0;
}

static void start_worker(const struct backend_hooks *hooks, int fds[REQUEST_FDS], size_t fd_count,
                         int epoll_fd)
{
    char text[TEXT_BYTES];
    struct worker *worker = NULL;
    int error = -EMFILE;
    if (fd_count == REQUEST_FDS)
        error = worker_create(hooks, fds + REQUEST_WORKER, epoll_fd, &worker);
    if (error) {
        snprintf(text, sizeof text, "the forkserver cannot start a worker: %s", strerror(-error));
        report_refused(fds[REQUEST_EXIT], text);
    } else {
        worker->exit_fd = fds[REQUEST_EXIT];
        fds[REQUEST_EXIT] = -1;
        report_started(worker);
    }
}

static void collect_worker(struct worker *worker, int epoll_fd)
{
    struct child_exit how;
    if (local_collect(worker->process.pidfd, &how) == BACKEND_RUNNING)
        return;
    /* Closing would not take it out of the set: the pool holds the same open file description. */
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, worker->process.pidfd, NULL);
    report_ended(worker, &how);
    worker_destroy(worker);
}

/* ---- the server's side: serving ---------------------------------------------------------------------------------- */

/* Returns the number of fds that came with the next request; 0: there is none now. Ends the process when the pool is gone. */
static size_t receive_request(int fds_out[REQUEST_FDS])
{
    char byte;
    for (;;) {
        size_t fd_count = REQUEST_FDS;
        ssize_t size = fd_receive(CHILD_IN_FD, &byte, 1, fds_out, &fd_count);
        if (size == 0)
            _exit(EXIT_SUCCESS);
        if (size < 0 || fd_count)
            return size < 0 ? 0 : fd_count;
        /* Not even the exit socket had room: its other end tells the pool by ending. */
    }
}

/* Answer every request there is with the text, and end, so that the next worker meets a fresh server. At least one has
 * to come: the text must not be lost. */
static _Noreturn void refuse_and_end(const char *text)
{
    int fds[REQUEST_FDS] = {-1, -1, -1, -1};
    while (receive_request(fds)) {
        report_refused(fds[REQUEST_EXIT], text);
        local_close_fds(fds, REQUEST_FDS);
        shutdown(CHILD_IN_FD, SHUT_RD); /* from now on sending fails; what is queued can still be read */
    }
    _exit(EXIT_FAILURE);
}

static void serve_requests(const struct backend_hooks *hooks, int epoll_fd)
{
    int fds[REQUEST_FDS] = {-1, -1, -1, -1};
    size_t fd_count;
    while ((fd_count = receive_request(fds))) {
        start_worker(hooks, fds, fd_count, epoll_fd);
        local_close_fds(fds, REQUEST_FDS);
    }
}

enum { EVENTS_AT_ONCE = 32 };

static _Noreturn void serve(const struct backend_hooks *hooks, int epoll_fd)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS_AT_ONCE, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                collect_worker(events[i].data.ptr, epoll_fd);
            else
                serve_requests(hooks, epoll_fd);
        }
    }
}

static void forkserver_serve(const struct backend_hooks *hooks)
{
    char text[TEXT_BYTES] = "";
    struct epoll_event requests = {.events = EPOLLIN};
    serving = true;
    pthread_atfork(NULL, NULL, leave_server);
    if (preload(hooks, text))
        refuse_and_end(text);
    signal(SIGCHLD,
           SIG_DFL); /* else a handler of the preload's, or the kernel, takes the workers' statuses */
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, CHILD_IN_FD, &requests))
        refuse_and_end("the forkserver has no fds left after its preload");
    fd_set_nonblocking(CHILD_IN_FD);
    serve(hooks, epoll_fd);
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
    .serve = forkserver_serve,
};
