/* chaos_hand: a hand from outside that kills and stops workers, and a forkserver's server (see chaos.h).
 *
 * Only workers that have begun an order, so that nothing is a failed start: three of those in a row may break a pool,
 * and are meant to. For the same reason a server is killed only where there are fewer workers than that, and not again
 * before one has worked. Who is killed is written down first, if it is still alive: the model believes nobody else. */
#include "chaos.h"
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* -1: it has gone, or is none of ours. */
static int open_process(pid_t pid)
{
    if (pid <= 1 || pid == getpid() || getsid(pid) != getsid(0))
        return -1;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd >= 0 && !poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0))
        return fd;
    close(fd);
    return -1;
}

static void send_signal(int pidfd, int signal)
{
    syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

static void kill_worker(struct arena *arena, pid_t pid, int pidfd)
{
    note_killed(pid);
    arena->kills++;
    send_signal(pidfd, SIGKILL);
    count_up(COUNT_KILLED, 1);
}

static void stop_worker(struct arena *arena, pid_t pid, int pidfd, struct dice *dice)
{
    send_signal(pidfd, SIGSTOP);
    pause_us(dice_below(dice, 20000));
    count_up(COUNT_STOPPED, 1);
    if (dice_one_in(dice, 2))
        kill_worker(arena, pid, pidfd);
    else
        send_signal(pidfd, SIGCONT);
}

static uint64_t orders_begun(const struct arena *arena)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < MAX_WORKERS; i++)
        count += board->seats[arena->index][i].orders;
    return count;
}

static void kill_server(struct arena *arena, pid_t server)
{
    enum { ORDERS_BETWEEN = 100 };
    uint64_t begun = orders_begun(arena);
    if (begun < arena->spared_until)
        return;
    int pidfd = open_process(server);
    if (pidfd < 0)
        return;
    arena->spared_until = begun + ORDERS_BETWEEN;
    arena->server_was_killed = true;
    send_signal(pidfd, SIGKILL);
    close(pidfd);
    count_up(COUNT_SERVERS_KILLED, 1);
}

/* Such a worker may be starting afresh, with the pid that it had. */
static bool starts_in_place(const struct arena *arena)
{
    bool wears_out = arena->options.max_tasks_per_worker || arena->options.max_worker_bytes;
    return wears_out && !strcmp(arena->options.backend, "spawn");
}

void strike_at_random(struct arena *arena, struct dice *dice)
{
    if (starts_in_place(arena))
        return;
    const struct seat *seat = &board->seats[arena->index][dice_below(dice, arena->options.workers)];
    if (arena->may_lose_server && dice_one_in(dice, 5)) {
        kill_server(arena, seat->parent);
        return;
    }
    pid_t pid = seat->pid;
    int pidfd = open_process(pid);
    if (pidfd < 0)
        return;
    if (dice_one_in(dice, 3))
        stop_worker(arena, pid, pidfd, dice);
    else
        kill_worker(arena, pid, pidfd);
    close(pidfd);
}
