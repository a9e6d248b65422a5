/* bare: see bare.h. */
#include "bare.h"
#include "bench.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { ORDER_SPEAK, ORDER_DIE };
enum { REQUEST, REPLY, LIFELINE, SOCKET };
enum { FIRST_OWN_FD = 3, OWN_FDS_END = FIRST_OWN_FD + BARE_FDS, CONTROL_FD = 3, OUT_OF_THE_WAY = 500 };

/* ---- a worker ---------------------------------------------------------------------------------------------------- */

static void reset_signals(void)
{
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL); /* refused for some, which have no other */
}

static void keep_own_fds(const int fds[BARE_FDS])
{
    int away[BARE_FDS];
    for (int i = 0; i < BARE_FDS; i++)
        away[i] = (int)bench_check(fcntl(fds[i], F_DUPFD, OUT_OF_THE_WAY), "F_DUPFD");
    for (int i = 0; i < BARE_FDS; i++)
        bench_check(dup3(away[i], FIRST_OWN_FD + i, O_CLOEXEC), "dup3");
    bench_check(syscall(SYS_close_range, OWN_FDS_END, ~0U, 0), "close_range");
    int null = (int)bench_check(open("/dev/null", O_RDWR), "open");
    bench_check(dup2(null, STDIN_FILENO), "dup2");
    close(null);
}

static void arm_lifeline(void)
{
    int fd = FIRST_OWN_FD + LIFELINE;
    char byte;
    bench_check(fcntl(fd, F_SETOWN, getpid()), "F_SETOWN");
    bench_check(fcntl(fd, F_SETSIG, SIGKILL), "F_SETSIG");
    bench_check(fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK), "F_SETFL");
    if (read(fd, &byte, 1) >= 0)
        _exit(1);
}

static void yield_memory(void)
{
    char text[16] = "";
    int fd = (int)bench_check(open("/proc/self/oom_score_adj", O_RDWR), "open");
    bench_check(read(fd, text, sizeof text - 1), "read");
    bench_check(write(fd, "200", 3), "write");
    close(fd);
}

static _Noreturn void work(const int fds[BARE_FDS], bool is_copy_of_server)
{
    const sigset_t none = {0};
    if (!is_copy_of_server)
        reset_signals();
    keep_own_fds(fds);
    arm_lifeline();
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_NAME, "bare-worker");
    if (!is_copy_of_server)
        yield_memory();
    char order = ORDER_SPEAK;
    struct raw_hello hello = {.pid = getpid()};
    do {
        raw_write(FIRST_OWN_FD + REPLY, &hello, sizeof hello);
        if (!raw_read(FIRST_OWN_FD + REQUEST, &order, 1))
            _exit(0);
        hello.asked_ns = bench_now_ns();
    } while (order == ORDER_SPEAK);
    raise(SIGKILL);
    _exit(1);
}

/* The pid; no signal reaches the child before it has reset them. */
static pid_t fork_worker(const int fds[BARE_FDS], bool is_copy_of_server)
{
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = (pid_t)bench_check(fork(), "fork");
    if (!pid)
        work(fds, is_copy_of_server);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return pid;
}

static int open_pidfd(pid_t pid)
{
    return (int)bench_check(syscall(SYS_pidfd_open, pid, 0), "pidfd_open");
}

/* ---- the server -------------------------------------------------------------------------------------------------- */

enum { MOST_FDS = BARE_FDS * RAW_MAX_WORKERS };

static void send_fds(int socket_fd, const int *fds, unsigned count)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(MOST_FDS * sizeof(int))];
    struct iovec part = {.iov_base = "", .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(count * sizeof *fds)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header =
        (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(count * sizeof *fds)};
    memcpy(CMSG_DATA(header), fds, count * sizeof *fds);
    bench_check(sendmsg(socket_fd, &message, 0), "sendmsg");
}

/* How many; 0: the other end is gone. */
static unsigned receive_fds(int socket_fd, int fds_out[MOST_FDS])
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(MOST_FDS * sizeof(int))];
    char byte;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (bench_check(recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC), "recvmsg") == 0)
        return 0;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    size_t size = header->cmsg_len - CMSG_LEN(0);
    memcpy(fds_out, CMSG_DATA(header), size);
    return (unsigned)(size / sizeof(int));
}

static void serve_one(const int *fds, unsigned count)
{
    int pidfds[RAW_MAX_WORKERS];
    for (unsigned i = 0; i < count; i++)
        pidfds[i] = open_pidfd(fork_worker(fds + i * BARE_FDS, true));
    send_fds(CONTROL_FD, pidfds, count);
    for (unsigned i = 0; i < count; i++)
        close(pidfds[i]);
}

/* With SIGCHLD ignored the kernel reaps. */
static _Noreturn void serve(void)
{
    int fds[MOST_FDS];
    unsigned count;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    reset_signals();
    signal(SIGCHLD, SIG_IGN);
    yield_memory();
    while ((count = receive_fds(CONTROL_FD, fds))) {
        serve_one(fds, count / BARE_FDS);
        for (unsigned i = 0; i < count; i++)
            close(fds[i]);
    }
    while (wait(NULL) > 0)
        ;
    _exit(0);
}

void bare_main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--bare-server") == 0)
        serve();
}

static void start_server(struct bare_pool *pool)
{
    int ends[2];
    char *argv[] = {"bare", "--bare-server", NULL};
    posix_spawn_file_actions_t actions;
    bench_check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), "socketpair");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], CONTROL_FD);
    int error = posix_spawn(&pool->server, "/proc/self/exe", &actions, NULL, argv, environ);
    if (error)
        bench_fail("posix_spawn", -error);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    pool->control = ends[0];
}

/* ---- the pool ---------------------------------------------------------------------------------------------------- */

/* What an event is about: the seat's reply or its pidfd, or the server. */
enum { ABOUT_REPLY, ABOUT_END, ABOUT_SERVER, ABOUTS };

static void watch(const struct bare_pool *pool, int fd, unsigned seat, unsigned about)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)seat * ABOUTS + about};
    bench_check(epoll_ctl(pool->epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

static void open_channels(struct bare_seat *seat, int worker_ends_out[BARE_FDS])
{
    int pipes[3][2], socket[2];
    for (int i = 0; i < 3; i++)
        bench_check(pipe2(pipes[i], O_CLOEXEC), "pipe2");
    bench_check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socket), "socketpair");
    const int own[BARE_FDS] = {pipes[0][1], pipes[1][0], pipes[2][1], socket[0]};
    const int theirs[BARE_FDS] = {pipes[0][0], pipes[1][1], pipes[2][0], socket[1]};
    for (int i = 0; i < BARE_FDS; i++)
        bench_check(fcntl(own[i], F_SETFL, O_NONBLOCK), "F_SETFL");
    memcpy(seat->ends, own, sizeof own);
    memcpy(worker_ends_out, theirs, sizeof theirs);
    seat->greeted = false;
}

/* The worker has them. */
static void release_ends(struct bare_seat *seat, const int worker_ends[BARE_FDS])
{
    seat->request_end = worker_ends[REQUEST];
    for (int i = REPLY; i < BARE_FDS; i++)
        close(worker_ends[i]);
}

static void take_seat(struct bare_pool *pool, unsigned i, int pidfd)
{
    pool->seats[i].pidfd = pidfd;
    watch(pool, pidfd, i, ABOUT_END);
    watch(pool, pool->seats[i].ends[REPLY], i, ABOUT_REPLY);
}

void bare_open(struct bare_pool *pool, const char *backend, unsigned count)
{
    *pool = (struct bare_pool){.is_served = strcmp(backend, "fork") != 0, .count = count};
    pool->epoll = (int)bench_check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    if (!pool->is_served)
        return;
    start_server(pool);
    watch(pool, pool->control, 0, ABOUT_SERVER);
}

void bare_start(struct bare_pool *pool)
{
    int ends[MOST_FDS];
    for (unsigned i = 0; i < pool->count; i++) {
        open_channels(&pool->seats[i], ends + i * BARE_FDS);
        if (pool->is_served)
            continue;
        int pidfd = open_pidfd(fork_worker(ends + i * BARE_FDS, false));
        release_ends(&pool->seats[i], ends + i * BARE_FDS);
        take_seat(pool, i, pidfd);
    }
    if (!pool->is_served)
        return;
    send_fds(pool->control, ends, pool->count * BARE_FDS);
    for (unsigned i = 0; i < pool->count; i++)
        release_ends(&pool->seats[i], ends + i * BARE_FDS);
}

static void take_report(struct bare_pool *pool)
{
    int pidfds[MOST_FDS];
    unsigned count = receive_fds(pool->control, pidfds);
    for (unsigned i = 0; i < count; i++)
        take_seat(pool, i, pidfds[i]);
}

/* Whether it has said what it was asked for. */
static bool listen_to(struct bare_seat *seat, struct raw_hello *hello_out)
{
    raw_read(seat->ends[REPLY], hello_out, sizeof *hello_out);
    bool has_answered = seat->greeted;
    if (!has_answered)
        raw_write(seat->ends[REQUEST], &(char){ORDER_SPEAK}, 1);
    seat->greeted = true;
    return has_answered;
}

void bare_ask(struct bare_pool *pool, struct raw_hello *hellos_out)
{
    struct epoll_event events[RAW_MAX_WORKERS];
    for (unsigned answers = 0; answers < pool->count;) {
        int count = (int)bench_check(epoll_wait(pool->epoll, events, RAW_MAX_WORKERS, -1), "epoll_wait");
        for (int i = 0; i < count; i++) {
            unsigned seat = (unsigned)(events[i].data.u64 / ABOUTS);
            if (events[i].data.u64 % ABOUTS == ABOUT_SERVER)
                take_report(pool);
            else
                answers += listen_to(&pool->seats[seat], &hellos_out[seat]);
        }
    }
}

enum { WAIT_FOR_PIDFD = 3 }; /* P_PIDFD, which older headers lack */

static void clear_seat(struct bare_seat *seat)
{
    siginfo_t how;
    waitid((idtype_t)WAIT_FOR_PIDFD, (id_t)seat->pidfd, &how, WEXITED); /* refused for what a server has forked */
    for (int i = 0; i < BARE_FDS; i++)
        close(seat->ends[i]);
    close(seat->request_end);
    close(seat->pidfd);
}

void bare_kill(struct bare_pool *pool)
{
    struct bare_seat *seat = &pool->seats[0];
    struct epoll_event event;
    raw_write(seat->ends[REQUEST], &(char){ORDER_DIE}, 1);
    do {
        bench_check(epoll_wait(pool->epoll, &event, 1, -1), "epoll_wait");
        /* It is told no more of either; of the pidfd the server may have a copy. */
        int fd = event.data.u64 % ABOUTS == ABOUT_END ? seat->pidfd : seat->ends[REPLY];
        bench_check(epoll_ctl(pool->epoll, EPOLL_CTL_DEL, fd, NULL), "epoll_ctl");
    } while (event.data.u64 % ABOUTS != ABOUT_END);
    clear_seat(seat);
}

void bare_close(struct bare_pool *pool)
{
    for (unsigned i = 0; i < pool->count; i++)
        close(pool->seats[i].ends[REQUEST]); /* its worker ends */
    for (unsigned i = 0; i < pool->count; i++) {
        pool->seats[i].ends[REQUEST] = -1;
        clear_seat(&pool->seats[i]);
    }
    if (pool->is_served) {
        close(pool->control);
        waitpid(pool->server, NULL, 0);
    }
    close(pool->epoll);
}
