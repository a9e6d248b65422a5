/* chan: frames over real pipes, with reads and writes cut short at every byte.
 * Build: cc -D_GNU_SOURCE -Iinclude -Isrc tests/test_chan.c src/{chan,wire,buf,fd}.c -lcmocka -lpthread */
#include "chan.h"
#include "fd.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cmocka.h>

enum { MAX_BODY_BYTES = 200000 };

/* One direction: what is put into `sender` comes out of `receiver`. */
struct line {
    int ends[2];
    struct chan sender, receiver;
    uint8_t staging[2][CHAN_STAGING_BYTES];
};

static void open_line(struct line *line, bool blocking)
{
    assert_int_equal(fd_pipe(line->ends), 0);
    if (!blocking) {
        assert_int_equal(fd_set_nonblocking(line->ends[0]), 0);
        assert_int_equal(fd_set_nonblocking(line->ends[1]), 0);
    }
    chan_init(&line->sender, -1, line->ends[1], blocking, line->staging[0]);
    chan_init(&line->receiver, line->ends[0], -1, blocking, line->staging[1]);
}

static void close_line(struct line *line)
{
    chan_clear(&line->sender);
    chan_clear(&line->sender);
    chan_clear(&line->receiver);
    fd_close(&line->ends[0]);
    fd_close(&line->ends[1]);
}

/* Every byte tells where it belongs, so that none can be lost, doubled or misplaced unseen. */
static void fill(uint8_t *bytes, size_t size, uint64_t id)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 7 + (i >> 8) + id * 31);
}

static struct wire_header header_of(uint64_t id, size_t size)
{
    return (struct wire_header){.type = WIRE_RESULTS, .id = id, .count = 1, .body_bytes = size};
}

static void put(struct chan *chan, uint64_t id, const uint8_t *body, size_t size)
{
    struct wire_header header = header_of(id, size);
    uint64_t before = chan->put_bytes;
    assert_int_equal(chan_put(chan, &header, body), 0);
    assert_true(chan->put_bytes == before + WIRE_HEADER_BYTES + size);
    assert_true(chan_has_output(chan));
}

/* The state of a reader that may be interrupted anywhere. */
struct reading {
    bool in_body;
    struct wire_header header;
    uint8_t body[MAX_BODY_BYTES];
    size_t done;
};

/* One frame: 0, CHAN_AGAIN, CHAN_EOF. */
static int read_frame(struct chan *chan, struct reading *reading)
{
    const uint8_t *bytes;
    int rc = reading->in_body ? 0 : chan_peek(chan, WIRE_HEADER_BYTES, &bytes);
    if (!rc && !reading->in_body) {
        assert_int_equal(wire_decode(bytes, WIRE_FROM_WORKER, 0, &reading->header), 0);
        chan_skip(chan, WIRE_HEADER_BYTES);
        reading->in_body = true;
        reading->done = 0;
    }
    if (!rc)
        rc = chan_read_into(chan, reading->body, (size_t)reading->header.body_bytes, &reading->done);
    reading->in_body = rc != 0 && reading->in_body;
    return rc;
}

static void assert_frame(const struct reading *reading, uint64_t id, size_t size)
{
    uint8_t *expected = malloc(size ? size : 1);
    fill(expected, size, id);
    assert_true(reading->header.id == id && reading->header.body_bytes == size);
    assert_memory_equal(reading->body, expected, size);
    free(expected);
}

static void small_frames_share_one_write(void **unused)
{
    (void)unused;
    struct line line;
    static struct reading reading;
    uint8_t body[100];
    open_line(&line, false);
    for (uint64_t id = 0; id < 50; id++) {
        fill(body, sizeof body, id);
        put(&line.sender, id, body, sizeof body); /* copied: the same memory serves all */
    }
    assert_int_equal(chan_flush(&line.sender), 0);
    assert_true(line.sender.sent_bytes == line.sender.put_bytes);
    assert_false(chan_has_output(&line.sender));
    for (uint64_t id = 0; id < 50; id++) {
        assert_int_equal(read_frame(&line.receiver, &reading), 0);
        assert_frame(&reading, id, sizeof body);
    }
    assert_int_equal(read_frame(&line.receiver, &reading), CHAN_AGAIN);
    close_line(&line);
}

/* A stream of frames of all kinds of sizes, as bytes. */
static const size_t sizes[] = {0, 1, 39, 40, 41, 2047, 2048, 2049, 0, 16383, 16384, 16385, 5, 0, 70000, 1, 131072, 3};
enum { FRAME_COUNT = sizeof sizes / sizeof *sizes };

static uint8_t *bodies[FRAME_COUNT];

static int make_bodies(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < FRAME_COUNT; i++) {
        bodies[i] = malloc(sizes[i] ? sizes[i] : 1);
        if (!bodies[i])
            return -1;
        fill(bodies[i], sizes[i], i);
    }
    return 0;
}

static int free_bodies(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < FRAME_COUNT; i++)
        free(bodies[i]);
    return 0;
}

/* Reads what is there, checking each frame; returns how many are complete. */
static size_t read_all(struct chan *chan, struct reading *reading, size_t next)
{
    chan_rearm(chan);
    while (read_frame(chan, reading) == 0) {
        assert_frame(reading, next, sizes[next]);
        next++;
    }
    return next;
}

static void large_and_small_bodies_interleave_over_a_full_pipe(void **unused)
{
    (void)unused;
    static struct reading reading;
    static const int pipe_sizes[] = {4096, 65536, 1 << 20};
    for (size_t p = 0; p < sizeof pipe_sizes / sizeof *pipe_sizes; p++) {
        struct line line;
        open_line(&line, false);
        fd_try_pipe_capacity(line.ends[1], (size_t)pipe_sizes[p]);
        for (size_t i = 0; i < FRAME_COUNT; i++)
            put(&line.sender, i, bodies[i], sizes[i]);
        size_t next = 0;
        int rc;
        do {
            rc = chan_flush(&line.sender);
            assert_true(rc == 0 || rc == CHAN_AGAIN);
            next = read_all(&line.receiver, &reading, next);
        } while (rc == CHAN_AGAIN);
        assert_int_equal(next, FRAME_COUNT);
        assert_true(line.sender.sent_bytes == line.sender.put_bytes);
        close_line(&line);
    }
}

/* All frames as the bytes of a stream. */
static uint8_t *record(size_t *size_out)
{
    size_t size = 0;
    for (size_t i = 0; i < FRAME_COUNT; i++)
        size += WIRE_HEADER_BYTES + sizes[i];
    uint8_t *stream = malloc(size), *at = stream;
    for (size_t i = 0; i < FRAME_COUNT; i++) {
        struct wire_header header = header_of(i, sizes[i]);
        wire_encode(&header, at);
        memcpy(at + WIRE_HEADER_BYTES, bodies[i], sizes[i]);
        at += WIRE_HEADER_BYTES + sizes[i];
    }
    *size_out = size;
    return stream;
}

static void send_raw(int fd, const uint8_t *bytes, size_t size)
{
    assert_int_equal(fd_write(fd, bytes, size), (ssize_t)size);
}

static void frames_are_read_whole_whatever_pieces_they_come_in(void **unused)
{
    (void)unused;
    static struct reading reading;
    static const size_t steps[] = {1, 2, 39, 40, 41, 79, 1000, 4096, 16384, 60000};
    size_t size;
    uint8_t *stream = record(&size);
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        struct line line;
        size_t next = 0;
        open_line(&line, false);
        reading.in_body = false;
        for (size_t at = 0; at < size; at += steps[s]) {
            send_raw(line.ends[1], stream + at, steps[s] < size - at ? steps[s] : size - at);
            next = read_all(&line.receiver, &reading, next);
        }
        assert_int_equal(next, FRAME_COUNT);
        close_line(&line);
    }
    free(stream);
}

/* The first frames, split in two at every byte. */
static void a_stream_may_break_at_any_byte(void **unused)
{
    (void)unused;
    static struct reading reading;
    enum { FRAMES = 9 };
    size_t size;
    uint8_t *stream = record(&size);
    size_t prefix = 0;
    for (size_t i = 0; i < FRAMES; i++)
        prefix += WIRE_HEADER_BYTES + sizes[i];
    struct line line;
    open_line(&line, false);
    for (size_t split = 0; split <= prefix; split++) {
        reading.in_body = false;
        send_raw(line.ends[1], stream, split);
        size_t next = read_all(&line.receiver, &reading, 0);
        send_raw(line.ends[1], stream + split, prefix - split);
        assert_int_equal(read_all(&line.receiver, &reading, next), FRAMES);
        assert_int_equal(chan_staged(&line.receiver), 0);
    }
    close_line(&line);
    free(stream);
}

static size_t readable_bytes(int fd)
{
    int count = 0;
    ioctl(fd, FIONREAD, &count);
    return (size_t)count;
}

/* Frees `size` bytes of room and checks that they are those of the stream. */
static void drain_raw(int fd, const uint8_t *stream, size_t *at, size_t size)
{
    uint8_t *bytes = malloc(size);
    ssize_t count = fd_read(fd, bytes, size);
    assert_true(count > 0);
    assert_memory_equal(bytes, stream + *at, (size_t)count);
    *at += (size_t)count;
    free(bytes);
}

/* Frames are put while others are half sent, so that the queue is compacted in every state. */
static void a_queue_may_be_flushed_in_any_pieces(void **unused)
{
    (void)unused;
    static const size_t steps[] = {4096, 5000, 8191, 12345, 65536};
    size_t size;
    uint8_t *stream = record(&size);
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        struct line line;
        size_t at = 0, put_count = 0;
        open_line(&line, false);
        fd_try_pipe_capacity(line.ends[1], 4096);
        while (at < size) {
            for (size_t i = 0; i < 2 && put_count < FRAME_COUNT; i++, put_count++)
                put(&line.sender, put_count, bodies[put_count], sizes[put_count]);
            int rc = chan_flush(&line.sender);
            assert_true(rc == 0 || rc == CHAN_AGAIN);
            assert_true(line.sender.sent_bytes == at + readable_bytes(line.ends[0]));
            assert_int_equal(chan_has_output(&line.sender), rc == CHAN_AGAIN);
            drain_raw(line.ends[0], stream, &at, steps[s]);
        }
        assert_int_equal(put_count, FRAME_COUNT);
        close_line(&line);
    }
    free(stream);
}

/* Memory of the queue is bounded by what is unsent, not by what has ever been sent. */
static void a_queue_that_never_runs_empty_is_compacted(void **unused)
{
    (void)unused;
    struct line line;
    uint8_t body[1000], sink[4096];
    open_line(&line, false);
    fd_try_pipe_capacity(line.ends[1], 4096);
    fill(body, sizeof body, 0);
    for (uint64_t i = 0; i < 5000; i++) {
        put(&line.sender, i, body, sizeof body);
        if (i < 20)
            continue;
        chan_flush(&line.sender);
        assert_true(chan_has_output(&line.sender));
        assert_true(fd_read(line.ends[0], sink, WIRE_HEADER_BYTES + sizeof body) > 0);
    }
    assert_true(line.sender.copies_capacity < 256 << 10);
    assert_true(line.sender.piece_capacity < 1000);
    close_line(&line);
}

static void a_large_body_is_borrowed_and_a_small_one_copied(void **unused)
{
    (void)unused;
    static struct reading reading;
    static uint8_t large[CHAN_COPY_BYTES + 1], small[CHAN_COPY_BYTES];
    struct line line;
    open_line(&line, false);
    put(&line.sender, 0, small, sizeof small);
    put(&line.sender, 1, large, sizeof large);
    fill(small, sizeof small, 9); /* too late for the copy */
    fill(large, sizeof large, 1); /* not too late for the original */
    assert_int_equal(chan_flush(&line.sender), 0);
    assert_int_equal(read_frame(&line.receiver, &reading), 0);
    for (size_t i = 0; i < sizeof small; i++)
        assert_int_equal(reading.body[i], 0);
    assert_int_equal(read_frame(&line.receiver, &reading), 0);
    assert_frame(&reading, 1, sizeof large);
    close_line(&line);
}

static void reserved_frames_need_no_more_memory(void **unused)
{
    (void)unused;
    struct line line;
    uint8_t body[300] = {0};
    open_line(&line, false);
    put(&line.sender, 0, body, sizeof body);
    assert_int_equal(chan_reserve(&line.sender, 100, 100 * sizeof body), 0);
    size_t copies = line.sender.copies_capacity, pieces = line.sender.piece_capacity;
    for (uint64_t i = 0; i < 100; i++)
        put(&line.sender, i, body, sizeof body);
    assert_true(line.sender.copies_capacity == copies && line.sender.piece_capacity == pieces);
    close_line(&line);
}

static void a_short_read_leaves_the_pipe_alone_until_rearmed(void **unused)
{
    (void)unused;
    static struct reading reading;
    struct line line;
    open_line(&line, false);
    put(&line.sender, 0, NULL, 0);
    chan_flush(&line.sender);
    assert_int_equal(read_frame(&line.receiver, &reading), 0);
    assert_true(line.receiver.dry);
    put(&line.sender, 1, NULL, 0);
    chan_flush(&line.sender);
    assert_int_equal(read_frame(&line.receiver, &reading), CHAN_AGAIN);
    chan_rearm(&line.receiver);
    assert_int_equal(read_frame(&line.receiver, &reading), 0);
    assert_true(reading.header.id == 1);
    close_line(&line);
}

static void peeked_bytes_stay_until_skipped(void **unused)
{
    (void)unused;
    struct line line;
    const uint8_t *bytes;
    open_line(&line, false);
    send_raw(line.ends[1], (const uint8_t *)"abcdef", 6);
    assert_int_equal(chan_peek(&line.receiver, 7, &bytes), CHAN_AGAIN);
    assert_int_equal(chan_peek(&line.receiver, 6, &bytes), 0);
    assert_memory_equal(bytes, "abcdef", 6);
    chan_skip(&line.receiver, 2);
    assert_int_equal(chan_staged(&line.receiver), 4);
    assert_int_equal(chan_peek(&line.receiver, 4, &bytes), 0);
    assert_memory_equal(bytes, "cdef", 4);
    close_line(&line);
}

static void the_end_is_told_at_every_byte_of_a_frame(void **unused)
{
    (void)unused;
    static struct reading reading;
    uint8_t frame[WIRE_HEADER_BYTES + 3];
    struct wire_header header = header_of(0, 3);
    wire_encode(&header, frame);
    fill(frame + WIRE_HEADER_BYTES, 3, 0);
    for (size_t size = 0; size < sizeof frame; size++) {
        struct line line;
        open_line(&line, false);
        reading.in_body = false;
        if (size)
            send_raw(line.ends[1], frame, size);
        fd_close(&line.ends[1]);
        int rc = read_frame(&line.receiver, &reading);
        if (rc == CHAN_AGAIN) { /* the last read was short */
            chan_rearm(&line.receiver);
            rc = read_frame(&line.receiver, &reading);
        }
        assert_int_equal(rc, CHAN_EOF);
        assert_int_equal(read_frame(&line.receiver, &reading), CHAN_EOF);
        close_line(&line);
    }
}

static void a_frame_before_the_end_is_still_read(void **unused)
{
    (void)unused;
    static struct reading reading;
    struct line line;
    open_line(&line, false);
    put(&line.sender, 0, bodies[5], sizes[5]);
    chan_flush(&line.sender);
    fd_close(&line.ends[1]);
    assert_int_equal(read_frame(&line.receiver, &reading), 0);
    reading.header.id = 5;
    assert_frame(&reading, 5, sizes[5]);
    close_line(&line);
}

static void a_blocking_reader_waits_for_the_rest(void **unused)
{
    (void)unused;
    static struct reading reading;
    struct line line;
    open_line(&line, true);
    for (size_t i = 0; i < FRAME_COUNT; i++) {
        struct wire_header header = header_of(i, sizes[i]);
        uint8_t bytes[WIRE_HEADER_BYTES];
        wire_encode(&header, bytes);
        fd_try_pipe_capacity(line.ends[1], 1 << 20);
        send_raw(line.ends[1], bytes, WIRE_HEADER_BYTES);
        if (sizes[i])
            send_raw(line.ends[1], bodies[i], sizes[i]);
        assert_int_equal(read_frame(&line.receiver, &reading), 0);
        assert_false(line.receiver.dry);
        assert_frame(&reading, i, sizes[i]);
    }
    fd_close(&line.ends[1]);
    assert_int_equal(read_frame(&line.receiver, &reading), CHAN_EOF);
    close_line(&line);
}

/* From now on the kernel refuses to read from the pipe without waiting where it may wait (since Linux 6.4; before it
 * always does). */
static void splice_from(int pipe_fd, int write_fd)
{
    int other[2];
    send_raw(write_fd, (const uint8_t *)"x", 1);
    assert_int_equal(fd_pipe(other), 0);
    assert_int_equal(splice(pipe_fd, NULL, other[1], NULL, 1, 0), 1);
    fd_close(&other[0]);
    fd_close(&other[1]);
}

static void check_looks(struct line *line)
{
    static struct reading reading;
    struct chan *receiver = &line->receiver;
    assert_false(chan_look(receiver));
    put(&line->sender, 0, bodies[12], sizes[12]);
    assert_int_equal(chan_flush(&line->sender), 0);
    assert_true(chan_look(receiver));
    assert_int_equal(fd_unread(line->ends[0]), 0);
    assert_false(chan_look(receiver)); /* nothing new */
    assert_int_equal(read_frame(receiver, &reading), 0);
    reading.header.id = 12;
    assert_frame(&reading, 12, sizes[12]);
}

static void a_look_receives_what_there_is_and_never_waits(void **unused)
{
    (void)unused;
    static struct reading reading;
    enum { NONBLOCKING, BLOCKING, SPLICED, KINDS };
    for (int kind = NONBLOCKING; kind < KINDS; kind++) {
        struct line line;
        open_line(&line, kind != NONBLOCKING);
        if (kind == SPLICED)
            splice_from(line.ends[0], line.ends[1]);
        reading.in_body = false;
        check_looks(&line);
        assert_true(kind != SPLICED || line.receiver.asks_first); /* it is not tried again */
        check_looks(&line);
        fd_close(&line.ends[1]);
        assert_true(chan_look(&line.receiver) || kind == SPLICED); /* there the end shows only when it is read */
        assert_int_equal(read_frame(&line.receiver, &reading), CHAN_EOF);
        close_line(&line);
    }
}

struct listener {
    struct line *line;
    const _Atomic uint32_t *bell;
    uint32_t before;
    bool was_quiet; /* though there was more to come */
};

static void *read_when_it_rings(void *arg)
{
    struct listener *listener = arg;
    static struct reading reading;
    const uint8_t *unused;
    uint32_t rings;
    while ((rings = atomic_load(listener->bell)) == listener->before)
        sched_yield();
    assert_int_equal(chan_peek(&listener->line->receiver, 1, &unused), 0);
    listener->was_quiet = chan_bell_is_quiet(atomic_load(listener->bell), rings);
    reading.in_body = false;
    return read_frame(&listener->line->receiver, &reading) ? NULL : arg;
}

/* Before the reader sees it rung the bytes are there; and it is not quiet while who rings it waits for the reader. */
static void the_bell_is_rung_after_a_write_and_is_not_quiet_during_one_that_may_wait(void **unused)
{
    (void)unused;
    struct line line;
    _Atomic uint32_t bell = 0;
    pthread_t thread;
    void *has_read = NULL;
    open_line(&line, true);
    assert_false(chan_bell_is_quiet(bell, bell));
    chan_use_bell(&line.sender, &bell);
    assert_true(chan_bell_is_quiet(bell, 2));
    put(&line.sender, 0, bodies[12], sizes[12]);
    assert_true(chan_bell_is_quiet(bell, 2));
    assert_int_equal(chan_flush(&line.sender), 0);
    assert_true(chan_bell_is_quiet(bell, 4));
    assert_false(chan_bell_is_quiet(bell, 2));
    assert_true(chan_look(&line.receiver));
    bell = UINT32_MAX - 1; /* 0 means that nobody rings it */
    put(&line.sender, 0, bodies[12], sizes[12]);
    assert_int_equal(chan_flush(&line.sender), 0);
    assert_true(chan_bell_is_quiet(bell, 2));
    assert_true(chan_look(&line.receiver));
    chan_skip(&line.receiver, chan_staged(&line.receiver));
    struct listener listener = {.line = &line, .bell = &bell, .before = 2};
    put(&line.sender, 16, bodies[16], sizes[16]); /* more than the pipe holds */
    assert_int_equal(pthread_create(&thread, NULL, read_when_it_rings, &listener), 0);
    assert_int_equal(chan_flush(&line.sender), 0);
    assert_int_equal(pthread_join(thread, &has_read), 0);
    assert_non_null(has_read);
    assert_false(listener.was_quiet);
    assert_true(chan_bell_is_quiet(bell, 4));
    close_line(&line);
}

/* Its first bytes may be received already, but no more than a header of what is to go into the caller's memory. */
static void a_look_at_a_large_body_takes_no_more_than_a_header(void **unused)
{
    (void)unused;
    struct line line;
    size_t done = 0;
    static uint8_t body[131072];
    open_line(&line, false);
    fd_try_pipe_capacity(line.ends[1], 1 << 20);
    assert_int_equal(chan_read_into(&line.receiver, body, sizes[16], &done), CHAN_AGAIN);
    send_raw(line.ends[1], bodies[16], sizes[16]);
    assert_true(chan_look(&line.receiver));
    assert_int_equal(chan_staged(&line.receiver), WIRE_HEADER_BYTES);
    assert_int_equal(chan_read_into(&line.receiver, body, sizes[16], &done), 0);
    assert_memory_equal(body, bodies[16], sizes[16]);
    close_line(&line);
}

static void discarded_bytes_are_those_asked_for(void **unused)
{
    (void)unused;
    struct line line;
    const uint8_t *bytes;
    size_t done = 0;
    open_line(&line, false);
    fd_try_pipe_capacity(line.ends[1], 1 << 20);
    send_raw(line.ends[1], bodies[14], 1000);
    assert_int_equal(chan_discard(&line.receiver, sizes[14], &done), CHAN_AGAIN);
    assert_int_equal(done, 1000);
    send_raw(line.ends[1], bodies[14] + 1000, sizes[14] - 1000);
    send_raw(line.ends[1], (const uint8_t *)"end", 3);
    chan_rearm(&line.receiver);
    assert_int_equal(chan_discard(&line.receiver, sizes[14], &done), 0);
    assert_int_equal(done, sizes[14]);
    assert_int_equal(chan_peek(&line.receiver, 3, &bytes), 0);
    assert_memory_equal(bytes, "end", 3);
    close_line(&line);
}

/* Behind a large body only a header is taken, so that the next large one can be read straight to its place; but what is
 * thrown away is taken by the buffer, not byte by byte. */
static void behind_a_large_body_no_more_than_a_header_is_staged(void **unused)
{
    (void)unused;
    static uint8_t destination[CHAN_LARGE_BYTES];
    struct line line;
    size_t done = 0, discarded = 0;
    open_line(&line, false);
    fd_try_pipe_capacity(line.ends[1], 1 << 20);
    send_raw(line.ends[1], bodies[16], sizes[16]);
    assert_int_equal(chan_read_into(&line.receiver, destination, sizeof destination, &done), 0);
    assert_memory_equal(destination, bodies[16], sizeof destination);
    assert_int_equal(chan_staged(&line.receiver), WIRE_HEADER_BYTES);
    assert_int_equal(chan_discard(&line.receiver, WIRE_HEADER_BYTES + 1, &discarded), 0);
    assert_in_range(chan_staged(&line.receiver), CHAN_STAGING_BYTES - 1, CHAN_STAGING_BYTES);
    close_line(&line);
}

static void a_write_that_fails_is_told(void **unused)
{
    (void)unused;
    struct line line;
    void (*before)(int) = signal(SIGPIPE, SIG_IGN);
    open_line(&line, false);
    fd_close(&line.ends[0]);
    put(&line.sender, 0, NULL, 0);
    assert_true(chan_flush(&line.sender) < 0);
    close_line(&line);
    signal(SIGPIPE, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_frames_share_one_write),
        cmocka_unit_test(large_and_small_bodies_interleave_over_a_full_pipe),
        cmocka_unit_test(frames_are_read_whole_whatever_pieces_they_come_in),
        cmocka_unit_test(a_stream_may_break_at_any_byte),
        cmocka_unit_test(a_queue_may_be_flushed_in_any_pieces),
        cmocka_unit_test(a_queue_that_never_runs_empty_is_compacted),
        cmocka_unit_test(a_large_body_is_borrowed_and_a_small_one_copied),
        cmocka_unit_test(reserved_frames_need_no_more_memory),
        cmocka_unit_test(a_short_read_leaves_the_pipe_alone_until_rearmed),
        cmocka_unit_test(peeked_bytes_stay_until_skipped),
        cmocka_unit_test(the_end_is_told_at_every_byte_of_a_frame),
        cmocka_unit_test(a_frame_before_the_end_is_still_read),
        cmocka_unit_test(a_blocking_reader_waits_for_the_rest),
        cmocka_unit_test(a_look_receives_what_there_is_and_never_waits),
        cmocka_unit_test(the_bell_is_rung_after_a_write_and_is_not_quiet_during_one_that_may_wait),
        cmocka_unit_test(a_look_at_a_large_body_takes_no_more_than_a_header),
        cmocka_unit_test(discarded_bytes_are_those_asked_for),
        cmocka_unit_test(behind_a_large_body_no_more_than_a_header_is_staged),
        cmocka_unit_test(a_write_that_fails_is_told),
    };
    return cmocka_run_group_tests(tests, make_bodies, free_bodies);
}
