/* wire: frames to bytes and back, and what is refused.
 * Build: cc -Iinclude -Isrc tests/test_wire.c src/wire.c src/buf.c -lcmocka */
#include "procpool.h"
#include "wire.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_RESULT = 5000 };
enum { BOTH = (int)WIRE_FROM_PARENT | (int)WIRE_FROM_WORKER };
#define ANY_BODY (UINT64_C(1) << 48)

/* The protocol as docs/wire-protocol.md has it, written down a second time. */
static const struct type {
    enum wire_type type;
    unsigned from; /* enum wire_side, or both */
    bool id, extra, count, function, code;
    uint8_t flags;
    uint64_t max_body;
} types[] = {
    {WIRE_HELLO, BOTH, 0, 0, 0, 0, 0, 0, WIRE_HELLO_BYTES},
    {WIRE_CONFIG, WIRE_FROM_PARENT, 1, 0, 1, 0, 0, 0, ANY_BODY},
    {WIRE_READY, WIRE_FROM_WORKER, 0, 0, 0, 0, 0, 0, 0},
    {WIRE_FUNCTION, WIRE_FROM_PARENT, 0, 0, 0, 1, 0, 0, 65536},
    {WIRE_TASK, WIRE_FROM_PARENT, 1, 1, 1, 1, 0,
     WIRE_STEPWISE | WIRE_FDS | WIRE_REPLAY | WIRE_SPIN | WIRE_REFERENCE | WIRE_IN_PLACE, ANY_BODY},
    {WIRE_RUN, WIRE_FROM_PARENT, 1, 1, 1, 1, 0, WIRE_STEPWISE | WIRE_STOP | WIRE_SPIN | WIRE_REFERENCE | WIRE_IN_PLACE,
     ANY_BODY},
    {WIRE_RESULT, WIRE_FROM_WORKER, 1, 1, 1, 0, 1, WIRE_WORN | WIRE_REFERENCE, MAX_RESULT},
    {WIRE_RESULTS, WIRE_FROM_WORKER, 1, 1, 1, 1, 0, WIRE_WORN, ANY_BODY},
    {WIRE_ERROR, WIRE_FROM_WORKER, 1, 1, 1, 0, 1, WIRE_WORN, WIRE_TEXT_BYTES},
    {WIRE_RECYCLE, WIRE_FROM_PARENT, 0, 0, 0, 0, 0, 0, 0},
    {WIRE_SHUTDOWN, WIRE_FROM_PARENT, 0, 0, 0, 0, 0, 0, 0},
    {WIRE_CLAIMS, WIRE_FROM_PARENT, 0, 0, 0, 0, 0, 0, 0},
    {WIRE_SKIPPED, WIRE_FROM_WORKER, 0, 0, 1, 0, 0, 0, 0},
    {WIRE_REPLIES, WIRE_FROM_WORKER, 1, 0, 1, 0, 0, 0, 16384},
    {WIRE_BUFFER, WIRE_FROM_PARENT, 1, 1, 0, 0, 0, WIRE_IN_PLACE, 0},
    {WIRE_UNMAP, WIRE_FROM_PARENT, 1, 0, 0, 0, 0, 0, 0},
    {WIRE_REGION, WIRE_FROM_WORKER, 1, 1, 0, 0, 0, 0, 0},
    {WIRE_RETURN, WIRE_FROM_PARENT, 1, 0, 0, 0, 0, 0, 0},
    {WIRE_DISCARD, WIRE_FROM_PARENT, 1, 0, 0, 0, 0, 0, 0},
    {WIRE_TRANSIT, WIRE_FROM_PARENT, 0, 1, 0, 0, 0, 0, 0},
};

static int decode(const struct wire_header *header, enum wire_side from, struct wire_header *header_out)
{
    uint8_t bytes[WIRE_HEADER_BYTES];
    wire_encode(header, bytes);
    return wire_decode(bytes, from, MAX_RESULT, header_out);
}

static bool accepts(struct wire_header header, enum wire_side from)
{
    struct wire_header decoded;
    int rc = decode(&header, from, &decoded);
    assert_true(rc == 0 || rc == POOL_EPROTO);
    return rc == 0;
}

static enum wire_side side_of(const struct type *type)
{
    return type->from & WIRE_FROM_WORKER ? WIRE_FROM_WORKER : WIRE_FROM_PARENT;
}

static struct wire_header full_header(const struct type *type)
{
    return (struct wire_header){.body_bytes = type->code ? WIRE_TEXT_BYTES : type->max_body,
                                .id = type->id ? UINT64_MAX - 1 : 0,
                                .extra = type->extra ? UINT64_MAX - 2 : 0,
                                .count = type->count ? UINT32_MAX - 1 : 0,
                                .function = type->function ? UINT32_MAX - 2 : 0,
                                .code = type->code ? INT32_MIN : 0,
                                .type = (uint8_t)type->type,
                                .flags = type->flags};
}

static void every_type_comes_back_with_all_its_fields(void **unused)
{
    (void)unused;
    assert_int_equal(sizeof types / sizeof *types, WIRE_TYPE_COUNT - 1);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct wire_header header = full_header(&types[i]), decoded;
        memset(&decoded, 0xee, sizeof decoded);
        assert_int_equal(decode(&header, side_of(&types[i]), &decoded), 0);
        assert_true(decoded.body_bytes == header.body_bytes && decoded.id == header.id &&
                    decoded.extra == header.extra);
        assert_true(decoded.count == header.count && decoded.function == header.function);
        assert_true(decoded.code == header.code && decoded.type == header.type && decoded.flags == header.flags);
    }
}

static void header_lies_as_documented(void **unused)
{
    (void)unused;
    struct wire_header header = {.body_bytes = 0x0102030405060708,
                                 .id = 0x1112131415161718,
                                 .extra = 0x2122232425262728,
                                 .count = 0x31323334,
                                 .function = 0x41424344,
                                 .code = -2,
                                 .type = WIRE_RESULT,
                                 .flags = WIRE_WORN};
    static const uint8_t expected[WIRE_HEADER_BYTES] = {8,    7,    6,    5,    4,    3,    2,    1,    0x18, 0x17,
                                                        0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0x28, 0x27, 0x26, 0x25,
                                                        0x24, 0x23, 0x22, 0x21, 0x34, 0x33, 0x32, 0x31, 0x44, 0x43,
                                                        0x42, 0x41, 0xfe, 0xff, 0xff, 0xff, 7,    2,    0,    0};
    uint8_t bytes[WIRE_HEADER_BYTES];
    wire_encode(&header, bytes);
    assert_memory_equal(bytes, expected, sizeof expected);
}

static void only_the_right_side_may_send_a_type(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct wire_header header = {.type = (uint8_t)types[i].type};
        assert_int_equal(accepts(header, WIRE_FROM_PARENT), (types[i].from & WIRE_FROM_PARENT) != 0);
        assert_int_equal(accepts(header, WIRE_FROM_WORKER), (types[i].from & WIRE_FROM_WORKER) != 0);
    }
}

static void fields_that_a_type_does_not_use_must_be_zero(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const struct type *type = &types[i];
        struct wire_header header = {.type = (uint8_t)type->type};
        enum wire_side from = side_of(type);
        header.id = 1;
        assert_int_equal(accepts(header, from), type->id);
        header = (struct wire_header){.type = (uint8_t)type->type, .extra = 1};
        assert_int_equal(accepts(header, from), type->extra);
        header = (struct wire_header){.type = (uint8_t)type->type, .count = 1};
        assert_int_equal(accepts(header, from), type->count);
        header = (struct wire_header){.type = (uint8_t)type->type, .function = 1};
        assert_int_equal(accepts(header, from), type->function);
        header = (struct wire_header){.type = (uint8_t)type->type, .code = -1};
        assert_int_equal(accepts(header, from), type->code);
        for (unsigned bit = 1; bit < 256; bit *= 2) {
            header = (struct wire_header){.type = (uint8_t)type->type, .flags = (uint8_t)bit};
            assert_int_equal(accepts(header, from), (type->flags & bit) != 0);
        }
    }
}

static void wire_rejects_oversize_length(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct wire_header header = {.type = (uint8_t)types[i].type, .body_bytes = types[i].max_body};
        assert_true(accepts(header, side_of(&types[i])));
        header.body_bytes++;
        assert_false(accepts(header, side_of(&types[i])));
        header.body_bytes = UINT64_MAX;
        assert_false(accepts(header, side_of(&types[i])));
    }
}

static void a_result_with_a_code_holds_a_text_and_no_more(void **unused)
{
    (void)unused;
    struct wire_header header = {.type = WIRE_RESULT, .code = 7, .body_bytes = WIRE_TEXT_BYTES};
    assert_true(accepts(header, WIRE_FROM_WORKER));
    header.body_bytes = WIRE_TEXT_BYTES + 1;
    assert_false(accepts(header, WIRE_FROM_WORKER));
}

static void a_failed_task_may_say_why_however_small_replies_are(void **unused)
{
    (void)unused;
    uint8_t bytes[WIRE_HEADER_BYTES];
    struct wire_header header = {.type = WIRE_RESULT, .code = 7, .body_bytes = WIRE_TEXT_BYTES}, decoded;
    wire_encode(&header, bytes);
    assert_int_equal(wire_decode(bytes, WIRE_FROM_WORKER, 0, &decoded), 0);
}

static void unknown_types_and_reserved_bytes_are_refused(void **unused)
{
    (void)unused;
    uint8_t bytes[WIRE_HEADER_BYTES] = {0};
    struct wire_header decoded;
    for (unsigned type = 0; type < 256; type++) {
        bytes[36] = (uint8_t)type;
        bool known = type >= WIRE_HELLO && type < WIRE_TYPE_COUNT;
        int rc = wire_decode(bytes, WIRE_FROM_WORKER, MAX_RESULT, &decoded);
        assert_true(known || rc == POOL_EPROTO);
        rc = wire_decode(bytes, WIRE_FROM_PARENT, MAX_RESULT, &decoded);
        assert_true(known || rc == POOL_EPROTO);
    }
    for (size_t at = 38; at < 40; at++) {
        memset(bytes, 0, sizeof bytes);
        bytes[36] = WIRE_READY;
        assert_int_equal(wire_decode(bytes, WIRE_FROM_WORKER, MAX_RESULT, &decoded), 0);
        bytes[at] = 1;
        assert_int_equal(wire_decode(bytes, WIRE_FROM_WORKER, MAX_RESULT, &decoded), POOL_EPROTO);
    }
}

/* ---- bodies ---- */

static struct wire_hello sample_hello(uint32_t id_size)
{
    struct wire_hello hello = {.version = 3, .pid = 4711, .id_size = id_size};
    memset(hello.id, 0x5a, id_size);
    return hello;
}

static void hello_comes_back_with_ids_of_any_length(void **unused)
{
    (void)unused;
    for (uint32_t id_size = 0; id_size <= WIRE_ID_BYTES; id_size++) {
        uint8_t bytes[WIRE_HELLO_BYTES];
        struct wire_hello hello = sample_hello(id_size), decoded;
        size_t size = wire_encode_hello(&hello, bytes);
        assert_int_equal(size, 16 + id_size);
        assert_int_equal(wire_decode_hello(bytes, size, &decoded), 0);
        assert_true(decoded.version == 3 && decoded.pid == 4711 && decoded.id_size == id_size);
        assert_memory_equal(decoded.id, hello.id, id_size);
    }
}

static void hello_of_the_wrong_length_or_magic_is_refused(void **unused)
{
    (void)unused;
    uint8_t bytes[WIRE_HELLO_BYTES + 1] = {0};
    struct wire_hello hello = sample_hello(20), decoded;
    size_t size = wire_encode_hello(&hello, bytes);
    for (size_t shorter = 0; shorter < size; shorter++) {
        uint8_t *exact = malloc(shorter ? shorter : 1);
        memcpy(exact, bytes, shorter);
        assert_int_equal(wire_decode_hello(exact, shorter, &decoded), POOL_EPROTO);
        free(exact);
    }
    assert_int_equal(wire_decode_hello(bytes, size + 1, &decoded), POOL_EPROTO);
    bytes[0] ^= 1;
    assert_int_equal(wire_decode_hello(bytes, size, &decoded), POOL_EPROTO);
    bytes[0] ^= 1;
    bytes[12] = WIRE_ID_BYTES + 1;
    assert_int_equal(wire_decode_hello(bytes, sizeof bytes, &decoded), POOL_EPROTO);
}

static struct wire_config sample_config(void)
{
    static const uint8_t data[] = "initializer finalizer argument";
    return (struct wire_config){.flags = WIRE_CONFIG_PRELOAD,
                                .max_result_bytes = UINT64_MAX,
                                .max_worker_bytes = 12,
                                .spin_ns = 50000,
                                .initializer = {data, 11},
                                .finalizer = {data + 12, 9},
                                .arg = {data + 22, 8}};
}

static void assert_same_bytes(struct wire_bytes one, struct wire_bytes other)
{
    assert_true(one.size == other.size);
    if (one.size)
        assert_memory_equal(one.data, other.data, (size_t)one.size);
}

static void config_comes_back(void **unused)
{
    (void)unused;
    struct wire_config config = sample_config(), decoded;
    size_t size = wire_config_size(&config);
    uint8_t *bytes = malloc(size);
    wire_encode_config(&config, bytes);
    assert_int_equal(wire_decode_config(bytes, size, &decoded), 0);
    assert_true(decoded.flags == config.flags && decoded.max_result_bytes == config.max_result_bytes);
    assert_true(decoded.max_worker_bytes == config.max_worker_bytes && decoded.spin_ns == config.spin_ns);
    assert_same_bytes(decoded.initializer, config.initializer);
    assert_same_bytes(decoded.finalizer, config.finalizer);
    assert_same_bytes(decoded.preload, config.preload);
    assert_same_bytes(decoded.arg, config.arg);
    free(bytes);
}

static void truncated_config_is_refused_at_every_byte(void **unused)
{
    (void)unused;
    struct wire_config config = sample_config(), decoded;
    size_t size = wire_config_size(&config);
    uint8_t *bytes = calloc(1, size + 1);
    wire_encode_config(&config, bytes);
    for (size_t shorter = 0; shorter < size; shorter++) {
        uint8_t *exact = malloc(shorter ? shorter : 1);
        memcpy(exact, bytes, shorter);
        assert_int_equal(wire_decode_config(exact, shorter, &decoded), POOL_EPROTO);
        free(exact);
    }
    assert_int_equal(wire_decode_config(bytes, size + 1, &decoded), POOL_EPROTO);
    memset(bytes + 28, 0xff, 8); /* the size of the initializer */
    assert_int_equal(wire_decode_config(bytes, size, &decoded), POOL_EPROTO);
    free(bytes);
}

static void failures_come_back(void **unused)
{
    (void)unused;
    uint8_t bytes[WIRE_FAILURE_BYTES];
    wire_encode_failure((struct wire_failure){.offset = UINT32_MAX, .code = INT32_MIN}, bytes);
    struct wire_failure decoded = wire_decode_failure(bytes);
    assert_true(decoded.offset == UINT32_MAX && decoded.code == INT32_MIN);
}

static int check(const struct wire_failure *failures, uint32_t count, uint32_t items)
{
    uint8_t bytes[4 * WIRE_FAILURE_BYTES];
    for (uint32_t i = 0; i < count; i++)
        wire_encode_failure(failures[i], bytes + (size_t)i * WIRE_FAILURE_BYTES);
    return wire_check_failures(bytes, count, items);
}

static void a_list_of_failures_ascends_within_the_items(void **unused)
{
    (void)unused;
    assert_int_equal(check((struct wire_failure[]){{0, 1}, {1, -1}, {9, 3}}, 3, 10), 0);
    assert_int_equal(check((struct wire_failure[]){{UINT32_MAX - 1, 1}}, 1, UINT32_MAX), 0);
    assert_int_equal(wire_check_failures(NULL, 0, 0), 0);
    assert_int_equal(check((struct wire_failure[]){{10, 1}}, 1, 10), POOL_EPROTO);
    assert_int_equal(check((struct wire_failure[]){{UINT32_MAX, 1}}, 1, UINT32_MAX), POOL_EPROTO);
    assert_int_equal(check((struct wire_failure[]){{3, 1}, {3, 1}}, 2, 10), POOL_EPROTO);
    assert_int_equal(check((struct wire_failure[]){{3, 1}, {2, 1}}, 2, 10), POOL_EPROTO);
    assert_int_equal(check((struct wire_failure[]){{0, 0}}, 1, 10), POOL_EPROTO);
}

/* A body of WIRE_REPLIES with replies of these sizes. */
static size_t make_replies(const uint32_t *sizes, uint32_t count, uint8_t *bytes)
{
    size_t end = 0;
    for (uint32_t i = 0; i < count; i++) {
        wire_encode_reply(&(struct wire_reply){.size = sizes[i], .elapsed_ns = 7 + i}, bytes + end);
        memset(bytes + end + WIRE_REPLY_BYTES, (int)i, sizes[i]);
        end += WIRE_REPLY_BYTES + sizes[i];
    }
    return end;
}

static void replies_come_back_one_behind_the_other(void **unused)
{
    (void)unused;
    static const uint32_t sizes[] = {3, 0, 20};
    uint8_t bytes[64];
    size_t size = make_replies(sizes, 3, bytes);
    const uint8_t *at = bytes;
    assert_int_equal(wire_check_replies(bytes, size, 3, 20), 0);
    for (uint32_t i = 0; i < 3; i++) {
        struct wire_reply reply;
        const uint8_t *next = wire_decode_reply(at, &reply);
        assert_true(reply.size == sizes[i] && reply.elapsed_ns == 7 + i && reply.bytes == at + WIRE_REPLY_BYTES);
        assert_true(next == reply.bytes + reply.size);
        at = next;
    }
    assert_true(at == bytes + size);
}

static void replies_fill_their_body_to_the_byte(void **unused)
{
    (void)unused;
    static const uint32_t sizes[] = {3, 0, 20};
    uint8_t bytes[64];
    size_t size = make_replies(sizes, 3, bytes);
    for (size_t other = 0; other < size; other++) {
        uint8_t *exact = malloc(other ? other : 1);
        memcpy(exact, bytes, other);
        assert_int_equal(wire_check_replies(exact, other, 3, 20), POOL_EPROTO);
        free(exact);
    }
    assert_int_equal(wire_check_replies(bytes, size, 2, 20), POOL_EPROTO);
    assert_int_equal(wire_check_replies(bytes, size, 4, 20), POOL_EPROTO);
    assert_int_equal(wire_check_replies(bytes, size, UINT32_MAX, 20), POOL_EPROTO);
    assert_int_equal(wire_check_replies(bytes, size, 3, 19), POOL_EPROTO);
    wire_encode_reply(&(struct wire_reply){.size = UINT32_MAX}, bytes);
    assert_int_equal(wire_check_replies(bytes, size, 1, UINT64_MAX), POOL_EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_comes_back_with_all_its_fields),
        cmocka_unit_test(header_lies_as_documented),
        cmocka_unit_test(only_the_right_side_may_send_a_type),
        cmocka_unit_test(fields_that_a_type_does_not_use_must_be_zero),
        cmocka_unit_test(wire_rejects_oversize_length),
        cmocka_unit_test(a_result_with_a_code_holds_a_text_and_no_more),
        cmocka_unit_test(a_failed_task_may_say_why_however_small_replies_are),
        cmocka_unit_test(unknown_types_and_reserved_bytes_are_refused),
        cmocka_unit_test(hello_comes_back_with_ids_of_any_length),
        cmocka_unit_test(hello_of_the_wrong_length_or_magic_is_refused),
        cmocka_unit_test(config_comes_back),
        cmocka_unit_test(truncated_config_is_refused_at_every_byte),
        cmocka_unit_test(failures_come_back),
        cmocka_unit_test(a_list_of_failures_ascends_within_the_items),
        cmocka_unit_test(replies_come_back_one_behind_the_other),
        cmocka_unit_test(replies_fill_their_body_to_the_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
