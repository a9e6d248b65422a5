/* peer_send: what the parent says to a worker: greetings, functions, spans, commands. See peer.h. */
#include "bits.h"
#include "fd.h"
#include "first.h"
#include "peer_inner.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

/* All that a user may have in pipes is 64 MiB as a rule: so what small replies need is less than large items do. */
enum { LARGE_PIPE_BYTES = 1 << 20, LARGER_PIPE_BYTES = 256 << 10 };

/* ---- greetings and functions ---- */

static struct wire_header make_hello(uint8_t bytes[WIRE_HELLO_BYTES])
{
    struct wire_hello hello = {.version = WIRE_VERSION, .pid = (uint32_t)getpid()};
    hello.id_size = (uint32_t)callable_library_id(hello.id);
    return (struct wire_header){.type = WIRE_HELLO, .body_bytes = wire_encode_hello(&hello, bytes)};
}

static struct wire_header make_config(const struct peer_setup *setup, unsigned worker_id)
{
    return (struct wire_header){
        .type = WIRE_CONFIG, .id = worker_id, .count = (uint32_t)setup->replay_count, .body_bytes = setup->config_size};
}

int peer_put_greeting(struct peer *peer)
{
    uint8_t bytes[WIRE_HELLO_BYTES];
    struct wire_header hello = make_hello(bytes), config = make_config(peer->setup, peer->worker_id);
    int rc = chan_put(&peer->chan, &hello, bytes);
    return rc ? rc : chan_put(&peer->chan, &config, peer->setup->config);
}

size_t peer_encode_greeting(const struct peer_setup *setup, unsigned worker_id, uint8_t bytes[BACKEND_GREETING_BYTES])
{
    uint8_t body[WIRE_HELLO_BYTES];
    struct wire_header hello = make_hello(body), config = make_config(setup, worker_id);
    size_t start = 2 * WIRE_HEADER_BYTES + (size_t)hello.body_bytes;
    if (setup->config_size > BACKEND_GREETING_BYTES - start)
        return 0;
    wire_encode(&hello, bytes);
    memcpy(bytes + WIRE_HEADER_BYTES, body, (size_t)hello.body_bytes);
    wire_encode(&config, bytes + start - WIRE_HEADER_BYTES);
    memcpy(bytes + start, setup->config, setup->config_size);
    return start + setup->config_size;
}

static int reserve_told(struct peer *peer, uint32_t number)
{
    if (number < peer->told_count)
        return 0;
    uint32_t count = (number / 64 + 1) * 64 * 2;
    uint64_t *told = first_grow(peer->told, peer->first_told, peer->told_count / 8, count / 8);
    if (!told)
        return -ENOMEM;
    memset((uint8_t *)told + peer->told_count / 8, 0, (count - peer->told_count) / 8);
    peer->told = told;
    peer->told_count = count;
    return 0;
}

static int tell_function(struct peer *peer, uint32_t number)
{
    size_t size;
    if (reserve_told(peer, number))
        return -ENOMEM;
    if (bit_get(peer->told, number))
        return 0;
    const uint8_t *bytes = functions_bytes(&peer->setup->functions, number, &size);
    struct wire_header header = {.type = WIRE_FUNCTION, .function = number, .body_bytes = size};
    int rc = chan_put(&peer->chan, &header, bytes);
    if (!rc)
        bit_set(peer->told, number, true);
    return rc;
}

static int put_replay(struct peer *peer, const struct peer_replay *replay)
{
    struct wire_header header = {.type = WIRE_TASK,
                                 .flags = WIRE_REPLAY,
                                 .count = 1,
                                 .function = replay->function,
                                 .body_bytes = replay->input.size};
    int rc = tell_function(peer, replay->function);
    return rc ? rc : chan_put(&peer->chan, &header, replay->input.data);
}

int peer_put_replays(struct peer *peer)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < peer->setup->replay_count; i++)
        rc = put_replay(peer, &peer->setup->replays[i]);
    return rc;
}

/* ---- spans ---- */

/* The body of a run: where its results and its items are, or these themselves. */
static int put_run(struct peer *peer, const struct span *span, uint8_t flags)
{
    const struct job *job = span->job;
    const uint8_t *items = job->items + span->first * job->item_size;
    size_t items_size = (size_t)span->count * job->item_size;
    uint8_t places[PEER_PLACES_BYTES];
    size_t places_size = peer_refer_run(peer, span, places);
    struct wire_header header = {.type = WIRE_RUN,
                                 .flags = (uint8_t)(flags | (job->stop_on_error ? WIRE_STOP : 0) |
                                                    (span->by_reference ? WIRE_REFERENCE : 0) |
                                                    (span->in_place ? WIRE_IN_PLACE : 0)),
                                 .id = span->first,
                                 .count = (uint32_t)span->count,
                                 .function = job->function,
                                 .extra = job->result_size,
                                 .body_bytes = places_size + (span->by_reference ? 0 : items_size)};
    return chan_put_parts(&peer->chan, &header, places, places_size, items);
}

/* A dead worker's socket refuses: its end is about to be told, and the item goes elsewhere. */
static int send_fds(const struct peer *peer, const struct job_item *item)
{
    int rc = fd_send(peer->child.socket_fd, &item->index, sizeof item->index, item->fds, item->fd_count);
    return rc == -EPIPE || rc == -ECONNRESET ? 0 : rc;
}

/* Whether the input of item i is where the worker finds it. */
static bool refers(const struct span *span, uint64_t i)
{
    return span->transit.items || (span->by_reference && job_is_shared(span->job, i));
}

/* What of item i went, or goes, through the pipe. */
static size_t body_bytes(const struct span *span, uint64_t i)
{
    size_t places = span->transit.results ? WIRE_REFERENCE_BYTES : 0;
    return places + (refers(span, i) ? WIRE_REFERENCE_BYTES : job_input_size(span->job, i));
}

/* The body: where its reply may be put, and where its input is, or that itself. */
static int put_task(struct peer *peer, const struct span *span, uint64_t i, uint8_t flags)
{
    struct job_item item = job_item(span->job, i);
    uint8_t places[PEER_PLACES_BYTES];
    size_t places_size = peer_refer_task(peer, span, &item, places);
    struct wire_header header = {.type = WIRE_TASK,
                                 .flags = (uint8_t)(flags | (item.fd_count ? WIRE_FDS : 0) |
                                                    (refers(span, i) ? WIRE_REFERENCE : 0) |
                                                    (span->transit.results ? WIRE_IN_PLACE : 0)),
                                 .id = item.index,
                                 .extra = item.fd_count,
                                 .count = 1,
                                 .function = span->job->function,
                                 .body_bytes = body_bytes(span, i)};
    int rc = item.fd_count ? send_fds(peer, &item) : 0;
    return rc ? rc : chan_put_parts(&peer->chan, &header, places, places_size, item.data);
}

static int put_tasks(struct peer *peer, const struct span *span, uint8_t flags)
{
    size_t bytes = 0;
    for (uint64_t i = span->first; i < span->first + span->count; i++)
        bytes += body_bytes(span, i);
    int rc = chan_reserve(&peer->chan, (size_t)span->count + span->transit.results, bytes);
    for (uint64_t i = span->first; !rc && i < span->first + span->count; i++)
        rc = put_task(peer, span, i, flags); /* there is room; and fds come with a lone item only */
    return rc;
}

/* ---- memory that the worker alone has as well ---- */

/* There is room in the channel. Closes fd. */
static int send_memory(struct peer *peer, enum wire_type type, size_t size, int fd)
{
    struct wire_header header = {.type = (uint8_t)type, .extra = size};
    const uint64_t number = 0;
    int rc = fd_send(peer->child.socket_fd, &number, sizeof number, &fd, 1);
    fd_close(&fd);
    return rc ? rc : chan_put(&peer->chan, &header, NULL);
}

/* Without memory, fds or a socket that takes them nothing is taken back from this worker. */
static void tell_claims(struct peer *peer)
{
    int fd = -1;
    peer->claims_told = true;
    if (chan_reserve(&peer->chan, 1, 0) || claims_create(&peer->claims, &fd))
        return;
    if (send_memory(peer, WIRE_CLAIMS, 0, fd))
        claims_clear(&peer->claims);
    peer->tickets = peer->heard = 0;
}

/* Without memory, fds or a socket that takes them what is large goes through the pipes. */
static void tell_transit(struct peer *peer, size_t ring_bytes)
{
    int fd = -1;
    peer->transit_told = ring_bytes;
    if (chan_reserve(&peer->chan, 1, 0) || transit_create(&peer->transit, ring_bytes, &fd))
        return;
    if (send_memory(peer, WIRE_TRANSIT, ring_bytes, fd))
        transit_clear(&peer->transit);
}

/* Also by a worker that could not map it: what that lacked it may have by the time that another would pay. */
void peer_trim(struct peer *peer)
{
    struct wire_header header = {.type = WIRE_TRANSIT};
    peer->transit_missed = peer->transit_due = 0;
    if (peer->transit.memory && transit_has_rested(&peer->transit) && !chan_put(&peer->chan, &header, NULL)) {
        transit_clear(&peer->transit);
        peer->transit_told = 0;
    }
}

/* ---- taking back ---- */

/* While a frame is half read, nothing: it was believed to answer what is in flight now, and a liar may answer what it
 * never claimed. */
uint64_t peer_take_back(struct peer *peer, uint64_t most)
{
    if (!peer->claims.page || peer->in_body || chan_keep_output(&peer->chan))
        return 0;
    uint32_t count = claims_take_back(&peer->claims, peer->tickets - (uint32_t)peer->taken, (uint32_t)most);
    peer->taken += count;
    return count;
}

/* ---- spans, whole ---- */

void peer_enlarge_reply_pipe(struct peer *peer)
{
    if (!peer->large_pipes && !peer->larger_reply_pipe)
        fd_try_pipe_capacity(peer->child.reply_fd, LARGER_PIPE_BYTES);
    peer->larger_reply_pipe = true;
}

static bool enlarge_pipes(struct peer *peer)
{
    bool were_large = peer->large_pipes;
    peer->large_pipes = true;
    if (were_large)
        return false;
    fd_try_pipe_capacity(peer->child.request_fd, LARGE_PIPE_BYTES);
    fd_try_pipe_capacity(peer->child.reply_fd, LARGE_PIPE_BYTES);
    return true;
}

/* The worker is given memory for its large items when enough of them have gone through the pipes; not before all is
 * written, so that nothing had to wait for it. */
static bool make_way(struct peer *peer)
{
    size_t ring_bytes = peer->transit_due;
    if (!ring_bytes || !transit_is_unused(&peer->transit))
        return false;
    peer->transit_due = peer->transit_missed = 0;
    tell_transit(peer, ring_bytes);
    return true;
}

int peer_flush(struct peer *peer)
{
    int rc = chan_flush(&peer->chan);
    bool may_go_on = rc == CHAN_AGAIN ? enlarge_pipes(peer) : !rc && make_way(peer);
    return may_go_on ? chan_flush(&peer->chan) : rc;
}

/* Of a large span that goes through the pipes. To make the memory takes about as long as to send through them what it
 * holds: so that is done when as much has gone there, and who sends something large once in a while does not pay for
 * it. What is too large for the memory always goes there. */
static void note_missed(struct peer *peer, const struct span *span)
{
    size_t room = span->transit.size, ring_bytes = transit_ring_for(room);
    if (room > JOB_LARGE_BYTES && ring_bytes > peer->transit_told) {
        peer->transit_missed += room;
        peer->transit_due = peer->transit_missed >= ring_bytes ? ring_bytes : 0;
    }
    if (span->bytes > JOB_LARGE_BYTES && (peer->transit.ring_bytes < ring_bytes || !ring_bytes))
        enlarge_pipes(peer);
}

/* Its first frame begins at `start` in the stream. */
static void note_put(struct peer *peer, struct span *span, uint64_t start)
{
    peer->tickets += (uint32_t)span->count;
    peer->has_worked = true;
    span->sent_position = peer->chan.put_bytes;
    span->begin_position = span->sent_position;
    if (span->job->kind != JOB_FIXED)
        span->begin_position = start + WIRE_HEADER_BYTES + body_bytes(span, span->first);
    bool travels_by_pipe = !span->transit.results && !span->transit.items;
    if (travels_by_pipe && (span->transit.size > JOB_LARGE_BYTES || span->bytes > JOB_LARGE_BYTES))
        note_missed(peer, span);
}

int peer_put_span(struct peer *peer, struct span *span, bool stepwise, bool may_wait)
{
    uint8_t flags = (uint8_t)((stepwise ? WIRE_STEPWISE : 0) | (peer->may_spin ? WIRE_SPIN : 0));
    const struct job *job = span->job;
    span->sent_position = span->begin_position = UINT64_MAX; /* if it fails, this worker has not begun it */
    /* Before it is at an item that lasts, and reads nothing. Behind one that is alone nothing waits. */
    if ((may_wait || (peer->has_worked && !job->alone)) && !peer->claims_told)
        tell_claims(peer);
    peer_put_returns(peer);
    peer_share_span(peer, span);
    int rc = tell_function(peer, job->function);
    uint64_t start = peer->chan.put_bytes;
    if (!rc)
        rc = job->kind == JOB_FIXED ? put_run(peer, span, flags) : put_tasks(peer, span, flags);
    if (!rc)
        note_put(peer, span, start);
    return rc;
}

/* Where the item that is `count` behind begins, if item `first` of the span's job begins at `position`. */
static uint64_t position_behind(const struct span *span, uint64_t first, uint64_t count, uint64_t position)
{
    for (uint64_t i = first + 1; i <= first + count; i++)
        position += WIRE_HEADER_BYTES + (job_is_live(span->job, i) ? body_bytes(span, i) : 0);
    return position;
}

void peer_note_answered(struct span *head, uint64_t count)
{
    if (head->job->kind != JOB_FIXED)
        head->begin_position = position_behind(head, head->first - count, count, head->begin_position);
}

bool peer_was_sent(const struct peer *peer, const struct span *head, uint64_t count)
{
    uint64_t sent = peer->chan.sent_bytes;
    if (sent >= head->sent_position || head->job->kind == JOB_FIXED)
        return sent >= head->sent_position;
    return sent >= position_behind(head, head->first, count - 1, head->begin_position);
}

void peer_mute(struct peer *peer)
{
    chan_forget_output(&peer->chan);
    peer->transit_due = 0;
}

uint64_t peer_read_position(const struct peer *peer)
{
    return peer->chan.sent_bytes - fd_unread(peer->child.request_fd);
}

int peer_put_command(struct peer *peer, enum wire_type type)
{
    struct wire_header header = {.type = (uint8_t)type};
    int rc = chan_put(&peer->chan, &header, NULL);
    peer->transit_due = 0;
    if (rc || type != WIRE_RECYCLE)
        return rc;
    peer->greets_late = true;
    peer->expects = PEER_EXPECTS_HELLO;
    memset(peer->told, 0, peer->told_count / 8);
    claims_clear(&peer->claims);
    transit_clear(&peer->transit);
    peer->transit_told = peer->transit_missed = 0;
    peer->claims_told = peer->has_worked = false;
    peer_forget_shared(peer);
    return 0;
}
