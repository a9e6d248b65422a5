/* parent_reader: what the parent hears, read a second time, by the description in docs/wire-protocol.md.
 *
 * It sees the bytes as the parent reads them, and knows what was put into the stream to the worker until then; so it is
 * of one mind with the parent about every frame: what it takes for garbage has to end the worker, and what it believes
 * is what became of the item. Headers are decoded by wire_decode, which fuzz_wire tests. */
#include "parent_world.h"
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

/* A run is read to its end before any of its items is answered, a task before it is. */
static bool was_sent(const struct process *process)
{
    return process->written >= head_of(process)->end;
}

static bool answers_head(const struct process *process)
{
    const struct wire_header *header = &process->header;
    return process->stage == WORKS && has_questions(process) && work_of(head_of(process)) &&
           header->id == head_of(process)->id && header->count && header->count <= left_in_span(process);
}

/* Of what comes with the frame. */
static size_t result_size_of_head(const struct process *process)
{
    return head_of(process)->in_place ? 0 : work_of(head_of(process))->job.result_size;
}

static bool takes_replies(const struct process *process)
{
    const struct work *work = has_questions(process) ? work_of(head_of(process)) : NULL;
    return has_questions(process) && !head_of(process)->in_run && (!work || work->kind != WORK_BROADCAST);
}

static bool is_due(const struct process *process)
{
    const struct wire_header *header = &process->header;
    switch (header->type) {
    case WIRE_HELLO:
        return process->stage == HELLO_DUE;
    case WIRE_READY:
        return process->stage == READY_DUE;
    case WIRE_ERROR:
        if (process->stage == READY_DUE)
            return header->code < 0 && !header->count;
        return header->code < 0 && answers_head(process) && (head_of(process)->in_run || header->count == 1);
    case WIRE_SKIPPED:
        return process->stage == WORKS && !has_questions(process) && header->count && header->count <= process->to_skip;
    case WIRE_RESULT:
        if (header->flags & WIRE_REFERENCE && (header->code || header->body_bytes != WIRE_REFERENCE_BYTES))
            return false;
        return answers_head(process) && !head_of(process)->in_run && header->count == 1;
    case WIRE_REGION:
        return process->stage == WORKS && has_questions(process) && !head_of(process)->in_run && !process->announced;
    case WIRE_REPLIES:
        return process->stage == WORKS && takes_replies(process) && work_of(head_of(process)) && header->count &&
               header->id == head_of(process)->id;
    default:
        return answers_head(process) && head_of(process)->in_run && header->function <= header->count &&
               header->body_bytes == (uint64_t)header->function * WIRE_FAILURE_BYTES +
                                         header->count * (uint64_t)result_size_of_head(process);
    }
}

/* ---- answers ---- */

static struct item outcome_of(const struct process *process, const uint8_t *body, uint32_t i)
{
    const struct wire_header *header = &process->header;
    struct item failed = {.fate = ITEM_FAILED, .status = POOL_ETASK, .run_ns = header->extra};
    struct item succeeded = {.fate = ITEM_SUCCEEDED, .run_ns = header->extra};
    if (header->type == WIRE_RESULT && !header->code) {
        succeeded.reply_size = (size_t)header->body_bytes;
        return succeeded;
    }
    if (header->type == WIRE_ERROR)
        failed.status = header->code;
    if (header->type == WIRE_RESULT)
        failed.code = header->code;
    if (header->type != WIRE_RESULTS)
        return failed;
    for (uint32_t k = 0; k < header->function; k++) {
        struct wire_failure failure = wire_decode_failure(body + (size_t)k * WIRE_FAILURE_BYTES);
        failed.code = failure.code;
        if (failure.offset == i)
            return failed;
    }
    succeeded.reply_size = work_of(head_of(process))->job.result_size;
    return succeeded;
}

static void note_failed_part(struct work *work, unsigned slot, int status)
{
    if (work->failure && work->failed_slot <= slot)
        return;
    work->failure = status;
    work->failed_slot = slot;
}

static void end_part(struct process *process, struct work *work, const struct item *outcome)
{
    if (outcome->fate == ITEM_SUCCEEDED)
        process->broadcast = work->serial;
    else
        note_failed_part(work, slot_of(process), outcome->status);
}

/* The parent believes it. */
static void end_item(struct process *process, struct item outcome, const uint8_t *reply)
{
    struct work *work = work_of(head_of(process));
    if (work->kind == WORK_BROADCAST) {
        end_part(process, work, &outcome);
        return;
    }
    struct item *item = &work->items_known[head_of(process)->index];
    REQUIRE(item->fate == ITEM_IS_AWAY && item->process == number_of(process));
    outcome.process = item->process;
    outcome.times_sent = item->times_sent;
    outcome.reply_at = work->replies.size;
    bytes_append(&work->replies, reply, outcome.reply_size);
    *item = outcome;
    world.succeeded += outcome.fate == ITEM_SUCCEEDED;
}

static void forget_question(struct process *process)
{
    process->first_question++;
    process->since_ns = world.now_ns;
}

/* A failure ends a run that stops: the rest is not answered. */
static void forget_span(struct process *process, unsigned span, struct work *work)
{
    while (has_questions(process) && head_of(process)->span == span) {
        work->items_known[head_of(process)->index].fate = ITEM_WAITS;
        forget_question(process);
    }
}

static void note_carried_in(uint64_t bytes)
{
    world.carried_in += bytes;
    world.believed += bytes;
}

static bool believe_answer(struct process *process, const uint8_t *body)
{
    const struct wire_header *header = &process->header;
    if (!was_sent(process))
        return false;
    if (header->type == WIRE_RESULTS && head_of(process)->in_place)
        note_carried_in(head_of(process)->results_size * header->count);
    if (header->type == WIRE_RESULTS && wire_check_failures(body, header->function, header->count))
        return false;
    unsigned slot = slot_of(process), span = head_of(process)->span;
    struct work *work = work_of(head_of(process));
    if (!work || sched_state(&world.loop.sched, slot) != SLOT_READY)
        return true; /* it is being killed: too late, whatever it says */
    bool in_run = header->type == WIRE_RESULTS, failed = false;
    const uint8_t *reply = body + (in_run ? (size_t)header->function * WIRE_FAILURE_BYTES : 0);
    for (uint32_t i = 0; i < header->count; i++) {
        struct item outcome = outcome_of(process, body, i);
        end_item(process, outcome,
                 in_run && head_of(process)->in_place ? results_of(process, head_of(process)) : reply);
        failed |= outcome.fate == ITEM_FAILED;
        reply += in_run && !head_of(process)->in_place ? work->job.result_size : 0;
        forget_question(process);
    }
    if (failed && work->stops)
        forget_span(process, span, work);
    return true;
}

/* The next `count` of a frame of replies, which are of one span. */
static const uint8_t *end_items(struct process *process, const uint8_t *replies, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        struct wire_reply reply;
        replies = wire_decode_reply(replies, &reply);
        struct item outcome = {.fate = ITEM_SUCCEEDED, .run_ns = reply.elapsed_ns, .reply_size = reply.size};
        end_item(process, outcome, reply.bytes);
        forget_question(process);
    }
    return replies;
}

/* They may be of several spans, and are believed span by span. */
static bool believe_replies(struct process *process, const uint8_t *body)
{
    uint64_t left = process->header.count, count;
    if (wire_check_replies(body, (size_t)process->header.body_bytes, process->header.count, world.max_result_bytes))
        return false;
    for (; left; left -= count) {
        if (!takes_replies(process))
            return false;
        if (!work_of(head_of(process)) || sched_state(&world.loop.sched, slot_of(process)) != SLOT_READY)
            return true; /* it is being killed: too late, whatever it says */
        count = left < left_in_span(process) ? left : left_in_span(process);
        if (process->written < process->questions[process->first_question + count - 1].end)
            return false;
        body = end_items(process, body, count);
    }
    return true;
}

/* ---- what is lent ---- */

/* With the message that is next, whichever it is. */
static bool believe_region(struct process *process)
{
    const struct wire_header *header = &process->header;
    if (!was_sent(process) || process->messages_heard == process->message_count)
        return false;
    const struct message *message = &process->messages[process->messages_heard++];
    bool fits = header->id < BORROW_REGIONS && header->extra && header->extra <= world.max_result_bytes &&
                message->number == header->id && message->fd_count <= 1 &&
                (!message->fd_count || (!message->can_shrink && message->size >= header->extra));
    if (fits)
        process->lents[header->id] = (struct lent){
            .known = true, .has_fd = message->fd_count, .size = (size_t)header->extra, .serial = message->serial};
    return fits;
}

static void end_lent_item(struct process *process, struct lent *lent, const struct wire_reference *reference)
{
    unsigned span = head_of(process)->span, number = number_of(process);
    struct work *work = work_of(head_of(process));
    struct item outcome = {.fate = ITEM_FAILED, .status = -EMFILE, .run_ns = process->header.extra};
    uint8_t *content = own((size_t)reference->size, 1);
    fill_lent(content, (size_t)reference->size, lent->serial);
    if (lent->has_fd) {
        outcome.fate = ITEM_SUCCEEDED;
        outcome.status = 0;
        outcome.reply_size = (size_t)reference->size;
    }
    lent->held = lent->has_fd && work->kind == WORK_TASK;
    lent->untold = !lent->held; /* what a map gives is a copy */
    lent->known = lent->has_fd;
    if (lent->held)
        work->holding = (struct holding){number, (unsigned)reference->buffer, lent->serial};
    end_item(process, outcome, content);
    forget_question(process);
    if (outcome.status && work->stops)
        forget_span(process, span, work);
    disown(content);
}

/* Where the task said, from the beginning of that place on. */
static bool believe_in_transit(struct process *process, const struct wire_reference *reference)
{
    const struct question *head = head_of(process);
    if (!was_sent(process) || !head->in_place || reference->offset != head->results_at || !reference->size ||
        reference->size > head->results_size || reference->size > world.max_result_bytes)
        return false;
    note_carried_in(reference->size);
    if (!work_of(head) || sched_state(&world.loop.sched, slot_of(process)) != SLOT_READY)
        return true; /* it is being killed: too late, whatever it says */
    struct item outcome = {
        .fate = ITEM_SUCCEEDED, .run_ns = process->header.extra, .reply_size = (size_t)reference->size};
    end_item(process, outcome, results_of(process, head));
    forget_question(process);
    return true;
}

static bool believe_reference(struct process *process, const uint8_t *body)
{
    struct wire_reference reference = wire_decode_reference(body);
    if (reference.buffer == WIRE_IN_TRANSIT)
        return believe_in_transit(process, &reference);
    if (!was_sent(process) || reference.offset || reference.size > world.max_result_bytes ||
        reference.buffer >= BORROW_REGIONS)
        return false;
    struct lent *lent = &process->lents[reference.buffer];
    bool is_free = !lent->held && !lent->untold, is_there = reference.size && reference.size <= lent->size;
    if (!lent->known || !is_there || (lent->has_fd && !is_free))
        return false;
    if (work_of(head_of(process)) && sched_state(&world.loop.sched, slot_of(process)) == SLOT_READY)
        end_lent_item(process, lent, &reference);
    return true; /* or it is being killed: too late, whatever it says */
}

/* ---- frames ---- */

static bool believe_hello(struct process *process, const uint8_t *body)
{
    struct wire_hello hello;
    uint8_t id[WIRE_ID_BYTES];
    size_t id_size = callable_library_id(id);
    if (wire_decode_hello(body, (size_t)process->header.body_bytes, &hello))
        return false;
    if (hello.version == WIRE_VERSION && hello.id_size == id_size && !memcmp(hello.id, id, id_size))
        process->stage = READY_DUE;
    else
        process->declined = true;
    return true;
}

static bool believe(struct process *process, const uint8_t *body)
{
    if (process->header.type != WIRE_REPLIES)
        process->announced = process->header.type == WIRE_REGION;
    if (process->header.type == WIRE_HELLO)
        return believe_hello(process, body);
    if (process->header.type == WIRE_REGION)
        return believe_region(process);
    if (process->header.type == WIRE_RESULT && process->header.flags & WIRE_REFERENCE)
        return believe_reference(process, body);
    if (process->header.type == WIRE_SKIPPED)
        process->to_skip -= process->header.count;
    else if (process->header.type == WIRE_REPLIES)
        return believe_replies(process, body);
    else if (process->stage == WORKS)
        return believe_answer(process, body);
    else if (process->header.type == WIRE_READY)
        process->stage = WORKS;
    else
        process->declined = true;
    return true;
}

static bool take_header(struct process *process, const uint8_t *bytes, size_t size)
{
    if (size < WIRE_HEADER_BYTES)
        return false;
    bool decoded = !wire_decode(bytes, WIRE_FROM_WORKER, world.max_result_bytes, &process->header);
    process->garbage = !decoded || !is_due(process);
    process->in_frame = !process->garbage;
    process->heard_at += WIRE_HEADER_BYTES;
    return process->in_frame;
}

/* A header or a body; false when it is not complete, or garbage. */
static bool take_next(struct process *process)
{
    const uint8_t *bytes = process->heard.data + process->heard_at;
    size_t size = process->heard.size - process->heard_at;
    if (!process->in_frame)
        return take_header(process, bytes, size);
    if (size < process->header.body_bytes)
        return false;
    process->in_frame = false;
    process->heard_at += (size_t)process->header.body_bytes;
    process->garbage = !believe(process, bytes);
    world.believed += WIRE_HEADER_BYTES + process->header.body_bytes;
    return !process->garbage;
}

/* Who has nothing to do has nothing to say, not even the beginning of a frame. */
static bool speaks_unasked(const struct process *process)
{
    return process->stage == WORKS && !has_questions(process) && !process->to_skip && !process->in_frame &&
           process->heard.size > process->heard_at;
}

void hear(struct process *process, const void *bytes, size_t size)
{
    if (process->garbage)
        return;
    bytes_append(&process->heard, bytes, size);
    while (take_next(process))
        trace("  process %u: type %u%s\n", number_of(process), process->header.type,
              process->in_frame ? "..." : " is believed");
    process->garbage |= speaks_unasked(process);
    if (process->garbage)
        trace("  process %u: garbage\n", number_of(process));
}

/* ---- what the parent reads ---- */

ssize_t __real_read(int fd, void *bytes, size_t size);
ssize_t __real_readv(int fd, const struct iovec *parts, int count);

/* All parts at once: what follows a frame in the same read was said at the same time. */
static void hear_parts(struct process *process, const struct iovec *parts, size_t size)
{
    struct bytes all = {0};
    for (int i = 0; all.size < size; i++) {
        size_t left = size - all.size;
        bytes_append(&all, parts[i].iov_base, left < parts[i].iov_len ? left : parts[i].iov_len);
    }
    hear(process, all.data, all.size);
    bytes_clear(&all);
}

ssize_t __wrap_read(int fd, void *bytes, size_t size)
{
    ssize_t count = __real_read(fd, bytes, size);
    struct process *process = count > 0 ? process_that_is_heard(fd) : NULL;
    if (process)
        hear(process, bytes, (size_t)count);
    return count;
}

ssize_t __wrap_readv(int fd, const struct iovec *parts, int count)
{
    ssize_t done = __real_readv(fd, parts, count);
    struct process *process = done > 0 ? process_that_is_heard(fd) : NULL;
    if (process)
        hear_parts(process, parts, (size_t)done);
    return done;
}
