/* raw: see raw.h. */
#include "raw.h"
#include "bench.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* the same on every architecture but alpha */
#endif

extern char **environ;

bool raw_read(int fd, void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = read(fd, (char *)data + done, size - done);
        if (got == 0)
            return false;
        done += (size_t)bench_check(got, "read");
    }
    return true;
}

void raw_write(int fd, const void *data, size_t size)
{
    for (size_t done = 0; done < size;)
        done += (size_t)bench_check(write(fd, (const char *)data + done, size - done), "write");
}

void raw_spin(int fd, uint64_t spin_ns)
{
    if (spin_ns > 0)
        bench_check(fcntl(fd, F_SETFL, O_NONBLOCK), "F_SETFL");
}

/* Read what there is; 0 at end of file. */
static size_t read_spinning(int fd, void *data, size_t size, uint64_t spin_ns)
{
    uint64_t end_ns = bench_now_ns() + spin_ns;
    for (;;) {
        ssize_t got = read(fd, data, size);
        if (got >= 0 || errno != EAGAIN)
            return (size_t)bench_check(got, "read");
        if (bench_now_ns() >= end_ns)
            bench_check(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, -1), "poll");
    }
}

bool raw_read_spinning(int fd, void *data, size_t size, uint64_t spin_ns)
{
    if (spin_ns == 0)
        return raw_read(fd, data, size);
    for (size_t done = 0; done < size;) {
        size_t got = read_spinning(fd, (char *)data + done, size - done, spin_ns);
        if (got == 0)
            return false;
        done += got;
    }
    return true;
}

static void close_pipe(int ends[2])
{
    close(ends[0]);
    close(ends[1]);
}

/* ---- links ------------------------------------------------------------------------------------------------- */

/* A pipe of about pipe_bytes; returns its capacity. */
static size_t open_pipe(int ends[2], size_t pipe_bytes)
{
    bench_check(pipe2(ends, O_CLOEXEC), "pipe2");
    if (pipe_bytes > 0)
        fcntl(ends[1], F_SETPIPE_SZ, (int)pipe_bytes); /* EPERM beyond the limit for users: so be it */
    return (size_t)bench_check(fcntl(ends[1], F_GETPIPE_SZ), "F_GETPIPE_SZ");
}

size_t raw_link_start(struct raw_link *link, size_t pipe_bytes, raw_child_fn *fn, const void *arg)
{
    int request[2], reply[2];
    size_t request_bytes = open_pipe(request, pipe_bytes);
    size_t reply_bytes = open_pipe(reply, pipe_bytes);
    fflush(stdout);
    link->pid = (pid_t)bench_check(fork(), "fork");
    if (link->pid == 0) {
        fn(request[0], reply[1], arg);
        _exit(0);
    }
    close(request[0]);
    close(reply[1]);
    link->to = request[1];
    link->from = reply[0];
    return request_bytes < reply_bytes ? request_bytes : reply_bytes;
}

void raw_link_stop(struct raw_link *link)
{
    kill(link->pid, SIGKILL);
    waitpid(link->pid, NULL, 0);
    close(link->to);
    close(link->from);
}

/* ---- what the processes of a crew do ------------------------------------------------------------------------ */

static _Noreturn void work(int order, int reply)
{
    struct raw_hello hello = {.born_ns = bench_now_ns(), .pid = getpid()};
    raw_write(reply, &hello, sizeof hello);
    char byte;
    if (raw_read(order, &byte, 1))
        raise(SIGKILL);
    _exit(0);
}

static _Noreturn void serve(int demand, int order, int reply)
{
    signal(SIGCHLD, SIG_IGN); /* the kernel reaps */
    char byte;
    while (raw_read(demand, &byte, 1))
        if (bench_check(fork(), "fork") == 0)
            work(order, reply);
    while (wait(NULL) > 0)
        ;
    _exit(0);
}

void raw_main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--raw-worker") == 0)
        work(atoi(argv[2]), atoi(argv[3]));
    if (argc == 5 && strcmp(argv[1], "--raw-server") == 0)
        serve(atoi(argv[4]), atoi(argv[2]), atoi(argv[3]));
}

/* ---- crews ------------------------------------------------------------------------------------------------- */

/* Start this executable again, with these of the crew's fds, and their numbers as arguments. */
static pid_t start_image(const char *what, const int *fds, size_t count)
{
    char numbers[3][12];
    char *argv[6] = {"raw", (char *)what};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (size_t i = 0; i < count; i++) {
        posix_spawn_file_actions_adddup2(&actions, fds[i], fds[i]); /* clears close-on-exec */
        snprintf(numbers[i], sizeof numbers[i], "%d", fds[i]);
        argv[2 + i] = numbers[i];
    }
    pid_t pid;
    int error = posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ);
    if (error)
        bench_fail("posix_spawn", -error);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static enum raw_method method_of(const char *backend)
{
    return strcmp(backend, "fork") == 0 ? RAW_FORK : strcmp(backend, "spawn") == 0 ? RAW_SPAWN : RAW_FORKSERVER;
}

void raw_crew_open(struct raw_crew *crew, const char *backend)
{
    *crew = (struct raw_crew){.method = method_of(backend)};
    open_pipe(crew->order, 0);
    open_pipe(crew->reply, 0);
    if (crew->method == RAW_FORKSERVER) {
        open_pipe(crew->demand, 0);
        crew->server = start_image("--raw-server", (int[]){crew->order[0], crew->reply[1], crew->demand[0]}, 3);
    }
}

static void fork_worker(struct raw_crew *crew)
{
    if (bench_check(fork(), "fork") != 0)
        return;
    close(crew->order[1]); /* or no worker would see its end */
    work(crew->order[0], crew->reply[1]);
}

void raw_crew_start(struct raw_crew *crew, unsigned count)
{
    static const char bytes[64];
    if (crew->method == RAW_FORKSERVER)
        raw_write(crew->demand[1], bytes, count);
    for (unsigned i = 0; i < count && crew->method == RAW_FORK; i++)
        fork_worker(crew);
    for (unsigned i = 0; i < count && crew->method == RAW_SPAWN; i++)
        start_image("--raw-worker", (int[]){crew->order[0], crew->reply[1]}, 2);
}

struct raw_hello raw_crew_await(struct raw_crew *crew, unsigned count)
{
    struct raw_hello last = {0}, hello;
    for (unsigned i = 0; i < count; i++) {
        raw_read(crew->reply[0], &hello, sizeof hello);
        if (hello.born_ns > last.born_ns)
            last = hello;
    }
    return last;
}

void raw_crew_kill(struct raw_crew *crew, pid_t pid)
{
    struct pollfd end = {.fd = (int)bench_check(syscall(SYS_pidfd_open, pid, 0), "pidfd_open"), .events = POLLIN};
    raw_write(crew->order[1], "", 1);
    bench_check(poll(&end, 1, -1), "poll");
    if (crew->method != RAW_FORKSERVER)
        waitpid(pid, NULL, 0);
    close(end.fd);
}

void raw_crew_close(struct raw_crew *crew)
{
    close_pipe(crew->order);
    close_pipe(crew->reply);
    if (crew->method == RAW_FORKSERVER)
        close_pipe(crew->demand);
    while (wait(NULL) > 0)
        ;
}
