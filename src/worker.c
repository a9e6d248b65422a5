#include "worker.h"
#include "call.h"
#include "callable.h"
#include "chan.h"
#include "child.h"
#include "fd.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define REPORT_NS       UINT64_C(200000)  /* results wait no longer than this for company */
#define LOOK_NS         UINT64_C(2000)    /* items shorter than this share one look at the clock */
#define WEIGH_NS        UINT64_C(1000000) /* short tasks are weighed no more often than this */
#define KEPT_BYTES      ((size_t)1 << 20) /* larger buffers are released after use */
enum { LOOK_ITEMS = 512, ARRAY_ALIGNMENT = 64 };

struct buffer {
    uint8_t *data; /* aligned to ARRAY_ALIGNMENT */
    size_t capacity;
};

struct function {
    callable_fn *fn; /* NULL: cannot be run here */
    int error;
    char text[256];
};

static struct worker {
    struct chan chan;
    struct function **functions; /* by number */
    uint32_t function_count;
    void *state;
    pool_finalizer_fn *finalizer;
    size_t max_worker_bytes;
    struct pool_call call;
    struct buffer input, results, failures, report;
    uint64_t clock_ns;    /* the last look at the clock */
    uint64_t reported_ns; /* when results were last sent */
    uint64_t weighed_ns;
    volatile int is_copy; /* this is a fork that a task made of the worker */
} worker;

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- ends ---- */

/* Without the atexit handlers: under `fork` they are the parent's. */
static void end(int exit_code) __attribute__((noreturn));
static void end(int exit_code)
{
    fflush(stdout);
    fflush(stderr);
    _exit(exit_code);
}

static void finalize(void)
{
    if (worker.finalizer)
        worker.finalizer(worker.state);
    worker.finalizer = NULL;
}

/* A task that forks and returns in the child would report twice. The child loses the pool's fds and ends when it returns. */
static void become_copy(void)
{
    int fds[] = {CHILD_IN_FD, CHILD_OUT_FD, CHILD_LIFELINE_FD};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        fd_close(&fds[i]);
    worker.is_copy = 1;
}

static void end_copy(void)
{
    if (__builtin_expect(worker.is_copy, 0))
        _exit(0);
}

/* ---- sending ---- */

/* The parent never stops reading; a failure means that it is gone. */
static void flush(void)
{
    if (chan_flush(&worker.chan) < 0)
        end(1);
    worker.reported_ns = worker.clock_ns;
}

static void put(const struct wire_header *header, const void *body)
{
    if (chan_put(&worker.chan, header, body) < 0)
        end(1); /* no memory for a report: the items are in doubt, and run elsewhere */
    if (header->body_bytes > CHAN_COPY_BYTES)
        flush(); /* the body is borrowed */
}

static void flush_if_late(void)
{
    if (worker.clock_ns - worker.reported_ns >= REPORT_NS)
        flush();
}

/* WIRE_WORN when this worker holds more memory than it may. */
static uint8_t weigh(uint64_t elapsed_ns)
{
    if (!worker.max_worker_bytes || (elapsed_ns < LOOK_NS && worker.clock_ns - worker.weighed_ns < WEIGH_NS))
        return 0;
    worker.weighed_ns = worker.clock_ns;
    char text[128] = "";
    unsigned long size = 0, resident = 0;
    int statm = fd_open("/proc/self/statm", O_RDONLY);
    if (statm >= 0 && fd_read(statm, text, sizeof text - 1) > 0 && sscanf(text, "%lu %lu", &size, &resident) != 2)
        resident = 0;
    fd_close(&statm);
    return resident * (size_t)sysconf(_SC_PAGESIZE) > worker.max_worker_bytes ? WIRE_WORN : 0;
}

static void put_error(const struct wire_header *request, int error, uint64_t elapsed_ns, const char *text)
{
    struct wire_header header = {.type = WIRE_ERROR,
                                 .id = request->id,
                                 .count = request->count,
                                 .code = error,
                                 .extra = elapsed_ns,
                                 .body_bytes = strnlen(text, WIRE_TEXT_BYTES)};
    put(&header, text);
}

/* ---- buffers and bodies ---- */

/* Room for `size` bytes; what was there is lost. New memory is zeroed, since unused bytes of results travel too. */
static bool reserve(struct buffer *buffer, size_t size)
{
    if (size <= buffer->capacity && buffer->data)
        return true;
    size_t capacity = size < 4096 ? 4096 : (size + ARRAY_ALIGNMENT - 1) / ARRAY_ALIGNMENT * ARRAY_ALIGNMENT;
    uint8_t *data = capacity < size ? NULL : aligned_alloc(ARRAY_ALIGNMENT, capacity);
    if (!data)
        return false;
    memset(data, 0, capacity);
    free(buffer->data);
    *buffer = (struct buffer){data, capacity};
    return true;
}

static void release_if_large(struct buffer *buffer)
{
    if (buffer->capacity <= KEPT_BYTES)
        return;
    free(buffer->data);
    *buffer = (struct buffer){0};
}

/* The stream has ended or failed: the parent is gone, or does not want this worker any more. */
static void check_stream(int rc)
{
    if (rc)
        end(0);
}

static void read_body(void *destination, uint64_t size)
{
    size_t done = 0;
    bool waits = chan_staged(&worker.chan) < size;
    if (waits)
        flush();
    check_stream(chan_read_into(&worker.chan, destination, (size_t)size, &done));
    if (waits)
        worker.clock_ns = clock_ns();
}

/* The request's body in `buffer`. false: there is no memory for it; the body was skipped and the error put. */
static bool read_request(const struct wire_header *request, struct buffer *buffer)
{
    if (reserve(buffer, (size_t)request->body_bytes)) {
        read_body(buffer->data, request->body_bytes);
        return true;
    }
    size_t done = 0;
    flush();
    check_stream(chan_discard(&worker.chan, (size_t)request->body_bytes, &done));
    put_error(request, -ENOMEM, 0, "the worker has no memory for the input");
    return false;
}

/* ---- functions ---- */

static void run_function(const struct wire_header *request)
{
    uint8_t bytes[CALLABLE_MAX_BYTES];
    if (request->body_bytes > sizeof bytes)
        end(1);
    read_body(bytes, request->body_bytes);
    if (request->function >= worker.function_count) {
        uint32_t count = request->function + 16;
        struct function **functions = realloc(worker.functions, count * sizeof *functions);
        if (!functions)
            end(1);
        memset(functions + worker.function_count, 0, (count - worker.function_count) * sizeof *functions);
        worker.functions = functions;
        worker.function_count = count;
    }
    struct function *function = calloc(1, sizeof *function);
    if (!function)
        end(1);
    function->error = callable_resolve(bytes, (size_t)request->body_bytes, &function->fn, function->text);
    free(worker.functions[request->function]);
    worker.functions[request->function] = function;
}

/* The function that the request names. NULL: it cannot be run here; the error was put. */
static callable_fn *find_function(const struct wire_header *request)
{
    struct function *function = request->function < worker.function_count ? worker.functions[request->function] : NULL;
    if (function && function->fn)
        return function->fn;
    put_error(request, function ? function->error : POOL_EPROTO, 0, function ? function->text : "unknown function number");
    return NULL;
}

/* ---- a task: one item of any size ---- */

static void put_result(const struct wire_header *request, int code, uint64_t elapsed_ns)
{
    const struct pool_call *call = &worker.call;
    size_t text_size = strnlen(call->text, WIRE_TEXT_BYTES);
    struct wire_header header = {.type = WIRE_RESULT,
                                 .flags = weigh(elapsed_ns),
                                 .id = request->id,
                                 .count = 1,
                                 .code = code,
                                 .extra = elapsed_ns,
                                 .body_bytes = code ? text_size : call->reply_size};
    put(&header, code ? call->text : call->reply);
}

static void release_large_reply(struct pool_call *call)
{
    if (call->reply_capacity <= KEPT_BYTES)
        return;
    free(call->reply);
    call->reply = NULL;
    call->reply_capacity = 0;
}

static void run_task(const struct wire_header *request)
{
    if (!read_request(request, &worker.input))
        return;
    pool_task_fn *fn = (pool_task_fn *)find_function(request);
    if (!fn)
        return;
    if (request->flags & WIRE_STEPWISE)
        flush();
    call_begin(&worker.call, worker.input.data, (size_t)request->body_bytes);
    call_place.item_index = request->id;
    uint64_t begun_ns = worker.clock_ns;
    int code = fn(&worker.call);
    end_copy();
    worker.clock_ns = clock_ns();
    uint64_t elapsed_ns = worker.clock_ns - begun_ns;
    if (worker.call.too_large)
        put_error(request, -EMSGSIZE, elapsed_ns, "the reply is larger than max_result_bytes");
    else
        put_result(request, code, elapsed_ns);
    if (request->flags & WIRE_STEPWISE)
        flush();
    release_if_large(&worker.input);
    release_large_reply(&worker.call);
}

/* ---- a run: consecutive items of one size ---- */

struct run {
    const struct wire_header *request;
    pool_map_fn *fn;
    const uint8_t *items;
    uint8_t *results;
    size_t item_size, result_size;
    uint32_t reported, done; /* items [reported, done) wait to be reported */
    uint32_t failure_count;  /* among them; listed in worker.failures */
    uint64_t begun_ns;       /* when `reported` was reached */
};

/* The body of a report: the results where they are, or behind a list of failures in a buffer of their own. */
static const void *report_body(const struct run *run, size_t failure_bytes, size_t result_bytes)
{
    const uint8_t *results = run->results + run->reported * run->result_size;
    if (!failure_bytes)
        return results;
    if (!reserve(&worker.report, failure_bytes + result_bytes))
        end(1); /* no memory for a report: the items are in doubt, and run elsewhere */
    memcpy(worker.report.data, worker.failures.data, failure_bytes);
    memcpy(worker.report.data + failure_bytes, results, result_bytes);
    return worker.report.data;
}

static void report_run(struct run *run)
{
    uint32_t count = run->done - run->reported;
    size_t failure_bytes = (size_t)run->failure_count * WIRE_FAILURE_BYTES, result_bytes = count * run->result_size;
    uint64_t elapsed_ns = worker.clock_ns - run->begun_ns;
    struct wire_header header = {.type = WIRE_RESULTS,
                                 .flags = weigh(elapsed_ns),
                                 .id = run->request->id + run->reported,
                                 .count = count,
                                 .function = run->failure_count,
                                 .extra = elapsed_ns,
                                 .body_bytes = failure_bytes + result_bytes};
    put(&header, report_body(run, failure_bytes, result_bytes));
    run->reported = run->done;
    run->failure_count = 0;
    run->begun_ns = worker.clock_ns;
}

static void note_failure(struct run *run, uint32_t item, int code)
{
    if (!reserve(&worker.failures, (size_t)run->request->count * WIRE_FAILURE_BYTES))
        end(1);
    struct wire_failure failure = {.offset = item - run->reported, .code = code};
    wire_encode_failure(failure, worker.failures.data + (size_t)run->failure_count++ * WIRE_FAILURE_BYTES);
}

/* Run items up to `limit`; short of it after a failure that is to stop the run. */
static bool run_items(struct run *run, uint32_t limit)
{
    const struct wire_header *request = run->request;
    while (run->done < limit) {
        uint32_t i = run->done;
        call_place.item_index = request->id + i;
        int code = run->fn(run->items + i * run->item_size, run->results + i * run->result_size, worker.state);
        end_copy();
        run->done++;
        if (code) {
            note_failure(run, i, code);
            if (request->flags & WIRE_STOP)
                return false;
        }
    }
    return true;
}

/* The clock is looked at once per `look` items, as their measured cost warrants: 22 ns are much beside an item of 5. */
static void work_through(struct run *run)
{
    static uint32_t look = 1;
    bool stepwise = run->request->flags & WIRE_STEPWISE, going = true;
    while (going && run->done < run->request->count) {
        uint32_t left = run->request->count - run->done, step = stepwise ? 1 : look < left ? look : left;
        uint64_t before_ns = worker.clock_ns;
        going = run_items(run, run->done + step);
        worker.clock_ns = clock_ns();
        uint64_t elapsed_ns = worker.clock_ns - before_ns;
        if (elapsed_ns > LOOK_NS)
            look = look / 2 ? look / 2 : 1;
        else if (look < LOOK_ITEMS && step == look)
            look *= 2;
        if (stepwise || worker.clock_ns - worker.reported_ns >= REPORT_NS) {
            report_run(run);
            flush();
        }
    }
    if (run->reported < run->done)
        report_run(run);
}

static void run_run(const struct wire_header *request)
{
    if (!read_request(request, &worker.input))
        return;
    pool_map_fn *fn = (pool_map_fn *)find_function(request);
    size_t result_size = (size_t)request->extra, result_bytes;
    if (!fn)
        return;
    if (!request->count || __builtin_mul_overflow(request->count, result_size, &result_bytes))
        end(1);
    if (!reserve(&worker.results, result_bytes)) {
        put_error(request, -ENOMEM, 0, "the worker has no memory for the results");
        return;
    }
    if (request->flags & WIRE_STEPWISE)
        flush();
    struct run run = {.request = request,
                      .fn = fn,
                      .items = worker.input.data,
                      .results = worker.results.data,
                      .item_size = (size_t)request->body_bytes / request->count,
                      .result_size = result_size,
                      .begun_ns = worker.clock_ns};
    work_through(&run);
    if (chan_has_output(&worker.chan))
        flush_if_late();
    release_if_large(&worker.input);
    release_if_large(&worker.results);
    release_if_large(&worker.failures);
    release_if_large(&worker.report);
}

/* ---- the life of a worker ---- */

/* Cannot become a worker: say why and end. */
static void decline(int code, const char *text) __attribute__((noreturn));
static void decline(int code, const char *text)
{
    struct wire_header nothing = {0};
    put_error(&nothing, code, 0, text);
    flush();
    end(0);
}

static callable_fn *resolve(struct wire_bytes bytes, const char *what)
{
    callable_fn *fn = NULL;
    char text[256] = "", message[CALL_TEXT_BYTES];
    int rc = bytes.size ? callable_resolve(bytes.data, (size_t)bytes.size, &fn, text) : 0;
    if (!rc)
        return fn;
    snprintf(message, sizeof message, "%s: %s", what, text);
    decline(rc, message);
}

/* "the initializer returned 7: text" */
static void tell_code(char *message_out, size_t size, const char *what, int code)
{
    const char *text = call_place.text;
    snprintf(message_out, size, "the %s returned %d%s%.*s", what, code, *text ? ": " : "", (int)(size - 64), text);
}

static void run_preload(const struct wire_config *config)
{
    char message[CALL_TEXT_BYTES];
    pool_preload_fn *preload = (pool_preload_fn *)resolve(config->preload, "the preload");
    int code = preload ? preload(config->arg.data, (size_t)config->arg.size) : 0;
    end_copy();
    if (code) {
        tell_code(message, sizeof message, "preload", code);
        decline(POOL_EBROKEN, message);
    }
}

static void run_initializer(const struct wire_config *config)
{
    char message[CALL_TEXT_BYTES];
    pool_initializer_fn *initializer = (pool_initializer_fn *)resolve(config->initializer, "the initializer");
    worker.finalizer = (pool_finalizer_fn *)resolve(config->finalizer, "the finalizer");
    call_place.text[0] = '\0';
    int code = initializer ? initializer(config->arg.data, (size_t)config->arg.size, &worker.state) : 0;
    end_copy();
    if (code) {
        tell_code(message, sizeof message, "initializer", code);
        decline(POOL_EBROKEN, message);
    }
    worker.call.state = worker.state;
}

static void run_config(const struct wire_header *request)
{
    struct buffer body = {0};
    struct wire_config config;
    if (!read_request(request, &body))
        end(1);
    if (wire_decode_config(body.data, (size_t)request->body_bytes, &config))
        decline(POOL_EPROTO, "malformed configuration");
    char name[16];
    snprintf(name, sizeof name, "pool-worker/%u", (unsigned)request->id);
    child_name(name);
    call_place.worker_id = (unsigned)request->id;
    worker.call.max_reply_bytes = (size_t)config.max_result_bytes;
    worker.max_worker_bytes = (size_t)config.max_worker_bytes;
    if (config.flags & WIRE_CONFIG_RECYCLES && child_remember())
        decline(POOL_EBROKEN, "cannot save the state that recycling restores");
    if (config.flags & WIRE_CONFIG_PRELOAD)
        run_preload(&config);
    run_initializer(&config);
    free(body.data);
    put(&(struct wire_header){.type = WIRE_READY}, NULL);
}

static void say_hello(void)
{
    struct wire_hello hello = {.version = WIRE_VERSION, .pid = (uint32_t)getpid()};
    uint8_t bytes[WIRE_HELLO_BYTES];
    hello.id_size = (uint32_t)callable_library_id(hello.id);
    struct wire_header header = {.type = WIRE_HELLO, .body_bytes = wire_encode_hello(&hello, bytes)};
    put(&header, bytes);
}

static void run_hello(const struct wire_header *request)
{
    uint8_t bytes[WIRE_HELLO_BYTES], own_id[WIRE_ID_BYTES];
    struct wire_hello hello;
    read_body(bytes, request->body_bytes);
    size_t own_size = callable_library_id(own_id);
    if (wire_decode_hello(bytes, (size_t)request->body_bytes, &hello))
        decline(POOL_EPROTO, "malformed hello");
    if (hello.version != WIRE_VERSION || hello.id_size != own_size || memcmp(hello.id, own_id, own_size) != 0)
        decline(POOL_EBUILD, "the worker found another build of libprocpool than its parent runs; restart the program");
}

static void run_recycle(const struct wire_header *request)
{
    (void)request;
    finalize();
    fflush(stdout);
    fflush(stderr);
    end(child_restart() ? 1 : 0);
}

static void run_shutdown(const struct wire_header *request)
{
    (void)request;
    flush();
    finalize();
    end(0);
}

static void next_request(struct wire_header *header_out)
{
    const uint8_t *bytes;
    bool waits = chan_staged(&worker.chan) < WIRE_HEADER_BYTES;
    if (waits)
        flush();
    check_stream(chan_peek(&worker.chan, WIRE_HEADER_BYTES, &bytes));
    if (wire_decode(bytes, WIRE_FROM_PARENT, 0, header_out))
        end(1); /* not the parent that said hello */
    chan_skip(&worker.chan, WIRE_HEADER_BYTES);
    if (waits)
        worker.clock_ns = clock_ns();
}

static void (*const handlers[WIRE_TYPE_COUNT])(const struct wire_header *) = {
    [WIRE_HELLO] = run_hello, [WIRE_CONFIG] = run_config,   [WIRE_FUNCTION] = run_function,  [WIRE_TASK] = run_task,
    [WIRE_RUN] = run_run,     [WIRE_RECYCLE] = run_recycle, [WIRE_SHUTDOWN] = run_shutdown,
};

void worker_run(void)
{
    worker = (struct worker){0};
    if (chan_init(&worker.chan, CHILD_IN_FD, CHILD_OUT_FD, true) || pthread_atfork(NULL, NULL, become_copy))
        end(1);
    say_hello();
    for (;;) {
        struct wire_header request;
        next_request(&request);
        handlers[request.type](&request); /* wire_decode lets no other type pass */
        flush_if_late();
    }
}

int worker_preload(const void *bytes, size_t size, char *message_out, size_t message_size)
{
    struct wire_config config;
    char text[256] = "";
    callable_fn *fn;
    if (wire_decode_config(bytes, size, &config)) {
        snprintf(message_out, message_size, "malformed configuration");
        return POOL_EPROTO;
    }
    int rc = callable_resolve(config.preload.data, (size_t)config.preload.size, &fn, text);
    if (rc) {
        snprintf(message_out, message_size, "the preload: %s", text);
        return rc;
    }
    int code = ((pool_preload_fn *)fn)(config.arg.data, (size_t)config.arg.size);
    if (code)
        tell_code(message_out, message_size, "preload", code);
    return code;
}
