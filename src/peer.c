/* peer: from its start to its end, and what it says. See peer.h. */
#include "peer.h"
#include "error.h"
#include "fd.h"
#include "first.h"
#include "pages.h"
#include "peer_inner.h"
#include "procpool.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_REPLY_BYTES = 1 << 20 };
/* Half of what a pipe holds by default: a worker that has filled so much before somebody read may have to wait the next
 * time. */
enum { FULL_BYTES = 32 << 10 };

static const struct backend_child no_child = BACKEND_NO_CHILD;

void peer_init(struct peer *peer)
{
    *peer = (struct peer){.child = no_child};
}

bool peer_is_open(const struct peer *peer)
{
    return peer->child.exit_fd >= 0;
}

int peer_open(struct peer *peer, const struct backend_child *child, unsigned worker_id, const struct peer_setup *setup,
              uint8_t *staging)
{
    *peer = (struct peer){.child = no_child,
                          .worker_id = worker_id,
                          .setup = setup,
                          .told = peer->first_told,
                          .told_count = PEER_FIRST_TOLD * 64};
    chan_init(&peer->chan, child->reply_fd, child->request_fd, false, staging);
    chan_note_sent(&peer->chan, child->greeted);
    if ((!child->greeted && peer_put_greeting(peer)) || peer_put_replays(peer)) {
        peer_close(peer);
        return -ENOMEM;
    }
    peer->child = *child;
    return 0;
}

void peer_close(struct peer *peer)
{
    claims_clear(&peer->claims);
    transit_clear(&peer->transit);
    chan_clear(&peer->chan);
    free(peer->body);
    first_free(peer->told, peer->first_told);
    free(peer->shared);
    borrow_clear(&peer->borrow);
    peer->body = NULL;
    peer->told = NULL;
    peer->shared = NULL;
    peer->shared_count = 0;
    peer->in_body = peer->announced = false;
    backend_close_streams(&peer->child);
}

void peer_forget(struct peer *peer)
{
    peer->child = no_child;
    peer_close(peer);
}

/* ---- what a frame must be like to be believed ---- */

static bool hello_is_due(const struct peer *peer, const struct span *head)
{
    (void)head;
    return peer->expects == PEER_EXPECTS_HELLO;
}

static bool ready_is_due(const struct peer *peer, const struct span *head)
{
    (void)head;
    return peer->expects == PEER_EXPECTS_READY;
}

/* What the answer to span's first item is known by. False: that item was cancelled, and with it its worker. */
static bool expected_id(const struct span *span, uint64_t *id_out)
{
    bool live = job_is_live(span->job, span->first);
    *id_out = !live || span->job->kind == JOB_FIXED ? span->first : job_item_index(span->job, span->first);
    return live;
}

static bool answers(const struct peer *peer, const struct span *head)
{
    const struct wire_header *header = &peer->header;
    uint64_t id;
    return peer->expects == PEER_EXPECTS_RESULTS && head && expected_id(head, &id) && header->id == id &&
           header->count && header->count <= head->count;
}

static bool result_fits(const struct peer *peer, const struct span *head)
{
    const struct wire_header *header = &peer->header;
    bool fits = !(header->flags & WIRE_REFERENCE) || (!header->code && header->body_bytes == WIRE_REFERENCE_BYTES);
    return fits && answers(peer, head) && head->job->kind != JOB_FIXED && header->count == 1;
}

/* The next answer refers to it: so there is no end of these without one. */
static bool region_fits(const struct peer *peer, const struct span *head)
{
    return peer->expects == PEER_EXPECTS_RESULTS && head && head->job->kind != JOB_FIXED && !peer->announced;
}

/* Whether replies may be of this span, which may be one of many. */
static bool takes_replies(const struct span *span)
{
    return span && (span->job->kind == JOB_LANE || span->job->kind == JOB_BYTES);
}

static bool replies_fit(const struct peer *peer, const struct span *head)
{
    uint64_t id;
    return peer->expects == PEER_EXPECTS_RESULTS && takes_replies(head) && expected_id(head, &id) &&
           peer->header.id == id && peer->header.count;
}

static bool results_fit(const struct peer *peer, const struct span *head)
{
    const struct wire_header *header = &peer->header;
    if (!answers(peer, head) || head->job->kind != JOB_FIXED || header->function > header->count)
        return false;
    uint64_t results_bytes = head->in_place ? 0 : header->count * head->job->result_size;
    return header->body_bytes == (uint64_t)header->function * WIRE_FAILURE_BYTES + results_bytes;
}

static bool error_fits(const struct peer *peer, const struct span *head)
{
    bool declines = peer->expects == PEER_EXPECTS_READY && !peer->header.count;
    bool fits = declines || (answers(peer, head) && (head->job->kind == JOB_FIXED || peer->header.count == 1));
    return peer->header.code < 0 && fits;
}

static bool skipped_fits(const struct peer *peer, const struct span *head)
{
    return peer->expects == PEER_EXPECTS_RESULTS && !head && peer->header.count && peer->header.count <= peer->taken;
}

static bool (*const is_due[WIRE_TYPE_COUNT])(const struct peer *, const struct span *) = {
    [WIRE_HELLO] = hello_is_due,  [WIRE_READY] = ready_is_due, [WIRE_RESULT] = result_fits,
    [WIRE_RESULTS] = results_fit, [WIRE_ERROR] = error_fits,   [WIRE_SKIPPED] = skipped_fits,
    [WIRE_REPLIES] = replies_fit, [WIRE_REGION] = region_fits,
};

static int read_header(struct peer *peer, const struct span *head)
{
    const uint8_t *bytes;
    int rc = chan_peek(&peer->chan, WIRE_HEADER_BYTES, &bytes);
    if (rc)
        return rc;
    rc = wire_decode(bytes, WIRE_FROM_WORKER, peer->setup->max_result_bytes, &peer->header);
    if (rc || !is_due[peer->header.type](peer, head)) /* wire_decode lets no other type pass */
        return POOL_EPROTO;
    if (chan_staged(&peer->chan) > FULL_BYTES)
        peer_enlarge_reply_pipe(peer);
    chan_skip(&peer->chan, WIRE_HEADER_BYTES);
    peer->in_body = true;
    peer->input_size = peer->header.type == WIRE_RESULT ? job_input_size(head->job, head->first) : 0;
    peer->body_done = peer->results_done = 0;
    peer->replies = NULL;
    peer->out_of_memory = false;
    return 0;
}

/* ---- bodies ---- */

/* By what has come, or by what went: a reply is believed to be as large as the input it answers. */
static bool grow_body(struct peer *peer, size_t size)
{
    size_t most = peer->body_capacity * 4 > FIRST_REPLY_BYTES ? peer->body_capacity * 4 : FIRST_REPLY_BYTES;
    most = most > peer->input_size ? most : peer->input_size;
    size_t capacity = most < size ? most : size;
    uint8_t *body = realloc(peer->body, capacity + 1);
    if (!body)
        return false;
    pages_expect(body, capacity);
    peer->body = body;
    peer->body_capacity = capacity;
    return true;
}

/* The first `size` bytes of the body into peer->body, which grows as they come. */
static int read_kept(struct peer *peer, size_t size)
{
    while (peer->body_done < size) {
        bool full = peer->body_done >= peer->body_capacity;
        if (full && !peer->out_of_memory)
            peer->out_of_memory = !grow_body(peer, size);
        size_t room = peer->body_capacity < size ? peer->body_capacity : size;
        int rc = peer->out_of_memory ? chan_discard(&peer->chan, size, &peer->body_done)
                                     : chan_read_into(&peer->chan, peer->body, room, &peer->body_done);
        if (rc)
            return rc;
    }
    return 0;
}

static int read_results(struct peer *peer, const struct span *head)
{
    const struct wire_header *header = &peer->header;
    int rc = read_kept(peer, (size_t)header->function * WIRE_FAILURE_BYTES);
    if (rc || !head->job->result_size || head->in_place)
        return rc;
    return chan_read_into(&peer->chan, head->job->results + head->first * head->job->result_size,
                          header->count * head->job->result_size, &peer->results_done);
}

static bool wants_reply(const struct job *job)
{
    return job->kind == JOB_LANE || job->replies;
}

static int read_reply(struct peer *peer, const struct span *head)
{
    bool wanted = wants_reply(head->job) || peer->header.code;
    if (!peer->body_done) { /* the reply is handed over: it gets memory of its own */
        free(peer->body);
        peer->body = NULL;
        peer->body_capacity = 0;
    }
    if (wanted)
        return read_kept(peer, (size_t)peer->header.body_bytes);
    return chan_discard(&peer->chan, (size_t)peer->header.body_bytes, &peer->body_done);
}

/* All of them, which stay in the channel until the last was told. */
static int read_replies(struct peer *peer)
{
    const struct wire_header *header = &peer->header;
    if (peer->replies)
        return 0;
    int rc = chan_peek(&peer->chan, (size_t)header->body_bytes, &peer->replies);
    if (rc)
        return rc;
    chan_skip(&peer->chan, (size_t)header->body_bytes);
    peer->replies_left = header->count;
    return wire_check_replies(peer->replies, (size_t)header->body_bytes, header->count, peer->setup->max_result_bytes);
}

static int read_reference(struct peer *peer)
{
    const uint8_t *bytes;
    int rc = chan_peek(&peer->chan, WIRE_REFERENCE_BYTES, &bytes);
    if (rc)
        return rc;
    peer->reference = wire_decode_reference(bytes);
    chan_skip(&peer->chan, WIRE_REFERENCE_BYTES);
    return 0;
}

static int read_body(struct peer *peer, const struct span *head)
{
    switch (peer->header.type) {
    case WIRE_REPLIES:
        return read_replies(peer);
    case WIRE_RESULTS:
        return read_results(peer, head);
    case WIRE_RESULT:
        return peer->header.flags & WIRE_REFERENCE ? read_reference(peer) : read_reply(peer, head);
    default:
        return read_kept(peer, (size_t)peer->header.body_bytes);
    }
}

/* ---- whole frames ---- */

/* The body as a text, where it lies. */
static void fill_text(const struct peer *peer, struct peer_report *report)
{
    if (!peer->body_done || peer->out_of_memory)
        return;
    char *text = (char *)peer->body;
    text[peer->body_done < WIRE_TEXT_BYTES ? peer->body_done : WIRE_TEXT_BYTES] = '\0';
    error_make_printable(text);
    report->text = text;
}

static enum peer_news take_hello(struct peer *peer, struct peer_report *report)
{
    struct wire_hello hello;
    uint8_t own_id[WIRE_ID_BYTES];
    if (peer->out_of_memory || wire_decode_hello(peer->body, peer->body_done, &hello))
        return PEER_GARBAGE;
    size_t own_size = callable_library_id(own_id);
    if (hello.version != WIRE_VERSION || hello.id_size != own_size || memcmp(hello.id, own_id, own_size) != 0) {
        report->text = "the worker runs another build of libprocpool: restart the program, or, if it and its "
                       "plug-ins have a copy of the library each, link them with the shared one";
        return PEER_FAILED;
    }
    peer->expects = PEER_EXPECTS_READY;
    if (!peer->greets_late)
        return PEER_NOTHING;
    peer->greets_late = false;
    if (!peer_put_greeting(peer) && !peer_put_replays(peer))
        return PEER_NOTHING;
    report->text = "no memory to configure the worker";
    return PEER_FAILED;
}

static enum peer_news take_error(struct peer *peer, struct peer_report *report)
{
    fill_text(peer, report);
    return peer->expects == PEER_EXPECTS_READY ? PEER_FAILED : PEER_ERROR;
}

static enum peer_news take_ready(struct peer *peer)
{
    peer->expects = PEER_EXPECTS_RESULTS;
    return PEER_READY;
}

/* From where it lies now to memory of the caller's own. */
static void copy_reply(const uint8_t *from, struct peer_report *report)
{
    report->reply = malloc(report->reply_size);
    report->reply_error = report->reply ? 0 : -ENOMEM;
    if (!report->reply)
        return;
    pages_expect(report->reply, report->reply_size);
    memcpy(report->reply, from, report->reply_size);
}

/* What a map gives to the caller is the caller's own. */
static void copy_region(const struct job *job, struct peer_report *report)
{
    if (wants_reply(job))
        copy_reply(report->region->data, report);
    borrow_give_back(report->region);
    report->region = NULL;
}

static enum peer_news take_from_transit(struct peer *peer, const struct span *head, struct peer_report *report)
{
    const struct wire_reference *reference = &peer->reference;
    bool fits = head->transit.results && reference->offset == head->transit.at && reference->size &&
                reference->size <= head->transit.size && reference->size <= peer->setup->max_result_bytes;
    if (!fits)
        return PEER_GARBAGE;
    report->reply_size = (size_t)reference->size;
    peer->bytes_in += reference->size;
    if (wants_reply(head->job))
        copy_reply(transit_results(&peer->transit, head->transit.at), report);
    return PEER_RESULT;
}

static enum peer_news take_reference(struct peer *peer, const struct job *job, struct peer_report *report)
{
    const struct wire_reference *reference = &peer->reference;
    if (reference->offset || reference->size > peer->setup->max_result_bytes)
        return PEER_GARBAGE;
    int rc = borrow_hold(&peer->borrow, reference->buffer, reference->size, &report->region);
    if (rc == -EINVAL)
        return PEER_GARBAGE;
    report->reply_error = rc;
    report->reply_size = rc ? 0 : (size_t)reference->size;
    if (!rc && job->kind != JOB_LANE)
        copy_region(job, report);
    return PEER_RESULT;
}

/* A message with the fd was sent before the frame. */
static enum peer_news take_region(struct peer *peer)
{
    uint64_t number;
    int fd = -1;
    size_t fd_count = 1;
    ssize_t size = fd_receive(peer->child.socket_fd, &number, sizeof number, &fd, &fd_count);
    bool fits = size == sizeof number && number == peer->header.id &&
                peer->header.extra <= peer->setup->max_result_bytes &&
                !borrow_note(&peer->borrow, number, peer->header.extra, fd);
    fd_close(&fd);
    peer->announced = true;
    return fits ? PEER_NOTHING : PEER_GARBAGE;
}

static enum peer_news take_result(struct peer *peer, const struct span *head, struct peer_report *report)
{
    if (peer->header.flags & WIRE_REFERENCE)
        return peer->reference.buffer == WIRE_IN_TRANSIT ? take_from_transit(peer, head, report)
                                                         : take_reference(peer, head->job, report);
    report->reply_error = peer->out_of_memory ? -ENOMEM : 0;
    if (peer->header.code) {
        fill_text(peer, report);
    } else if (peer->body && !peer->out_of_memory) {
        report->reply = peer->body;
        report->reply_size = peer->body_done;
        peer->body = NULL;
        peer->body_capacity = 0;
    }
    return PEER_RESULT;
}

static enum peer_news take_results(struct peer *peer, const struct span *head, struct peer_report *report)
{
    if (head->transit.results)
        peer_take_out(peer, head, peer->header.count);
    report->failures = peer->body;
    report->failure_count = peer->header.function;
    report->body_bytes = peer->header.body_bytes;
    if (peer->out_of_memory || wire_check_failures(peer->body, peer->header.function, peer->header.count))
        return PEER_GARBAGE;
    return PEER_RESULTS;
}

static enum peer_news take_skipped(struct peer *peer)
{
    peer->taken -= peer->header.count;
    if (!peer->taken) {
        claims_lift_stop(&peer->claims);
        transit_release(&peer->transit, peer->transit.end); /* nothing is in flight */
    }
    return PEER_SKIPPED;
}

/* Nothing more is put where these items were before they are told of. With a failure others may end as well. */
static void release_room(struct peer *peer, const struct span *head, uint64_t count, bool failed)
{
    if (count == head->count || (failed && head->job->stop_on_error))
        transit_release(&peer->transit, head->transit.end);
}

/* As many as are for this span; the others are for those behind it. */
static enum peer_news take_replies(struct peer *peer, const struct span *head, struct peer_report *report)
{
    struct wire_reply reply;
    bool fits = takes_replies(head);
    report->count = fits && head->count < peer->replies_left ? head->count : peer->replies_left;
    if (!fits || !peer_was_sent(peer, head, report->count))
        return PEER_GARBAGE;
    release_room(peer, head, report->count, false);
    report->replies = peer->replies;
    for (uint64_t i = 0; i < report->count; i++) {
        peer->replies = wire_decode_reply(peer->replies, &reply);
        report->elapsed_ns += reply.elapsed_ns;
    }
    peer->replies_left -= (uint32_t)report->count;
    peer->in_body = peer->replies_left;
    return PEER_REPLIES;
}

static enum peer_news take_frame(struct peer *peer, const struct span *head, struct peer_report *report)
{
    const struct wire_header *header = &peer->header;
    *report = (struct peer_report){.first = head ? head->first : 0,
                                   .count = header->count,
                                   .elapsed_ns = header->extra,
                                   .worn = header->flags & WIRE_WORN,
                                   .code = header->code,
                                   .text = ""};
    if (header->type == WIRE_REPLIES)
        return take_replies(peer, head, report);
    if (head && !peer_was_sent(peer, head, 1))
        return PEER_GARBAGE;
    if (header->type == WIRE_REGION)
        return take_region(peer);
    peer->announced = false;
    if (head)
        release_room(peer, head, header->count, header->type == WIRE_ERROR || header->code || header->function);
    switch (header->type) {
    case WIRE_HELLO:
        return take_hello(peer, report);
    case WIRE_READY:
        return take_ready(peer);
    case WIRE_RESULT:
        return take_result(peer, head, report);
    case WIRE_RESULTS:
        return take_results(peer, head, report);
    case WIRE_SKIPPED:
        return take_skipped(peer);
    default:
        return take_error(peer, report);
    }
}

/* Who has nothing to do has nothing to say, not even the beginning of a frame. */
static bool speaks_unasked(const struct peer *peer, const struct span *head)
{
    return peer->expects == PEER_EXPECTS_RESULTS && !head && !peer->taken && chan_staged(&peer->chan);
}

static enum peer_news no_frame(const struct peer *peer, const struct span *head, int rc)
{
    if (rc == CHAN_AGAIN)
        return speaks_unasked(peer, head) ? PEER_GARBAGE : PEER_NOTHING;
    if (fd_is_lost(rc))
        return PEER_LOST;
    return rc == POOL_EPROTO ? PEER_GARBAGE : PEER_EOF; /* a read that fails will not work again */
}

enum peer_news peer_next(struct peer *peer, const struct span *head, struct peer_report *report_out)
{
    for (;;) {
        int rc = peer->in_body ? 0 : read_header(peer, head);
        if (!rc)
            rc = read_body(peer, head);
        if (rc)
            return no_frame(peer, head, rc);
        peer->in_body = false;
        enum peer_news news = take_frame(peer, head, report_out);
        if (!peer->in_body)
            peer->bytes_in += WIRE_HEADER_BYTES + peer->header.body_bytes;
        if (news != PEER_NOTHING)
            return news;
    }
}
