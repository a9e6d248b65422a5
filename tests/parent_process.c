/* parent_process: what stands in for worker processes: fds, and a record of what was put into the stream to each.
 *
 * The backend makes pipes, a socket pair and eventfds; the "process" at their other ends is this program. Signals end
 * it at once unless its habits say otherwise. What the parent puts into its channel is recorded as it is put, so that
 * what comes out of the pipe can be compared, whatever happens to the memory in between, and so that it is known which
 * answers are due. */
#include "fd.h"
#include "parent_world.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* By one of the parent's fds. A process that was reaped has them until it is buried. */
static struct process *find_process(int fd, size_t offset)
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

#define PROCESS_BY(member, fd) find_process(fd, offsetof(struct process, member))

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

/* The item of a question that is still to be answered; NULL: it has ended. */
static struct item *item_of(const struct process *process, const struct question *question)
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

static void note_frame(struct process *process, const struct wire_header *header, const void *start, size_t start_size,
                       const void *rest);
ssize_t __real_write(int fd, const void *bytes, size_t size);

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

/* ---- what the parent puts into the stream ---- */

int __real_chan_put(struct chan *chan, const struct wire_header *header, const void *body);
int __real_chan_put_parts(struct chan *chan, const struct wire_header *header, const void *start, size_t start_size,
                          const void *rest);
int __real_peer_put_span(struct peer *peer, struct span *span, bool stepwise, bool may_wait);
uint64_t __real_peer_take_back(struct peer *peer, uint64_t most);
ssize_t __real_writev(int fd, const struct iovec *parts, int count);

static struct question *ask(struct process *process, const struct wire_header *header, uint64_t index, uint64_t id)
{
    struct work *work = work_of_item(process->putting, index);
    bool in_job = work->kind == WORK_MAP;
    process->questions =
        own_more(process->questions, process->question_count, &process->question_room, sizeof *process->questions);
    struct question *question = &process->questions[process->question_count++];
    *question = (struct question){.work = (unsigned)(work - world.works),
                                  .serial = work->serial,
                                  .index = in_job ? index : 0,
                                  .id = id,
                                  .end = process->asked.size,
                                  .span = process->span_count,
                                  .in_run = header->type == WIRE_RUN,
                                  .may_go = process->page_at != 0,
                                  .ticket = process->tickets++};
    if (process->question_count - process->first_question == 1)
        process->since_ns = world.now_ns;
    if (work->kind == WORK_BROADCAST)
        return question;
    struct item *item = &work->items_known[in_job ? index : 0];
    REQUIRE(item->fate == ITEM_WAITS ||
            world.was_scarce); /* an answer that there was no memory for counts as garbage */
    REQUIRE(!in_job || !work->job.status_out || !work->job.status_out[index]);
    item->fate = ITEM_IS_AWAY;
    item->process = number_of(process);
    item->times_sent++;
    return question;
}

static void lend(struct process *process, const struct work *work)
{
    process->loans = own_more(process->loans, process->loan_count, &process->loan_room, sizeof *process->loans);
    process->loans[process->loan_count++] =
        (struct loan){(unsigned)(work - world.works), work->serial, process->asked.size};
}

static void note_items(struct process *process, const struct wire_header *header, const uint8_t *start,
                       size_t start_size)
{
    const struct span *span = process->putting;
    REQUIRE(span);
    uint64_t first = span->first;
    if (header->type == WIRE_TASK) /* its place in the span */
        for (size_t i = process->question_count; i && process->questions[i - 1].span == process->span_count; i--)
            first++;
    REQUIRE(header->type == WIRE_TASK ? header->count == 1 : header->count == span->count);
    struct places places = places_of(process, header, start);
    for (uint32_t i = 0; i < header->count; i++) {
        struct question *question = ask(process, header, first + i, header->id + i);
        note_places(question, &places, header, i);
        check_item_in_transit(process, question);
    }
    if (header->body_bytes - start_size > CHAN_COPY_BYTES)
        lend(process, work_of_item(span, first));
    if (header->flags & WIRE_FDS)
        process->fd_numbers[process->fd_tasks++ % 8] = header->id;
}

/* Broadcasts from before its time, in their order. */
static void note_replay(struct process *process, const struct wire_header *header, const void *body)
{
    REQUIRE(process->replays_told < process->replays_due);
    const struct replay *replay = &world.replays[process->replays_told++];
    REQUIRE(header->function == replay->function && header->body_bytes == replay->input.size);
    REQUIRE(!header->body_bytes || !memcmp(body, replay->input.data, replay->input.size));
    process->broadcast = replay->serial;
}

static void note_config(struct process *process, const struct wire_header *header)
{
    settle_broadcasts();
    REQUIRE(header->count == world.replay_count);
    process->replays_due = header->count;
    process->replays_told = 0;
}

static void note_memory(struct process *process)
{
    process->fd_numbers[process->fd_tasks++ % 8] = 0;
}

static void note_claims(struct process *process)
{
    note_memory(process);
    process->page_at = process->fd_tasks;
    process->tickets = 0;
}

static void note_recycle(struct process *process)
{
    process->since_ns = world.now_ns;
    process->stage = HELLO_DUE;
    process->broadcast = 0;
    process->page_at = 0;
    claims_clear(&process->claims);
    process->transit_at = 0;
    process->transit_bytes = 0;
    transit_clear(&process->transit);
    memset(process->lents, 0, sizeof process->lents);
}

static void note_return(struct process *process, const struct wire_header *header)
{
    REQUIRE(header->id < BORROW_REGIONS);
    struct lent *lent = &process->lents[header->id];
    REQUIRE(lent->untold || world.was_scarce);
    lent->untold = false;
    if (header->type == WIRE_DISCARD)
        lent->known = false;
}

/* Who has to step over what was taken back is sent nothing but its dismissal before it has said that it did; and which
 * memory is its own again, or by which what is large travels. */
static void note_frame(struct process *process, const struct wire_header *header, const void *start, size_t start_size,
                       const void *rest)
{
    uint8_t bytes[WIRE_HEADER_BYTES];
    wire_encode(header, bytes);
    bytes_append(&process->asked, bytes, sizeof bytes);
    bytes_append(&process->asked, start, start_size);
    bytes_append(&process->asked, rest, (size_t)header->body_bytes - start_size);
    trace("  process %u is sent type %u id %lu count %u, %lu bytes\n", number_of(process), header->type,
          (unsigned long)header->id, header->count, (unsigned long)header->body_bytes);
    bool is_of_memory = header->type == WIRE_RETURN || header->type == WIRE_DISCARD || header->type == WIRE_TRANSIT;
    REQUIRE(!process->to_skip || header->type == WIRE_SHUTDOWN || is_of_memory);
    switch (header->type) {
    case WIRE_CONFIG:
        note_config(process, header);
        break;
    case WIRE_TASK:
    case WIRE_RUN:
        if (header->flags & WIRE_REPLAY)
            note_replay(process, header, rest);
        else
            note_items(process, header, start, start_size);
        break;
    case WIRE_CLAIMS:
        note_claims(process);
        break;
    case WIRE_TRANSIT:
        if (header->extra)
            note_memory(process);
        note_transit(process, header);
        break;
    case WIRE_RETURN:
    case WIRE_DISCARD:
        note_return(process, header);
        break;
    case WIRE_RECYCLE:
        REQUIRE(!has_questions(process));
        note_recycle(process);
        break;
    case WIRE_SHUTDOWN:
        REQUIRE(!has_questions(process));
        process->since_ns = world.now_ns;
        process->dismissed_at = process->asked.size;
        break;
    default:
        break;
    }
}

int __wrap_chan_put(struct chan *chan, const struct wire_header *header, const void *body)
{
    int rc = __real_chan_put(chan, header, body);
    struct process *process = PROCESS_BY(put_fd, chan->out_fd);
    REQUIRE(process);
    if (!rc)
        note_frame(process, header, NULL, 0, body);
    return rc;
}

/* It is in memory before the frame is put, which there may be no room for. */
static void note_carried(const struct wire_header *header, const uint8_t *start)
{
    if (header->flags & WIRE_REFERENCE)
        world.carried_out +=
            wire_decode_reference(start + (header->flags & WIRE_IN_PLACE ? WIRE_REFERENCE_BYTES : 0)).size;
}

int __wrap_chan_put_parts(struct chan *chan, const struct wire_header *header, const void *start, size_t start_size,
                          const void *rest)
{
    int rc = __real_chan_put_parts(chan, header, start, start_size, rest);
    struct process *process = PROCESS_BY(put_fd, chan->out_fd);
    REQUIRE(process);
    note_carried(header, start);
    if (!rc)
        note_frame(process, header, start, start_size, rest);
    return rc;
}

int __wrap_peer_put_span(struct peer *peer, struct span *span, bool stepwise, bool may_wait)
{
    bury_reaped();
    struct process *process = PROCESS_BY(put_fd, peer->child.request_fd);
    REQUIRE(process && process->stage == WORKS && !process->dismissed_at);
    REQUIRE(process->replays_told == process->replays_due);
    size_t before = process->question_count;
    process->span_count++;
    process->putting = span;
    int rc = __real_peer_put_span(peer, span, stepwise, may_wait);
    process->putting = NULL;
    REQUIRE(process->question_count - before == (rc ? 0 : span->count));
    return rc;
}

/* The last of its questions, which it has not begun: a task has not been tried then. */
static void take_last(struct process *process)
{
    const struct question *question = &process->questions[--process->question_count];
    struct item *item = item_of(process, question);
    const struct work *work = work_of(question);
    REQUIRE(process->question_count > process->first_question && question->may_go);
    REQUIRE(!question->claimed || process->tampered);
    REQUIRE(!work || work->kind != WORK_BROADCAST);
    if (!item)
        return;
    item->fate = ITEM_WAITS;
    if (work->kind == WORK_TASK && !work->task->ended)
        item->times_sent--;
}

/* What was lent for them, and for those before, was copied. */
uint64_t __wrap_peer_take_back(struct peer *peer, uint64_t most)
{
    struct process *process = PROCESS_BY(put_fd, peer->child.request_fd);
    REQUIRE(process && process->stage == WORKS && !process->dismissed_at);
    uint64_t count = __real_peer_take_back(peer, most);
    REQUIRE(count <= most && (!count || process->claims.page));
    if (count) {
        trace("  process %u: %lu items are taken back\n", number_of(process), (unsigned long)count);
        process->loan_count = 0;
    }
    process->to_skip += count;
    for (uint64_t i = 0; i < count; i++)
        take_last(process);
    return count;
}

/* The child of a fork does not have the memory; this program does. */
void __wrap_peer_abandon_memory(struct peer *peer)
{
    claims_clear(&peer->claims);
}

/* A pipe that takes no more than its reader left room for; by the byte, which real ones do not. */
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count)
{
    struct process *process = PROCESS_BY(put_fd, fd);
    if (!process)
        return __real_writev(fd, parts, count);
    struct iovec part = parts[0];
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    if (is_scarce()) /* of pages for the pipe */
        return -1;
    if (!process->room) {
        errno = EAGAIN;
        return -1;
    }
    part.iov_len = part.iov_len < process->room ? part.iov_len : process->room;
    ssize_t done = size > process->room ? __real_writev(fd, &part, 1) : __real_writev(fd, parts, count);
    if (done > 0) {
        process->written += (size_t)done;
        world.written += (size_t)done;
        process->room -= process->room == SIZE_MAX ? 0 : (size_t)done;
        REQUIRE(process->written <= process->asked.size);
    }
    return done;
}

ssize_t __wrap_write(int fd, const void *bytes, size_t size)
{
    const struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    return PROCESS_BY(put_fd, fd) ? __wrap_writev(fd, &part, 1) : __real_write(fd, bytes, size);
}

/* ---- what processes say and read ---- */

void pump(struct process *process, size_t most)
{
    size_t left = process->outbox.size - process->outbox_at;
    size_t size = left < most ? left : most;
    if (!size || process->exited || process->reply_fd < 0)
        return;
    ssize_t done = write(process->reply_fd, process->outbox.data + process->outbox_at, size);
    if (done > 0)
        process->outbox_at += (size_t)done;
    if (process->outbox_at == process->outbox.size)
        process->outbox_at = process->outbox.size = 0;
}

void say(struct process *process, const void *bytes, size_t size)
{
    if (process->exited || process->hung_up)
        return;
    world.said += size;
    bytes_append(&process->outbox, bytes, size);
}

/* The latest: one before that was meant for what it has been told to forget. */
static void receive_page(struct process *process, int fd)
{
    if (process->fd_received != process->page_at)
        return;
    claims_clear(&process->claims);
    REQUIRE(claims_map(&process->claims, fd) == 0);
}

/* With each task that has fds, and with memory, comes one message, in the same order. */
static void receive_fds(struct process *process)
{
    uint64_t number;
    int fds[POOL_TASK_FDS];
    size_t count = POOL_TASK_FDS;
    while (process->fd_received < process->fd_tasks && process->socket_fd >= 0 &&
           fd_receive(process->socket_fd, &number, sizeof number, fds, &count) > 0) {
        REQUIRE(count && process->fd_received < process->fd_tasks);
        if (process->fd_tasks - process->fd_received <= 8)
            REQUIRE(process->fd_numbers[process->fd_received % 8] == number);
        process->fd_received++;
        receive_page(process, fds[0]);
        receive_transit(process, fds[0]);
        while (count)
            fd_close(&fds[--count]);
        count = POOL_TASK_FDS;
    }
}

/* What comes through the pipe is what was put into the stream. */
void read_requests(struct process *process, size_t most)
{
    uint8_t bytes[4096];
    receive_fds(process);
    while (most) {
        ssize_t count = read(process->request_fd, bytes, most < sizeof bytes ? most : sizeof bytes);
        if (count <= 0)
            return;
        REQUIRE(process->read + (size_t)count <= process->written);
        REQUIRE(!memcmp(bytes, process->asked.data + process->read, (size_t)count));
        process->read += (size_t)count;
        world.read += (size_t)count;
        most -= (size_t)count;
    }
}

/* ---- frames in the making ---- */

static void draft_text(struct draft *draft, unsigned how)
{
    char text[WIRE_TEXT_BYTES];
    memset(text, how & HOW_LONG_TEXT ? '\x1b' : 't', sizeof text);
    bytes_append(&draft->body, text, how & HOW_LONG_TEXT ? sizeof text : 5);
}

void draft_hello(struct draft *draft)
{
    struct wire_hello hello = {.version = WIRE_VERSION, .pid = 1};
    uint8_t bytes[WIRE_HELLO_BYTES];
    hello.id_size = (uint32_t)callable_library_id(hello.id);
    bytes_append(&draft->body, bytes, wire_encode_hello(&hello, bytes));
    draft->header = (struct wire_header){.type = WIRE_HELLO};
}

void draft_reply(struct draft *draft, size_t size)
{
    uint8_t pattern[64];
    world.next_answer++;
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (uint8_t)(world.next_answer * 5 + i / 7);
    for (size_t left = size; left;) {
        size_t part = left < sizeof pattern ? left : sizeof pattern;
        pattern[0]++;
        bytes_append(&draft->body, pattern, part);
        left -= part;
    }
}

static bool fails(unsigned how, uint32_t i, uint32_t count)
{
    return how & HOW_ALL_FAIL || (how & HOW_FIRST_FAILS && i == 0) || (how & HOW_LAST_FAILS && i == count - 1);
}

void draft_results(struct draft *draft, uint64_t id, uint32_t count, size_t result_size, unsigned how)
{
    uint32_t failures = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t bytes[WIRE_FAILURE_BYTES];
        if (!fails(how, i, count))
            continue;
        wire_encode_failure((struct wire_failure){.offset = i, .code = (int32_t)i + 1}, bytes);
        bytes_append(&draft->body, bytes, sizeof bytes);
        failures++;
    }
    for (uint32_t i = 0; i < count; i++)
        draft_reply(draft, result_size);
    draft->header = (struct wire_header){
        .type = WIRE_RESULTS, .id = id, .count = count, .function = failures, .extra = 1000 * count};
}

void draft_result(struct draft *draft, uint64_t id, size_t size, unsigned how)
{
    draft->header = (struct wire_header){.type = WIRE_RESULT, .id = id, .count = 1, .extra = 1000};
    if (how & HOW_ALL_FAIL) {
        draft->header.code = 7;
        draft_text(draft, how);
    } else {
        draft_reply(draft, size);
    }
}

/* Of this size and a little more, as long as there is room for them. */
void draft_replies(struct draft *draft, uint64_t id, uint32_t count, size_t size)
{
    uint8_t bytes[WIRE_REPLY_BYTES];
    draft->header = (struct wire_header){.type = WIRE_REPLIES, .id = id, .count = count};
    for (uint32_t i = 0; i < count; i++) {
        struct wire_reply reply = {.size = (uint32_t)size + i % 9 * 11, .elapsed_ns = 1000 + i};
        wire_encode_reply(&reply, bytes);
        bytes_append(&draft->body, bytes, sizeof bytes);
        draft_reply(draft, reply.size);
    }
}

void draft_error(struct draft *draft, uint64_t id, uint32_t count, unsigned how)
{
    draft->header =
        (struct wire_header){.type = WIRE_ERROR, .id = id, .count = count, .code = POOL_EBUILD, .extra = 1000};
    draft_text(draft, how);
}

void draft_skipped(struct draft *draft, uint32_t count)
{
    draft->header = (struct wire_header){.type = WIRE_SKIPPED, .count = count};
}

void fill_lent(uint8_t *bytes, size_t size, unsigned serial)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(serial * 37 + i / 5);
}

static int make_memory(const struct message *message)
{
    uint8_t *content = own(message->size, 1);
    int fd = memfd_create("fuzz-region", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    fill_lent(content, message->size, message->serial);
    REQUIRE(fd >= 0 && write(fd, content, message->size) == (ssize_t)message->size);
    REQUIRE(message->can_shrink || !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    disown(content);
    return fd;
}

/* It counts as said, wherever it is. One that the socket takes no more was not sent. */
static void send_memory(struct process *process, const struct message *message)
{
    int fd = message->fd_count ? make_memory(message) : -1, fds[] = {fd, fd};
    int rc = fd_send(process->socket_fd, &message->number, sizeof message->number, fds, message->fd_count);
    fd_close(&fd);
    if (rc)
        return;
    process->messages =
        own_more(process->messages, process->message_count, &process->message_room, sizeof *process->messages);
    process->messages[process->message_count++] = *message;
    world.said += message->size;
}

void draft_region(struct draft *draft, struct process *process, uint64_t number, size_t size, unsigned how)
{
    struct message message = {.number = number,
                              .size = size - (how & HOW_FIRST_FAILS && size),
                              .fd_count = how & HOW_LAST_FAILS  ? 0
                                          : how & HOW_LONG_TEXT ? 2
                                                                : 1,
                              .serial = ++world.next_answer,
                              .can_shrink = how & HOW_ALL_FAIL};
    draft->header = (struct wire_header){.type = WIRE_REGION, .id = number, .extra = size};
    if (!(how & HOW_CUT))
        send_memory(process, &message);
}

void draft_reference(struct draft *draft, uint64_t id, uint64_t number, size_t size)
{
    uint8_t place[WIRE_REFERENCE_BYTES];
    wire_encode_reference((struct wire_reference){.buffer = number, .size = size}, place);
    bytes_append(&draft->body, place, sizeof place);
    draft->header =
        (struct wire_header){.type = WIRE_RESULT, .flags = WIRE_REFERENCE, .id = id, .count = 1, .extra = 1000};
}

/* as_it_is: with the size of the body that the header says. */
void draft_send(struct process *process, struct draft *draft, bool as_it_is)
{
    uint8_t bytes[WIRE_HEADER_BYTES];
    if (!as_it_is)
        draft->header.body_bytes = draft->body.size;
    wire_encode(&draft->header, bytes);
    say(process, bytes, sizeof bytes);
    say(process, draft->body.data, draft->body.size);
    bytes_clear(&draft->body);
}

/* ---- a good worker ---- */

/* What it still has it may begin, and what it has begun it keeps. False: the page says otherwise, which is somebody's
 * lie. */
static bool claim(struct process *process, struct question *question)
{
    if (question->may_go && process->claims.page && !claims_begin(&process->claims, question->ticket, 1)) {
        REQUIRE(process->tampered);
        return false;
    }
    check_item_in_transit(process, question);
    question->claimed = true;
    return true;
}

/* Whether it is a task whose reply may go in one frame with others, be they of its span or not. */
static bool goes_with_others(const struct question *question)
{
    const struct work *work = work_of(question);
    return !question->in_run && work && work->kind != WORK_BROADCAST && !replies_in_transit(question);
}

static bool are_together(const struct question *first, const struct question *other)
{
    return first == other || (first->in_run && other->span == first->span) ||
           (goes_with_others(first) && goes_with_others(other));
}

/* Items from `first` on that can be answered at once, at most `most`. */
static uint32_t claim_some(struct process *process, size_t first, unsigned most)
{
    struct question *questions = process->questions;
    uint32_t count = 0;
    while (count < most && first + count < process->question_count && questions[first + count].end <= process->read &&
           are_together(&questions[first], &questions[first + count]) && claim(process, &questions[first + count]))
        count++;
    return count;
}

/* In a region that is free, or in a new one. False: there is none, or replies must be smaller. */
static bool lend_reply(struct process *process, uint64_t id)
{
    enum { REGION_BYTES = 128 };
    unsigned number = 0;
    while (number < BORROW_REGIONS && (process->lents[number].held || process->lents[number].untold))
        number++;
    if (number == BORROW_REGIONS || world.max_result_bytes < REGION_BYTES || process->socket_fd < 0 ||
        process->messages_heard < process->message_count)
        return false;
    struct draft draft = {0};
    const struct lent *lent = &process->lents[number];
    if (!lent->known || lent->size < REGION_BYTES) {
        draft_region(&draft, process, number, REGION_BYTES, 0);
        draft_send(process, &draft, false);
    }
    draft_reference(&draft, id, number, 1 + id % REGION_BYTES);
    draft_send(process, &draft, false);
    return true;
}

static void skip(struct process *process, uint32_t count)
{
    struct draft draft = {0};
    draft_skipped(&draft, count);
    draft_send(process, &draft, false);
}

/* The next `most` items at most, of what it has read; and what was taken back, if that is next. */
static void answer(struct process *process, unsigned most)
{
    size_t at = process->first_question;
    while (at < process->question_count && most && process->questions[at].end <= process->read) {
        struct draft draft = {0};
        const struct question *first = &process->questions[at];
        const struct work *work = work_of(first);
        uint32_t count = claim_some(process, at, most);
        if (!count) {
            skip(process, 1);
            return;
        }
        at += count;
        most -= count;
        if (count == 1 && !first->in_run && first->id % 4 == 3 && lend_reply(process, first->id))
            return; /* whether it is free afterwards, the parent has to say */
        if (first->in_place && first->in_run)
            write_results(process, first, count);
        if (first->in_run)
            draft_results(&draft, first->id, count, work && !first->in_place ? work->job.result_size : 0, 0);
        else if (replies_in_transit(first) && good_reply_size(first))
            draft_in_transit(&draft, process, first, 0, good_reply_size(first));
        else if (count > 1 || (first->id % 2 && goes_with_others(first)))
            draft_replies(&draft, first->id, count, 0);
        else
            draft_result(&draft, first->id, first->id % 9 * 11, 0);
        draft_send(process, &draft, false);
    }
    if (at == process->question_count && process->to_skip && most && process->read == process->asked.size)
        skip(process, process->to_skip < most ? (uint32_t)process->to_skip : most);
}

void tamper(struct process *process, uint64_t word)
{
    if (!process->claims.page)
        return;
    process->tampered = true;
    memcpy(process->claims.page, &word, sizeof word);
}

/* If all that it has said was heard. */
void do_next(struct process *process, unsigned most)
{
    struct draft draft = {0};
    read_requests(process, SIZE_MAX);
    process->room = SIZE_MAX;
    if (process->outbox.size || process->exited)
        return;
    if (process->dismissed_at && process->read >= process->dismissed_at) {
        die(process, (struct child_exit){.known = true});
    } else if (process->stage == HELLO_DUE) {
        draft_hello(&draft);
        draft_send(process, &draft, false);
    } else if (process->stage == READY_DUE) {
        draft.header = (struct wire_header){.type = WIRE_READY};
        draft_send(process, &draft, false);
    } else {
        answer(process, most);
    }
}
