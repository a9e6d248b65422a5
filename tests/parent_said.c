/* parent_said: what processes say: frames in the making, and how much of them, and of what they were sent, goes through
 * the pipes when. */
#include "fd.h"
#include "parent_world.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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
