/* make_corpus: the seeds of the fuzz targets. Of fuzz_wire: one valid frame of each type, the bodies that have a form,
 * and streams as workers send them; of fuzz_peer: what a worker may answer; of fuzz_parent: see make_corpus_parent.c.
 * They are committed; run it again when the protocol, or the form of an input, changes.
 *
 * Build: cc -std=c11 -D_GNU_SOURCE -Iinclude -Isrc tests/make_corpus*.c src/wire.c src/buf.c -o make_corpus
 * Run:   make_corpus tests/corpus */
#include "make_corpus.h"
#include "wire.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEED_BYTES = 1 << 16 };

static struct seed {
    uint8_t bytes[SEED_BYTES];
    size_t size;
} seed;

static const char *corpus, *target;

void put(const void *bytes, size_t size)
{
    if (size)
        memcpy(seed.bytes + seed.size, bytes, size);
    seed.size += size;
}

static void put_frame(struct wire_header header, const void *body)
{
    uint8_t bytes[WIRE_HEADER_BYTES];
    wire_encode(&header, bytes);
    put(bytes, sizeof bytes);
    put(body, (size_t)header.body_bytes);
}

void save(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s/%s", corpus, target, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(seed.bytes, 1, seed.size, file) != seed.size || fclose(file)) {
        perror(path);
        exit(1);
    }
    seed.size = 0;
}

static void put_hello(void)
{
    struct wire_hello hello = {.version = WIRE_VERSION, .pid = 4711, .id_size = 21, .id = "b0123456789abcdefghi"};
    uint8_t body[WIRE_HELLO_BYTES];
    size_t size = wire_encode_hello(&hello, body);
    put_frame((struct wire_header){.type = WIRE_HELLO, .body_bytes = size}, body);
}

static void put_config(void)
{
    static const uint8_t bytes[] = "initializer finalizer preload argument";
    struct wire_config config = {.flags = WIRE_CONFIG_PRELOAD,
                                 .max_result_bytes = 1 << 30,
                                 .max_worker_bytes = 1 << 20,
                                 .spin_ns = 50000,
                                 .initializer = {bytes, 11},
                                 .finalizer = {bytes + 12, 9},
                                 .preload = {bytes + 22, 7},
                                 .arg = {bytes + 30, 8}};
    uint8_t body[256];
    wire_encode_config(&config, body);
    put_frame((struct wire_header){.type = WIRE_CONFIG, .id = 3, .count = 1, .body_bytes = wire_config_size(&config)},
              body);
}

static void put_results(uint64_t first, uint32_t count)
{
    uint8_t body[2 * WIRE_FAILURE_BYTES + 64 * 8] = {0};
    wire_encode_failure((struct wire_failure){.offset = 1, .code = 22}, body);
    wire_encode_failure((struct wire_failure){.offset = count - 1, .code = -5}, body + WIRE_FAILURE_BYTES);
    put_frame((struct wire_header){.type = WIRE_RESULTS,
                                   .id = first,
                                   .count = count,
                                   .function = 2,
                                   .extra = 123456,
                                   .body_bytes = 2 * WIRE_FAILURE_BYTES + count * 8},
              body);
}

static void put_result(uint64_t id, size_t size)
{
    static uint8_t reply[1 << 15];
    memset(reply, (int)id, sizeof reply);
    put_frame((struct wire_header){.type = WIRE_RESULT, .id = id, .count = 1, .extra = 1000, .body_bytes = size},
              reply);
}

static void save_requests(void)
{
    put_hello();
    save("hello");
    put_config();
    save("config");
    put_frame((struct wire_header){.type = WIRE_FUNCTION, .function = 7, .body_bytes = 9}, "\0\x10\x20\0\0\0\0\0\0");
    save("function");
    put_frame((struct wire_header){.type = WIRE_TASK, .id = 5, .count = 1, .function = 7, .body_bytes = 5}, "input");
    save("task");
    put_frame(
        (struct wire_header){.type = WIRE_TASK, .flags = WIRE_FDS | WIRE_STEPWISE, .id = 5, .extra = 2, .count = 1},
        NULL);
    put_frame((struct wire_header){.type = WIRE_TASK, .flags = WIRE_REPLAY, .count = 1, .body_bytes = 5}, "again");
    save("task-flags");
    put_frame((struct wire_header){.type = WIRE_RUN,
                                   .flags = WIRE_STEPWISE | WIRE_STOP,
                                   .id = 100,
                                   .count = 4,
                                   .function = 7,
                                   .extra = 8,
                                   .body_bytes = 16},
              "itemitemitemitem");
    save("run");
    put_frame((struct wire_header){.type = WIRE_RECYCLE}, NULL);
    save("recycle");
    put_frame((struct wire_header){.type = WIRE_SHUTDOWN}, NULL);
    save("shutdown");
    put_frame((struct wire_header){.type = WIRE_CLAIMS}, NULL);
    save("claims");
    put_frame((struct wire_header){.type = WIRE_TRANSIT}, NULL);
    save("transit");
}

/* Two replies, of 5 bytes and of none, each preceded by its size and time; and so many bytes more or less. */
static void put_replies(uint64_t id, uint32_t count, int more)
{
    uint8_t body[2 * WIRE_REPLY_BYTES + 5 + 8] = {0};
    size_t size = 2 * WIRE_REPLY_BYTES + 5;
    wire_encode_reply(&(struct wire_reply){.size = 5, .elapsed_ns = 100}, body);
    memcpy(body + WIRE_REPLY_BYTES, "hello", 5);
    wire_encode_reply(&(struct wire_reply){.elapsed_ns = 200}, body + WIRE_REPLY_BYTES + 5);
    put_frame((struct wire_header){.type = WIRE_REPLIES, .id = id, .count = count, .body_bytes = size + (size_t)more},
              body);
}

static void save_replies(void)
{
    put_replies(7, 2, 0);
    save("replies");
    put_frame((struct wire_header){.type = WIRE_SKIPPED, .count = 3}, NULL);
    save("skipped");
    put_frame((struct wire_header){.type = WIRE_READY}, NULL);
    save("ready");
    put_result(5, 100);
    save("result");
    put_frame((struct wire_header){.type = WIRE_RESULT, .id = 6, .count = 1, .code = 3, .body_bytes = 8}, "no such!");
    save("result-code");
    put_results(100, 64);
    save("results");
    put_frame((struct wire_header){.type = WIRE_ERROR, .id = 9, .count = 3, .code = -12, .body_bytes = 9}, "no memory");
    save("error");
}

static void save_streams(void)
{
    put_hello();
    put_frame((struct wire_header){.type = WIRE_READY}, NULL);
    put_results(0, 4);
    put_results(4, 64);
    put_result(0, 0);
    put_result(1, 1 << 15);
    put_result(2, 20000);
    put_result(3, 1);
    save("stream");
    put_hello();
    put_frame((struct wire_header){.type = WIRE_ERROR, .code = -10006, .body_bytes = 26}, "the initializer returned 7");
    save("stream-declines");
    put_result(1, 1 << 15);
    seed.size -= 77;
    save("stream-cut-short");
}

static void save_bodies(void)
{
    put_hello();
    memmove(seed.bytes, seed.bytes + WIRE_HEADER_BYTES, seed.size -= WIRE_HEADER_BYTES);
    save("body-hello");
    put_config();
    memmove(seed.bytes, seed.bytes + WIRE_HEADER_BYTES, seed.size -= WIRE_HEADER_BYTES);
    save("body-config");
    for (uint32_t i = 0; i < 5; i++) {
        wire_encode_failure((struct wire_failure){.offset = i * i, .code = (int32_t)i - 10}, seed.bytes + seed.size);
        seed.size += WIRE_FAILURE_BYTES;
    }
    save("body-failures");
}

/* ---- fuzz_peer: three bytes of set-up (see there), then what the worker writes ---- */

static void put_setup(uint8_t how, uint8_t result_size, uint8_t items)
{
    const uint8_t bytes[] = {how, result_size, items};
    put(bytes, sizeof bytes);
}

static void put_answer(uint8_t type, uint64_t id, uint32_t count, const char *body)
{
    put_frame((struct wire_header){.type = type, .id = id, .count = count, .extra = 100, .body_bytes = strlen(body)},
              body);
}

static void put_lent(uint64_t id, bool announces, uint64_t region, uint64_t offset, uint64_t size)
{
    uint8_t body[WIRE_REFERENCE_BYTES];
    wire_encode_reference((struct wire_reference){.buffer = region, .offset = offset, .size = size}, body);
    if (announces)
        put_frame((struct wire_header){.type = WIRE_REGION, .id = region, .extra = 5000}, NULL);
    put_frame(
        (struct wire_header){
            .type = WIRE_RESULT, .flags = WIRE_REFERENCE, .id = id, .count = 1, .body_bytes = sizeof body},
        body);
}

static void save_starts(void)
{
    put_setup(2, 4, 3);
    put_hello();
    put_frame((struct wire_header){.type = WIRE_READY}, NULL);
    save("hello");
    put_setup(8, 4, 3);
    put_frame((struct wire_header){.type = WIRE_READY}, NULL);
    put_answer(WIRE_RESULTS, 0, 2, "AAAABBBB");
    save("ready");
    put_setup(8, 4, 3);
    put_frame((struct wire_header){.type = WIRE_ERROR, .code = -10006, .body_bytes = 11}, "initializer");
    save("declines");
}

static void save_answers(void)
{
    put_setup(0, 8, 4);
    put_answer(WIRE_RESULTS, 0, 4, "AAAAAAAABBBBBBBBCCCCCCCCDDDDDDDD");
    save("results");
    put_setup(0, 8, 4);
    put_answer(WIRE_RESULTS, 0, 2, "AAAAAAAABBBBBBBB");
    put_answer(WIRE_RESULTS, 2, 2, "CCCCCCCCDDDDDDDD");
    save("results-in-two");
    put_setup(1, 0, 2);
    put_answer(WIRE_RESULT, 0, 1, "hello");
    put_answer(WIRE_RESULT, 1, 1, "");
    save("result");
    put_setup(5, 0, 2);
    put_answer(WIRE_RESULT, 0, 1, "hello");
    save("result-unwanted");
    put_setup(1, 0, 5);
    put_replies(0, 2, 0);
    put_answer(WIRE_RESULT, 2, 1, "hello");
    put_replies(3, 2, 0);
    save("replies");
    put_setup(1, 0, 2);
    put_frame((struct wire_header){.type = WIRE_RESULT, .count = 1, .code = 7, .body_bytes = 5}, "hello");
    save("result-code");
    put_setup(16, 8, 4);
    put_answer(WIRE_RESULTS, 0, 4, "");
    save("results-in-place");
    put_setup(64, 8, 4);
    put_answer(WIRE_RESULTS, 0, 1, "");
    put_answer(WIRE_RESULTS, 1, 3, "");
    save("results-in-transit");
    put_setup(1 | 64, 200, 1);
    put_lent(0, false, WIRE_IN_TRANSIT, 0, 150);
    save("reply-in-transit");
    put_setup(1 | 64, 200, 1);
    put_lent(0, false, WIRE_IN_TRANSIT, 0, 201);
    save("reply-beyond-its-room");
    put_setup(1 | 32, 0, 4);
    put_lent(0, true, 0, 0, 5000);
    put_lent(1, false, 0, 0, 1); /* not given back */
    save("lends");
    put_setup(0, 4, 3);
    put_frame((struct wire_header){.type = WIRE_ERROR, .count = 3, .code = -10011, .body_bytes = 16},
              "no such function");
    save("error");
}

static void save_lies(void)
{
    uint8_t body[WIRE_FAILURE_BYTES + 32] = {0};
    put_setup(0, 8, 4);
    wire_encode_failure((struct wire_failure){.offset = 1, .code = 7}, body);
    put_frame((struct wire_header){.type = WIRE_RESULTS, .count = 4, .function = 1, .body_bytes = sizeof body}, body);
    put("more", 4);
    save("results-with-failure");
    put_setup(1, 0, 2);
    put_answer(WIRE_RESULT, 0, 1, "hello");
    memcpy(seed.bytes + 3, "\x60\xea", 2); /* 60000 bytes */
    save("result-claims-much");
    put_setup(16, 8, 4);
    put_answer(WIRE_RESULTS, 0, 4, "AAAAAAAABBBBBBBBCCCCCCCCDDDDDDDD");
    save("results-in-place-and-here");
    put_setup(1 | 32, 0, 4);
    put_lent(0, true, 0, 1, 100);
    save("lends-elsewhere");
    put_setup(1 | 32, 0, 4);
    put_lent(0, true, 0, 0, 5001);
    save("lends-more");
    put_setup(1 | 32, 0, 4);
    put_lent(0, false, 1, 0, 10);
    save("lends-nothing");
    put_setup(1 | 32, 0, 4);
    put_lent(0, true, 3, 0, 10);
    save("lends-another");
    put_setup(1, 0, 9);
    put_replies(0, 3, 0);
    save("replies-fewer");
    put_setup(1, 0, 9);
    put_replies(0, 2, 8);
    save("replies-longer");
    put_setup(1, 0, 1);
    put_replies(0, 2, 0);
    save("replies-too-many");
    put_setup(0, 4, 3);
    put("hello world, this is not a frame of the protocol at all", 55);
    save("garbage");
}

static void enter(const char *name)
{
    target = name;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_corpus FOLDER\n");
        return 2;
    }
    corpus = argv[1];
    enter("fuzz_wire");
    save_requests();
    save_replies();
    save_streams();
    save_bodies();
    enter("fuzz_peer");
    save_starts();
    save_answers();
    save_lies();
    enter("fuzz_parent");
    save_parent_seeds();
    return 0;
}
