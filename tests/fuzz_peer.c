/* fuzz_peer: a hostile worker. Its bytes come from the fuzzer and go through the channel and the decoder into what the
 * parent believes of them (src/peer.c), with a span in flight. Whatever they are, the outcome is news that fits the
 * span to the item, an end of file, or PEER_GARBAGE, and no byte outside of the items' results is touched.
 *
 * Input: one byte of set-up (bit 0: items of any size; bit 1: before the hello; bit 2: replies are not wanted;
 * bit 3: before it is ready; bit 4: results are in place; bit 5: regions 0 to 3 come through the socket; bit 6: results
 * travel by memory), one for the size of a result, one for the number of items, then what the worker writes.
 *
 * Build: with src/ and backends/ as include paths, all of the library's objects,
 * -fsanitize=fuzzer,address,undefined. */
#include "fd.h"
#include "memory.h"
#include "peer.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_RESULT_BYTES = 1 << 16, REGION_BYTES = 5000, MARGIN = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct scene {
    struct peer peer;
    struct job job;
    struct span *span;
    uint8_t *results; /* with a margin on both sides */
    int worker_socket;
    size_t result_bytes;
};

static int worker_stream(const uint8_t *data, size_t size)
{
    int fd = memfd_create("worker", MFD_CLOEXEC);
    assert(fd >= 0);
    assert(fd_write(fd, data, size) == (ssize_t)size);
    assert(lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

/* Both ends, and memory that it has lent. The parent's end is returned. */
static int lending_socket(struct scene *scene)
{
    int ends[2];
    assert(!fd_socketpair(ends));
    assert(!fd_set_nonblocking(ends[0]));
    for (uint64_t number = 0; number < 4; number++) {
        int fd = memory_create("region", REGION_BYTES);
        assert(fd >= 0 && !fd_send(ends[1], &number, sizeof number, &fd, 1));
        fd_close(&fd);
    }
    scene->worker_socket = ends[1];
    return ends[0];
}

/* As peer_put_span does, and the worker has written there. Tasks travel so one by one. */
static void put_in_transit(struct scene *scene)
{
    struct transit worker = {0};
    struct transit_room room;
    int fd = -1;
    assert(!transit_create(&scene->peer.transit, TRANSIT_LEAST_BYTES, &fd) &&
           !transit_map(&worker, TRANSIT_LEAST_BYTES, fd));
    assert(transit_take(&scene->peer.transit, scene->result_bytes + 1, &room));
    memset(transit_results(&worker, room.offset), 0xa5, scene->result_bytes);
    scene->span->in_place = scene->span->transit.results = true;
    scene->span->transit.at = room.offset;
    scene->span->transit.size = scene->result_bytes;
    scene->span->transit.end = room.end;
    transit_clear(&worker);
    fd_close(&fd);
}

static void set_up(struct scene *scene, const uint8_t *data, size_t size)
{
    static uint8_t config[1], staging[CHAN_STAGING_BYTES];
    static const struct pool_bytes inputs[256];
    static const struct peer_setup setup = {
        .config = config, .config_size = sizeof config, .max_result_bytes = MAX_RESULT_BYTES};
    struct backend_child child = {
        .request_fd = -1, .request_end_fd = -1, .socket_fd = -1, .lifeline_fd = -1, .exit_fd = -1, .pidfd = -1};
    child.reply_fd = worker_stream(data + 3, size - 3);
    scene->worker_socket = -1;
    if (data[0] & 32)
        child.socket_fd = lending_socket(scene);
    assert(!peer_open(&scene->peer, &child, 0, &setup, staging));
    if (!(data[0] & 2))
        scene->peer.expects = data[0] & 8 ? PEER_EXPECTS_READY : PEER_EXPECTS_RESULTS;
    struct job *job = &scene->job;
    job->kind = data[0] & 1 ? JOB_BYTES : JOB_FIXED;
    job->count = data[2];
    job->item_size = 1;
    job->inputs = inputs;
    job->result_size = data[1];
    scene->result_bytes = (size_t)(job->count * job->result_size);
    scene->results = calloc(1, scene->result_bytes + 2 * MARGIN);
    job->results = scene->results + MARGIN;
    job->replies = data[0] & 4 ? NULL : calloc(256, sizeof *job->replies);
    job_begin(job);
    scene->span = job->pending ? job_take_whole(job) : NULL;
    if (scene->span)
        scene->span->in_place = data[0] & 16;
    if (scene->span && data[0] & 64 && (job->kind == JOB_FIXED || job->count == 1))
        put_in_transit(scene);
}

static volatile unsigned sum;

static void take_items(struct scene *scene, enum peer_news news, const struct peer_report *report)
{
    struct span *span = scene->span;
    assert(span && span->count);
    assert(report->first == span->first && report->count && report->count <= span->count);
    assert(strlen(report->text) <= WIRE_TEXT_BYTES);
    if (news == PEER_RESULT) {
        assert(report->reply_size <= MAX_RESULT_BYTES && report->count == 1);
        assert(!report->reply || scene->job.replies);
        assert(!report->region); /* the reply of a map is copied */
        free(report->reply);
    }
    const uint8_t *at = report->replies;
    for (uint64_t i = 0; news == PEER_REPLIES && i < report->count; i++) {
        struct wire_reply reply;
        at = wire_decode_reply(at, &reply);
        assert(reply.size <= MAX_RESULT_BYTES && reply.size <= WIRE_REPLIES_BYTES);
        sum += at[-1]; /* can be read to its end */
    }
    for (uint32_t i = 0; news == PEER_RESULTS && i < report->failure_count; i++)
        assert(wire_decode_failure(report->failures + (size_t)i * WIRE_FAILURE_BYTES).offset < report->count);
    span->first += report->count;
    span->count -= report->count;
    if (!span->count)
        scene->span = NULL;
}

static void check_margins(const struct scene *scene, bool in_place)
{
    static const uint8_t untouched[MARGIN];
    assert(!memcmp(scene->results, untouched, MARGIN));
    assert(!memcmp(scene->results + MARGIN + scene->result_bytes, untouched, MARGIN));
    for (size_t i = 0; in_place && i < scene->result_bytes; i++)
        assert(!scene->results[MARGIN + i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    struct scene scene = {0};
    set_up(&scene, data, size);
    for (;;) {
        struct peer_report report;
        enum peer_news news = peer_next(&scene.peer, scene.span, &report);
        if (news == PEER_NOTHING || news == PEER_EOF || news == PEER_GARBAGE)
            break;
        if (news != PEER_READY && news != PEER_FAILED)
            take_items(&scene, news, &report);
        else
            assert(data[0] & (2 | 8));
    }
    check_margins(&scene, (data[0] & (16 | 64)) == 16);
    fd_close(&scene.worker_socket);
    peer_close(&scene.peer);
    free(scene.job.replies);
    free(scene.results);
    return 0;
}
