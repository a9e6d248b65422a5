/* work: the stream, functions, tasks, and the memory that all of it uses. See work.h. */
#include "work.h"
#include "child.h"
#include "clock.h"
#include "fd.h"
#include "first.h"
#include "pages.h"
#include "work_inner.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Results of tasks, which may be as unlike as they like, wait no longer than this: the next one may never end. */
#define TASK_NS     UINT64_C(20000)
#define WEIGH_NS    UINT64_C(1000000) /* short tasks are weighed no more often than this */
#define LARGE_BYTES ((size_t)1 << 20) /* larger buffers are released after some time */
enum { IDLE_MS = 100, LITTLE_USES = 8 };
enum { SMALL_REPLY_BYTES = 2 << 10 }; /* many of them go in one frame */

struct work work;

/* ---- beginning and ends ---- */

/* A copy of a worker may be one too; else there is nothing to clear, and pages that nobody needs yet are not made. */
void work_begin(void)
{
    if (work.functions)
        memset(&work, 0, sizeof work);
    work.look_items = 1;
    work.input.first = work.first_input;
    work.results.first = work.first_results;
    work.functions = work.first_functions;
    work.lend.regions = work.lend_regions;
    work.function_count = WORK_FIRST_FUNCTIONS;
}

void work_end(int exit_code)
{
    fflush(stdout);
    fflush(stderr);
    _exit(exit_code);
}

/* ---- sending ---- */

/* The parent never stops reading; a failure means that it is gone. */
static void flush_put(void)
{
    if (chan_flush(&work.chan) < 0)
        work_end(1);
    work.reported_ns = work.clock_ns;
}

static void put_frame(const struct wire_header *header, const void *body)
{
    if (chan_put(&work.chan, header, body) < 0)
        work_end(1); /* no memory for a report: the items are in doubt, and run elsewhere */
    if (header->body_bytes > CHAN_COPY_BYTES)
        flush_put(); /* the body is borrowed */
}

static void put_replies(void)
{
    struct work_replies *replies = &work.replies;
    struct wire_header header = {
        .type = WIRE_REPLIES, .id = replies->first_id, .count = replies->count, .body_bytes = replies->size};
    if (!replies->count)
        return;
    put_frame(&header, work.reply_bytes);
    replies->count = 0;
    replies->size = 0;
}

static void put_skipped(void)
{
    struct wire_header header = {.type = WIRE_SKIPPED, .count = work.skipped};
    if (!work.skipped)
        return;
    put_frame(&header, NULL);
    work.skipped = 0;
}

/* What has gathered is of one kind. */
static void put_gathered(void)
{
    put_replies();
    put_skipped();
}

void work_flush(void)
{
    put_gathered();
    flush_put();
}

void work_put(const struct wire_header *header, const void *body)
{
    put_gathered();
    put_frame(header, body);
}

void work_flush_if_late(void)
{
    if (work.clock_ns - work.reported_ns >= TASK_NS)
        work_flush();
}

/* How much of the shared memory in this process it has touched; SIZE_MAX: nobody can tell (before Linux 4.5). */
static size_t weigh_shared(void)
{
    char text[4096] = "";
    unsigned long kib;
    int status = fd_open("/proc/self/status", O_RDONLY);
    ssize_t size = status < 0 ? -1 : fd_read(status, text, sizeof text - 1);
    const char *line = size > 0 ? strstr(text, "RssShmem:") : NULL;
    fd_close(&status);
    return line && sscanf(line, "RssShmem: %lu", &kib) == 1 ? (size_t)kib << 10 : SIZE_MAX;
}

/* Beside what large items travel by. Where those were the worker may have left pages alone, which weigh nothing. */
static bool is_too_heavy(size_t bytes)
{
    if (bytes <= work.max_worker_bytes)
        return false;
    size_t used = work.transit_used[0] + work.transit_used[1], shared = used ? weigh_shared() : 0;
    used = used < shared ? used : shared;
    return bytes > used && bytes - used > work.max_worker_bytes;
}

/* WIRE_WORN when this worker holds more memory than it may. */
uint8_t work_weigh(uint64_t elapsed_ns)
{
    if (!work.max_worker_bytes || (elapsed_ns < LOOK_NS && work.clock_ns - work.weighed_ns < WEIGH_NS))
        return 0;
    work.weighed_ns = work.clock_ns;
    char text[128] = "";
    unsigned long size = 0, resident = 0;
    int statm = fd_open("/proc/self/statm", O_RDONLY);
    if (statm >= 0 && fd_read(statm, text, sizeof text - 1) > 0 && sscanf(text, "%lu %lu", &size, &resident) != 2)
        resident = 0;
    fd_close(&statm);
    return is_too_heavy(resident * (size_t)sysconf(_SC_PAGESIZE)) ? WIRE_WORN : 0;
}

void work_put_error(const struct wire_header *request, int error, uint64_t elapsed_ns, const char *text)
{
    struct wire_header header = {.type = WIRE_ERROR,
                                 .id = request->id,
                                 .count = request->count,
                                 .code = error,
                                 .extra = elapsed_ns,
                                 .body_bytes = strnlen(text, WIRE_TEXT_BYTES)};
    work_put(&header, text);
}

/* ---- what may be begun ---- */

int work_receive_fd(uint64_t number)
{
    uint64_t received;
    int fd = -1;
    size_t fd_count = 1;
    ssize_t size = fd_receive(CHILD_SOCKET_FD, &received, sizeof received, &fd, &fd_count);
    if (size != sizeof received || received != number)
        work_end(1); /* not the parent that said hello */
    return fd;
}

void work_take_claims(const struct wire_header *request)
{
    int fd = work_receive_fd(request->id);
    if (fd >= 0 && !claims_map(&work.claims, fd)) /* else nothing will be taken back */
        chan_use_bell(&work.chan, claims_bell(&work.claims));
    work.ticket = 0;
    fd_close(&fd);
}

/* How many of the next `most` items are not taken back. They are begun with this. */
uint32_t work_begin_items(uint32_t most)
{
    uint32_t count = claims_begin(&work.claims, work.ticket, most);
    work.ticket += count;
    return count;
}

void work_skip_items(uint32_t count)
{
    work.ticket += count;
    put_replies();
    work.skipped += count;
}

/* The request cannot be run: so it ends for all of its items that were not taken back. A task was begun as it came. */
void work_refuse(const struct wire_header *request, int error, const char *text)
{
    struct wire_header begun = *request;
    if (request->type == WIRE_RUN)
        begun.count = work_begin_items(request->count);
    if (begun.count)
        work_put_error(&begun, error, 0, text);
    if (begun.count < request->count)
        work_skip_items(request->count - begun.count);
}

/* ---- buffers and bodies ---- */

static void release_buffer(struct work_buffer *buffer)
{
    first_free(buffer->data, buffer->first);
    buffer->data = NULL;
    buffer->capacity = 0;
    buffer->little_uses = 0;
}

/* Room for `size` bytes; what was there is lost. */
bool work_reserve(struct work_buffer *buffer, size_t size)
{
    if (size <= buffer->capacity && buffer->data)
        return true;
    size_t capacity = (size + WORK_ALIGNMENT - 1) / WORK_ALIGNMENT * WORK_ALIGNMENT;
    bool fits = buffer->first && size <= WORK_FIRST_BYTES;
    release_buffer(buffer);
    if (fits)
        capacity = WORK_FIRST_BYTES;
    uint8_t *data = fits ? buffer->first : capacity < size ? NULL : aligned_alloc(WORK_ALIGNMENT, capacity);
    if (!data)
        return false;
    pages_expect(data, capacity);
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void work_release_if_large(struct work_buffer *buffer)
{
    if (buffer->capacity > LARGE_BYTES)
        release_buffer(buffer);
}

static void release_reply(struct pool_call *call)
{
    free(call->reply);
    call->reply = NULL;
    call->reply_capacity = 0;
}

/* Large buffers stay while large requests follow one another: the pages of new memory cost more than what is done with
 * them. They go when LITTLE_USES requests in a row have used less than a quarter, when the worker has been idle for
 * IDLE_MS, and at once where the worker's memory is bounded, since what it holds between tasks is not its tasks'
 * doing. */
static bool is_outgrown(size_t capacity, size_t used, unsigned *little_uses)
{
    if (capacity <= LARGE_BYTES)
        return false;
    *little_uses = used < capacity / 4 ? *little_uses + 1 : 0;
    return work.max_worker_bytes || *little_uses >= LITTLE_USES;
}

void work_release_if_outgrown(struct work_buffer *buffer, size_t used)
{
    if (is_outgrown(buffer->capacity, used, &buffer->little_uses))
        release_buffer(buffer);
}

static void release_reply_if_outgrown(struct pool_call *call)
{
    if (is_outgrown(call->reply_capacity, call->reply_size, &work.reply_little_uses))
        release_reply(call);
}

static void release_when_idle(void)
{
    struct work_buffer *buffers[] = {&work.input, &work.results, &work.failures, &work.report};
    size_t largest = work.call.reply_capacity, idle = lend_idle_bytes(&work.lend);
    largest = largest > idle ? largest : idle;
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        largest = buffers[i]->capacity > largest ? buffers[i]->capacity : largest;
    if (largest <= LARGE_BYTES || fd_poll(work.chan.in_fd, POLLIN, IDLE_MS))
        return;
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        work_release_if_large(buffers[i]);
    if (work.call.reply_capacity > LARGE_BYTES)
        release_reply(&work.call);
    lend_trim(&work.lend);
}

/* The stream has ended or failed: the parent is gone, or does not want this worker any more. */
static void check_stream(int rc)
{
    if (rc)
        work_end(0);
}

void work_read(void *destination, uint64_t size)
{
    size_t done = 0;
    bool waits = chan_staged(&work.chan) < size;
    if (waits)
        work_flush();
    check_stream(chan_read_into(&work.chan, destination, (size_t)size, &done));
    if (waits)
        work.clock_ns = clock_now_ns();
}

/* The request's body in work.input. false: there is no memory for it; the body was skipped and the error put. */
bool work_read_input(const struct wire_header *request)
{
    if (work_reserve(&work.input, (size_t)request->body_bytes)) {
        work_read(work.input.data, request->body_bytes);
        return true;
    }
    size_t done = 0;
    work_flush();
    check_stream(chan_discard(&work.chan, (size_t)request->body_bytes, &done));
    work_refuse(request, -ENOMEM, "the worker has no memory for the input");
    return false;
}

/* Look for a request without going to sleep. */
static void spin(void)
{
    if (!work.may_spin || !spin_begin(&work.spin))
        return;
    while (spin_goes_on(&work.spin, chan_look(&work.chan), clock_now_ns()))
        spin_pause();
}

void work_next(struct wire_header *header_out)
{
    const uint8_t *bytes;
    bool waits = chan_staged(&work.chan) < WIRE_HEADER_BYTES;
    if (waits) {
        work_flush();
        spin();
        if (chan_staged(&work.chan) < WIRE_HEADER_BYTES) /* else the spin has found it */
            release_when_idle();
    }
    check_stream(chan_peek(&work.chan, WIRE_HEADER_BYTES, &bytes));
    if (wire_decode(bytes, WIRE_FROM_PARENT, 0, header_out))
        work_end(1); /* not the parent that said hello */
    chan_skip(&work.chan, WIRE_HEADER_BYTES);
    work.may_spin = header_out->flags & WIRE_SPIN;
    if (waits)
        work.clock_ns = clock_now_ns();
}

/* ---- functions ---- */

/* Room for the function of that number. */
static struct work_function *reserve_function(uint32_t number)
{
    if (number >= work.function_count) {
        uint32_t before = work.function_count, count = number + WORK_FIRST_FUNCTIONS;
        size_t size = sizeof *work.functions;
        struct work_function *functions = first_grow(work.functions, work.first_functions, before * size, count * size);
        if (!functions)
            work_end(1);
        memset(functions + before, 0, (count - before) * size);
        work.functions = functions;
        work.function_count = count;
    }
    return &work.functions[number];
}

void work_take_function(const struct wire_header *request)
{
    const uint8_t *bytes;
    char text[CALLABLE_TEXT_BYTES] = "";
    if (request->body_bytes > CALLABLE_MAX_BYTES)
        work_end(1);
    struct work_function *function = reserve_function(request->function);
    if (chan_staged(&work.chan) < request->body_bytes)
        work_flush();
    check_stream(chan_peek(&work.chan, (size_t)request->body_bytes, &bytes));
    if (function->text)
        free(function->text); /* not for NULL, see first_free */
    *function = (struct work_function){0};
    function->error = callable_resolve(bytes, (size_t)request->body_bytes, &function->fn, text);
    if (function->error && !(function->text = strdup(text)))
        work_end(1);
    chan_skip(&work.chan, (size_t)request->body_bytes);
}

static const struct work_function *look_up(uint32_t number)
{
    static const struct work_function unknown = {.error = POOL_EPROTO, .text = "unknown function number"};
    const struct work_function *function = number < work.function_count ? &work.functions[number] : &unknown;
    return function->fn || function->text ? function : &unknown;
}

/* The function that the request names. NULL: it cannot be run here; the error was put. */
callable_fn *work_find_function(const struct wire_header *request)
{
    const struct work_function *function = look_up(request->function);
    if (!function->fn)
        work_refuse(request, function->error, function->text);
    return function->fn;
}

/* ---- a task: one item of any size ---- */

static void gather_reply(uint64_t id, uint64_t elapsed_ns)
{
    struct work_replies *replies = &work.replies;
    const struct pool_call *call = &work.call;
    struct wire_reply reply = {.size = (uint32_t)call->reply_size, .elapsed_ns = (uint32_t)elapsed_ns};
    if (sizeof work.reply_bytes - replies->size < WIRE_REPLY_BYTES + call->reply_size)
        put_replies();
    put_skipped();
    if (!replies->count++)
        replies->first_id = id;
    wire_encode_reply(&reply, work.reply_bytes + replies->size);
    if (call->reply_size)
        memcpy(work.reply_bytes + replies->size + WIRE_REPLY_BYTES, call->at, call->reply_size);
    replies->size += WIRE_REPLY_BYTES + call->reply_size;
}

static void put_result(const struct wire_header *request, int code, uint64_t elapsed_ns)
{
    const struct pool_call *call = &work.call;
    uint8_t flags = work_weigh(elapsed_ns);
    bool lone = code || flags || request->flags & WIRE_STEPWISE;
    if (!lone && call->reply_size <= SMALL_REPLY_BYTES && elapsed_ns <= UINT32_MAX) {
        gather_reply(request->id, elapsed_ns);
        return;
    }
    if (!code && call->reply_size > SMALL_REPLY_BYTES && work_refer_to_reply(request, elapsed_ns, flags))
        return;
    size_t text_size = strnlen(call->text, WIRE_TEXT_BYTES);
    struct wire_header header = {.type = WIRE_RESULT,
                                 .flags = flags,
                                 .id = request->id,
                                 .count = 1,
                                 .code = code,
                                 .extra = elapsed_ns,
                                 .body_bytes = code ? text_size : call->reply_size};
    work_put(&header, code ? call->text : call->at);
}

/* The fds that come with the request, which were sent before it. */
static bool receive_fds(const struct wire_header *request)
{
    struct pool_call *call = &work.call;
    uint64_t number = 0;
    call->fd_count = POOL_TASK_FDS;
    ssize_t size = fd_receive(CHILD_SOCKET_FD, &number, sizeof number, call->fds, &call->fd_count);
    if (size != sizeof number || number != request->id)
        work_end(1); /* not the parent that said hello */
    return call->fd_count == request->extra;
}

static void close_fds(struct pool_call *call)
{
    for (size_t i = 0; i < call->fd_count; i++)
        fd_close(&call->fds[i]);
    call->fd_count = 0;
}

/* The task was taken back. */
static void skip_task(const struct wire_header *request)
{
    size_t done = 0;
    if (chan_staged(&work.chan) < request->body_bytes)
        work_flush();
    check_stream(chan_discard(&work.chan, (size_t)request->body_bytes, &done));
    work_skip_items(1);
}

static int call_task(const struct wire_header *request, pool_task_fn *fn, const struct work_places *places)
{
    call_begin(&work.call, places->input, places->input_size, places->results, places->results_size);
    call_place.item_index = request->id;
    int code = fn(&work.call);
    work_end_copy();
    return code;
}

static void run_task(const struct wire_header *request, pool_task_fn *fn, const struct work_places *places)
{
    if (request->flags & WIRE_STEPWISE)
        work_flush();
    uint64_t begun_ns = work.clock_ns;
    int code = call_task(request, fn, places);
    work.clock_ns = clock_now_ns();
    uint64_t elapsed_ns = work.clock_ns - begun_ns;
    close_fds(&work.call); /* before its end is told */
    if (work.call.too_large)
        work_put_error(request, -EMSGSIZE, elapsed_ns, "the reply is larger than max_result_bytes");
    else
        put_result(request, code, elapsed_ns);
    if (request->flags & WIRE_STEPWISE)
        work_flush();
}

void work_run_task(const struct wire_header *request)
{
    if (!work_begin_items(1)) { /* one with fds never waits behind another, so it is not taken back */
        skip_task(request);
        return;
    }
    struct work_places places;
    bool has_input = work_take_places(request, &places);
    bool has_fds = !(request->flags & WIRE_FDS) || receive_fds(request);
    pool_task_fn *fn = has_input ? (pool_task_fn *)work_find_function(request) : NULL;
    if (has_input && fn && !has_fds)
        work_put_error(request, -EMFILE, 0, "the worker has no room for the file descriptors");
    else if (has_input && fn)
        run_task(request, fn, &places);
    close_fds(&work.call);
    work_release_if_outgrown(&work.input, request->flags & WIRE_REFERENCE ? 0 : (size_t)request->body_bytes);
    release_reply_if_outgrown(&work.call);
}

int work_run_replay(const struct wire_header *request, const char **text_out)
{
    *text_out = "no memory for a broadcast's input";
    if (!work_reserve(&work.input, (size_t)request->body_bytes))
        return -ENOMEM;
    work_read(work.input.data, request->body_bytes);
    const struct work_function *function = look_up(request->function);
    *text_out = function->text;
    if (!function->fn)
        return function->error;
    struct work_places places = {.input = work.input.data, .input_size = (size_t)request->body_bytes};
    int code = call_task(request, (pool_task_fn *)function->fn, &places);
    *text_out = work.call.text;
    work_release_if_outgrown(&work.input, (size_t)request->body_bytes);
    release_reply_if_outgrown(&work.call);
    return code;
}
