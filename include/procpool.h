/* procpool: a pool of worker processes with one small API.
 *
 * Work is given as a function pointer and data; it runs in other processes, so that a crash, a hang or a leak
 * in it costs one item and nothing else. How the processes come about is the *start method*:
 *
 *   forkserver  copies of a small server that was started afresh and ran your `preload` once (the default)
 *   spawn       the same executable, started afresh for each worker
 *   fork        copies of the calling process (not for programs with threads)
 *
 * The smallest program:
 *
 *     static int square(const void *item, void *result, void *state)
 *     {
 *         (void)state;
 *         *(double *)result = *(const double *)item * *(const double *)item;
 *         return 0;
 *     }
 *     int main(void)
 *     {
 *         pool_init();
 *         double in[1000], out[1000];
 *         ...
 *         return pool_map(NULL, square, in, sizeof *in, out, sizeof *out, 1000);
 *     }
 *
 * Conventions, for the whole header:
 *   - A function returns 0, or a positive outcome that its comment names, or a negative error: a POOL_E… value for
 *     what the library has to say, else a negative errno for what the system refused. errno itself carries nothing.
 *     After an error pool_message() says in words what happened and what to do.
 *   - Outputs come last and are written only on success, unless a comment says otherwise.
 *   - Every function may be called from any thread, on one pool too. None is async-signal-safe. None is a
 *     cancellation point. After fork() a pool is of no use in the child (POOL_EFORKED).
 *   - The library never prints, exits, installs signal handlers, raises SIGPIPE, waits for children that are not its
 *     own, or starts a thread in the calling process (but see progress_thread).
 *   - A pool is driven by whoever waits in it: results are read, deadlines kept and replacements started while some
 *     thread is in a call that waits, or by pool_process, or by the progress thread.
 *   - In a callback that the library runs on the calling thread (progress, source, sink) the same pool may be
 *     submitted to, as if with no_wait; what would wait in it is -EDEADLK.
 *   - Options structs carry their size; initialise them with the matching …_INIT and set fields by name. In every
 *     field zero means the default. A size of 0 or above 4096 is -EINVAL; a struct longer than the library knows, with
 *     something set beyond what it knows, is -E2BIG.
 *   - A time that is too long for a count of nanoseconds is -EINVAL. Up to 292 years it never is.
 *
 * Links as `procpool` (pkg-config procpool, or CMake's procpool::procpool). MIT licence. */
#ifndef PROCPOOL_H
#define PROCPOOL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the linker sees is procpool_create for pool_create, and so on: a program may have a pool_create of its own. */
#define POOL_API(name) __asm__("procpool_" #name) __attribute__((visibility("default")))

struct pool;
struct pool_call;
struct pool_task;

/* ---- errors ---------------------------------------------------------------------------------------------------- */

enum {
    POOL_ETASK = -10001,      /* the item's own function returned non-zero */
    POOL_ECRASH = -10002,     /* the worker died while it ran the item */
    POOL_ETIMEOUT = -10003,   /* the item ran past its deadline; its worker was killed */
    POOL_ECANCELED = -10004,  /* the item was cancelled before it ended */
    POOL_EPROTO = -10005,     /* the worker sent something that is not the protocol; it was killed */
    POOL_EBROKEN = -10006,    /* workers cannot be started, or its fds were closed; the pool is of no further use */
    POOL_ENOTINIT = -10007,   /* pool_init() is missing at the start of main */
    POOL_ECLOSED = -10008,    /* the pool has been shut down */
    POOL_EFORKED = -10009,    /* the pool belongs to the process that this one was forked from */
    POOL_EAGAIN = -10010,     /* no room now, and the caller asked not to wait */
    POOL_EBUILD = -10011,     /* the worker cannot run this function: other build, or code in no loaded object */
    POOL_ENOBACKEND = -10012, /* no start method of that name */
};

/* Positive outcomes, which are no errors. */
enum {
    POOL_PENDING = 1, /* not ended yet */
    POOL_EMPTY = 2,   /* there is no task left that could be handed out */
    POOL_ENDED = 3,   /* it had ended already */
};

/* For timeout_ms: as long as it takes. */
#define POOL_FOREVER ((int64_t)-1)

/* A short text for an error or outcome of this library, or the system's text for a negative errno. Never NULL; static
 * storage or the C library's own. */
const char *pool_strerror(int error) POOL_API(strerror);

/* The calling thread's last error in words: which item, function, worker, pid and signal, and what to do about it.
 * Never NULL; "" when nothing failed yet. Valid until this thread's next call that fails. */
const char *pool_message(void) POOL_API(message);

/* ---- lifecycle ------------------------------------------------------------------------------------------------- */

/* Must be the first statement of main. Workers of `spawn` and the server of `forkserver` are this very program, started
 * again: in those processes pool_init does not return but runs the worker and ends the process with it.
 * Elsewhere it returns 0 at once, as often as it is called. */
int pool_init(void) POOL_API(init);

/* Runs once in each new worker, before its first task. What it stores in *state_out is handed to every function
 * that runs in that worker. arg, arg_size: a copy of pool_options.arg, valid until it returns.
 * Returns 0, or a code of its own, which makes this start a failed one (see POOL_EBROKEN). It may give a text by
 * `return pool_call_fail(NULL, code, "...")`. */
typedef int pool_initializer_fn(const void *arg, size_t arg_size, void **state_out);

/* Runs when a worker ends in order (pool_destroy, recycling), not when it was killed or crashed. */
typedef void pool_finalizer_fn(void *state);

/* Runs before the initializer: under `forkserver` once, in the server, and every worker shares what it did
 * copy-on-write; under `fork` and `spawn` once in each worker. It must not leave threads running under `forkserver`.
 * Same arguments and result as the initializer. */
typedef int pool_preload_fn(const void *arg, size_t arg_size);

struct pool_options {
    uint32_t size; /* sizeof(struct pool_options) */
    /* 0: $POOL_WORKERS, else the CPUs this process may use (affinity, cgroup quota). A number that is asked for here or
     * in $POOL_WORKERS is had in full or pool_create fails; the default number shrinks to what the limits on fds and
     * processes allow. At most 4096. */
    unsigned workers;
    const char *backend; /* "fork", "spawn", "forkserver"; NULL: $POOL_BACKEND, else "forkserver" */
    pool_initializer_fn *initializer;
    pool_finalizer_fn *finalizer;
    pool_preload_fn *preload;
    const void *arg;               /* arg_size bytes, copied by pool_create; NULL with 0: none */
    size_t arg_size;               /* at most 1 GiB */
    uint64_t max_tasks_per_worker; /* items after which a worker is replaced by a fresh one; 0: never */
    unsigned max_attempts;         /* how many workers one item may kill before it fails; 0: 1 */
    int progress_thread;           /* 1: a thread of the library's drives the pool when no caller does */
    size_t max_bytes_in_flight;    /* inputs of tasks that have not ended; 0: 64 MiB. See pool_submit */
    size_t max_result_bytes;       /* of one item's reply; 0: 1 GiB. A larger one fails its item with -EMSGSIZE */
    int64_t start_timeout_ms;      /* from a worker's start until it is ready, preload and initializer included;
                                    * also how long a worker may take to end in order; 0: 30,000 */
    int64_t soft_kill_grace_ms;    /* between SIGTERM (with SIGCONT) and SIGKILL; 0: 100; -1: SIGKILL at once */
    /* A worker whose resident memory is above this after a task is replaced; 0: no bound. Pages shared with the parent
     * count: under `fork` what it had, but not the memory by which large items travel. */
    size_t max_worker_bytes;
    /* For how long a thread that waits in the pool, and a worker that is out of work, may look for news before it
     * sleeps, in microseconds; 0: 50; -1: never; at most 1,000. Only while a CPU is spare (affinity, as it was in
     * pool_create), and less the less it pays. */
    int64_t spin_us;
};
#define POOL_OPTIONS_INIT                                                                                              \
    {                                                                                                                  \
        (uint32_t)sizeof(struct pool_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                          \
    }

/* Make a pool and start its workers, all at once. Blocks until the first is ready, or none can be.
 *   options: NULL for all defaults; not kept.
 *   pool_out: the pool, to be released with pool_destroy.
 * Workers have the environment and working directory of this moment, /dev/null as stdin, the caller's stdout and
 * stderr, and no other fd. They end when this process does, however it ends, unless a task closes the library's fds.
 * Returns 0; -EINVAL, -E2BIG for a malformed struct or number; POOL_ENOBACKEND for an unknown start method (the message
 * lists the known ones); POOL_ENOTINIT when the start method needs pool_init() and it was not called;
 * POOL_EBUILD when one of the functions lies in no loaded object; POOL_EBROKEN when workers start but do not become
 * ready (the message says what the last one said or how it died: an initializer's code, say); -EAGAIN, -EMFILE, -ENOMEM
 * and other negative errno when the system refuses. On error nothing is left behind. */
int pool_create(const struct pool_options *options, struct pool **pool_out) POOL_API(create);

/* Run what was submitted, let the workers finish in order, and free the pool: pool_shutdown with POOL_DRAIN and no
 * limit of time, so shut down harder first where tasks may be endless. A worker that takes longer than start_timeout_ms
 * to finish is killed. Threads that wait in the pool get what they wait for, and have left it when this returns; new
 * work is refused with POOL_ECLOSED meanwhile. NULL is fine. The pool must not be used afterwards; its tasks and
 * buffers may, until they are freed. In a forked child it frees the child's copy and touches no worker. Returns 0;
 * -EDEADLK in a callback of this pool. */
int pool_destroy(struct pool *pool) POOL_API(destroy);

enum pool_shutdown_mode {
    POOL_DRAIN,     /* run what was submitted */
    POOL_CANCEL,    /* let what workers have been handed end, cancel the rest */
    POOL_TERMINATE, /* cancel all of it; workers get SIGTERM, and SIGKILL after soft_kill_grace_ms */
    POOL_KILL,      /* cancel all of it; workers get SIGKILL */
};

/* Stop taking new work (POOL_ECLOSED from now on) and end the workers. Waits at most timeout_ms (0: only begin;
 * POOL_FOREVER). Finalizers run in modes DRAIN and CANCEL. What is cut off ends with POOL_ECANCELED and is counted in
 * pool_stats.canceled; from CANCEL on nothing is tried again, so an item that loses its worker meanwhile fails with
 * POOL_ECRASH whatever max_attempts says. pool_wait, pool_next, pool_task_result, pool_stats and pool_process go on
 * working afterwards.
 * Returns 0 when every worker is gone; POOL_PENDING when the time ran out first: nothing is undone, pool_message() says
 * what still runs, and it may be called again, with a stronger mode (a weaker one changes nothing); -EINVAL;
 * POOL_EFORKED; -EDEADLK. */
int pool_shutdown(struct pool *pool, enum pool_shutdown_mode mode, int64_t timeout_ms) POOL_API(shutdown);

/* The process-wide pool: what a NULL pool means in the map functions. Made with all defaults at first use, never
 * destroyed; its workers end with the process. NULL when it cannot be made (see pool_message; the next call tries
 * again). In a forked child it is made anew. Inside a worker it is a pool that runs its tasks in place, as they are
 * submitted: without isolation and deadlines, workers to broadcast to (-EINVAL), an fd to watch (-EINVAL), numbers (all
 * 0), or an end (pool_shutdown and pool_destroy change nothing). */
struct pool *pool_default(void) POOL_API(default);

/* ---- map: items and results of fixed size ------------------------------------------------------------------------ */

/* Compute *result (result_size bytes) from *item. state: what the initializer made in this worker, else NULL.
 * Returns 0, or the item's own error code. */
typedef int pool_map_fn(const void *item, void *result, void *state);

struct pool_map_options {
    uint32_t size;     /* sizeof(struct pool_map_options) */
    int at_most_once;  /* 1: an item that may have begun is never run again, whatever happened to its worker */
    int *status_out;   /* count ints: for each item 0 or the error it ended with; NULL: not wanted */
    int *code_out;     /* count ints: what fn returned for each item, 0 where it did not return; NULL: not wanted */
    size_t chunk_size; /* items handed over at a time, which stay together; 0: adapts to the measured cost of an item */
    /* Deadline of each item in ms, from its own start; 0: none. Past it the worker is killed and replaced, and the item
     * fails with POOL_ETIMEOUT. */
    int64_t timeout_ms;
    /* 1: after the first failure nothing more is handed to workers; what was not begun ends with POOL_ECANCELED. Other
     * workers may complete the few items that they have; one that is lost with its worker is not tried again. */
    int stop_on_error;
    int reserved; /* must be 0 */
    /* Called on the calling thread, with no lock held, at most 10 times a second and once at the end; non-zero cancels
     * the items that have not been handed to workers. */
    int (*progress)(void *arg, size_t done, size_t count);
    void *progress_arg;
};
#define POOL_MAP_OPTIONS_INIT                                                                                          \
    {                                                                                                                  \
        (uint32_t)sizeof(struct pool_map_options), 0, 0, 0, 0, 0, 0, 0, 0, 0                                           \
    }

/* results[i] = fn(items[i]) for i in [0, count), in the workers of pool (NULL: the default pool). Blocks until every
 * item has ended. The arrays are the caller's and must stay untouched until then; they must not overlap.
 *   items: count * item_size bytes.   results: count * result_size bytes; NULL with result_size 0 for a map
 *   that is run for its statuses. In the worker both arrays start aligned to 64 bytes, but see pool_buffer_alloc.
 *   fn: any function of the executable or of a loaded shared object; static ones too.
 * Returns 0 when every item succeeded; else the error of the failed item with the lowest index (POOL_ETASK,
 *   POOL_ECRASH, POOL_ETIMEOUT, POOL_EPROTO, POOL_EBUILD, POOL_EBROKEN; POOL_ECANCELED only if no other failed), the
 *   others being done all the same. The result of an item that failed is unspecified; that of one that never ran is
 *   untouched. Before anything runs: -EINVAL for NULL or zero arguments (a count of 0 is fine, also where the arrays
 *   are NULL, and does nothing), -EOVERFLOW for sizes that overflow, -ENOMEM, POOL_EBUILD, POOL_EFORKED, POOL_ECLOSED,
 *   POOL_EBROKEN. */
int pool_map(struct pool *pool, pool_map_fn *fn, const void *items, size_t item_size, void *results, size_t result_size,
             size_t count) POOL_API(map);

/* The same with options (NULL: none). status_out and code_out are written whenever 0 or an item's error is returned. */
int pool_map_with(struct pool *pool, pool_map_fn *fn, const void *items, size_t item_size, void *results,
                  size_t result_size, size_t count, const struct pool_map_options *options) POOL_API(map_with);

/* ---- map: payloads of any size ----------------------------------------------------------------------------------- */

struct pool_bytes {
    void *data;
    size_t size;
};

/* A task: reads its input, makes a reply, returns 0 or its own error code. */
typedef int pool_task_fn(struct pool_call *call);

/* The task's input, read-only, aligned to 16 bytes, valid until the task returns. Never NULL, also when *size_out is
 * 0. */
const void *pool_call_input(const struct pool_call *call, size_t *size_out) POOL_API(call_input);

/* Room for the reply: size bytes aligned to 16, uninitialised. Calling it again resizes the reply and keeps its bytes
 * up to the smaller size; the address may change. A task that never calls it replies with 0 bytes. A child that the
 * task forks may not have it.
 * NULL: no memory, or size is above max_result_bytes (then the task ends with -EMSGSIZE, unless a smaller reply is
 * made after all). */
void *pool_call_reply(struct pool_call *call, size_t size) POOL_API(call_reply);

/* The same in memory that the pool can map: a large reply is then not copied, but stays where the task writes it.
 * pool_result.data points there, for reading alone, until pool_task_free gives the memory back to the worker for its
 * next reply; a worker that has been taken over can change it meanwhile, as long as it lives: copy what must not change
 * before checking it. A child that the program forks does not have it. From pool_map_bytes the caller gets a copy.
 * Where there is no such memory in the worker (no fds, or many replies of this worker are held) it is pool_call_reply;
 * where the caller's process has no fd free to map it by, the task fails with -EMFILE. */
void *pool_call_reply_shared(struct pool_call *call, size_t size) POOL_API(call_reply_shared);

/* `return pool_call_fail(call, code, "what %s", why);` ends a task with its own error code and a text (at most 1023
 * bytes are kept) that the caller of the pool finds in pool_message(). call NULL: in an initializer or a
 * preload. Returns code, or -1 when code is 0. */
int pool_call_fail(struct pool_call *call, int code, const char *format, ...) POOL_API(call_fail)
    __attribute__((format(printf, 3, 4)));

/* What the initializer made in this worker, else NULL. */
void *pool_call_state(const struct pool_call *call) POOL_API(call_state);

/* The i-th file descriptor that came with the task (pool_task_options.fds), close-on-exec. The library closes it when
 * the task returns: dup() it to keep it. -1: there is no i-th. */
int pool_call_fd(const struct pool_call *call, unsigned i) POOL_API(call_fd);

/* Like pool_map_with, for items and replies of any size, empty ones included.
 *   items: count payloads, the caller's; an item's data may be NULL when its size is 0.
 *   results_out: count entries, written for every item whenever 0 or an item's error is returned: the reply as malloc'd
 *   memory of the caller's (release each with pool_bytes_clear or free), or {NULL, 0} for an empty reply and for an
 *   item that failed. NULL: replies are not wanted.
 * Errors as pool_map, and for an item -EMSGSIZE (reply above max_result_bytes) or -ENOMEM (no memory for it). */
int pool_map_bytes(struct pool *pool, pool_task_fn *fn, const struct pool_bytes *items, size_t count,
                   struct pool_bytes *results_out, const struct pool_map_options *options) POOL_API(map_bytes);

/* free(bytes->data) and set {NULL, 0}; may be repeated. */
void pool_bytes_clear(struct pool_bytes *bytes) POOL_API(bytes_clear);

/* ---- shared buffers ---------------------------------------------------------------------------------------------- */

/* Memory of `size` bytes that the pool's workers can map: zero, and aligned to a page.
 *   pool: NULL: the default pool. Inside a worker, where the default pool runs its tasks in place, it is plain memory.
 * Whatever lies in such a buffer from end to end is not copied but referred to: the input of pool_submit, the items of
 * pool_map_bytes, and each of the two arrays of pool_map, whose results the workers then write where they belong.
 * Nothing else changes, but for this:
 *   - What lies there must stay untouched until the task, or the map, has ended: pool_submit does not copy it. It does
 *     not count for max_bytes_in_flight.
 *   - It has the alignment that the caller gave it.
 *   - Workers map what is read for reading alone. A worker that results go to can write to all of that buffer as long
 *     as it lives, and what it was at when it died may be half written: give results a buffer of their own where that
 *     matters.
 *   - A worker that has no fd free to map a buffer fails what lies there with -EMFILE, and with -ENOMEM without address
 *     space.
 * Each buffer takes one fd of this process. A child that the program forks does not have the memory, nor do workers of
 * `fork` find it through pointers of the parent's; a child that a task forks does not have the results.
 * The memory is the caller's until pool_buffer_free, also after pool_destroy. NULL: size is 0, or no memory, fds, or
 * size is above RLIMIT_FSIZE (pool_message() says which). */
void *pool_buffer_alloc(struct pool *pool, size_t size) POOL_API(buffer_alloc);

/* Release a buffer of that pool (NULL: of the default pool), which may have been destroyed since. What is under way in
 * it still has it until it ends. data NULL is fine. Returns 0; -EINVAL: data is not where a buffer of the pool begins;
 * POOL_EFORKED. */
int pool_buffer_free(struct pool *pool, void *data) POOL_API(buffer_free);

/* ---- one task at a time ------------------------------------------------------------------------------------------ */

struct pool_task_options {
    uint32_t size;      /* sizeof(struct pool_task_options) */
    int at_most_once;   /* 1: once it may have begun it is never run again, whatever happened to its worker */
    int64_t timeout_ms; /* deadline in ms, from its own start; 0: none. Past it its worker is killed and it fails with
                         * POOL_ETIMEOUT */
    int no_wait;        /* 1: POOL_EAGAIN instead of waiting for room */
    unsigned fd_count;  /* at most POOL_TASK_FDS */
    /* fd_count file descriptors that go with the task, see pool_call_fd. They are duplicated here, and the duplicates
     * are closed when the task ends. A connection that must not be answered twice wants at_most_once. */
    const int *fds;
    void *tag; /* the caller's, see pool_task_tag */
};
#define POOL_TASK_OPTIONS_INIT                                                                                         \
    {                                                                                                                  \
        (uint32_t)sizeof(struct pool_task_options), 0, 0, 0, 0, 0, 0                                                   \
    }
#define POOL_TASK_FDS 64

/* How a task ended. */
struct pool_result {
    /* 0; POOL_ETASK, POOL_ECRASH, POOL_ETIMEOUT, POOL_ECANCELED, POOL_EPROTO, POOL_EBUILD, POOL_EBROKEN; -EMSGSIZE
     * (reply above max_result_bytes), -ENOMEM; -EAGAIN, -ENOBUFS, -ETOOMANYREFS (the kernel has no room for its fds),
     * -EMFILE (the worker has no fd free; or, for a reply in shared memory, the calling process) */
    int status;
    int code; /* what the function returned; 0 where it did not return */
    /* How the worker died, for POOL_ECRASH and POOL_ETIMEOUT: the signal, else 0; its exit code, else -1. 0 and -1 when
     * nobody can tell. */
    int signal, exit_code;
    unsigned worker_id; /* who had it last; POOL_NOT_A_WORKER: nobody */
    unsigned attempts;  /* how many times it was handed to a worker */
    pid_t worker_pid;   /* 0: nobody */
    uint64_t queued_ns; /* from its submission until it began; until its end if it never did. Approximate */
    uint64_t run_ns;    /* how long the function ran, by the worker's clock; 0 where it did not return */
    const void *data;   /* the reply, aligned to 16; owned by the task, and read-only. NULL when data_size is 0 */
    size_t data_size;
    const char *message; /* from pool_call_fail, or the library's words; owned by the task; never NULL */
    uint64_t reserved[6];
};

/* Hand a task to the pool. It goes to an idle worker at once, unless one that is at work is likely to be done with all
 * there is before another would be awake; otherwise it is queued, and sent when the pool is driven.
 *   fn: any function of the executable or of a loaded shared object; static ones too.
 *   input: input_size bytes, copied unless they lie in a shared buffer; NULL with 0.
 *   options: NULL: none.
 *   task_out: the task, to be released with pool_task_free. NULL: pool_next alone will hand it out.
 * Any number of tasks may be queued. When the inputs of those that have not ended reach max_bytes_in_flight it drives
 * the pool until there is room, or returns POOL_EAGAIN with no_wait and in callbacks; a larger input goes when nothing
 * else is in flight.
 * Returns 0; -EINVAL, -E2BIG, -EOVERFLOW, -ENOMEM; -EBADF, -EMFILE for fds that cannot be duplicated; POOL_EBUILD,
 * POOL_EAGAIN, POOL_ECLOSED, POOL_EBROKEN, POOL_EFORKED. On error nothing was submitted. */
int pool_submit(struct pool *pool, pool_task_fn *fn, const void *input, size_t input_size,
                const struct pool_task_options *options, struct pool_task **task_out) POOL_API(submit);

/* Wait for one task. Blocks at most timeout_ms (0 polls, POOL_FOREVER waits), and drives the pool meanwhile.
 *   task: stays the caller's. From this call on pool_next does not hand it out.
 * Returns 0 once the task has ended, however it ended (see pool_task_result); POOL_PENDING when the time ran out first;
 * -EINVAL for NULL or a negative time other than POOL_FOREVER; POOL_EFORKED; -EDEADLK in a callback of the pool, if the
 * task has not ended. May be repeated. Waiting for a task that was freed is undefined. */
int pool_wait(struct pool_task *task, int64_t timeout_ms) POOL_API(wait);

/* Take the task that ended first among those that were not handed out yet: each is handed out once, here or to
 * pool_wait, in the order in which they end. Blocks at most timeout_ms and drives the pool meanwhile.
 *   task_out: the task, to be released with pool_task_free (the same handle that pool_submit gave).
 * Returns 0; POOL_PENDING when the time ran out first; POOL_EMPTY when no such task is left; -EINVAL; POOL_EFORKED;
 * -EDEADLK. */
int pool_next(struct pool *pool, int64_t timeout_ms, struct pool_task **task_out) POOL_API(next);

/* Cancel a task. Returns at once: 0, and it ends, or has ended by now, with POOL_ECANCELED. What no worker has begun
 * never runs; a worker that is at it is killed (SIGTERM, grace, SIGKILL) and replaced, and the other tasks it had run
 * again. POOL_ENDED when the task had ended; -EINVAL for NULL; POOL_EFORKED. */
int pool_cancel(struct pool_task *task) POOL_API(cancel);

/* How the task ended. result_out points into the task. Returns 0; POOL_PENDING when it has not ended, with *result_out
 * untouched; -EINVAL; POOL_EFORKED. */
int pool_task_result(const struct pool_task *task, struct pool_result *result_out) POOL_API(task_result);

/* pool_task_options.tag. */
void *pool_task_tag(const struct pool_task *task) POOL_API(task_tag);

/* Release a task, ended or not; in the latter case it runs all the same, and its result is dropped. Tasks outlive their
 * pool: after pool_destroy all but pool_task_free and the questions above mean nothing. NULL is fine. What many small
 * tasks took of memory goes back to the system as they are released, but for 2 MiB, and 8 bytes for each that was
 * queued at the same time, which the pool keeps for the next ones; the messages of those that failed go to free(). */
void pool_task_free(struct pool_task *task) POOL_API(task_free);

/* ---- a source and a sink, bounded in flight ---------------------------------------------------------------------- */

/* Give the next item: set *item_out to malloc'd data (the pool frees it with free(); NULL when the size is 0). Called
 * on the calling thread with no lock held. Returns 1: an item; 0: the end; negative: stop, and pool_stream returns
 * it. */
typedef int pool_source_fn(void *arg, struct pool_bytes *item_out);

/* Take the result of item `index` (0-based, in the order of the source), valid until it returns; a failed item is a
 * result like any other. Called on the calling thread with no lock held. Non-zero stops, and pool_stream returns it. */
typedef int pool_sink_fn(void *arg, uint64_t index, const struct pool_result *result);

struct pool_stream_options {
    uint32_t size;        /* sizeof(struct pool_stream_options) */
    int ordered;          /* 1: results in the order of the source; 0: as they end */
    size_t max_in_flight; /* items taken from the source and not given to the sink; 0: 16 per worker */
    int64_t timeout_ms;   /* deadline of each item, from its start; 0: none */
    int at_most_once;     /* as in pool_map_options */
    int reserved;         /* must be 0 */
};
#define POOL_STREAM_OPTIONS_INIT                                                                                       \
    {                                                                                                                  \
        (uint32_t)sizeof(struct pool_stream_options), 0, 0, 0, 0, 0                                                    \
    }

/* sink(fn(item)) for every item of source, which may be endless, in the workers of pool (NULL: the default pool).
 * Blocks until the source has ended and the sink has had every result. Never more is in flight than max_in_flight items
 * and, beyond one item, max_bytes_in_flight bytes. Items of a stream are not handed out by pool_next.
 * Returns 0 at the end, however the items ended; what source or sink stopped it with (items in flight are then
 * cancelled, and the sink sees no more); -EINVAL, -E2BIG, -ENOMEM, POOL_EBUILD, POOL_ECLOSED (also when the pool is
 * shut down meanwhile: items that were taken still reach the sink), POOL_EBROKEN, POOL_EFORKED, -EDEADLK. */
int pool_stream(struct pool *pool, pool_task_fn *fn, pool_source_fn *source, pool_sink_fn *sink, void *arg,
                const struct pool_stream_options *options) POOL_API(stream);

/* ---- on every worker --------------------------------------------------------------------------------------------- */

/* Run fn once on every worker; its reply is not wanted. Blocks until every worker that there is has run it. Each runs
 * it before any task that is submitted later; in it pool_item_index() is 0. Workers that start later run the last
 * successful broadcast of each function, in the order in which these were submitted, after the initializer; one that
 * fails there is a failed start (see POOL_EBROKEN). A broadcast that failed is not repeated. A worker that dies without
 * having run it is not waited for: its replacement runs it as it starts.
 *   input: input_size bytes, copied; NULL with 0.
 * Returns 0; else how the first worker that failed did: POOL_ETASK (pool_message() has the text), POOL_ECRASH,
 * POOL_EPROTO, POOL_EBUILD, -ENOMEM, POOL_ECANCELED when the pool was shut down; or nothing ran: -EINVAL, POOL_ECLOSED,
 * POOL_EBROKEN, POOL_EFORKED, -EDEADLK. There is no deadline. */
int pool_broadcast(struct pool *pool, pool_task_fn *fn, const void *input, size_t input_size) POOL_API(broadcast);

/* ---- event loops ------------------------------------------------------------------------------------------------- */

/* A file descriptor to poll for reading: readable means that pool_process has something to do. It is the pool's, the
 * same at every call, and closed by pool_destroy. A negative error when it cannot be made: -EMFILE, -ENOMEM,
 * POOL_EFORKED, -EINVAL. */
int pool_fd(const struct pool *pool) POOL_API(fd);

/* Drive the pool without blocking. Then take what has ended with pool_next(pool, 0, &task) until it gives something
 * else than 0. Where pool_fd was never called, and somebody comes by all the time, deaths and deadlines are noticed up
 * to a millisecond late.
 * Returns how many tasks have ended since the last call (whoever drove), or a negative error: POOL_EFORKED, -EINVAL. */
int pool_process(struct pool *pool) POOL_API(process);

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

struct pool_stats {
    uint32_t size;    /* sizeof(struct pool_stats) */
    unsigned workers; /* ready to work */
    unsigned busy;    /* among them: with something to do */
    unsigned reserved;
    uint64_t submitted; /* items of maps, tasks, items of streams */
    uint64_t succeeded; /* ended with 0 */
    uint64_t failed;    /* ended with an error other than POOL_ECANCELED */
    uint64_t canceled;  /* ended with POOL_ECANCELED */
    uint64_t retried;   /* items that were handed out again since their worker had died */
    uint64_t crashes;   /* ready workers that died by themselves or by a hand from outside, or broke the protocol */
    uint64_t timeouts;  /* workers that were killed at a deadline */
    uint64_t recycled;  /* workers that were worn out and replaced */
    uint64_t bytes_out; /* to workers, but what lies in shared buffers */
    uint64_t bytes_in;  /* from workers, the same */
};
#define POOL_STATS_INIT                                                                                                \
    {                                                                                                                  \
        (uint32_t)sizeof(struct pool_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                                     \
    }

/* Numbers since pool_create. stats_out: initialised with POOL_STATS_INIT (of which size counts: an older, shorter
 * struct gets the fields it has). Does not block but for the pool's lock. Returns 0; -EINVAL; POOL_EFORKED. */
#ifdef __cplusplus /* a function may have the name of a struct there too, but a warning says it hides a constructor */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif
int pool_stats(const struct pool *pool, struct pool_stats *stats_out) POOL_API(stats);
#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

/* ---- inside a worker ------------------------------------------------------------------------------------------- */

#define POOL_NOT_A_WORKER ((unsigned)-1)

/* 0-based number of this worker in its pool, below `workers`; a replacement has the number of the one it replaces.
 * POOL_NOT_A_WORKER outside of workers. */
unsigned pool_worker_id(void) POOL_API(worker_id);

/* In a task: the item's index in its map or stream, or the task's number: how many were submitted to the pool before
 * it. A seed per item, whichever worker runs it. 0 elsewhere. */
uint64_t pool_item_index(void) POOL_API(item_index);

#ifdef __cplusplus
}
#endif
#endif
