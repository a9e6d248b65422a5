/* peer_share: which buffers the worker has, and what becomes of the memory that it lends. See peer.h.
 *
 * A worker is given a buffer when something that lies in it is first sent there: to be read from, unless results are to
 * go there. Where that fails (no room for an fd here or in the socket, no memory) the bytes travel instead.
 * What a worker was given it keeps until the buffer goes away. */
#include "fd.h"
#include "peer_inner.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum peer_sharing { SHARES_NOT, SHARES_TO_READ, SHARES_TO_WRITE };

static int reserve(struct peer *peer, uint32_t number)
{
    if (number < peer->shared_count)
        return 0;
    uint32_t count = (number + 8) * 2;
    uint8_t *shared = realloc(peer->shared, count);
    if (!shared)
        return -ENOMEM;
    memset(shared + peer->shared_count, SHARES_NOT, count - peer->shared_count);
    peer->shared = shared;
    peer->shared_count = count;
    return 0;
}

/* The worker's own way to the memory: through an fd that cannot write, unless it is to. */
static int open_for(const struct buffer *buffer, enum peer_sharing sharing)
{
    char path[FD_PATH_BYTES];
    fd_path(buffer->fd, path);
    return sharing == SHARES_TO_WRITE ? fd_dup(buffer->fd) : fd_open(path, O_RDONLY);
}

static int send_buffer(struct peer *peer, const struct buffer *buffer, enum peer_sharing sharing)
{
    uint64_t number = buffer->number;
    struct wire_header header = {.type = WIRE_BUFFER,
                                 .flags = sharing == SHARES_TO_WRITE ? WIRE_IN_PLACE : 0,
                                 .id = number,
                                 .extra = buffer->size};
    int fd = open_for(buffer, sharing);
    if (fd < 0)
        return fd;
    int rc = fd_send(peer->child.socket_fd, &number, sizeof number, &fd, 1);
    fd_close(&fd);
    return rc ? rc : chan_put(&peer->chan, &header, NULL);
}

/* Whether the worker has it. */
static bool share(struct peer *peer, const struct buffer *buffer, enum peer_sharing sharing)
{
    if (reserve(peer, buffer->number))
        return false;
    if (peer->shared[buffer->number] >= sharing)
        return true;
    if (chan_reserve(&peer->chan, 1, 0) || send_buffer(peer, buffer, sharing))
        return false;
    peer->shared[buffer->number] = (uint8_t)sharing;
    return true;
}

static bool share_inputs(struct peer *peer, const struct span *span)
{
    bool all = span->job->has_buffers || span->job->inputs_in;
    for (uint64_t i = span->first; all && i < span->first + span->count; i++)
        if (job_is_shared(span->job, i))
            all = share(peer, job_item(span->job, i).buffer, SHARES_TO_READ);
    return all;
}

/* ---- what is copied by memory ---- */

/* How much of a span travels there and back. */
struct load {
    size_t out, in;
};

static struct load load_of_run(const struct span *span)
{
    const struct job *job = span->job;
    return (struct load){.out = span->by_reference ? 0 : (size_t)span->count * job->item_size,
                         .in = span->in_place ? 0 : (size_t)span->count * job->result_size};
}

/* Of a lone task. Its reply is taken to be as large as those of others were, and may be as large as its input. */
static struct load load_of_task(const struct span *span)
{
    const struct job *job = span->job;
    if (span->count != 1 || job->kind == JOB_BROADCAST)
        return (struct load){0};
    bool refers = span->by_reference && job_is_shared(job, span->first);
    /* What is too large goes through the pipe, wherever the input does. */
    bool fits = transit_ring_for((size_t)job->reply_bytes);
    return (struct load){.out = refers ? 0 : job_input_size(job, span->first),
                         .in = fits ? (size_t)job->reply_bytes : 0};
}

static struct load load_of(const struct span *span)
{
    return span->job->kind == JOB_FIXED ? load_of_run(span) : load_of_task(span);
}

static size_t larger(struct load load)
{
    return load.out > load.in ? load.out : load.in;
}

/* If it is large, and there is room. */
static void take_transit(struct peer *peer, struct span *span)
{
    bool is_task = span->job->kind != JOB_FIXED;
    struct load load = load_of(span);
    struct transit_room room;
    span->transit = (struct span_transit){.first = span->first, .size = larger(load)};
    if (larger(load) > JOB_LARGE_BYTES && transit_take(&peer->transit, larger(load), &room)) {
        span->transit.at = room.offset;
        span->transit.items = load.out > (is_task ? CHAN_COPY_BYTES : 0);
        span->transit.results = is_task || load.in;
        span->by_reference |= span->transit.items;
        span->in_place |= span->transit.results;
    }
    span->transit.end = peer->transit.end;
}

/* The results first: who has a buffer for them can read what else is in it. */
void peer_share_span(struct peer *peer, struct span *span)
{
    const struct job *job = span->job;
    bool fixed = job->kind == JOB_FIXED;
    span->in_place = job->results_in && share(peer, job->results_in, SHARES_TO_WRITE);
    span->by_reference = fixed ? job->items_in && share(peer, job->items_in, SHARES_TO_READ) : share_inputs(peer, span);
    take_transit(peer, span);
}

void peer_take_out(struct peer *peer, const struct span *head, uint64_t count)
{
    size_t size = head->job->result_size;
    const uint8_t *from = transit_results(&peer->transit, head->transit.at);
    memcpy(head->job->results + head->first * size, from + (head->first - head->transit.first) * size,
           (size_t)count * size);
    peer->bytes_in += count * size;
}

static size_t refer(uint64_t buffer, size_t offset, size_t size, uint8_t place[WIRE_REFERENCE_BYTES])
{
    struct wire_reference reference = {.buffer = buffer, .offset = offset, .size = size};
    wire_encode_reference(reference, place);
    return WIRE_REFERENCE_BYTES;
}

/* Where `size` bytes at `data` are, as their place in the buffer. How many bytes that takes. */
static size_t refer_to(const struct buffer *buffer, const void *data, size_t size, uint8_t place[WIRE_REFERENCE_BYTES])
{
    return refer(buffer->number, (size_t)((const uint8_t *)data - buffer->data), size, place);
}

static size_t refer_results(const struct span *span, uint8_t *place)
{
    const struct job *job = span->job;
    size_t size = (size_t)span->count * job->result_size;
    if (span->transit.results)
        return refer(WIRE_IN_TRANSIT, span->transit.at, size, place);
    return span->in_place ? refer_to(job->results_in, job->results + span->first * job->result_size, size, place) : 0;
}

/* `size` bytes of the span's items are copied to where they travel by. */
static size_t put_in_transit(struct peer *peer, const struct span *span, const void *items, size_t size, uint8_t *place)
{
    memcpy(transit_items(&peer->transit, span->transit.at), items, size);
    peer->transit_bytes_out += size;
    return refer(WIRE_IN_TRANSIT, span->transit.at, size, place);
}

static size_t refer_items(struct peer *peer, const struct span *span, uint8_t *place)
{
    const struct job *job = span->job;
    const uint8_t *items = job->items + span->first * job->item_size;
    size_t size = (size_t)span->count * job->item_size;
    if (!span->transit.items)
        return span->by_reference ? refer_to(job->items_in, items, size, place) : 0;
    return put_in_transit(peer, span, items, size, place);
}

size_t peer_refer_task(struct peer *peer, const struct span *span, const struct job_item *item,
                       uint8_t places[PEER_PLACES_BYTES])
{
    size_t size = 0;
    if (span->transit.results)
        size = refer(WIRE_IN_TRANSIT, span->transit.at, span->transit.size, places);
    if (span->transit.items)
        return size + put_in_transit(peer, span, item->data, item->size, places + size);
    if (span->by_reference && item->buffer)
        size += refer_to(item->buffer, item->data, item->size, places + size);
    return size;
}

size_t peer_refer_run(struct peer *peer, const struct span *span, uint8_t places[PEER_PLACES_BYTES])
{
    size_t size = refer_results(span, places);
    return size + refer_items(peer, span, places + size);
}

int peer_put_unmap(struct peer *peer, const struct buffer *buffer)
{
    struct wire_header header = {.type = WIRE_UNMAP, .id = buffer->number};
    if (buffer->number >= peer->shared_count || !peer->shared[buffer->number])
        return 0;
    peer->shared[buffer->number] = SHARES_NOT;
    return chan_put(&peer->chan, &header, NULL);
}

/* Without memory for it later. */
void peer_put_returns(struct peer *peer)
{
    unsigned number;
    bool kept;
    while (borrow_owes(&peer->borrow) && !chan_reserve(&peer->chan, 1, 0) &&
           borrow_next_return(&peer->borrow, &number, &kept)) {
        struct wire_header header = {.type = kept ? WIRE_RETURN : WIRE_DISCARD, .id = number};
        chan_put(&peer->chan, &header, NULL); /* there is room */
    }
}

void peer_abandon_memory(struct peer *peer)
{
    peer->claims.page = NULL;
    peer->transit.memory = NULL;
    borrow_abandon_all(&peer->borrow);
}

void peer_forget_shared(struct peer *peer)
{
    borrow_clear(&peer->borrow);
    if (peer->shared_count)
        memset(peer->shared, SHARES_NOT, peer->shared_count);
}
