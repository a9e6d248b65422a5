/* wire: see wire.h. Headers are checked against one table; for bodies that have a form there is a check of their
 * own. */
#include "wire.h"
#include "buf.h"
#include "procpool.h"
#include <endian.h>
#include <stdbool.h>
#include <string.h>

/* Offsets in the header. */
enum {
    AT_BODY = 0,
    AT_ID = 8,
    AT_EXTRA = 16,
    AT_COUNT = 24,
    AT_FUNCTION = 28,
    AT_CODE = 32,
    AT_TYPE = 36,
    AT_FLAGS = 37,
    AT_ZERO = 38
};

/* Header fields that a type may use. */
enum { HAS_ID = 1, HAS_EXTRA = 2, HAS_COUNT = 4, HAS_FUNCTION = 8, HAS_CODE = 16 };

#define ANY_BODY   (UINT64_C(1) << 48)
#define REPLY_BODY UINT64_MAX /* as large as max_result_bytes says */

static const struct wire_rule {
    uint8_t from;  /* enum wire_side, or both */
    uint8_t has;   /* header fields */
    uint8_t flags; /* flags that may be set */
    uint64_t max_body_bytes;
} wire_rules[WIRE_TYPE_COUNT] = {
    [WIRE_HELLO] = {WIRE_FROM_PARENT | WIRE_FROM_WORKER, 0, 0, WIRE_HELLO_BYTES},
    [WIRE_CONFIG] = {WIRE_FROM_PARENT, HAS_ID | HAS_COUNT, 0, ANY_BODY},
    [WIRE_READY] = {WIRE_FROM_WORKER, 0, 0, 0},
    [WIRE_FUNCTION] = {WIRE_FROM_PARENT, HAS_FUNCTION, 0, 1 << 16},
    [WIRE_TASK] = {WIRE_FROM_PARENT, HAS_ID | HAS_EXTRA | HAS_COUNT | HAS_FUNCTION,
                   WIRE_STEPWISE | WIRE_FDS | WIRE_REPLAY | WIRE_SPIN | WIRE_REFERENCE | WIRE_IN_PLACE, ANY_BODY},
    [WIRE_RUN] = {WIRE_FROM_PARENT, HAS_ID | HAS_EXTRA | HAS_COUNT | HAS_FUNCTION,
                  WIRE_STEPWISE | WIRE_STOP | WIRE_SPIN | WIRE_REFERENCE | WIRE_IN_PLACE, ANY_BODY},
    [WIRE_RESULT] = {WIRE_FROM_WORKER, HAS_ID | HAS_EXTRA | HAS_COUNT | HAS_CODE, WIRE_WORN | WIRE_REFERENCE,
                     REPLY_BODY},
    [WIRE_RESULTS] = {WIRE_FROM_WORKER, HAS_ID | HAS_EXTRA | HAS_COUNT | HAS_FUNCTION, WIRE_WORN, ANY_BODY},
    [WIRE_ERROR] = {WIRE_FROM_WORKER, HAS_ID | HAS_EXTRA | HAS_COUNT | HAS_CODE, WIRE_WORN, WIRE_TEXT_BYTES},
    [WIRE_RECYCLE] = {WIRE_FROM_PARENT, 0, 0, 0},
    [WIRE_SHUTDOWN] = {WIRE_FROM_PARENT, 0, 0, 0},
    [WIRE_CLAIMS] = {WIRE_FROM_PARENT, 0, 0, 0},
    [WIRE_SKIPPED] = {WIRE_FROM_WORKER, HAS_COUNT, 0, 0},
    [WIRE_REPLIES] = {WIRE_FROM_WORKER, HAS_ID | HAS_COUNT, 0, WIRE_REPLIES_BYTES},
    [WIRE_BUFFER] = {WIRE_FROM_PARENT, HAS_ID | HAS_EXTRA, WIRE_IN_PLACE, 0},
    [WIRE_UNMAP] = {WIRE_FROM_PARENT, HAS_ID, 0, 0},
    [WIRE_REGION] = {WIRE_FROM_WORKER, HAS_ID | HAS_EXTRA, 0, 0},
    [WIRE_RETURN] = {WIRE_FROM_PARENT, HAS_ID, 0, 0},
    [WIRE_DISCARD] = {WIRE_FROM_PARENT, HAS_ID, 0, 0},
    [WIRE_TRANSIT] = {WIRE_FROM_PARENT, HAS_EXTRA, 0, 0},
};

static void store_u64(uint8_t *bytes, uint64_t value)
{
    value = htole64(value);
    memcpy(bytes, &value, sizeof value);
}

static void store_u32(uint8_t *bytes, uint32_t value)
{
    value = htole32(value);
    memcpy(bytes, &value, sizeof value);
}

static uint64_t load_u64(const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return le64toh(value);
}

static uint32_t load_u32(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return le32toh(value);
}

void wire_encode(const struct wire_header *header, uint8_t bytes[WIRE_HEADER_BYTES])
{
    store_u64(bytes + AT_BODY, header->body_bytes);
    store_u64(bytes + AT_ID, header->id);
    store_u64(bytes + AT_EXTRA, header->extra);
    store_u32(bytes + AT_COUNT, header->count);
    store_u32(bytes + AT_FUNCTION, header->function);
    store_u32(bytes + AT_CODE, (uint32_t)header->code);
    bytes[AT_TYPE] = header->type;
    bytes[AT_FLAGS] = header->flags;
    bytes[AT_ZERO] = bytes[AT_ZERO + 1] = 0;
}

static bool rule_allows(const struct wire_rule *rule, const struct wire_header *header, enum wire_side from,
                        uint64_t max_result_bytes)
{
    uint64_t cap = rule->max_body_bytes;
    if (cap == REPLY_BODY) /* a task that fails sends a text instead, however small the replies are */
        cap = header->code || max_result_bytes < WIRE_TEXT_BYTES ? WIRE_TEXT_BYTES : max_result_bytes;
    return (rule->from & from) && header->body_bytes <= cap && !(header->flags & ~rule->flags) &&
           (rule->has & HAS_ID || !header->id) && (rule->has & HAS_EXTRA || !header->extra) &&
           (rule->has & HAS_COUNT || !header->count) && (rule->has & HAS_FUNCTION || !header->function) &&
           (rule->has & HAS_CODE || !header->code);
}

int wire_decode(const uint8_t bytes[WIRE_HEADER_BYTES], enum wire_side from, uint64_t max_result_bytes,
                struct wire_header *header_out)
{
    *header_out = (struct wire_header){
        .body_bytes = load_u64(bytes + AT_BODY),
        .id = load_u64(bytes + AT_ID),
        .extra = load_u64(bytes + AT_EXTRA),
        .count = load_u32(bytes + AT_COUNT),
        .function = load_u32(bytes + AT_FUNCTION),
        .code = (int32_t)load_u32(bytes + AT_CODE),
        .type = bytes[AT_TYPE],
        .flags = bytes[AT_FLAGS],
    };
    if (header_out->type >= WIRE_TYPE_COUNT || bytes[AT_ZERO] || bytes[AT_ZERO + 1])
        return POOL_EPROTO;
    return rule_allows(&wire_rules[header_out->type], header_out, from, max_result_bytes) ? 0 : POOL_EPROTO;
}

static const uint8_t hello_magic[4] = {'p', 'p', 'o', 'l'};

size_t wire_encode_hello(const struct wire_hello *hello, uint8_t bytes[WIRE_HELLO_BYTES])
{
    struct buf_writer writer = buf_writer(bytes, WIRE_HELLO_BYTES);
    buf_write_bytes(&writer, hello_magic, sizeof hello_magic);
    buf_write_u32(&writer, hello->version);
    buf_write_u32(&writer, hello->pid);
    buf_write_u32(&writer, hello->id_size);
    buf_write_bytes(&writer, hello->id, hello->id_size);
    return buf_written(&writer);
}

int wire_decode_hello(const uint8_t *bytes, size_t size, struct wire_hello *hello_out)
{
    struct buf_reader reader = buf_reader(bytes, size);
    const uint8_t *magic = buf_borrow(&reader, sizeof hello_magic);
    *hello_out = (struct wire_hello){.version = buf_read_u32(&reader), .pid = buf_read_u32(&reader)};
    hello_out->id_size = buf_read_u32(&reader);
    if (reader.failed || memcmp(magic, hello_magic, sizeof hello_magic) != 0 || hello_out->id_size > WIRE_ID_BYTES)
        return POOL_EPROTO;
    const uint8_t *id = buf_borrow(&reader, hello_out->id_size);
    if (!buf_finished(&reader))
        return POOL_EPROTO;
    memcpy(hello_out->id, id, hello_out->id_size);
    return 0;
}

enum { CONFIG_FIXED_BYTES = 4 + 3 * 8 + 4 * 8 };

size_t wire_config_size(const struct wire_config *config)
{
    return CONFIG_FIXED_BYTES +
           (size_t)(config->initializer.size + config->finalizer.size + config->preload.size + config->arg.size);
}

static void write_bytes(struct buf_writer *writer, struct wire_bytes bytes)
{
    buf_write_u64(writer, bytes.size);
    buf_write_bytes(writer, bytes.data, (size_t)bytes.size);
}

void wire_encode_config(const struct wire_config *config, uint8_t *bytes)
{
    struct buf_writer writer = buf_writer(bytes, wire_config_size(config));
    buf_write_u32(&writer, config->flags);
    buf_write_u64(&writer, config->max_result_bytes);
    buf_write_u64(&writer, config->max_worker_bytes);
    buf_write_u64(&writer, config->spin_ns);
    write_bytes(&writer, config->initializer);
    write_bytes(&writer, config->finalizer);
    write_bytes(&writer, config->preload);
    write_bytes(&writer, config->arg);
}

static struct wire_bytes read_bytes(struct buf_reader *reader)
{
    uint64_t size = buf_read_u64(reader);
    if (size > (uint64_t)(reader->end - reader->at))
        reader->failed = true;
    return (struct wire_bytes){.data = buf_borrow(reader, (size_t)size), .size = size};
}

int wire_decode_config(const uint8_t *bytes, size_t size, struct wire_config *config_out)
{
    struct buf_reader reader = buf_reader(bytes, size);
    config_out->flags = buf_read_u32(&reader);
    config_out->max_result_bytes = buf_read_u64(&reader);
    config_out->max_worker_bytes = buf_read_u64(&reader);
    config_out->spin_ns = buf_read_u64(&reader);
    config_out->initializer = read_bytes(&reader);
    config_out->finalizer = read_bytes(&reader);
    config_out->preload = read_bytes(&reader);
    config_out->arg = read_bytes(&reader);
    return buf_finished(&reader) ? 0 : POOL_EPROTO;
}

void wire_encode_failure(struct wire_failure failure, uint8_t bytes[WIRE_FAILURE_BYTES])
{
    store_u32(bytes, failure.offset);
    store_u32(bytes + 4, (uint32_t)failure.code);
}

struct wire_failure wire_decode_failure(const uint8_t bytes[WIRE_FAILURE_BYTES])
{
    return (struct wire_failure){.offset = load_u32(bytes), .code = (int32_t)load_u32(bytes + 4)};
}

int wire_check_failures(const uint8_t *bytes, uint32_t failure_count, uint32_t item_count)
{
    uint64_t least = 0;
    for (uint32_t i = 0; i < failure_count; i++) {
        struct wire_failure failure = wire_decode_failure(bytes + (size_t)i * WIRE_FAILURE_BYTES);
        if (failure.offset < least || failure.offset >= item_count || !failure.code)
            return POOL_EPROTO;
        least = (uint64_t)failure.offset + 1;
    }
    return 0;
}

void wire_encode_reply(const struct wire_reply *reply, uint8_t bytes[WIRE_REPLY_BYTES])
{
    store_u32(bytes, reply->size);
    store_u32(bytes + 4, reply->elapsed_ns);
}

const uint8_t *wire_decode_reply(const uint8_t *bytes, struct wire_reply *reply_out)
{
    *reply_out = (struct wire_reply){
        .size = load_u32(bytes), .elapsed_ns = load_u32(bytes + 4), .bytes = bytes + WIRE_REPLY_BYTES};
    return reply_out->bytes + reply_out->size;
}

int wire_check_replies(const uint8_t *bytes, size_t size, uint32_t count, uint64_t max_result_bytes)
{
    for (uint32_t i = 0; i < count; i++) {
        if (size < WIRE_REPLY_BYTES)
            return POOL_EPROTO;
        uint32_t reply_size = load_u32(bytes);
        if (reply_size > max_result_bytes || reply_size > size - WIRE_REPLY_BYTES)
            return POOL_EPROTO;
        bytes += WIRE_REPLY_BYTES + reply_size;
        size -= WIRE_REPLY_BYTES + reply_size;
    }
    return size ? POOL_EPROTO : 0;
}

void wire_encode_reference(struct wire_reference reference, uint8_t bytes[WIRE_REFERENCE_BYTES])
{
    store_u64(bytes, reference.buffer);
    store_u64(bytes + 8, reference.offset);
    store_u64(bytes + 16, reference.size);
}

struct wire_reference wire_decode_reference(const uint8_t bytes[WIRE_REFERENCE_BYTES])
{
    return (struct wire_reference){
        .buffer = load_u64(bytes), .offset = load_u64(bytes + 8), .size = load_u64(bytes + 16)};
}
