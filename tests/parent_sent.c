/* parent_sent: what the parent puts into the stream to each process. It is recorded as it is put, so that what comes
 * out of the pipe can be compared, whatever happens to the memory in between, and so that it is known which answers are
 * due. */
#include "parent_world.h"
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

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
void note_frame(struct process *process, const struct wire_header *header, const void *start, size_t start_size,
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
