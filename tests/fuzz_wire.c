/* fuzz_wire: any bytes, taken for everything that comes over the wire: a header, the bodies that have a form, and a
 * stream of frames that is read through the channel as the parent does. The decoders read nothing beyond their input,
 * and what they accept is what the encoders make: every accepted input comes back byte for byte.
 *
 * Build: clang -std=c11 -D_GNU_SOURCE -Iinclude -Isrc -fsanitize=fuzzer,address,undefined tests/fuzz_wire.c src/chan.c
 *        src/wire.c src/buf.c src/fd.c; without libFuzzer: the same with fuzz_replay.c, which runs the corpus
 *        (corpus/fuzz_wire, made by make_corpus.c). */
#include "chan.h"
#include "fd.h"
#include "wire.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_RESULT_BYTES = 1 << 16, MAX_KEPT_BYTES = 1 << 17 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An assertion that stays in every build. */
static void require(bool holds)
{
    if (!holds)
        abort();
}

static void fuzz_header(const uint8_t *data, size_t size)
{
    static const enum wire_side sides[] = {WIRE_FROM_PARENT, WIRE_FROM_WORKER};
    for (size_t i = 0; size >= WIRE_HEADER_BYTES && i < 2; i++) {
        uint8_t again[WIRE_HEADER_BYTES];
        struct wire_header header;
        if (wire_decode(data, sides[i], MAX_RESULT_BYTES, &header))
            continue;
        wire_encode(&header, again);
        require(!memcmp(again, data, sizeof again));
    }
}

static void fuzz_hello(const uint8_t *data, size_t size)
{
    uint8_t again[WIRE_HELLO_BYTES];
    struct wire_hello hello;
    if (!wire_decode_hello(data, size, &hello))
        require(wire_encode_hello(&hello, again) == size && !memcmp(again, data, size));
}

static void fuzz_config(const uint8_t *data, size_t size)
{
    struct wire_config config;
    if (wire_decode_config(data, size, &config))
        return;
    require(wire_config_size(&config) == size);
    uint8_t *again = malloc(size);
    if (!again)
        return;
    wire_encode_config(&config, again);
    require(!memcmp(again, data, size));
    free(again);
}

static void fuzz_failures(const uint8_t *data, size_t size)
{
    uint32_t count = (uint32_t)(size / WIRE_FAILURE_BYTES);
    uint64_t before = UINT64_MAX;
    if (wire_check_failures(data, count, UINT32_MAX))
        return;
    for (uint32_t i = 0; i < count; i++) {
        struct wire_failure failure = wire_decode_failure(data + (size_t)i * WIRE_FAILURE_BYTES);
        require(failure.code != 0 && (!i || failure.offset > before));
        before = failure.offset;
    }
}

/* ---- the stream ---- */

struct stream {
    const uint8_t *data;
    size_t size, at;
    struct chan chan;
    uint8_t staging[CHAN_STAGING_BYTES];
};

/* What a read comes to: nothing more for now means the end, since all the bytes are there. */
static int settle(struct stream *stream, int rc)
{
    if (rc == CHAN_AGAIN)
        chan_rearm(&stream->chan);
    return rc;
}

static int read_header(struct stream *stream, struct wire_header *header)
{
    const uint8_t *bytes;
    int rc;
    do
        rc = settle(stream, chan_peek(&stream->chan, WIRE_HEADER_BYTES, &bytes));
    while (rc == CHAN_AGAIN);
    if (rc)
        return rc;
    require(!memcmp(bytes, stream->data + stream->at, WIRE_HEADER_BYTES));
    rc = wire_decode(bytes, WIRE_FROM_WORKER, MAX_RESULT_BYTES, header);
    if (!rc) {
        chan_skip(&stream->chan, WIRE_HEADER_BYTES);
        stream->at += WIRE_HEADER_BYTES;
    }
    return rc;
}

/* Into memory that only what has come can fill; or thrown away. */
static int read_body(struct stream *stream, uint64_t body_bytes, bool kept)
{
    static uint8_t body[MAX_KEPT_BYTES];
    size_t size = (size_t)body_bytes, done = 0;
    kept = kept && size <= sizeof body;
    int rc;
    do
        rc = settle(stream,
                    kept ? chan_read_into(&stream->chan, body, size, &done) : chan_discard(&stream->chan, size, &done));
    while (rc == CHAN_AGAIN);
    require(done <= size && done <= stream->size - stream->at && (rc || done == size));
    require(!kept || !memcmp(body, stream->data + stream->at, done));
    stream->at += done;
    return rc;
}

static void fuzz_stream(const uint8_t *data, size_t size)
{
    int fd = memfd_create("worker", MFD_CLOEXEC);
    struct stream stream = {.data = data, .size = size};
    struct wire_header header;
    require(fd >= 0 && (!size || fd_write(fd, data, size) == (ssize_t)size) && lseek(fd, 0, SEEK_SET) == 0);
    chan_init(&stream.chan, fd, -1, false, stream.staging);
    int rc = 0;
    for (unsigned frames = 0; !rc; frames++) {
        rc = read_header(&stream, &header);
        if (!rc)
            rc = read_body(&stream, header.body_bytes, frames % 3 != 2);
    }
    require(rc != CHAN_AGAIN);
    chan_clear(&stream.chan);
    fd_close(&fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_header(data, size);
    fuzz_hello(data, size);
    fuzz_config(data, size);
    fuzz_failures(data, size);
    fuzz_stream(data, size);
    return 0;
}
