/* chan: a stream of frames over two file descriptors.
 *
 * Outgoing: frames are put into a queue and flushed in as few system calls as there can be. Small bodies are copied
 * beside their headers, so that many frames go in one piece; large ones are borrowed and written straight from the
 * caller's memory. Incoming: a staging buffer for headers and small bodies; large bodies are read straight into the
 * caller's memory, and the readv that takes the rest of one also takes the header behind it.
 *
 * The same code serves the parent (non-blocking fds: CHAN_AGAIN when nothing moves) and the worker (blocking fds).
 * A short read tells that the pipe is dry, so no read is wasted on being told EAGAIN. A chan stays where it was made.
 *
 * Who writes may have a *bell*: a number in memory that the reader has as well, which changes after each write, and is
 * odd during one that may wait for the reader. So whoever comes by all the time need not ask the pipe whether there is
 * something new. Who waits does: it costs less to find the bytes than to hear of them first.
 *
 * Must not know: what a frame means, who is at the other end. */
#ifndef PROCPOOL_CHAN_H
#define PROCPOOL_CHAN_H

#include "wire.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHAN_AGAIN = 1, CHAN_EOF = 2 };

enum {
    CHAN_STAGING_BYTES = 64 << 10,
    CHAN_COPY_BYTES = 2 << 10,   /* a body up to this size is copied into the queue */
    CHAN_LARGE_BYTES = 16 << 10, /* behind a body of this size another one is expected */
    CHAN_STEP_BYTES = 256 << 10, /* no call moves more, so that the other end of the pipe moves meanwhile */
    CHAN_FIRST_COPIES = 512,     /* what a worker and its parent say to one another until the first item */
    CHAN_FIRST_PIECES = 8,
};

/* A stretch of outgoing bytes: in chan->copies at `offset`, or borrowed. Copied stretches that touch are one piece. */
struct chan_piece {
    const uint8_t *borrowed; /* NULL: copied */
    size_t offset, size;
};

struct chan {
    int in_fd, out_fd; /* borrowed */
    bool blocking;
    bool asks_first; /* it blocks, and can only be asked whether there is something to read */
    bool dry;        /* the last read came back short: nothing to read until the fd is readable again */
    bool large;      /* the last body was large: take no more than a header beyond what is asked for */

    uint8_t *staging; /* received, not consumed: [start, end) of it; borrowed */
    size_t staging_start, staging_end;

    uint8_t *copies; /* headers and copied bodies that pieces refer to by offset */
    size_t copies_size, copies_capacity;
    struct chan_piece *pieces; /* [piece_first, piece_end) are unsent */
    size_t piece_first, piece_end, piece_capacity;
    uint64_t put_bytes, sent_bytes; /* positions in the outgoing stream */
    _Atomic uint32_t *bell;         /* borrowed; NULL: there is none */
    uint8_t first_copies[CHAN_FIRST_COPIES];
    struct chan_piece first_pieces[CHAN_FIRST_PIECES];
};

/* The fds stay the caller's, and so does staging (CHAN_STAGING_BYTES). chan_clear may run twice. */
void chan_init(struct chan *chan, int in_fd, int out_fd, bool blocking, uint8_t *staging);
void chan_clear(struct chan *chan);

/* So many bytes of frames have been sent before the first that is put. */
void chan_note_sent(struct chan *chan, size_t size);

/* Queue a frame of header->body_bytes bytes of body. A body above CHAN_COPY_BYTES is borrowed until chan->sent_bytes
 * has reached chan->put_bytes as it is after this call. -ENOMEM: nothing was queued. */
int chan_put(struct chan *chan, const struct wire_header *header, const void *body);

/* The same with a body that begins with `start_size` bytes at `start`, which are copied, and goes on at `rest`. */
int chan_put_parts(struct chan *chan, const struct wire_header *header, const void *start, size_t start_size,
                   const void *rest);

/* Make room for `frames` frames with bodies of `body_bytes` together, so that putting them cannot fail. -ENOMEM. */
int chan_reserve(struct chan *chan, size_t frames, size_t body_bytes);

/* Write what is queued. 0: all of it; CHAN_AGAIN; a negative errno. */
int chan_flush(struct chan *chan);
/* From now on it is rung. 0 is what it says before. */
void chan_use_bell(struct chan *chan, _Atomic uint32_t *bell);
/* Whether what the bell says now means that nothing was written since it said `heard`. */
static inline bool chan_bell_is_quiet(uint32_t rings, uint32_t heard)
{
    return rings && rings == heard && rings % 2 == 0;
}
bool chan_has_output(const struct chan *chan);
/* What is queued and borrowed is copied: the memory may go. -ENOMEM: nothing has changed. */
int chan_keep_output(struct chan *chan);
/* Drop what is queued: borrowed bodies are not touched any more, and the stream is of no further use. */
void chan_forget_output(struct chan *chan);

/* The fd is readable (again). */
void chan_rearm(struct chan *chan);

/* Whether there is something to be read that was not received yet, or the stream has ended or failed. What there is
 * becomes received: so a look that finds something costs no more than the read that comes anyway. Never waits. */
bool chan_look(struct chan *chan);

/* Make the next `size` bytes (at most CHAN_STAGING_BYTES) available in one piece without consuming them. 0, CHAN_AGAIN,
 * CHAN_EOF, a negative errno. The pointer is valid until the next call but chan_skip. */
int chan_peek(struct chan *chan, size_t size, const uint8_t **bytes_out);
void chan_skip(struct chan *chan, size_t size);

/* Read the next bytes into [destination + *done, destination + size), advancing *done. 0 when *done has reached
 * size; else as chan_peek. */
int chan_read_into(struct chan *chan, void *destination, size_t size, size_t *done);

/* Read and forget, in the same way. */
int chan_discard(struct chan *chan, size_t size, size_t *done);

/* Received bytes that wait in the staging buffer. */
static inline size_t chan_staged(const struct chan *chan)
{
    return chan->staging_end - chan->staging_start;
}

#endif
