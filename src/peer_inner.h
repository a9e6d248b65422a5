/* peer_inner: what the rooms of the peer share. See peer.h for what it does.
 *
 *   peer.c       a worker's stream from its start to its end, and what comes
 *   peer_send.c  what goes
 *
 * Nobody else includes this. */
#ifndef PROCPOOL_PEER_INNER_H
#define PROCPOOL_PEER_INNER_H

#include "peer.h"

/* Queue all that a worker needs to become ready. -ENOMEM. */
int peer_put_greeting(struct peer *peer);

/* Whether all was sent that a worker that keeps the protocol has read when it answers the first `count` of head's items: a run to its end,
 * tasks one by one. An answer before that would end items whose memory is still to be written from. */
bool peer_was_sent(const struct peer *peer, const struct span *head, uint64_t count);

#endif
