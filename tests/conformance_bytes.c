/* conformance_bytes: maps over payloads of any size. */
#include "conformance.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fill(unsigned char *bytes, size_t size, size_t seed)
{
    uint32_t value = (uint32_t)seed * 2654435761u + 1;
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (unsigned char)(value >> 24);
        value = value * 1664525u + 1013904223u;
    }
}

static struct pool_bytes make_payload(size_t size, size_t seed)
{
    struct pool_bytes payload = {malloc(size ? size : 1), size};
    EXPECT(payload.data);
    fill(payload.data, size, seed);
    return payload;
}

/* The input turned around, so that a reply that is only an echo of what was sent would be noticed. */
static int reverse(struct pool_call *call)
{
    size_t size;
    const unsigned char *input = pool_call_input(call, &size);
    unsigned char *reply = pool_call_reply(call, size);
    if (!input || !reply)
        return 1;
    for (size_t i = 0; i < size; i++)
        reply[i] = input[size - 1 - i];
    return 0;
}

static bool is_reverse(const struct pool_bytes *reply, const struct pool_bytes *item)
{
    const unsigned char *input = item->data, *output = reply->data;
    if (reply->size != item->size || !reply->data != !item->size)
        return false;
    for (size_t i = 0; i < item->size; i++)
        if (output[i] != input[item->size - 1 - i])
            return false;
    return true;
}

static void map_reversed(struct pool *pool, const size_t *sizes, size_t count)
{
    struct pool_bytes *items = calloc(count, sizeof *items), *replies = calloc(count, sizeof *replies);
    for (size_t i = 0; i < count; i++)
        items[i] = make_payload(sizes[i], i + 1);
    EXPECT_OK(pool_map_bytes(pool, reverse, items, count, replies, NULL));
    for (size_t i = 0; i < count; i++) {
        if (!is_reverse(&replies[i], &items[i]))
            expectation_failed(__FILE__, __LINE__, "reply %zu to %zu bytes is wrong", i, sizes[i]);
        pool_bytes_clear(&replies[i]);
        free(items[i].data);
    }
    free(items);
    free(replies);
}

static void payloads_of_0_to_32_mebibytes_come_back(void)
{
    static const size_t sizes[] = {
        0,       1,        15,    16,    17,    0,     2047,          2048,    2049,    4095,    4096,    4097,
        16383,   16384,    16385, 65535, 65536, 65537, 99999,         1,       1048575, 1048576, 1048577, 0,
        3000001, 33554432, 2,     0,     65519, 65520, (5 << 20) - 1, 8 << 20, 1 << 19, 0};
    struct pool *pool = make_pool(2);
    map_reversed(pool, sizes, sizeof sizes / sizeof *sizes);
    map_reversed(pool, &(size_t){32 << 20}, 1);
    map_reversed(pool, &(size_t){0}, 1);
    pool_destroy(pool);
}

static void thousands_of_tiny_payloads_come_back(void)
{
    enum { COUNT = 20000 };
    struct pool *pool = make_pool(2);
    static size_t sizes[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        sizes[i] = i % 9;
    map_reversed(pool, sizes, COUNT);
    pool_destroy(pool);
}

/* More than all pipes hold, in both directions at once. */
static void bulky_payloads_do_not_deadlock(void)
{
    enum { COUNT = 48 };
    struct pool *pool = make_pool(3);
    size_t sizes[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        sizes[i] = (1 << 20) + i;
    map_reversed(pool, sizes, COUNT);
    pool_destroy(pool);
}

static void one_payload_may_exceed_the_bytes_in_flight(void)
{
    struct pool_options options = method_options(2);
    options.max_bytes_in_flight = 1000;
    struct pool *pool = make_pool_with(&options);
    size_t sizes[] = {3000000, 10, 999, 1000, 1001, 0, 500000, 1, 1, 1};
    map_reversed(pool, sizes, sizeof sizes / sizeof *sizes);
    pool_destroy(pool);
}

static int expand(struct pool_call *call)
{
    size_t size, seed;
    memcpy(&seed, pool_call_input(call, &size), sizeof seed);
    unsigned char *reply = pool_call_reply(call, 1000003);
    if (!reply || size != sizeof seed)
        return 1;
    fill(reply, 1000003, seed);
    return 0;
}

static int condense(struct pool_call *call)
{
    size_t size;
    const unsigned char *input = pool_call_input(call, &size);
    uint32_t *sum = pool_call_reply(call, sizeof *sum);
    for (*sum = 0; size; size--)
        *sum += *input++;
    return 0;
}

static void replies_may_be_much_larger_than_inputs_and_much_smaller(void)
{
    enum { COUNT = 25 };
    struct pool *pool = make_pool(2);
    size_t seeds[COUNT];
    struct pool_bytes items[COUNT], large[COUNT], small[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        seeds[i] = i + 100;
        items[i] = (struct pool_bytes){&seeds[i], sizeof seeds[i]};
    }
    EXPECT_OK(pool_map_bytes(pool, expand, items, COUNT, large, NULL));
    EXPECT_OK(pool_map_bytes(pool, condense, large, COUNT, small, NULL));
    unsigned char *expected = malloc(1000003);
    for (size_t i = 0; i < COUNT; i++) {
        uint32_t sum = 0, told;
        fill(expected, 1000003, seeds[i]);
        EXPECT(large[i].size == 1000003 && !memcmp(large[i].data, expected, 1000003));
        for (size_t k = 0; k < 1000003; k++)
            sum += expected[k];
        memcpy(&told, small[i].data, sizeof told);
        EXPECT(small[i].size == sizeof told && told == sum);
        pool_bytes_clear(&large[i]);
        pool_bytes_clear(&small[i]);
    }
    free(expected);
    pool_destroy(pool);
}

/* ---- the reply as it is made ---- */

static int resize_reply(struct pool_call *call)
{
    unsigned char *reply = pool_call_reply(call, 10);
    memcpy(reply, "0123456789", 10);
    reply = pool_call_reply(call, 3 << 20);
    if (!reply || (uintptr_t)reply % 16 || memcmp(reply, "0123456789", 10))
        return 1;
    fill(reply + 10, (3 << 20) - 10, 1);
    reply = pool_call_reply(call, 0);
    reply = pool_call_reply(call, 7);
    if (!reply || (uintptr_t)reply % 16)
        return 2;
    memcpy(reply, "abcdefg", 7);
    reply = pool_call_reply(call, 9);
    if (!reply || memcmp(reply, "abcdefg", 7))
        return 3;
    memcpy(reply + 7, "hi", 2);
    return pool_call_reply(call, 8) ? 0 : 4;
}

static void reply_grows_and_shrinks_and_keeps_its_bytes(void)
{
    struct pool *pool = make_pool(1);
    struct pool_bytes items[20] = {{NULL, 0}}, replies[20];
    EXPECT_OK(pool_map_bytes(pool, resize_reply, items, 20, replies, NULL));
    for (int i = 0; i < 20; i++) {
        EXPECT(replies[i].size == 8 && !memcmp(replies[i].data, "abcdefgh", 8));
        pool_bytes_clear(&replies[i]);
        EXPECT(!replies[i].data && !replies[i].size);
        pool_bytes_clear(&replies[i]);
    }
    pool_destroy(pool);
}

/* 0: no reply at all; 1: an empty one; 2: one that was made and given up. */
static int reply_nothing(struct pool_call *call)
{
    size_t size;
    char how = *(const char *)pool_call_input(call, &size);
    if (how == 1)
        return !pool_call_reply(call, 0);
    if (how == 2)
        return !pool_call_reply(call, 100) || !pool_call_reply(call, 0);
    return 0;
}

static void empty_replies_are_null_with_size_0(void)
{
    struct pool *pool = make_pool(1);
    char ways[] = {0, 1, 2};
    struct pool_bytes items[] = {{&ways[0], 1}, {&ways[1], 1}, {&ways[2], 1}},
                      replies[3] = {{ways, 1}, {ways, 1}, {ways, 1}};
    EXPECT_OK(pool_map_bytes(pool, reply_nothing, items, 3, replies, NULL));
    for (int i = 0; i < 3; i++)
        EXPECT(!replies[i].data && !replies[i].size);
    EXPECT_OK(pool_map_bytes(pool, reply_nothing, items, 0, replies, NULL));
    EXPECT_OK(pool_map_bytes(pool, reply_nothing, NULL, 0, NULL, NULL));
    pool_destroy(pool);
}

static int check_placement(struct pool_call *call)
{
    size_t size = 99999999;
    const void *input = pool_call_input(call, &size);
    void *reply = pool_call_reply(call, size + 1);
    if (!input || (uintptr_t)input % 16)
        return 1;
    return !reply || (uintptr_t)reply % 16 ? 2 : 0;
}

static void inputs_and_replies_are_aligned_to_16_and_never_null(void)
{
    enum { COUNT = 400 };
    struct pool *pool = make_pool(2);
    static char bytes[200000];
    struct pool_bytes items[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        items[i] = (struct pool_bytes){i % 5 ? bytes : NULL, i % 5 ? i * i : 0};
    EXPECT_OK(pool_map_bytes(pool, check_placement, items, COUNT, NULL, NULL));
    pool_destroy(pool);
}

static void replies_need_not_be_wanted(void)
{
    struct pool *pool = make_pool(2);
    size_t seed = 1;
    struct pool_bytes items[30];
    for (int i = 0; i < 30; i++)
        items[i] = (struct pool_bytes){&seed, sizeof seed};
    EXPECT_OK(pool_map_bytes(pool, expand, items, 30, NULL, NULL));
    map_reversed(pool, (size_t[]){5, 100000}, 2);
    pool_destroy(pool);
}

/* ---- failures ---- */

static int fail_with_text(struct pool_call *call)
{
    size_t size;
    int number = *(const int *)pool_call_input(call, &size);
    unsigned char *reply = pool_call_reply(call, 1000);
    memset(reply, number, 1000);
    return number % 3 ? 0 : pool_call_fail(call, 1000 + number, "number %d is a multiple of %s", number, "three");
}

static void failed_items_have_code_and_text_and_no_reply(void)
{
    enum { COUNT = 200 };
    struct pool *pool = make_pool(2);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    int numbers[COUNT], status[COUNT], code[COUNT];
    struct pool_bytes items[COUNT], replies[COUNT];
    for (int i = 0; i < COUNT; i++) {
        numbers[i] = i + 1;
        items[i] = (struct pool_bytes){&numbers[i], sizeof(int)};
    }
    map.status_out = status;
    map.code_out = code;
    EXPECT_INT(pool_map_bytes(pool, fail_with_text, items, COUNT, replies, &map), POOL_ETASK);
    EXPECT_TEXT(pool_message(), "number 3 is a multiple of three");
    for (int i = 0; i < COUNT; i++) {
        EXPECT_INT(status[i], numbers[i] % 3 ? 0 : POOL_ETASK);
        EXPECT_INT(code[i], numbers[i] % 3 ? 0 : 1000 + numbers[i]);
        EXPECT_INT(replies[i].size, numbers[i] % 3 ? 1000 : 0);
        EXPECT(!replies[i].data == !(numbers[i] % 3));
        pool_bytes_clear(&replies[i]);
    }
    pool_destroy(pool);
}

static int fail_at_length(struct pool_call *call)
{
    char text[5000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    int code = pool_call_fail(call, 0, "%s", text);
    return code == -1 ? code : 0;
}

static int fail_without_call(const void *item, void *result, void *state)
{
    (void)item, (void)result, (void)state;
    return pool_call_fail(NULL, 31, "a map item %s", "says this");
}

static void fail_texts_are_cut_and_a_code_of_0_becomes_an_error(void)
{
    struct pool *pool = make_pool(1);
    struct pool_bytes item = {NULL, 0};
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    char number = 0;
    int code = 0;
    map.code_out = &code;
    EXPECT_INT(pool_map_bytes(pool, fail_at_length, &item, 1, NULL, &map), POOL_ETASK);
    EXPECT_INT(code, -1);
    EXPECT(count_text(pool_message(), "x") >= 1000 && count_text(pool_message(), "x") <= 1030);
    EXPECT_INT(pool_map_with(pool, fail_without_call, &number, 1, NULL, 0, 1, &map), POOL_ETASK);
    EXPECT_INT(code, 31);
    pool_destroy(pool);
}

static int return_one(const void *item, void *result, void *state)
{
    (void)item, (void)result, (void)state;
    return 1;
}

/* An old text must not stick to the next failure. */
static void fail_texts_belong_to_one_item(void)
{
    struct pool *pool = make_pool(1);
    int number = 3;
    struct pool_bytes item = {&number, sizeof number};
    char byte = 0;
    EXPECT_INT(pool_map_bytes(pool, fail_with_text, &item, 1, NULL, NULL), POOL_ETASK);
    EXPECT_INT(pool_map(pool, return_one, &byte, 1, NULL, 0, 1), POOL_ETASK);
    EXPECT(!strstr(pool_message(), "multiple"));
    pool_destroy(pool);
}

/* Replies with as many bytes as the item says; 1 in `again`: settles for 5 bytes when refused. */
struct wish {
    size_t size;
    int again;
};

static int reply_as_wished(struct pool_call *call)
{
    size_t size;
    const struct wish *wish = pool_call_input(call, &size);
    void *reply = pool_call_reply(call, wish->size);
    if (!reply && wish->again)
        reply = pool_call_reply(call, 5);
    if (reply)
        memset(reply, 1, wish->again ? 5 : wish->size);
    return 0;
}

static void replies_above_the_limit_fail_their_item(void)
{
    struct pool_options options = method_options(1);
    options.max_result_bytes = 1000;
    struct pool *pool = make_pool_with(&options);
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    struct wish wishes[] = {{1000, 0}, {1001, 0}, {5, 0}, {SIZE_MAX, 0}, {5000, 1}, {(size_t)1 << 40, 0},
                            {0, 0},    {999, 0}};
    int expected[] = {0, -EMSGSIZE, 0, -EMSGSIZE, 0, -EMSGSIZE, 0, 0}, status[8];
    struct pool_bytes items[8], replies[8];
    for (int i = 0; i < 8; i++)
        items[i] = (struct pool_bytes){&wishes[i], sizeof *wishes};
    map.status_out = status;
    EXPECT_INT(pool_map_bytes(pool, reply_as_wished, items, 8, replies, &map), -EMSGSIZE);
    EXPECT(*pool_message());
    for (int i = 0; i < 8; i++) {
        EXPECT_INT(status[i], expected[i]);
        EXPECT_INT(replies[i].size, expected[i] ? 0 : wishes[i].again ? 5 : wishes[i].size);
        pool_bytes_clear(&replies[i]);
    }
    pool_destroy(pool);
}

static void default_limit_of_a_reply_is_one_gibibyte(void)
{
    struct pool *pool = make_pool(1);
    struct wish wish = {((size_t)1 << 30) + 1, 0};
    struct pool_bytes item = {&wish, sizeof wish}, reply;
    EXPECT_INT(pool_map_bytes(pool, reply_as_wished, &item, 1, &reply, NULL), -EMSGSIZE);
    pool_destroy(pool);
}

/* Its pid, and what it had resident when it began. */
static int reverse_and_tell(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    board->pids[0] = getpid();
    board->counters[0] = (uint64_t)status_kib(getpid(), "VmRSS:");
    return reverse(call);
}

static void map_told(struct pool *pool, size_t size)
{
    struct pool_bytes item = make_payload(size, 1), reply;
    EXPECT_OK(pool_map_bytes(pool, reverse_and_tell, &item, 1, &reply, NULL));
    EXPECT(is_reverse(&reply, &item));
    pool_bytes_clear(&reply);
    free(item.data);
}

enum { BULK_BYTES = 32 << 20, BULK_KIB = BULK_BYTES / 1024 };

/* What sanitizers keep of freed memory is theirs. */
static void idle_worker_gives_large_buffers_back(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    map_told(pool, 10);
    long before_kib = (long)board->counters[0];
    map_told(pool, BULK_BYTES);
    uint64_t since_ms = now_ms();
    while (!is_sanitized() && status_kib(board->pids[0], "VmRSS:") > before_kib + BULK_KIB / 2)
        EXPECT(have_patience(since_ms));
    map_told(pool, BULK_BYTES);
    pool_destroy(pool);
}

static void worker_gives_buffers_back_that_are_much_too_large(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    map_told(pool, 10);
    uint64_t before_kib = board->counters[0];
    map_told(pool, BULK_BYTES);
    for (int i = 0; i < 10; i++)
        map_told(pool, BULK_BYTES / 16);
    EXPECT(is_sanitized() || board->counters[0] < before_kib + BULK_KIB / 2);
    map_told(pool, BULK_BYTES);
    pool_destroy(pool);
}

static int return_state(struct pool_call *call)
{
    struct board *board = pool_call_state(call);
    return board ? (int)++board->counters[1] : -1;
}

static void tasks_have_the_state_of_the_initializer(void)
{
    struct board *board = make_board();
    struct pool_options options = board_options(1);
    struct pool *pool = make_pool_with(&options);
    struct pool_bytes items[10] = {{NULL, 0}};
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    int code[10];
    map.code_out = code;
    EXPECT_INT(pool_map_bytes(pool, return_state, items, 10, NULL, &map), POOL_ETASK);
    EXPECT_INT(board->counters[1], 10);
    for (int i = 0; i < 10; i++)
        EXPECT_INT(code[i], i + 1);
    pool_destroy(pool);
}

static void malformed_payloads_are_refused(void)
{
    struct pool *pool = make_pool(1);
    char byte = 0;
    struct pool_bytes items[] = {{&byte, 1}, {NULL, 7}}, replies[2] = {{&byte, 1}, {&byte, 1}};
    EXPECT_INT(pool_map_bytes(pool, reverse, items, 2, replies, NULL), -EINVAL);
    EXPECT(*pool_message());
    EXPECT_INT(pool_map_bytes(pool, NULL, items, 1, replies, NULL), -EINVAL);
    EXPECT_INT(pool_map_bytes(pool, reverse, NULL, 1, replies, NULL), -EINVAL);
    EXPECT(replies[0].data == &byte && replies[1].data == &byte);
    items[0].size = items[1].size = SIZE_MAX / 2 + 1; /* more than there can be */
    items[1].data = &byte;
    EXPECT_INT(pool_map_bytes(pool, reverse, items, 2, replies, NULL), -EOVERFLOW);
    map_reversed(pool, (size_t[]){3}, 1);
    pool_destroy(pool);
}

const struct conformance_case bytes_cases[] = {
    CASE(payloads_of_0_to_32_mebibytes_come_back),
    CASE(thousands_of_tiny_payloads_come_back),
    CASE(bulky_payloads_do_not_deadlock),
    CASE(one_payload_may_exceed_the_bytes_in_flight),
    CASE(replies_may_be_much_larger_than_inputs_and_much_smaller),
    CASE(reply_grows_and_shrinks_and_keeps_its_bytes),
    CASE(empty_replies_are_null_with_size_0),
    CASE(inputs_and_replies_are_aligned_to_16_and_never_null),
    CASE(replies_need_not_be_wanted),
    CASE(failed_items_have_code_and_text_and_no_reply),
    CASE(fail_texts_are_cut_and_a_code_of_0_becomes_an_error),
    CASE(fail_texts_belong_to_one_item),
    CASE(replies_above_the_limit_fail_their_item),
    CASE(default_limit_of_a_reply_is_one_gibibyte),
    CASE(idle_worker_gives_large_buffers_back),
    CASE(worker_gives_buffers_back_that_are_much_too_large),
    CASE(tasks_have_the_state_of_the_initializer),
    CASE(malformed_payloads_are_refused),
    {0},
};
