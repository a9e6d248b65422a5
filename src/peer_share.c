/* peer_share: which buffers the worker has, and what becomes of the memory that it lends. See peer.h.
 *
 * A worker is given a buffer when something that lies in it is first sent there: to be read from, unless results are to go there. Where that
 * fails (no room for an fd here or in the socket, no memory) the bytes travel instead.
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

/* The results first: who has a buffer for them can read what else is in it. */
void peer_share_span(struct peer *peer, struct span *span)
{
    const struct job *job = span->job;
    bool fixed = job->kind == JOB_FIXED;
    span->in_place = job->results_in && share(peer, job->results_in, SHARES_TO_WRITE);
    span->by_reference = fixed ? job->items_in && share(peer, job->items_in, SHARES_TO_READ) : share_inputs(peer, span);
}

size_t peer_refer(const struct buffer *buffer, const void *data, size_t size, uint8_t place[WIRE_REFERENCE_BYTES])
{
    size_t offset = (size_t)((const uint8_t *)data - buffer->data);
    struct wire_reference reference = {.buffer = buffer->number, .offset = offset, .size = size};
    wire_encode_reference(reference, place);
    return WIRE_REFERENCE_BYTES;
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
    while (!chan_reserve(&peer->chan, 1, 0) && borrow_next_return(&peer->borrow, &number, &kept)) {
        struct wire_header header = {.type = kept ? WIRE_RETURN : WIRE_DISCARD, .id = number};
        chan_put(&peer->chan, &header, NULL); /* there is room */
    }
}

void peer_abandon_memory(struct peer *peer)
{
    peer->claims.page = NULL;
    for (unsigned i = 0; i < BORROW_REGIONS; i++)
        borrow_abandon(peer->borrow.regions[i]);
}

void peer_forget_shared(struct peer *peer)
{
    borrow_clear(&peer->borrow);
    if (peer->shared_count)
        memset(peer->shared, SHARES_NOT, peer->shared_count);
}
