/* parent_process: what stands in for worker processes: fds, questions that wait for answers, ends.
 *
 * The backend makes pipes, a socket pair and eventfds; the "process" at their other ends is this program. Signals end
 * it at once unless its habits say otherwise. */
#include "fd.h"
#include "parent_world.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct process *find_process(int fd, size_t offset)
{
    for (unsigned i = 0; in_world && fd >= 0 && i < world.process_count; i++) {
        struct process *process = &world.processes[i];
        int its_own;
        memcpy(&its_own, (const uint8_t *)process + offset, sizeof its_own);
        if (process->exists && its_own == fd)
            return process;
    }
    return NULL;
}

struct process *process_that_is_heard(int fd)
{
    return PROCESS_BY(heard_fd, fd);
}

unsigned number_of(const struct process *process)
{
    return (unsigned)(process - world.processes);
}

unsigned slot_of(const struct process *process)
{
    for (unsigned i = 0; i < world.loop.sched.slot_count; i++)
        if (world.loop.peers[i].child.reply_fd == process->heard_fd)
            return i;
    return SCHED_NO_SLOT;
}

/* ---- questions ---- */

bool has_questions(const struct process *process)
{
    return process->first_question < process->question_count;
}

struct question *head_of(const struct process *process)
{
    return &process->questions[process->first_question];
}

struct work *work_of(const struct question *question)
{
    struct work *work = &world.works[question->work];
    return work->exists && work->serial == question->serial ? work : NULL;
}

uint64_t left_in_span(const struct process *process)
{
    uint64_t count = 0;
    for (size_t i = process->first_question; i < process->question_count; i++)
        count += process->questions[i].span == head_of(process)->span;
    return count;
}

/* ---- ends ---- */

struct item *item_of(const struct process *process, const struct question *question)
{
    struct work *work = work_of(question);
    if (!work || work->kind == WORK_BROADCAST)
        return NULL;
    struct item *item = &work->items_known[question->index];
    return item->fate == ITEM_IS_AWAY && item->process == number_of(process) ? item : NULL;
}

/* What it had and did not answer may be given to another now. */
static void give_back(const struct process *process)
{
    for (size_t i = process->first_question; i < process->question_count; i++) {
        struct item *item = item_of(process, &process->questions[i]);
        if (item)
            item->fate = ITEM_WAITS;
    }
}

static void bury(struct process *process)
{
    give_back(process);
    claims_clear(&process->claims);
    transit_clear(&process->transit);
    bytes_clear(&process->asked);
    bytes_clear(&process->outbox);
    bytes_clear(&process->heard);
    disown(process->questions);
    disown(process->loans);
    disown(process->messages);
    fd_close(&process->request_fd);
    fd_close(&process->reply_fd);
    fd_close(&process->socket_fd);
    process->exists = false;
}

void bury_reaped(void)
{
    for (unsigned i = 0; i < world.process_count; i++)
        if (world.processes[i].exists && world.processes[i].reaped)
            bury(&world.processes[i]);
}

void die(struct process *process, struct child_exit how)
{
    if (process->exited)
        return;
    trace("  process %u dies\n", number_of(process));
    process->exited = true;
    process->how = how;
    process->how.known = how.known && !(process->habits & HABIT_UNKNOWN);
    fd_close(&process->socket_fd);
    if (!(process->habits & HABIT_KEEPS_PIPE))
        fd_close(&process->reply_fd);
    world.any_exit = true;
    signal_fd(process->exit_fd);
}

bool is_overdue(const struct process *process)
{
    uint64_t limit_ns = world.config.start_timeout_ns;
    if (process->stage == WORKS && !process->dismissed_at) {
        const struct work *work = has_questions(process) ? work_of(head_of(process)) : NULL;
        limit_ns = work ? work->timeout_ns : 0;
    }
    return limit_ns && world.now_ns - process->since_ns >= limit_ns;
}

static bool has_canceled_work(const struct process *process)
{
    for (size_t i = process->first_question; i < process->question_count; i++) {
        const struct work *work = work_of(&process->questions[i]);
        if (!work || (work->kind == WORK_TASK && work->canceled))
            return true;
    }
    return false;
}

bool deserves_death(const struct process *process)
{
    bool end_of_all = world.clearing || world.loop.sched.broken || world.closing;
    return process->garbage || process->declined || process->hung_up || process->signalled || end_of_all ||
           is_overdue(process) || world.was_scarce || has_canceled_work(process);
}

/* ---- the backend ---- */

static struct process *take_place(void)
{
    unsigned i = 0;
    while (i < world.process_count && world.processes[i].exists)
        i++;
    REQUIRE(i < MAX_PROCESSES);
    world.process_count = i < world.process_count ? world.process_count : i + 1;
    struct process *process = &world.processes[i];
    *process = (struct process){.exists = true,
                                .habits = world.habits,
                                .named = !(world.habits & HABIT_UNNAMED),
                                .pid = (pid_t)++world.next_pid,
                                .room = SIZE_MAX,
                                .since_ns = world.now_ns,
                                .stage = HELLO_DUE};
    return process;
}

static int refuse(char *message)
{
    static const int outcomes[PARENT_REFUSALS] = {0, BACKEND_BUSY, -EAGAIN, POOL_EBUILD};
    int rc = world.refuses_all ? -EAGAIN : outcomes[world.refusal];
    world.refusal = REFUSAL_NONE;
    if (rc < 0)
        snprintf(message, 256, "it is refused");
    return rc;
}

static void make_pipe(int *read_fd_out, int *write_fd_out, bool small)
{
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    *read_fd_out = ends[0];
    *write_fd_out = ends[1];
    if (small)
        (void)fcntl(ends[1], F_SETPIPE_SZ, 4096);
}

/* A start method may send it, or not. */
static size_t take_greeting(struct process *process, const struct backend_greeting *greeting)
{
    const uint8_t *at = greeting->bytes, *end = at + greeting->size;
    if (number_of(process) % 2)
        return 0;
    REQUIRE(__real_write(process->put_fd, at, greeting->size) == (ssize_t)greeting->size);
    while (at < end) {
        struct wire_header header;
        REQUIRE(end - at >= WIRE_HEADER_BYTES && !wire_decode(at, WIRE_FROM_PARENT, 0, &header));
        at += WIRE_HEADER_BYTES;
        REQUIRE((uint64_t)(end - at) >= header.body_bytes);
        note_frame(process, &header, NULL, 0, at);
        at += header.body_bytes;
    }
    process->written += greeting->size;
    world.written += greeting->size;
    return greeting->size;
}

static int fake_start(void *state, const struct backend_greeting *greeting, struct backend_child *child_out,
                      char *message)
{
    REQUIRE(state == &world);
    bury_reaped();
    int rc = refuse(message);
    if (rc)
        return rc;
    struct process *process = take_place();
    int sockets[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) == 0);
    process->socket_fd = sockets[1];
    make_pipe(&process->request_fd, &process->put_fd, world.setup[SETUP_FLAGS] & PARENT_SMALL_PIPES);
    make_pipe(&process->heard_fd, &process->reply_fd, false);
    process->exit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    process->life_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool own_pidfd = world.setup[SETUP_FLAGS] & PARENT_OWN_PIDFD;
    *child_out = (struct backend_child){.request_fd = process->put_fd,
                                        .request_end_fd = -1,
                                        .reply_fd = process->heard_fd,
                                        .socket_fd = sockets[0],
                                        .lifeline_fd = process->life_fd,
                                        .exit_fd = process->exit_fd,
                                        .pidfd = own_pidfd ? eventfd(0, EFD_CLOEXEC) : process->exit_fd,
                                        .pid = process->named ? process->pid : 0,
                                        .greeted = take_greeting(process, greeting)};
    trace("  process %u is started\n", number_of(process));
    return 0;
}

static int fake_kill(void *state, struct backend_child *child, int signal)
{
    struct process *process = PROCESS_BY(exit_fd, child->exit_fd);
    REQUIRE(state == &world && process && !process->reaped);
    trace("  process %u gets signal %d\n", number_of(process), signal);
    REQUIRE(process->exited || deserves_death(process));
    process->signalled = true;
    bool dies = signal == SIGTERM ? !(process->habits & HABIT_IGNORES_TERM)
                                  : !(process->habits & HABIT_LINGERS) || process->kills++;
    if (dies)
        die(process, (struct child_exit){.known = true, .signal = signal});
    return 0;
}

static int move_exit(struct process *process, struct backend_child *child)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    process->moves = false;
    if (child->pidfd == child->exit_fd)
        child->pidfd = fd;
    fd_close(&child->exit_fd);
    child->exit_fd = process->exit_fd = fd;
    return BACKEND_MOVED;
}

static int fake_reap(void *state, struct backend_child *child, struct child_exit *exit_out, char *message)
{
    struct process *process = PROCESS_BY(exit_fd, child->exit_fd);
    eventfd_t unused;
    REQUIRE(state == &world && process && !process->reaped);
    bool is_told = eventfd_read(child->exit_fd, &unused) == 0;
    if (!is_told && !process->named && !process->exited && !process->moves)
        return BACKEND_RUNNING; /* nobody has said yet which process it is */
    child->pid = process->pid;
    process->named = true;
    if (!process->exited && process->moves)
        return move_exit(process, child);
    if (!process->exited)
        return BACKEND_RUNNING;
    *exit_out = process->how;
    snprintf(message, 256, "%s", process->explains ? "could not be started: the server has no memory" : "");
    if (child->pidfd != child->exit_fd)
        fd_close(&child->pidfd);
    fd_close(&child->exit_fd);
    child->pidfd = -1;
    process->reaped = true;
    return 0;
}

static void fake_close(void *state)
{
    REQUIRE(state == &world);
    world.closed_backends++;
}

/* Nobody closes fds here. */
static void fake_lose(void *state)
{
    (void)state;
    REQUIRE(false);
}

struct backend fake_backend = {.name = "fuzz",
                               .start = fake_start,
                               .kill = fake_kill,
                               .reap = fake_reap,
                               .close = fake_close,
                               .abandon = fake_close,
                               .lose = fake_lose};
