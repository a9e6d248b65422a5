/* forkserver_serve: the forkserver's own process.
 *
 * It runs the preload once, and then forks a worker for every request and reports how each ended. It has one thread and
 * waits in one place; per worker it holds two fds and a few bytes. It ends when the pool's end of the control socket is
 * gone, without a word, and by its lifeline when the pool's process is.
 *
 * What the preload left behind must not hurt: output in buffers, handlers, a SIGCHLD that is ignored, processes that it
 * forked. Threads are refused, since no copy would have them. */
#include "buf.h"
#include "error.h"
#include "fd.h"
#include "forkserver.h"
#include "local.h"
#include <errno.h>
#include <pthread.h>
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

/* ---- preload ---------------------------------------------------------------------------------- */

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
    char said[BACKEND_TEXT_BYTES] = "";
    if (fstat(CHILD_OUT_FD, &setup) || !setup.st_size)
        return 0;
    size_t size = (size_t)setup.st_size;
    void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, CHILD_OUT_FD, 0);
    if (bytes == MAP_FAILED) {
        snprintf(text_out, BACKEND_TEXT_BYTES, "preload failed: no memory for its argument");
        return -ENOMEM;
    }
    int code = hooks->run_preload(bytes, size, said, sizeof said);
    munmap(bytes, size);
    if (code)
        snprintf(text_out, BACKEND_TEXT_BYTES, "preload failed with code %d%s%.200s", code, *said ? ": " : "", said);
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
    __fpurge(stdin);
    if (error)
        return error;
    long left = count_new_threads(threads_before);
    if (left > 0)
        snprintf(text_out, BACKEND_TEXT_BYTES,
                 "preload left %ld thread%s running, which no copy of the server would have", left,
                 left > 1 ? "s" : "");
    return left > 0 ? -EBUSY : 0;
}

/* ---- workers ---------------------------------------------------------------------------------- */

/* All that is kept of a worker, as its event's data: the numbers of its two fds. The control socket's are zeros. */
struct worker {
    int pidfd, exit_fd;
};

static uint64_t worker_to_data(struct worker worker)
{
    return (uint64_t)worker.pidfd << 32 | (uint64_t)worker.exit_fd;
}

static struct worker worker_from_data(uint64_t data)
{
    return (struct worker){.pidfd = (int)(data >> 32), .exit_fd = (int)(data & INT32_MAX)};
}

/* Whether this is the server, in its preload: what is forked without exec is not. */
static bool preloading;

/* A process that the preload left behind would keep the server's sockets open after its end. */
static void leave_server(void)
{
    if (!preloading)
        return;
    preloading = false;
    for (int fd = CHILD_IN_FD; fd <= CHILD_LIFELINE_FD; fd++) {
        int own = fd;
        fd_close(&own);
    }
}

static void report_refused(int exit_fd, const char *text)
{
    uint8_t bytes[FORKSERVER_REPORT_BYTES];
    struct buf_writer report = buf_writer(bytes, sizeof bytes);
    buf_write_u8(&report, FORKSERVER_REFUSED);
    buf_write_bytes(&report, text, strlen(text));
    fd_send(exit_fd, bytes, buf_written(&report), NULL, 0);
}

static void report_started(int exit_fd, const struct local_process *process)
{
    uint8_t bytes[FORKSERVER_REPORT_BYTES];
    struct buf_writer report = buf_writer(bytes, sizeof bytes);
    buf_write_u8(&report, FORKSERVER_STARTED);
    buf_write_u32(&report, (uint32_t)process->pid);
    fd_send(exit_fd, bytes, buf_written(&report), &process->pidfd, 1);
}

static void report_ended(int exit_fd, const struct child_exit *how)
{
    uint8_t bytes[FORKSERVER_REPORT_BYTES];
    struct buf_writer report = buf_writer(bytes, sizeof bytes);
    buf_write_u8(&report, FORKSERVER_ENDED);
    buf_write_u8(&report, (uint8_t)how->known);
    buf_write_u8(&report, (uint8_t)how->signal);
    buf_write_u32(&report, (uint32_t)how->exit_code);
    fd_send(exit_fd, bytes, buf_written(&report), NULL, 0);
}

static int fork_worker(const struct backend_hooks *hooks, int fds[FORKSERVER_REQUEST_FDS], int epoll_fd,
                       struct local_process *process_out)
{
    struct local_process process;
    const struct local_original original = {.hooks = hooks, .cwd_fd = -1, .is_settled = true};
    int error = local_fork(&original, fds + FORKSERVER_REQUEST_WORKER, &process);
    if (error)
        return error;
    const struct worker worker = {.pidfd = process.pidfd, .exit_fd = fds[FORKSERVER_REQUEST_EXIT]};
    /* One that has ended may be its tracer's still: that is told once, and again when the tracer lets go of it. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = worker_to_data(worker)};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, process.pidfd, &event)) {
        error = -errno;
        local_end(&process);
        return error;
    }
    *process_out = process;
    return 0;
}

static void start_worker(const struct backend_hooks *hooks, int fds[FORKSERVER_REQUEST_FDS], size_t fd_count,
                         int epoll_fd)
{
    char text[BACKEND_TEXT_BYTES];
    struct local_process process;
    int error = fd_count == FORKSERVER_REQUEST_FDS ? fork_worker(hooks, fds, epoll_fd, &process) : -EMFILE;
    if (error) {
        snprintf(text, sizeof text, "the forkserver cannot start a worker: %s%s", strerror(-error),
                 error_advice(error));
        report_refused(fds[FORKSERVER_REQUEST_EXIT], text);
    } else {
        report_started(fds[FORKSERVER_REQUEST_EXIT], &process);
        fds[FORKSERVER_REQUEST_EXIT] = -1; /* the event's now */
    }
}

static void collect_worker(struct worker worker, int epoll_fd)
{
    struct child_exit how;
    if (local_collect(worker.pidfd, &how) == BACKEND_RUNNING)
        return;
    /* Closing would not take it out of the set: the pool holds the same open file description. */
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, worker.pidfd, NULL);
    report_ended(worker.exit_fd, &how);
    fd_close(&worker.pidfd);
    fd_close(&worker.exit_fd);
}

/* ---- serving ----------------------------------------------------------------------------------------------------- */

/* Returns the number of fds that came with the next request; 0: there is none now. Ends the process when the pool is
 * gone. */
static size_t receive_request(int fds_out[FORKSERVER_REQUEST_FDS])
{
    char byte;
    for (;;) {
        size_t fd_count = FORKSERVER_REQUEST_FDS;
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
    int fds[FORKSERVER_REQUEST_FDS] = FORKSERVER_NO_FDS;
    while (receive_request(fds)) {
        report_refused(fds[FORKSERVER_REQUEST_EXIT], text);
        local_close_fds(fds, FORKSERVER_REQUEST_FDS);
        shutdown(CHILD_IN_FD, SHUT_RD); /* from now on sending fails; what is queued can still be read */
    }
    _exit(EXIT_FAILURE);
}

static void serve_requests(const struct backend_hooks *hooks, int epoll_fd)
{
    int fds[FORKSERVER_REQUEST_FDS] = FORKSERVER_NO_FDS;
    size_t fd_count;
    while ((fd_count = receive_request(fds))) {
        start_worker(hooks, fds, fd_count, epoll_fd);
        local_close_fds(fds, FORKSERVER_REQUEST_FDS);
    }
}

enum { EVENTS_AT_ONCE = 32 };

static _Noreturn void serve(const struct backend_hooks *hooks, int epoll_fd)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS_AT_ONCE, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.u64)
                collect_worker(worker_from_data(events[i].data.u64), epoll_fd);
            else
                serve_requests(hooks, epoll_fd);
        }
    }
}

/* The epoll that serving takes, or a negative errno. */
static int settle(void)
{
    struct epoll_event requests = {.events = EPOLLIN};
    preloading = false; /* from here on only workers are forked, who see to their fds themselves */
    /* Once for all workers; and else a handler of the preload's, or the kernel, would take their statuses. */
    int error = child_settle_copies();
    if (error)
        return error;
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, CHILD_IN_FD, &requests))
        return -errno;
    fd_set_nonblocking(CHILD_IN_FD);
    return epoll_fd;
}

void forkserver_serve(const struct backend_hooks *hooks)
{
    char text[BACKEND_TEXT_BYTES] = "";
    preloading = true;
    pthread_atfork(NULL, NULL, leave_server);
    hooks->prepare_copies();
    if (preload(hooks, text))
        refuse_and_end(text);
    int epoll_fd = settle();
    if (epoll_fd < 0) {
        snprintf(text, sizeof text, "the forkserver cannot serve after its preload: %s%s", strerror(-epoll_fd),
                 error_advice(epoll_fd));
        refuse_and_end(text);
    }
    serve(hooks, epoll_fd);
}
