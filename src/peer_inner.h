/* peer_inner: what the rooms of the peer share. See peer.h for what it does.
 *
 *   peer.c        a worker's stream from its start to its end, and what comes
 *   peer_send.c   what goes
 *   peer_share.c  memory that both have
 *
 * Nobody else includes this. */
#ifndef PROCPOOL_PEER_INNER_H
#define PROCPOOL_PEER_INNER_H

#include "peer.h"

/* Queue all that a worker needs to become ready: who this is and what it is to be, and then what it is to repeat.
 * -ENOMEM. */
int peer_put_greeting(struct peer *peer);
int peer_put_replays(struct peer *peer);

/* Once, if the system allows it, and it is not large yet. */
void peer_enlarge_reply_pipe(struct peer *peer);
/* Whether all was sent that a worker that keeps the protocol has read when it answers the first `count` of head's
 * items: a run to its end, tasks one by one. An answer before that would end items whose memory is still to be written
 * from. */
bool peer_was_sent(const struct peer *peer, const struct span *head, uint64_t count);
/* Whether the inputs and results of span are to be referred to: that is so when the worker has the buffers that they
 * lie in, which it is given here at first need. Else they travel. */
void peer_share_span(struct peer *peer, struct span *span);
/* `count` items of head were run: their results, from where they travel by to where they belong. */
void peer_take_out(struct peer *peer, const struct span *head, uint64_t count);
/* The body of a run as far as it says where things are. How many bytes that takes. */
enum { PEER_PLACES_BYTES = 2 * WIRE_REFERENCE_BYTES };
size_t peer_refer_run(struct peer *peer, const struct span *span, uint8_t places[PEER_PLACES_BYTES]);
/* The same of a task, whose input is copied to where the worker finds it. */
size_t peer_refer_task(struct peer *peer, const struct span *span, const struct job_item *item,
                       uint8_t places[PEER_PLACES_BYTES]);
/* The worker has no buffers any more, and lends nothing: it starts afresh. */
void peer_forget_shared(struct peer *peer);

#endif
