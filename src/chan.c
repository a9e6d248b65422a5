/* chan: see chan.h.
 *
 * What goes out is a list of pieces. Those that are copied lie in one array, which moves as it grows: so they are known
 * by offsets. What comes in goes through the staging buffer, but for bodies that are read to where they belong; that
 * begins when the staging buffer is empty. */
#include "chan.h"
#include "fd.h"
#include "first.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { IOV_PIECES = 64, KEPT_COPIES_BYTES = 256 << 10 };

static void use_first_copies(struct chan *chan)
{
    chan->copies = chan->first_copies;
    chan->copies_capacity = CHAN_FIRST_COPIES;
}

void chan_init(struct chan *chan, int in_fd, int out_fd, bool blocking, uint8_t *staging)
{
    *chan = (struct chan){.in_fd = in_fd, .out_fd = out_fd, .blocking = blocking};
    use_first_copies(chan);
    chan->pieces = chan->first_pieces;
    chan->piece_capacity = CHAN_FIRST_PIECES;
    chan->staging = staging;
}

void chan_clear(struct chan *chan)
{
    first_free(chan->copies, chan->first_copies);
    first_free(chan->pieces, chan->first_pieces);
    *chan = (struct chan){.in_fd = -1, .out_fd = -1};
}

/* ---- outgoing ---- */

void chan_note_sent(struct chan *chan, size_t size)
{
    chan->put_bytes += size;
    chan->sent_bytes += size;
}

static size_t first_unsent_copy(const struct chan *chan)
{
    for (size_t i = chan->piece_first; i < chan->piece_end; i++)
        if (!chan->pieces[i].borrowed)
            return chan->pieces[i].offset;
    return chan->copies_size;
}

/* Then it pays to make room by moving the rest: the cost is spread over what was sent. Pieces do not tell: many frames
 * may have become one that is never sent to its end. */
static bool is_mostly_sent(const struct chan *chan)
{
    size_t sent = first_unsent_copy(chan);
    return sent && sent >= chan->copies_size - sent;
}

/* Move what is unsent to the front. */
static void compact(struct chan *chan)
{
    size_t sent = first_unsent_copy(chan);
    memmove(chan->copies, chan->copies + sent, chan->copies_size - sent);
    chan->copies_size -= sent;
    size_t unsent = chan->piece_end - chan->piece_first;
    memmove(chan->pieces, chan->pieces + chan->piece_first, unsent * sizeof *chan->pieces);
    chan->piece_first = 0;
    chan->piece_end = unsent;
    for (size_t i = 0; i < unsent; i++)
        if (!chan->pieces[i].borrowed)
            chan->pieces[i].offset -= sent;
}

static int reserve_copies(struct chan *chan, size_t size)
{
    if (chan->copies_capacity - chan->copies_size >= size)
        return 0;
    size_t capacity = (chan->copies_size + size) * 2;
    uint8_t *copies = first_grow(chan->copies, chan->first_copies, chan->copies_size, capacity);
    if (!copies)
        return -ENOMEM;
    chan->copies = copies;
    chan->copies_capacity = capacity;
    return 0;
}

static int reserve_pieces(struct chan *chan, size_t count)
{
    if (chan->piece_capacity - chan->piece_end >= count)
        return 0;
    size_t capacity = (chan->piece_end + count) * 2;
    struct chan_piece *pieces =
        first_grow(chan->pieces, chan->first_pieces, chan->piece_end * sizeof *pieces, capacity * sizeof *pieces);
    if (!pieces)
        return -ENOMEM;
    chan->pieces = pieces;
    chan->piece_capacity = capacity;
    return 0;
}

static int reserve(struct chan *chan, size_t copied_bytes, size_t pieces)
{
    bool enough =
        chan->copies_capacity - chan->copies_size >= copied_bytes && chan->piece_capacity - chan->piece_end >= pieces;
    if (!enough && is_mostly_sent(chan))
        compact(chan);
    int rc = reserve_copies(chan, copied_bytes);
    return rc ? rc : reserve_pieces(chan, pieces);
}

int chan_reserve(struct chan *chan, size_t frames, size_t body_bytes)
{
    size_t copied = body_bytes < frames * CHAN_COPY_BYTES ? body_bytes : frames * CHAN_COPY_BYTES;
    return reserve(chan, frames * WIRE_HEADER_BYTES + copied, frames * 2);
}

static uint8_t *append_copy(struct chan *chan, size_t size)
{
    struct chan_piece *last = chan->piece_end > chan->piece_first ? &chan->pieces[chan->piece_end - 1] : NULL;
    if (last && !last->borrowed)
        last->size += size;
    else
        chan->pieces[chan->piece_end++] = (struct chan_piece){.offset = chan->copies_size, .size = size};
    chan->copies_size += size;
    return chan->copies + chan->copies_size - size;
}

int chan_put(struct chan *chan, const struct wire_header *header, const void *body)
{
    return chan_put_parts(chan, header, NULL, 0, body);
}

int chan_put_parts(struct chan *chan, const struct wire_header *header, const void *start, size_t start_size,
                   const void *rest)
{
    size_t size = (size_t)header->body_bytes - start_size;
    bool copied = size <= CHAN_COPY_BYTES;
    int rc = reserve(chan, WIRE_HEADER_BYTES + start_size + (copied ? size : 0), 2);
    if (rc)
        return rc;
    wire_encode(header, append_copy(chan, WIRE_HEADER_BYTES));
    if (start_size)
        memcpy(append_copy(chan, start_size), start, start_size);
    if (!copied)
        chan->pieces[chan->piece_end++] = (struct chan_piece){.borrowed = rest, .size = size};
    else if (size)
        memcpy(append_copy(chan, size), rest, size);
    chan->put_bytes += WIRE_HEADER_BYTES + header->body_bytes;
    return 0;
}

/* What goes in one call: at most CHAN_STEP_BYTES. */
static int gather(const struct chan *chan, struct iovec parts[IOV_PIECES], size_t *size_out)
{
    int count = 0;
    size_t room = CHAN_STEP_BYTES;
    for (size_t i = chan->piece_first; i < chan->piece_end && count < IOV_PIECES && room; i++) {
        const struct chan_piece *piece = &chan->pieces[i];
        const uint8_t *at = piece->borrowed ? piece->borrowed : chan->copies + piece->offset;
        size_t size = piece->size < room ? piece->size : room;
        parts[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)at, .iov_len = size};
        room -= size;
    }
    *size_out = CHAN_STEP_BYTES - room;
    return count;
}

static void advance(struct chan *chan, size_t sent)
{
    chan->sent_bytes += sent;
    while (sent) {
        struct chan_piece *piece = &chan->pieces[chan->piece_first];
        size_t step = sent < piece->size ? sent : piece->size;
        piece->size -= step;
        if (piece->borrowed)
            piece->borrowed += step;
        else
            piece->offset += step;
        sent -= step;
        chan->piece_first += piece->size == 0;
    }
}

static void forget_sent(struct chan *chan)
{
    chan->piece_first = chan->piece_end = chan->copies_size = 0;
    if (chan->copies_capacity > KEPT_COPIES_BYTES) {
        first_free(chan->copies, chan->first_copies);
        use_first_copies(chan);
    }
}

/* By 2; by 1 before, and after, a write that may wait for the reader, which has to go on reading until that ends. */
static void ring(const struct chan *chan, uint32_t step)
{
    uint32_t rings = atomic_load_explicit(chan->bell, memory_order_relaxed) + step; /* nobody else changes it */
    atomic_store_explicit(chan->bell, rings ? rings : 2, memory_order_release);
}

void chan_use_bell(struct chan *chan, _Atomic uint32_t *bell)
{
    chan->bell = bell;
    ring(chan, 2); /* for what was written before */
}

static ssize_t write_parts(const struct chan *chan, const struct iovec *parts, int count, size_t size)
{
    bool may_wait = size > CHAN_COPY_BYTES; /* less goes into a pipe whole, and is there as soon as it has room */
    if (chan->bell && may_wait)
        ring(chan, 1);
    ssize_t sent = count == 1 ? fd_write(chan->out_fd, parts->iov_base, parts->iov_len)
                              : fd_writev(chan->out_fd, parts, count); /* which takes longer */
    if (chan->bell)
        ring(chan, may_wait ? 1 : 2);
    return sent;
}

int chan_flush(struct chan *chan)
{
    while (chan_has_output(chan)) {
        struct iovec parts[IOV_PIECES];
        size_t size;
        int count = gather(chan, parts, &size);
        ssize_t sent = write_parts(chan, parts, count, size);
        if (sent < 0)
            return sent == -EAGAIN ? CHAN_AGAIN : (int)sent;
        advance(chan, (size_t)sent);
        if ((size_t)sent < size && !chan->blocking)
            return CHAN_AGAIN; /* it is full */
    }
    forget_sent(chan);
    return 0;
}

int chan_keep_output(struct chan *chan)
{
    size_t size = 0, borrowed = 0;
    for (size_t i = chan->piece_first; i < chan->piece_end; i++) {
        size += chan->pieces[i].size;
        borrowed += chan->pieces[i].borrowed ? chan->pieces[i].size : 0;
    }
    uint8_t *copies = borrowed ? malloc(size) : NULL;
    if (!borrowed || !copies)
        return borrowed ? -ENOMEM : 0;
    size_t end = 0;
    for (size_t i = chan->piece_first; i < chan->piece_end; i++) {
        const struct chan_piece *piece = &chan->pieces[i];
        memcpy(copies + end, piece->borrowed ? piece->borrowed : chan->copies + piece->offset, piece->size);
        end += piece->size;
    }
    first_free(chan->copies, chan->first_copies);
    chan->copies = copies;
    chan->copies_size = chan->copies_capacity = size;
    chan->pieces[chan->piece_first] = (struct chan_piece){.size = size};
    chan->piece_end = chan->piece_first + 1;
    return 0;
}

void chan_forget_output(struct chan *chan)
{
    forget_sent(chan);
}

bool chan_has_output(const struct chan *chan)
{
    return chan->piece_first < chan->piece_end;
}

/* ---- incoming ---- */

void chan_rearm(struct chan *chan)
{
    chan->dry = false;
}

/* What a read of at most `asked` bytes came back with: a count to go on with, or the outcome to return. */
static int note_read(struct chan *chan, ssize_t count, size_t asked)
{
    bool is_end = !count || (count < 0 && count != -EAGAIN); /* which can be read again */
    chan->dry = !chan->blocking && !is_end && (count < 0 || (size_t)count < asked);
    if (is_end)
        return count ? (int)count : CHAN_EOF;
    return count < 0 ? CHAN_AGAIN : 0;
}

static ssize_t read_some(struct chan *chan, void *bytes, size_t size)
{
    return fd_read(chan->in_fd, bytes, size);
}

/* Without waiting, though the fd may block; nobody else reads from it. */
static ssize_t read_now(struct chan *chan, void *bytes, size_t size)
{
    if (!chan->blocking)
        return read_some(chan, bytes, size);
    ssize_t count = chan->asks_first ? 0 : fd_read_now(chan->in_fd, bytes, size);
    chan->asks_first |= count < 0 && count != -EAGAIN;
    if (!chan->asks_first)
        return count;
    return fd_unread(chan->in_fd) ? read_some(chan, bytes, size) : -EAGAIN;
}

/* One read, to have `size` bytes staged; more if they are there and not large. */
static int stage(struct chan *chan, size_t size, ssize_t (*reader)(struct chan *chan, void *bytes, size_t size))
{
    memmove(chan->staging, chan->staging + chan->staging_start, chan_staged(chan));
    chan->staging_end = chan_staged(chan);
    chan->staging_start = 0;
    size_t room = (chan->large ? size : CHAN_STAGING_BYTES) - chan->staging_end;
    ssize_t count = reader(chan, chan->staging + chan->staging_end, room);
    int rc = note_read(chan, count, room);
    chan->staging_end += rc ? 0 : (size_t)count;
    return rc;
}

int chan_peek(struct chan *chan, size_t size, const uint8_t **bytes_out)
{
    while (chan_staged(chan) < size) {
        int rc = chan->dry ? CHAN_AGAIN : stage(chan, size, read_some);
        if (rc)
            return rc;
    }
    *bytes_out = chan->staging + chan->staging_start;
    return 0;
}

bool chan_look(struct chan *chan)
{
    size_t more = chan_staged(chan) + WIRE_HEADER_BYTES;
    return more > CHAN_STAGING_BYTES || stage(chan, more, read_now) != CHAN_AGAIN;
}

void chan_skip(struct chan *chan, size_t size)
{
    chan->staging_start += size;
    if (chan->staging_start == chan->staging_end)
        chan->staging_start = chan->staging_end = 0;
}

static size_t take_staged(struct chan *chan, void *destination, size_t size)
{
    size_t staged = chan_staged(chan);
    size_t count = staged < size ? staged : size;
    if (count)
        memcpy(destination, chan->staging + chan->staging_start, count);
    chan_skip(chan, count);
    return count;
}

int chan_read_into(struct chan *chan, void *destination, size_t size, size_t *done)
{
    chan->large = size >= CHAN_LARGE_BYTES;
    if (*done == size)
        return 0;
    uint8_t *bytes = destination;
    *done += take_staged(chan, bytes + *done, size - *done);
    while (*done < size) {
        if (chan->dry)
            return CHAN_AGAIN;
        size_t rest = size - *done, beyond = chan->large ? WIRE_HEADER_BYTES : CHAN_STAGING_BYTES;
        if (rest > CHAN_STEP_BYTES) {
            rest = CHAN_STEP_BYTES;
            beyond = 0;
        }
        struct iovec parts[2] = {{bytes + *done, rest}, {chan->staging, beyond}}; /* the staging buffer is empty here */
        ssize_t count = fd_readv(chan->in_fd, parts, 2);
        int rc = note_read(chan, count, rest + beyond);
        if (rc)
            return rc;
        size_t into = (size_t)count < rest ? (size_t)count : rest;
        *done += into;
        chan->staging_end = (size_t)count - into;
    }
    return 0;
}

int chan_discard(struct chan *chan, size_t size, size_t *done)
{
    chan->large = false; /* nothing is to be left in the pipe: take as much as the staging buffer holds */
    while (*done < size) {
        const uint8_t *unused;
        int rc = chan_staged(chan) ? 0 : chan_peek(chan, 1, &unused);
        if (rc)
            return rc;
        size_t staged = chan_staged(chan), rest = size - *done;
        size_t count = staged < rest ? staged : rest;
        chan_skip(chan, count);
        *done += count;
    }
    return 0;
}
