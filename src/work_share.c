/* work_share: shared buffers and what lies in them, and replies that stay in shared memory. See work.h.
 *
 * What the parent refers to must be there: a reference beside a buffer, or to results in one that is not for results,
 * does not come from the parent that said hello. A buffer that this process has no room for is another thing: what lies
 * in it cannot be run here. */
#include "child.h"
#include "fd.h"
#include "work_inner.h"
#include <errno.h>

/* There is no going on without memory for a table, or with who is not the parent that said hello. */
static void check(int rc)
{
    if (rc)
        work_end(1);
}

void work_take_buffer(const struct wire_header *request)
{
    bool writable = request->flags & WIRE_IN_PLACE;
    int fd = work_receive_fd(request->id);
    if (fd >= 0)
        check(regions_map(&work.regions, request->id, (size_t)request->extra, fd, writable));
    else
        check(regions_refuse(&work.regions, request->id, -EMFILE));
    fd_close(&fd);
}

void work_take_unmap(const struct wire_header *request)
{
    check(regions_unmap(&work.regions, request->id));
}

void work_take_transit(const struct wire_header *request)
{
    transit_clear(&work.transit);
    work.transit_used[0] = work.transit_used[1] = 0;
    if (!request->extra)
        return;
    int fd = work_receive_fd(request->id);
    if (fd >= 0) /* else nothing will travel by it */
        transit_map(&work.transit, (size_t)request->extra, fd);
    fd_close(&fd);
}

static uint8_t *find_in_transit(const struct wire_reference *reference, bool writable)
{
    if (!transit_has(&work.transit, reference->offset, reference->size))
        work_end(1);
    size_t *used = &work.transit_used[writable], end = (size_t)(reference->offset + reference->size);
    *used = *used > end ? *used : end;
    return writable ? transit_results(&work.transit, (size_t)reference->offset)
                    : transit_items(&work.transit, (size_t)reference->offset);
}

/* What the next bytes of the body refer to: 0, or why it is not to be had. */
static int take_reference(bool writable, uint8_t **data_out, size_t *size_out)
{
    uint8_t bytes[WIRE_REFERENCE_BYTES];
    work_read(bytes, sizeof bytes);
    struct wire_reference reference = wire_decode_reference(bytes);
    *size_out = (size_t)reference.size;
    if (reference.buffer == WIRE_IN_TRANSIT) {
        *data_out = find_in_transit(&reference, writable);
        return 0;
    }
    int rc = regions_find(&work.regions, reference.buffer, reference.offset, reference.size, writable, data_out);
    if (rc == -EFAULT)
        work_end(1);
    return rc;
}

static int take_references(const struct wire_header *request, struct work_places *places)
{
    uint8_t *input = NULL;
    int rc = 0, input_rc = 0;
    if (request->flags & WIRE_IN_PLACE)
        rc = take_reference(true, &places->results, &places->results_size);
    if (request->flags & WIRE_REFERENCE)
        input_rc = take_reference(false, &input, &places->input_size);
    places->input = input;
    return rc ? rc : input_rc;
}

bool work_take_places(const struct wire_header *request, struct work_places *places_out)
{
    struct wire_header rest = *request;
    bool refers = request->flags & WIRE_REFERENCE;
    size_t references = (size_t)refers + (request->flags & WIRE_IN_PLACE ? 1 : 0);
    *places_out = (struct work_places){0};
    if (request->body_bytes < references * WIRE_REFERENCE_BYTES)
        work_end(1);
    rest.body_bytes -= references * WIRE_REFERENCE_BYTES;
    int rc = take_references(request, places_out);
    if (!refers) {
        if (!work_read_input(&rest))
            return false;
        places_out->input = work.input.data;
        places_out->input_size = (size_t)rest.body_bytes;
    }
    if (rc)
        work_refuse(request, rc, "the worker has no room for a shared buffer");
    return !rc;
}

/* ---- replies ---- */

void *work_find_shared(size_t size, size_t *capacity_out)
{
    struct lend_region *region = lend_find(&work.lend, size, work.call.shared ? work.lending : NULL);
    if (!region)
        return NULL;
    work.lending = region;
    *capacity_out = region->size;
    return region->data;
}

/* The parent is given a region once. */
static bool announce(struct lend_region *region)
{
    uint64_t number = lend_number(&work.lend, region);
    size_t most = work.call.max_reply_bytes; /* what is beyond it for the sake of whole pages is of no use */
    struct wire_header header = {.type = WIRE_REGION, .id = number, .extra = region->size < most ? region->size : most};
    if (region->told)
        return true;
    if (fd_send(CHILD_SOCKET_FD, &number, sizeof number, &region->fd, 1))
        return false;
    lend_note_told(region);
    work_put(&header, NULL);
    return true;
}

/* The parent copies it from the room for it, and lets a region be where it is. */
static bool find_reply(struct wire_reference *reference_out)
{
    const struct pool_call *call = &work.call;
    *reference_out = (struct wire_reference){.buffer = WIRE_IN_TRANSIT, .size = call->reply_size};
    if (call->at == call->room) {
        reference_out->offset = transit_offset(&work.transit, call->room);
        return true;
    }
    if (!call->shared || !announce(work.lending))
        return false;
    reference_out->buffer = lend_number(&work.lend, work.lending);
    work.lending->lent = true;
    return true;
}

bool work_refer_to_reply(const struct wire_header *request, uint64_t elapsed_ns, uint8_t flags)
{
    uint8_t place[WIRE_REFERENCE_BYTES];
    struct wire_reference reference;
    if (!find_reply(&reference))
        return false;
    struct wire_header header = {.type = WIRE_RESULT,
                                 .flags = (uint8_t)(flags | WIRE_REFERENCE),
                                 .id = request->id,
                                 .count = 1,
                                 .extra = elapsed_ns,
                                 .body_bytes = sizeof place};
    wire_encode_reference(reference, place);
    work_put(&header, place);
    return true;
}

void work_take_return(const struct wire_header *request)
{
    check(lend_take_back(&work.lend, request->id, request->type == WIRE_RETURN));
}
