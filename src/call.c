#include "call.h"
#include "pages.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct call_place call_place = {.worker_id = POOL_NOT_A_WORKER};

static _Alignas(16) const char no_input[16];

void call_begin(struct pool_call *call, const void *input, size_t size)
{
    call->input = size ? input : no_input;
    call->input_size = size;
    call->reply_size = 0;
    call->too_large = false;
    call->text[0] = '\0';
}

const void *pool_call_input(const struct pool_call *call, size_t *size_out)
{
    if (size_out)
        *size_out = call->input_size;
    return call->input;
}

void *pool_call_reply(struct pool_call *call, size_t size)
{
    call->too_large = size > call->max_reply_bytes;
    if (call->too_large)
        return NULL;
    if (size > call->reply_capacity || !call->reply) {
        void *reply = realloc(call->reply, size ? size : 1);
        if (!reply)
            return NULL;
        pages_expect(reply, size);
        call->reply = reply;
        call->reply_capacity = size;
    }
    call->reply_size = size;
    return call->reply;
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
    return call_place.worker_id;
}

uint64_t pool_item_index(void)
{
    return call_place.item_index;
}
