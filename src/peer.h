/* peer: the parent's side of one worker's stream.
 *
 * Sends it its configuration and its spans, and turns what it says into checked news. The worker is taken for hostile:
 * whatever bytes it sends end at worst as PEER_GARBAGE. A frame is believed only when it answers the first span
 * in flight, item for item, and fits it to the byte; its results are read straight into the caller's arrays, or copied
 * there, where they can spoil only the items that they are for. Buffers for replies grow as bytes come, never by what a
 * header claims beyond the size of the input that it answers.
 * Must not know: other workers, the scheduler, when to do what. */
#ifndef PROCPOOL_PEER_H
#define PROCPOOL_PEER_H

#include "backend.h"
#include "borrow.h"
#include "buffers.h"
#include "chan.h"
#include "claims.h"
#include "functions.h"
#include "job.h"
#include "transit.h"

/* A broadcast that workers run as they start. */
struct peer_replay {
    uint32_t function;
    struct pool_bytes input;
};

/* What is the same for all workers of a pool. */
struct peer_setup {
    uint8_t *config; /* the body of WIRE_CONFIG */
    size_t config_size;
    uint64_t max_result_bytes;
    struct functions functions;
    struct peer_replay *replays;
    size_t replay_count;
};

enum { PEER_FIRST_TOLD = 1 };

struct peer {
    struct backend_child child; /* fds are -1 when there is no process */
    unsigned worker_id;
    struct chan chan;
    const struct peer_setup *setup; /* borrowed */
    uint64_t bytes_in, transit_bytes_out;
    bool greets_late; /* starts afresh: what is sent before its hello would be lost with the old image */
    bool large_pipes, larger_reply_pipe;
    enum { PEER_EXPECTS_HELLO, PEER_EXPECTS_READY, PEER_EXPECTS_RESULTS } expects;
    /* what the loop's epoll watches of it */
    bool watches_replies, watches_output, watches_exit; /* reply_fd; request_fd; exit_fd */
    bool watches_end;                                   /* pidfd, where that is another and the pipe was closed */
    bool was_listened_to;                               /* reply_fd was watched, and is unless its stream has ended */
    bool is_lost;                                       /* its fds were, and nobody has waited for its end */

    /* the frame that is being read */
    bool in_body;
    struct wire_header header;
    size_t input_size; /* of the task that it answers */
    size_t body_done;
    uint8_t *body;        /* malloc'd: a reply, a list of failures, a text */
    size_t body_capacity; /* behind that there is room for a text's end */
    bool out_of_memory;   /* the body is skipped */
    size_t results_done;
    struct wire_reference reference;
    const uint8_t *replies; /* of WIRE_REPLIES, in the channel: what has not been told yet; NULL: not looked at */
    uint32_t replies_left;

    /* how it ended, in words; kept after peer_close until the slot is used again */
    char end_text[BACKEND_TEXT_BYTES];
    struct child_exit end;
    bool explained; /* it said itself why it cannot become ready */

    struct claims claims;
    bool may_spin;    /* to be told with each span: before it sleeps, for want of another */
    bool has_worked;  /* it was sent a span before */
    bool claims_told; /* or they cannot be had, and nothing is taken back */
    uint32_t heard;   /* what its bell said before all that it had written was read; 0: that it says nothing yet */
    uint32_t tickets; /* items that were put since */
    uint64_t taken;   /* items that were taken back, and that it has not said to have skipped */

    uint64_t *told; /* bitmap over function numbers */
    uint32_t told_count;
    uint64_t first_told[PEER_FIRST_TOLD];
    uint8_t *shared; /* by buffer number: whether it has that, enum peer_sharing */
    uint32_t shared_count;
    struct transit transit; /* memory for what is large */
    size_t transit_told;    /* of which size; or that cannot be had, and what is larger goes through the pipes */
    size_t transit_missed;  /* how much would have been used, had it been larger, since it was told or looked at */
    size_t transit_due;     /* with a ring of this size it would have paid by now; 0 */
    struct borrow borrow;   /* memory of the worker's for its replies */
    bool announced;         /* some of it, and no answer since */
};

enum peer_news {
    PEER_NOTHING, /* until its reply_fd is readable again */
    PEER_EOF,
    PEER_READY,
    PEER_FAILED,  /* it cannot become a worker; report.text says why */
    PEER_RESULT,  /* one item of any size ended */
    PEER_REPLIES, /* items of any size ended, all of them well */
    PEER_RESULTS, /* items of one size ended; their results are in place */
    PEER_ERROR,   /* items could not be run; report.text says why */
    PEER_SKIPPED, /* report.count items that were taken back */
    PEER_GARBAGE,
    PEER_LOST, /* the fd is not this worker's any more */
};

struct peer_report {
    uint64_t first, count, elapsed_ns;
    bool worn;
    int code;    /* PEER_RESULT: the task's. PEER_ERROR: the error */
    void *reply; /* PEER_RESULT: malloc'd, the receiver's; NULL */
    size_t reply_size;
    struct borrowed *region; /* PEER_RESULT: where the reply lies instead, held; the receiver gives it back; NULL */
    int reply_error;         /* PEER_RESULT: why it is not to be had: no memory, or no fd */
    const uint8_t *replies;  /* PEER_REPLIES: `count` entries (see wire_decode_reply); valid until the next call */
    const uint8_t *failures; /* PEER_RESULTS: wire entries */
    uint32_t failure_count;
    uint64_t body_bytes; /* PEER_RESULTS: what came, of both */
    const char *text;    /* printable; ""; valid until the next call */
};

void peer_init(struct peer *peer);
/* What a worker of this setup is to read first, see backend.h; 0: it is too long. */
size_t peer_encode_greeting(const struct peer_setup *setup, unsigned worker_id, uint8_t bytes[BACKEND_GREETING_BYTES]);
/* A process was started: take its fds. setup, and staging of CHAN_STAGING_BYTES: stay until peer_close. -ENOMEM: the
 * child is still the caller's. */
int peer_open(struct peer *peer, const struct backend_child *child, unsigned worker_id, const struct peer_setup *setup,
              uint8_t *staging);
/* Its request, reply and socket fds are closed, and the lifeline: a process that still lives is killed by that. May run
 * twice. */
void peer_close(struct peer *peer);
/* Undo peer_open: the fds are the caller's again. */
void peer_forget(struct peer *peer);
bool peer_is_open(const struct peer *peer);

/* Queue all of span, and send the fds of its item. -ENOMEM, or what sending fds failed with: nothing was queued. Sets
 * the span's positions in the stream. may_wait: some of it will wait at the worker, and may be taken back. For that the
 * worker is given a page, at the latest before its second span that others may wait behind. */
int peer_put_span(struct peer *peer, struct span *span, bool stepwise, bool may_wait);
/* Tell the worker which of its regions are not needed any more; with each span that is done anyway. */
void peer_put_returns(struct peer *peer);
/* The last items that were put, at most `most`, are not to be run: as many as the worker has not begun. Their memory
 * may go. */
uint64_t peer_take_back(struct peer *peer, uint64_t most);
/* Whether it has that memory, or may get it soon. */
static inline bool peer_has_large_items(const struct peer *peer)
{
    return peer->transit.memory || peer->transit_missed;
}
/* The memory is given up if nothing was under way there since this was last called, and what went through the pipes
 * before counts no more. */
void peer_trim(struct peer *peer);
/* In a forked child, which has neither what is shared with the worker nor what it lends. */
void peer_abandon_memory(struct peer *peer);
/* A buffer goes away, which no item under way lies in. -ENOMEM: the worker cannot be told. */
int peer_put_unmap(struct peer *peer, const struct buffer *buffer);
/* `count` items of head were answered, and head->first is the next: its positions follow. */
void peer_note_answered(struct span *head, uint64_t count);
/* Write what is queued, as chan_flush. Who waits for room in a pipe can neither sleep through reports nor let the
 * worker run far ahead: so one that is full is made larger, once, if the system allows it. When all is written and
 * enough large items have gone through the pipes the worker is given memory for those. */
int peer_flush(struct peer *peer);
/* Send nothing more, not even what is queued: the worker is being killed, and the memory may go. */
void peer_mute(struct peer *peer);
/* What was sent to it, through the pipe and otherwise. */
static inline uint64_t peer_bytes_out(const struct peer *peer)
{
    return peer->chan.sent_bytes + peer->transit_bytes_out;
}
/* How much of the stream the worker has read. */
uint64_t peer_read_position(const struct peer *peer);
/* Queue WIRE_RECYCLE (then it says hello anew) or WIRE_SHUTDOWN. -ENOMEM. */
int peer_put_command(struct peer *peer, enum wire_type type);

/* Whether it may have said something that was not told yet; else there is nothing until chan_rearm. */
static inline bool peer_may_say_more(const struct peer *peer)
{
    return peer->in_body || !peer->chan.dry || chan_staged(&peer->chan);
}
/* What there is is about to be read. */
static inline void peer_note_bell(struct peer *peer)
{
    const _Atomic uint32_t *bell = claims_bell(&peer->claims);
    peer->heard = bell ? atomic_load_explicit(bell, memory_order_acquire) : 0;
}
/* Whether it may have written something since that was last noted; now it is. */
static inline bool peer_has_rung(struct peer *peer)
{
    uint32_t before = peer->heard;
    peer_note_bell(peer);
    return !chan_bell_is_quiet(peer->heard, before);
}
/* What the worker says next. head: the first span in flight there, NULL: none. A reply pipe that is found half full is
 * made larger, once, if the system allows it: the worker would wait where it is full. */
enum peer_news peer_next(struct peer *peer, const struct span *head, struct peer_report *report_out);

#endif
