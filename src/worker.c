/* worker: see worker.h. The handshake, what runs user code before the worker is ready, and a table of handlers for all
 * requests. */
#include "worker.h"
#include "child.h"
#include "fd.h"
#include "work.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void finalize(void)
{
    if (work.finalizer)
        work.finalizer(work.state);
    work.finalizer = NULL;
}

/* A task that forks and returns in the child would report twice. The child loses the pool's fds and ends when it
 * returns; what its own copies find at these numbers is not the pool's. */
static void become_copy(void)
{
    if (!call_place.in_worker || work.is_copy)
        return;
    int fds[] = {CHILD_IN_FD, CHILD_OUT_FD, CHILD_LIFELINE_FD, CHILD_SOCKET_FD};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        fd_close(&fds[i]);
    work.is_copy = 1;
}

/* Whoever was copied from a process that does so does so, too. */
static int watch_forks(void)
{
    static atomic_bool watched;
    if (watched)
        return 0;
    int error = pthread_atfork(NULL, NULL, become_copy);
    watched = !error;
    return error;
}

/* Cannot become a worker: say why and end. */
static _Noreturn void decline(int code, const char *text)
{
    struct wire_header nothing = {0};
    work_put_error(&nothing, code, 0, text);
    work_flush();
    work_end(0);
}

static callable_fn *resolve(struct wire_bytes bytes, const char *what)
{
    callable_fn *fn = NULL;
    char text[CALLABLE_TEXT_BYTES] = "", message[CALL_TEXT_BYTES];
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
    work_end_copy();
    if (code) {
        tell_code(message, sizeof message, "preload", code);
        decline(POOL_EBROKEN, message);
    }
}

static void run_initializer(const struct wire_config *config)
{
    char message[CALL_TEXT_BYTES];
    pool_initializer_fn *initializer = (pool_initializer_fn *)resolve(config->initializer, "the initializer");
    work.finalizer = (pool_finalizer_fn *)resolve(config->finalizer, "the finalizer");
    call_place.text[0] = '\0';
    int code = initializer ? initializer(config->arg.data, (size_t)config->arg.size, &work.state) : 0;
    work_end_copy();
    if (code) {
        tell_code(message, sizeof message, "initializer", code);
        decline(POOL_EBROKEN, message);
    }
    work.call.state = work.state;
}

static void say_ready_if_so(void)
{
    if (!work.replays_left)
        work_put(&(struct wire_header){.type = WIRE_READY}, NULL);
}

static void run_config(const struct wire_header *request)
{
    struct wire_config config;
    if (!work_read_input(request))
        work_end(1);
    if (wire_decode_config(work.input.data, (size_t)request->body_bytes, &config))
        decline(POOL_EPROTO, "malformed configuration");
    child_name_worker((unsigned)request->id);
    call_place.in_worker = true;
    call_place.worker_id = (unsigned)request->id;
    work.call.find_shared = work_find_shared;
    work.call.max_reply_bytes = (size_t)config.max_result_bytes;
    work.max_worker_bytes = (size_t)config.max_worker_bytes;
    work.spin.limit_ns = config.spin_ns;
    if (config.flags & WIRE_CONFIG_RECYCLES && child_remember())
        decline(POOL_EBROKEN, "cannot save the state that recycling restores");
    bool preloads = config.flags & WIRE_CONFIG_PRELOAD && config.preload.size;
    bool runs_code = config.initializer.size || config.finalizer.size || preloads;
    if (runs_code || request->count)
        work_flush(); /* what user code does now, it does after the hello; else that goes with what it leads to */
    if (config.flags & WIRE_CONFIG_PRELOAD)
        run_preload(&config);
    run_initializer(&config);
    work.replays_left = request->count;
    say_ready_if_so();
}

static void run_replay(const struct wire_header *request)
{
    char message[CALL_TEXT_BYTES + 64];
    const char *text;
    if (!work.replays_left)
        work_end(1); /* not the parent that said hello */
    int code = work_run_replay(request, &text);
    if (code) {
        snprintf(message, sizeof message, "a broadcast that new workers repeat returned %d%s%.900s", code,
                 *text ? ": " : "", text);
        decline(POOL_EBROKEN, message);
    }
    work.replays_left--;
    say_ready_if_so();
}

static void run_task(const struct wire_header *request)
{
    if (request->flags & WIRE_REPLAY)
        run_replay(request);
    else
        work_run_task(request);
}

static void say_hello(void)
{
    struct wire_hello hello = {.version = WIRE_VERSION, .pid = (uint32_t)syscall(SYS_getpid)};
    uint8_t bytes[WIRE_HELLO_BYTES];
    hello.id_size = (uint32_t)callable_library_id(hello.id);
    struct wire_header header = {.type = WIRE_HELLO, .body_bytes = wire_encode_hello(&hello, bytes)};
    work_put(&header, bytes);
}

/* By hand, as in say_hello: libc's code for it would have to be mapped. */
static bool is_same_id(const uint8_t *a, const uint8_t *b, size_t size)
{
    uint8_t difference = 0;
    for (size_t i = 0; i < size; i++)
        difference |= a[i] ^ b[i];
    return !difference;
}

static void run_hello(const struct wire_header *request)
{
    uint8_t bytes[WIRE_HELLO_BYTES], own_id[WIRE_ID_BYTES];
    struct wire_hello hello;
    work_read(bytes, request->body_bytes);
    size_t own_size = callable_library_id(own_id);
    if (wire_decode_hello(bytes, (size_t)request->body_bytes, &hello))
        decline(POOL_EPROTO, "malformed hello");
    if (hello.version != WIRE_VERSION || hello.id_size != own_size || !is_same_id(hello.id, own_id, own_size))
        decline(POOL_EBUILD, "the worker found another build of libprocpool than its parent runs; restart the program");
}

static void run_recycle(const struct wire_header *request)
{
    (void)request;
    finalize();
    fflush(stdout);
    fflush(stderr);
    work_end(child_restart() ? 1 : 0);
}

static void run_shutdown(const struct wire_header *request)
{
    (void)request;
    work_flush();
    finalize();
    work_end(0);
}

static void (*const handlers[WIRE_TYPE_COUNT])(const struct wire_header *) = {
    [WIRE_HELLO] = run_hello,
    [WIRE_CONFIG] = run_config,
    [WIRE_FUNCTION] = work_take_function,
    [WIRE_TASK] = run_task,
    [WIRE_RUN] = work_run_run,
    [WIRE_CLAIMS] = work_take_claims,
    [WIRE_TRANSIT] = work_take_transit,
    [WIRE_BUFFER] = work_take_buffer,
    [WIRE_UNMAP] = work_take_unmap,
    [WIRE_RETURN] = work_take_return,
    [WIRE_DISCARD] = work_take_return,
    [WIRE_RECYCLE] = run_recycle,
    [WIRE_SHUTDOWN] = run_shutdown,
};

void worker_run(void)
{
    work_begin();
    chan_init(&work.chan, CHILD_IN_FD, CHILD_OUT_FD, true, work.staging);
    if (watch_forks())
        work_end(1);
    say_hello();
    chan_look(&work.chan); /* a greeting that is there already: the hello then goes with what that leads to */
    for (;;) {
        struct wire_header request;
        work_next(&request);
        handlers[request.type](&request); /* wire_decode lets no other type pass */
        work_flush_if_late();
    }
}

void worker_prepare_copies(void)
{
    callable_prepare();
    (void)watch_forks(); /* else each does so */
}

int worker_preload(const void *bytes, size_t size, char *message_out, size_t message_size)
{
    struct wire_config config;
    char text[CALLABLE_TEXT_BYTES] = "";
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
