/* call: see call.h. A reply is in malloc'd memory or in shared memory, and moves with its bytes when the other kind is
 * asked for. */
#include "call.h"
#include "pages.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct call_place call_place;

static _Alignas(16) const char no_input[16];

void call_begin(struct pool_call *call, const void *input, size_t size, void *room, size_t room_bytes)
{
    call->input = size ? input : no_input;
    call->input_size = size;
    call->reply_size = 0;
    call->at = call->shared = NULL;
    call->room = room;
    call->room_bytes = room_bytes;
    call->too_large = false;
    call->text[0] = '\0';
}

const void *pool_call_input(const struct pool_call *call, size_t *size_out)
{
    if (size_out)
        *size_out = call->input_size;
    return call->input;
}

/* The reply has so many bytes now, and is there, with what it had before. */
static void *move(struct pool_call *call, void *to, size_t size)
{
    if (call->at && call->at != to && call->reply_size)
        memcpy(to, call->at, call->reply_size < size ? call->reply_size : size);
    call->at = to;
    call->reply_size = size;
    return to;
}

/* Memory of this process's own. NULL: there is none. */
static void *find_own(struct pool_call *call, size_t size)
{
    if (size <= call->reply_capacity && call->reply)
        return call->reply;
    bool is_there = call->at == call->reply;
    void *reply = realloc(call->reply, size ? size : 1);
    if (!reply)
        return NULL;
    pages_expect(reply, size);
    call->at = is_there && call->at ? reply : call->at;
    call->reply = reply;
    call->reply_capacity = size;
    return reply;
}

/* Twice as much when it grows, so that one that grows by little is not copied again and again. */
static void *find_shared(struct pool_call *call, size_t size)
{
    size_t asked = size, capacity;
    if (call->shared && size <= call->shared_capacity)
        return call->shared;
    if (call->shared && size < call->shared_capacity * 2)
        asked = call->shared_capacity * 2 < call->max_reply_bytes ? call->shared_capacity * 2 : call->max_reply_bytes;
    void *shared = call->find_shared ? call->find_shared(asked, &capacity) : NULL;
    if (shared) {
        call->shared = shared;
        call->shared_capacity = capacity;
    }
    return shared;
}

void *pool_call_reply(struct pool_call *call, size_t size)
{
    call->too_large = size > call->max_reply_bytes;
    if (call->too_large)
        return NULL;
    void *memory = call->room && size <= call->room_bytes ? call->room : find_own(call, size);
    if (!memory)
        return NULL;
    move(call, memory, size);
    call->shared = NULL;
    return memory;
}

void *pool_call_reply_shared(struct pool_call *call, size_t size)
{
    call->too_large = size > call->max_reply_bytes;
    if (call->too_large)
        return NULL;
    void *shared = find_shared(call, size);
    return shared ? move(call, shared, size) : pool_call_reply(call, size);
}

int pool_call_fd(const struct pool_call *call, unsigned i)
{
    return i < call->fd_count ? call->fds[i] : -1;
}

int pool_call_fail(struct pool_call *call, int code, const char *format, ...)
{
    char *text = call ? call->text : call_place.text;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, CALL_TEXT_BYTES, format, arguments);
    va_end(arguments);
    return code ? code : -1;
}

void *pool_call_state(const struct pool_call *call)
{
    return call->state;
}

unsigned pool_worker_id(void)
{
    return call_place.in_worker ? call_place.worker_id : POOL_NOT_A_WORKER;
}

uint64_t pool_item_index(void)
{
    return call_place.item_index;
}
