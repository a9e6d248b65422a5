/* work_share: shared buffers, and what lies in them. See work.h.
 *
 * What the parent refers to must be there: a reference beside a buffer, or to results in one that is not for results, does not come from the
 * parent that said hello. A buffer that this process has no room for is another thing: what lies in it cannot be run here. */
#include "fd.h"
#include "work_inner.h"
#include <errno.h>

static void check_memory(int rc)
{
    if (rc)
        work_end(1);
}

void work_take_buffer(const struct wire_header *request)
{
    bool writable = request->flags & WIRE_IN_PLACE;
    int fd = work_receive_fd(request->id);
    if (fd >= 0)
        check_memory(regions_map(&work.regions, request->id, (size_t)request->extra, fd, writable));
    else
        check_memory(regions_refuse(&work.regions, request->id, -EMFILE));
    fd_close(&fd);
}

void work_take_unmap(const struct wire_header *request)
{
    check_memory(regions_unmap(&work.regions, request->id));
}

/* What the next bytes of the body refer to: 0, or why it is not to be had. */
static int take_reference(bool writable, uint8_t **data_out, size_t *size_out)
{
    uint8_t bytes[WIRE_REFERENCE_BYTES];
    work_read(bytes, sizeof bytes);
    struct wire_reference reference = wire_decode_reference(bytes);
    int rc = regions_find(&work.regions, reference.buffer, reference.offset, reference.size, writable, data_out);
    if (rc == -EFAULT)
        work_end(1);
    *size_out = (size_t)reference.size;
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
        if (!work_read_request(&rest, &work.input))
            return false;
        places_out->input = work.input.data;
        places_out->input_size = (size_t)rest.body_bytes;
    }
    if (rc)
        work_refuse(request, rc, "the worker has no room for a shared buffer");
    return !rc;
}
