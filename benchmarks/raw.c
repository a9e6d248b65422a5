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
#include <sys/prctl.h>
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

/* What a worker is told, in one byte. */
enum order { SPEAK, DIE, LEAVE };

static _Noreturn void work(int order, int reply)
{
    char byte;
    while (raw_read(order, &byte, 1) && byte != LEAVE) {
        struct raw_hello hello = {.asked_ns = bench_now_ns(), .pid = getpid()};
        if (byte == DIE)
            raise(SIGKILL);
        raw_write(reply, &hello, sizeof hello);
    }
    _exit(0);
}

/* Where the fds of a crew are in an image that it starts: those of the seats from here on, two each, then the
 * demand. */
enum { FIRST_FD = 200, DEMAND_FD = FIRST_FD + 2 * RAW_MAX_WORKERS };

static _Noreturn void serve(void)
{
    signal(SIGCHLD, SIG_IGN); /* the kernel reaps */
    char seat;
    while (raw_read(DEMAND_FD, &seat, 1))
        if (bench_check(fork(), "fork") == 0)
            work(FIRST_FD + 2 * seat, FIRST_FD + 2 * seat + 1);
    while (wait(NULL) > 0)
        ;
    _exit(0);
}

void raw_main(int argc, char **argv)
{
    if (argc != 2 || strncmp(argv[1], "--raw-", 6) != 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (strcmp(argv[1], "--raw-worker") == 0)
        work(FIRST_FD, FIRST_FD + 1);
    if (strcmp(argv[1], "--raw-server") == 0)
        serve();
}

/* ---- crews ------------------------------------------------------------------------------------------------- */

/* Start this executable again, with these seats of the crew, and demand if there is any. */
static pid_t start_image(const char *what, const struct raw_seat *seats, unsigned count, int demand)
{
    char *argv[] = {"raw", (char *)what, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    posix_spawn_file_actions_init(&actions);
    for (unsigned i = 0; i < count; i++) {
        posix_spawn_file_actions_adddup2(&actions, seats[i].order[0], FIRST_FD + 2 * (int)i);
        posix_spawn_file_actions_adddup2(&actions, seats[i].reply[1], FIRST_FD + 2 * (int)i + 1);
    }
    if (demand >= 0)
        posix_spawn_file_actions_adddup2(&actions, demand, DEMAND_FD);
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

void raw_crew_open(struct raw_crew *crew, const char *backend, unsigned count)
{
    *crew = (struct raw_crew){.method = method_of(backend), .count = count};
    for (unsigned i = 0; i < count; i++) {
        open_pipe(crew->seats[i].order, 0);
        open_pipe(crew->seats[i].reply, 0);
    }
    if (crew->method == RAW_FORKSERVER) {
        open_pipe(crew->demand, 0);
        crew->server = start_image("--raw-server", crew->seats, count, crew->demand[0]);
    }
}

static void start_by_fork(struct raw_crew *crew, unsigned seat)
{
    if (bench_check(fork(), "fork") != 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    work(crew->seats[seat].order[0], crew->seats[seat].reply[1]);
}

static void start_by_spawn(struct raw_crew *crew, unsigned seat)
{
    start_image("--raw-worker", &crew->seats[seat], 1, -1);
}

static void start_by_server(struct raw_crew *crew, unsigned seat)
{
    raw_write(crew->demand[1], &(char){(char)seat}, 1);
}

void raw_crew_start(struct raw_crew *crew)
{
    static void (*const start[])(struct raw_crew * crew, unsigned seat) = {
        [RAW_FORK] = start_by_fork,
        [RAW_SPAWN] = start_by_spawn,
        [RAW_FORKSERVER] = start_by_server,
    };
    for (unsigned i = 0; i < crew->count; i++)
        start[crew->method](crew, i);
}

static void tell(struct raw_crew *crew, unsigned seat, enum order order)
{
    raw_write(crew->seats[seat].order[1], &(char){(char)order}, 1);
}

void raw_crew_ask(struct raw_crew *crew, struct raw_hello *hellos_out)
{
    for (unsigned i = 0; i < crew->count; i++)
        tell(crew, i, SPEAK);
    for (unsigned i = 0; i < crew->count; i++)
        raw_read(crew->seats[i].reply[0], &hellos_out[i], sizeof *hellos_out);
}

void raw_crew_kill(struct raw_crew *crew, pid_t pid)
{
    struct pollfd end = {.fd = (int)bench_check(syscall(SYS_pidfd_open, pid, 0), "pidfd_open"), .events = POLLIN};
    tell(crew, 0, DIE);
    bench_check(poll(&end, 1, -1), "poll");
    if (crew->method != RAW_FORKSERVER)
        waitpid(pid, NULL, 0);
    close(end.fd);
}

void raw_crew_close(struct raw_crew *crew)
{
    for (unsigned i = 0; i < crew->count; i++) {
        tell(crew, i, LEAVE);
        close_pipe(crew->seats[i].order);
        close_pipe(crew->seats[i].reply);
    }
    if (crew->method == RAW_FORKSERVER)
        close_pipe(crew->demand);
    while (wait(NULL) > 0)
        ;
}
