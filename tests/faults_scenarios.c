/* faults_scenarios: what a program does with a pool, written down with everything that may come of it when one call
 * into the system fails on the way.
 *
 * Two questions are asked of every result. Is it documented: a call may be refused only after the fault has happened,
 * only when the fault is one that may be felt, and only with an error that its comment in procpool.h names for that.
 * And is it true: what is reported as a success has the right bytes; what was accepted ends exactly once, and is handed
 * out exactly once; what was refused was not run. A pool that was created can always be destroyed.
 *
 * Scenarios are short, since each is run thousands of times, and wait for events, never for time. */
#include "faults.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- expectations ---- */

/* Whether something may have gone wrong by now that is not for the library to make good. */
static bool fault_is_felt(void)
{
    unsigned traits = fault_forms[plan->fault].traits;
    bool harmless = traits & HARMLESS && !(plan->lasting && traits & TIRES);
    return plan->has_happened && !harmless;
}

#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            scenario_failed("%s:%d: not true: %s; pool_message: \"%s\"", __FILE__, __LINE__, #condition,               \
                            pool_message());                                                                           \
    } while (0)

#define EXPECT_INT(call, expected) expect_int(__LINE__, #call, (long long)(call), (long long)(expected))

static void expect_int(int line, const char *what, long long actual, long long expected)
{
    if (actual != expected)
        scenario_failed("%s:%d: %s is %lld (%s), not %lld; pool_message: \"%s\"", __FILE__, line, what, actual,
                        pool_strerror((int)actual), expected, pool_message());
}

/* What the system refused is passed on as it is. Workers that cannot be started break a pool only when that goes on. */
static bool is_due_to_fault(int error)
{
    if (!fault_is_felt())
        return false;
    bool lacks_fds = plan->fault == FAULT_FDS || fault_forms[plan->fault].group == FAULT_FDS;
    bool lacks_memory = plan->fault == FAULT_MEMORY; /* which fallocate calls by another name */
    return error == -plan->error || (lacks_fds && error == -EMFILE) || (lacks_memory && error == -ENOMEM) ||
           (plan->lasting && error == POOL_EBROKEN);
}

/* Whether a call did what it was asked to. If not, the fault has to be why, and there has to be a text. */
#define GRANTED(call) granted(__LINE__, #call, call)

static bool granted(int line, const char *what, int rc)
{
    if (!rc)
        return true;
    if (!is_due_to_fault(rc))
        scenario_failed("%s:%d: %s is %d (%s); pool_message: \"%s\"", __FILE__, line, what, rc, pool_strerror(rc),
                        pool_message());
    if (!*pool_message())
        scenario_failed("%s:%d: %s is %d without a message", __FILE__, line, what, rc);
    return false;
}

/* The status of an item: the one it has coming, or what the fault has made of it. A worker that the library had to give
 * up on for want of memory is a worker that died. */
#define EXPECT_STATUS(status, expected) expect_status(__LINE__, status, expected)

static void expect_status(int line, int status, int expected)
{
    bool spoiled = fault_is_felt() && (status == POOL_ECRASH || status == POOL_EPROTO || is_due_to_fault(status));
    if (status != expected && !spoiled)
        scenario_failed("%s:%d: the status is %d (%s), not %d (%s); pool_message: \"%s\"", __FILE__, line, status,
                        pool_strerror(status), expected, pool_strerror(expected), pool_message());
}

/* ---- pools ---- */

static struct pool_options default_options(unsigned workers)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    options.backend = start_method;
    options.workers = workers;
    options.soft_kill_grace_ms = -1;
    return options;
}

/* NULL: refused. Then the scenario is over, but for what is checked after every one. */
static struct pool *make_pool_with(const struct pool_options *options)
{
    struct pool *pool = NULL;
    bool made = GRANTED(pool_create(options, &pool));
    EXPECT(made == (pool != NULL));
    return pool;
}

static struct pool *make_pool(unsigned workers)
{
    struct pool_options options = default_options(workers);
    return make_pool_with(&options);
}

/* ---- waiting ---- */

enum { PATIENCE_MS = 20000 };

static bool becomes_readable(int fd)
{
    struct pollfd watched = {.fd = fd, .events = POLLIN};
    faults_pause();
    int ready = poll(&watched, 1, PATIENCE_MS);
    faults_resume();
    return ready == 1;
}

static void end_worker(pid_t pid)
{
    faults_pause();
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    EXPECT(pidfd >= 0 && !kill(pid, SIGKILL));
    EXPECT(becomes_readable(pidfd));
    close(pidfd);
    faults_resume();
}

/* ---- what workers do ---- */

enum { CRASHING = 7, FAILING = 11, FAILURE_CODE = 5 };

static noreturn void crash(void)
{
    signal(SIGABRT, SIG_DFL);
    abort();
}

static int triple(const void *item, void *result, void *state)
{
    (void)state;
    long number = *(const long *)item;
    if (number == CRASHING)
        crash();
    *(long *)result = number * 3 + 1;
    return number == FAILING ? FAILURE_CODE : 0;
}

/* Replies with as much again and a half, each byte of it computed. */
static unsigned char computed_byte(const unsigned char *input, size_t size, size_t at)
{
    return (unsigned char)((size ? input[at % size] : 0) + at * 7 + size);
}

static size_t computed_size(size_t size)
{
    return size + size / 2 + (size % 2);
}

static int compute(struct pool_call *call)
{
    size_t size;
    const unsigned char *input = pool_call_input(call, &size);
    unsigned char *reply = pool_call_reply(call, computed_size(size));
    if (!reply)
        return pool_call_fail(call, 1, "no memory");
    for (size_t i = 0; i < computed_size(size); i++)
        reply[i] = computed_byte(input, size, i);
    return 0;
}

static bool is_computed(const void *reply, size_t reply_size, const void *input, size_t size)
{
    const unsigned char *bytes = reply;
    bool right = reply_size == computed_size(size) && (reply_size == 0) == (reply == NULL);
    for (size_t i = 0; right && i < reply_size; i++)
        right = bytes[i] == computed_byte(input, size, i);
    return right;
}

static int refuse(struct pool_call *call)
{
    return pool_call_fail(call, FAILURE_CODE, "task %d refuses", FAILING);
}

static int crash_in_task(struct pool_call *call)
{
    (void)call;
    crash();
}

static int run_forever(struct pool_call *call)
{
    (void)call;
    while (pause())
        continue;
    return 0;
}

/* ---- scenarios: maps ---- */

static void create_and_destroy(void)
{
    struct pool *pool = make_pool(3);
    EXPECT_INT(pool_destroy(pool), 0);
}

enum { MAP_ITEMS = 300, NOT_WRITTEN = 12345 };

static void check_map_item(long number, long result, int status, int code)
{
    EXPECT_STATUS(status, number == CRASHING ? POOL_ECRASH : number == FAILING ? POOL_ETASK : 0);
    EXPECT(status != 0 || (result == number * 3 + 1 && number != CRASHING && number != FAILING));
    EXPECT_INT(code, status == POOL_ETASK ? FAILURE_CODE : 0);
}

static void check_map(int rc, const long *items, const long *results, const int *statuses, const int *codes)
{
    if (statuses[0] == NOT_WRITTEN) { /* nothing ran */
        EXPECT(is_due_to_fault(rc) && *pool_message());
        return;
    }
    int first_failure = 0;
    for (size_t i = 0; i < MAP_ITEMS; i++) {
        check_map_item(items[i], results[i], statuses[i], codes[i]);
        first_failure = first_failure ? first_failure : statuses[i];
    }
    EXPECT_INT(rc, first_failure);
    EXPECT(!rc || *pool_message());
}

static void map_arrays(struct pool *pool, long first, const struct pool_map_options *given, long *items, long *results)
{
    static int statuses[MAP_ITEMS], codes[MAP_ITEMS];
    struct pool_map_options options = *given;
    options.status_out = statuses;
    options.code_out = codes;
    for (long i = 0; i < MAP_ITEMS; i++) {
        items[i] = first + i;
        statuses[i] = NOT_WRITTEN;
    }
    int rc = pool_map_with(pool, triple, items, sizeof *items, results, sizeof *results, MAP_ITEMS, &options);
    check_map(rc, items, results, statuses, codes);
}

static void map_once(struct pool *pool, long first, const struct pool_map_options *given)
{
    static long items[MAP_ITEMS], results[MAP_ITEMS];
    map_arrays(pool, first, given, items, results);
}

static void map_with_a_crash(void)
{
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    struct pool *pool = make_pool(2);
    if (!pool)
        return;
    map_once(pool, 100, &options);
    map_once(pool, 0, &options);
    options.at_most_once = 1;
    options.timeout_ms = 60000;
    map_once(pool, CRASHING - 20, &options);
    EXPECT_INT(pool_destroy(pool), 0);
}

enum { LARGE_ITEMS = 64, LARGE_ITEM_LONGS = 2560, LARGE_CHUNK = 16 };

/* In chunks that travel by memory of the worker's, where there is such memory: all but the first two, if
 * nothing fails. */
static void map_large(struct pool *pool, long first)
{
    static long items[LARGE_ITEMS][LARGE_ITEM_LONGS], results[LARGE_ITEMS][LARGE_ITEM_LONGS];
    static int statuses[LARGE_ITEMS];
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    options.status_out = statuses;
    options.chunk_size = LARGE_CHUNK;
    for (long i = 0; i < LARGE_ITEMS; i++) {
        items[i][0] = first + i;
        statuses[i] = NOT_WRITTEN;
    }
    int rc = pool_map_with(pool, triple, items, sizeof *items, results, sizeof *results, LARGE_ITEMS, &options);
    if (statuses[0] == NOT_WRITTEN) {
        EXPECT(is_due_to_fault(rc) && *pool_message());
        return;
    }
    for (long i = 0; i < LARGE_ITEMS; i++)
        check_map_item(items[i][0], results[i][0], statuses[i], statuses[i] == POOL_ETASK ? FAILURE_CODE : 0);
}

static void large_map_with_a_crash(void)
{
    struct pool *pool = make_pool(1);
    if (!pool)
        return;
    map_large(pool, 1000000);
    map_large(pool, CRASHING - 40);
    EXPECT_INT(pool_destroy(pool), 0);
}

/* ---- scenarios: payloads ---- */

enum { PAYLOADS = 14, LARGEST_PAYLOAD = 700000 };

static unsigned char payload[LARGEST_PAYLOAD + 1];

static void fill_payload(void)
{
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (unsigned char)(i * i + i / 251);
}

static void check_payloads(int rc, const struct pool_bytes *items, struct pool_bytes *replies, const int *statuses)
{
    int first_failure = 0;
    for (size_t i = 0; i < PAYLOADS; i++) {
        EXPECT_STATUS(statuses[i], 0);
        if (statuses[i])
            EXPECT(!replies[i].data && !replies[i].size);
        else
            EXPECT(is_computed(replies[i].data, replies[i].size, items[i].data, items[i].size));
        first_failure = first_failure ? first_failure : statuses[i];
        pool_bytes_clear(&replies[i]);
    }
    EXPECT_INT(rc, first_failure);
}

static void map_of_payloads(void)
{
    static const size_t sizes[PAYLOADS] = {0, 1,     100, LARGEST_PAYLOAD, 5000, 3, 60000, 200, 70000, 300000,
                                           0, 40000, 9,   LARGEST_PAYLOAD};
    struct pool_bytes items[PAYLOADS], replies[PAYLOADS];
    int statuses[PAYLOADS];
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    options.status_out = statuses;
    fill_payload();
    struct pool *pool = make_pool(2);
    if (!pool)
        return;
    for (size_t i = 0; i < PAYLOADS; i++) {
        items[i] = (struct pool_bytes){payload + i % 2, sizes[i]};
        statuses[i] = NOT_WRITTEN;
    }
    int rc = pool_map_bytes(pool, compute, items, PAYLOADS, replies, &options);
    if (statuses[0] == NOT_WRITTEN)
        EXPECT(is_due_to_fault(rc) && *pool_message());
    else
        check_payloads(rc, items, replies, statuses);
    EXPECT_INT(pool_destroy(pool), 0);
}

/* ---- tasks: what was submitted, and what is known of it ---- */

enum { MAX_TASKS = 64 };

/* What becomes of a task when nothing goes wrong. */
enum fate { COMPUTES, REFUSES, CRASHES, NEVER_ENDS, RUNS_LATE };

struct record {
    struct pool_task *task; /* while it is held */
    enum fate fate;
    const void *input;
    size_t size;
    bool accepted, canceled, claimed, dropped, handed_out;
};

struct book {
    struct pool *pool;
    struct record records[MAX_TASKS];
    size_t count;
};

static pool_task_fn *const fate_functions[] = {
    [COMPUTES] = compute,       [REFUSES] = refuse,        [CRASHES] = crash_in_task,
    [NEVER_ENDS] = run_forever, [RUNS_LATE] = run_forever,
};

static struct record *submit(struct book *book, enum fate fate, size_t size)
{
    struct record *record = &book->records[book->count++];
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    *record = (struct record){.fate = fate, .input = payload + book->count % 16, .size = size};
    options.tag = record;
    options.timeout_ms = fate == RUNS_LATE ? 20 : 0;
    record->accepted =
        GRANTED(pool_submit(book->pool, fate_functions[fate], record->input, size, &options, &record->task));
    EXPECT(record->accepted == (record->task != NULL));
    return record;
}

static void check_ended(const struct record *record, const struct pool_result *result)
{
    static const int statuses[] = {[COMPUTES] = 0,
                                   [REFUSES] = POOL_ETASK,
                                   [CRASHES] = POOL_ECRASH,
                                   [NEVER_ENDS] = POOL_ECANCELED,
                                   [RUNS_LATE] = POOL_ETIMEOUT};
    EXPECT(result->message);
    EXPECT_STATUS(result->status, record->canceled ? POOL_ECANCELED : statuses[record->fate]);
    if (!result->status)
        EXPECT(record->fate == COMPUTES && is_computed(result->data, result->data_size, record->input, record->size));
    else
        EXPECT(!result->data && !result->data_size);
    if (result->status == POOL_ETASK)
        EXPECT(result->code == FAILURE_CODE && (strstr(result->message, "refuses") || fault_is_felt()));
    else
        EXPECT_INT(result->code, 0);
    if (result->status == POOL_ECRASH && record->fate == CRASHES)
        EXPECT(result->signal == SIGABRT || fault_is_felt());
}

/* It has ended: look at how, and let go of it. */
static void finish(struct record *record)
{
    struct pool_result result;
    EXPECT_INT(pool_task_result(record->task, &result), 0);
    EXPECT(pool_task_tag(record->task) == record);
    check_ended(record, &result);
    pool_task_free(record->task);
    record->task = NULL;
}

static void cancel(struct record *record)
{
    struct pool_result result;
    if (!record->task)
        return;
    int rc = pool_cancel(record->task);
    record->canceled = rc == 0;
    if (rc)
        EXPECT_INT(rc, POOL_ENDED);
    if (rc == POOL_ENDED)
        EXPECT_INT(pool_task_result(record->task, &result), 0);
}

static void wait_for(struct record *record)
{
    record->claimed = true;
    if (!record->task)
        return;
    EXPECT_INT(pool_wait(record->task, POOL_FOREVER), 0);
    finish(record);
}

/* Before it has ended. */
static void let_go(struct record *record)
{
    pool_task_free(record->task);
    record->task = NULL;
    record->dropped = true;
}

static void take_handed_out(struct book *book, struct pool_task *task)
{
    struct record *record = pool_task_tag(task);
    EXPECT(record >= book->records && record < book->records + book->count);
    EXPECT(record->accepted && !record->handed_out && !record->claimed && !record->dropped);
    EXPECT(record->task == task);
    record->handed_out = true;
    finish(record);
}

static void take_all(struct book *book)
{
    struct pool_task *task = NULL;
    int rc;
    while (!(rc = pool_next(book->pool, POOL_FOREVER, &task)))
        take_handed_out(book, task);
    EXPECT_INT(rc, POOL_EMPTY);
}

static size_t count_accepted(const struct book *book)
{
    size_t count = 0;
    for (size_t i = 0; i < book->count; i++)
        count += book->records[i].accepted;
    return count;
}

static void expect_all_handed_out(const struct book *book)
{
    for (size_t i = 0; i < book->count; i++) {
        const struct record *record = &book->records[i];
        EXPECT(!record->accepted || record->claimed || record->dropped || record->handed_out);
    }
}

/* Those that were let go of, too: they run on when nothing is left to be handed out. */
static void expect_all_counted(const struct book *book)
{
    struct pool_stats stats = POOL_STATS_INIT;
    EXPECT_INT(pool_shutdown(book->pool, POOL_DRAIN, POOL_FOREVER), 0);
    EXPECT_INT(pool_stats(book->pool, &stats), 0);
    EXPECT_INT(stats.submitted, count_accepted(book));
    EXPECT_INT(stats.succeeded + stats.failed + stats.canceled, count_accepted(book));
    EXPECT_INT(stats.busy, 0);
}

/* ---- scenarios: tasks ---- */

static void submit_a_mixture(struct book *book)
{
    static const size_t sizes[] = {0, 10, 300000, 1000, 70000, 8, 64, 5000};
    for (size_t i = 0; i < 24; i++)
        submit(book, COMPUTES, sizes[i % 8]);
    submit(book, REFUSES, 10);
    submit(book, CRASHES, 10);
    submit(book, RUNS_LATE, 0);
}

static void tasks(void)
{
    struct book book = {.pool = NULL};
    fill_payload();
    book.pool = make_pool(2);
    if (!book.pool)
        return;
    struct record *first = submit(&book, NEVER_ENDS, 100);
    submit_a_mixture(&book);
    cancel(first);
    cancel(submit(&book, COMPUTES, 2000));
    cancel(submit(&book, COMPUTES, 100000));
    let_go(submit(&book, COMPUTES, 3000));
    let_go(submit(&book, REFUSES, 0));
    wait_for(&book.records[5]);
    wait_for(&book.records[25]);
    take_all(&book);
    expect_all_handed_out(&book);
    expect_all_counted(&book);
    EXPECT_INT(pool_destroy(book.pool), 0);
}

/* Tasks outlive their pool, which runs them to their end. */
static void tasks_of_a_destroyed_pool(void)
{
    struct book book = {.pool = NULL};
    fill_payload();
    book.pool = make_pool(2);
    if (!book.pool)
        return;
    for (size_t i = 0; i < 8; i++)
        submit(&book, COMPUTES, i * 9000);
    submit(&book, CRASHES, 1);
    cancel(submit(&book, NEVER_ENDS, 1));
    EXPECT_INT(pool_destroy(book.pool), 0);
    for (size_t i = 0; i < book.count; i++)
        if (book.records[i].task)
            finish(&book.records[i]);
}

/* ---- scenarios: shared memory ---- */

/* NULL: refused. */
static void *make_buffer(struct pool *pool, size_t size)
{
    void *data = pool_buffer_alloc(pool, size);
    EXPECT(data || (fault_is_felt() && *pool_message()));
    return data;
}

static int compute_shared(struct pool_call *call)
{
    size_t size;
    const unsigned char *input = pool_call_input(call, &size);
    unsigned char *reply = pool_call_reply_shared(call, computed_size(size));
    if (!reply)
        return pool_call_fail(call, 1, "no memory");
    for (size_t i = 0; i < computed_size(size); i++)
        reply[i] = computed_byte(input, size, i);
    return 0;
}

static void reply_in_shared_memory(struct pool *pool, const unsigned char *input, size_t size)
{
    struct pool_task *task;
    struct pool_result result;
    if (!GRANTED(pool_submit(pool, compute_shared, input, size, NULL, &task)))
        return;
    EXPECT_INT(pool_wait(task, POOL_FOREVER), 0);
    EXPECT_INT(pool_task_result(task, &result), 0);
    EXPECT_STATUS(result.status, 0);
    EXPECT(result.status || is_computed(result.data, result.data_size, input, size));
    pool_task_free(task);
}

static void shared_memory(void)
{
    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    struct pool *pool = make_pool(2);
    if (!pool)
        return;
    long *items = make_buffer(pool, MAP_ITEMS * sizeof *items),
         *results = make_buffer(pool, MAP_ITEMS * sizeof *results);
    unsigned char *input = make_buffer(pool, 30000);
    if (items && results)
        map_arrays(pool, 0, &options, items, results);
    if (input)
        memset(input, 7, 30000);
    for (size_t i = 0; input && i < 3; i++)
        reply_in_shared_memory(pool, input + i, 20000);
    EXPECT_INT(pool_buffer_free(pool, items), 0);
    EXPECT_INT(pool_buffer_free(pool, results), 0);
    EXPECT_INT(pool_destroy(pool), 0);
    EXPECT_INT(pool_buffer_free(pool, input), 0);
}

/* ---- scenarios: streams ---- */

enum { STREAM_ITEMS = 30, STREAM_STOPS_AT = 10, STOPPED = -77 };

struct stream {
    uint64_t given, taken;
    uint64_t source_stops, sink_stops; /* at this item; 0: never */
    bool ordered;
    bool seen[STREAM_ITEMS];
};

static size_t stream_size(uint64_t index)
{
    return index % 7 == 3 ? 90000 : (size_t)index * 5;
}

static int give_item(void *arg, struct pool_bytes *item_out)
{
    struct stream *stream = arg;
    uint64_t index = stream->given;
    if (index == STREAM_ITEMS)
        return 0;
    if (stream->source_stops && index == stream->source_stops)
        return STOPPED;
    stream->given++;
    size_t size = stream_size(index);
    *item_out = (struct pool_bytes){.data = size ? faults_malloc(size) : NULL, .size = size};
    if (size)
        memcpy(item_out->data, payload + index, size);
    return 1;
}

static int take_result(void *arg, uint64_t index, const struct pool_result *result)
{
    struct stream *stream = arg;
    EXPECT(index < stream->given && !stream->seen[index]);
    EXPECT(!stream->ordered || index == stream->taken);
    stream->seen[index] = true;
    stream->taken++;
    EXPECT(result->message);
    EXPECT_STATUS(result->status, 0);
    if (!result->status)
        EXPECT(is_computed(result->data, result->data_size, payload + index, stream_size(index)));
    return stream->taken == stream->sink_stops ? STOPPED : 0;
}

static void run_stream(struct pool *pool, struct stream *stream)
{
    struct pool_stream_options options = POOL_STREAM_OPTIONS_INIT;
    options.ordered = stream->ordered;
    options.max_in_flight = stream->ordered ? 8 : 0;
    int rc = pool_stream(pool, compute, give_item, take_result, stream, &options);
    bool stops = stream->source_stops || stream->sink_stops;
    if (rc == STOPPED)
        EXPECT(stops);
    else if (GRANTED(rc))
        EXPECT(!stops && stream->given == STREAM_ITEMS && stream->taken == STREAM_ITEMS);
}

static void streams(void)
{
    fill_payload();
    struct pool *pool = make_pool(2);
    if (!pool)
        return;
    run_stream(pool, &(struct stream){.ordered = true});
    run_stream(pool, &(struct stream){.sink_stops = STREAM_STOPS_AT});
    run_stream(pool, &(struct stream){.source_stops = STREAM_STOPS_AT, .ordered = true});
    run_stream(pool, &(struct stream){.ordered = false});
    EXPECT_INT(pool_destroy(pool), 0);
}

/* ---- scenarios: broadcasts ---- */

struct standing {
    pid_t pid;
    int number;
};

static int number; /* in a worker: what was broadcast */

static int set_number(struct pool_call *call)
{
    number = *(const int *)pool_call_input(call, NULL);
    return 0;
}

static int tell_standing(struct pool_call *call)
{
    struct standing *reply = pool_call_reply(call, sizeof *reply);
    if (!reply)
        return 1;
    *reply = (struct standing){getpid(), number};
    return 0;
}

/* Ask some worker; false: the fault got the better of it. */
static bool ask(struct pool *pool, struct standing *standing_out)
{
    struct pool_bytes item = {NULL, 0}, reply = {NULL, 0};
    int rc = pool_map_bytes(pool, tell_standing, &item, 1, &reply, NULL);
    if (rc) {
        EXPECT_STATUS(rc, 0);
        return false;
    }
    EXPECT_INT(reply.size, sizeof *standing_out);
    memcpy(standing_out, reply.data, sizeof *standing_out);
    pool_bytes_clear(&reply);
    return true;
}

static bool broadcast(struct pool *pool, int new_number)
{
    int rc = pool_broadcast(pool, set_number, &new_number, sizeof new_number);
    EXPECT_STATUS(rc, 0);
    return rc == 0;
}

static void broadcasts(void)
{
    struct standing standing;
    struct pool *pool = make_pool(2);
    if (!pool)
        return;
    bool first_done = broadcast(pool, 41), second_done = broadcast(pool, 42);
    for (int i = 0; i < 6; i++) {
        if (!ask(pool, &standing))
            continue;
        EXPECT(standing.number == 42 || !second_done);
        EXPECT(standing.number == 41 || standing.number == 42 || !first_done);
        if (i % 2)
            end_worker(standing.pid); /* its replacement has to be told */
    }
    EXPECT_INT(pool_destroy(pool), 0);
}

/* ---- scenarios: fds ---- */

enum { TASK_FDS = 2 };

/* Replies with what can be read from its fds; as often as it is run. */
static int read_fds(struct pool_call *call)
{
    char *reply = pool_call_reply(call, TASK_FDS);
    for (unsigned i = 0; reply && i < TASK_FDS; i++)
        if (pread(pool_call_fd(call, i), reply + i, 1, 0) != 1)
            return pool_call_fail(call, errno, "nothing to read from fd %u", i);
    return reply && pool_call_fd(call, TASK_FDS) == -1 ? 0 : 1;
}

static int make_readable(char byte)
{
    faults_pause();
    int fd = memfd_create("readable", MFD_CLOEXEC);
    EXPECT(fd >= 0 && write(fd, &byte, 1) == 1);
    faults_resume();
    return fd;
}

static struct pool_task *submit_with_fds(struct pool *pool, bool at_most_once)
{
    int fds[TASK_FDS];
    struct pool_task *task = NULL;
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    for (int i = 0; i < TASK_FDS; i++)
        fds[i] = make_readable((char)('a' + i));
    options.fds = fds;
    options.fd_count = TASK_FDS;
    options.at_most_once = at_most_once;
    bool accepted = GRANTED(pool_submit(pool, read_fds, NULL, 0, &options, &task));
    EXPECT(accepted == (task != NULL));
    for (int i = 0; i < TASK_FDS; i++)
        close(fds[i]);
    return task;
}

static void check_fds_were_read(struct pool_task *task)
{
    struct pool_result result;
    if (!task)
        return;
    EXPECT_INT(pool_wait(task, POOL_FOREVER), 0);
    EXPECT_INT(pool_task_result(task, &result), 0);
    EXPECT_STATUS(result.status, 0);
    EXPECT(result.status || (result.data_size == TASK_FDS && !memcmp(result.data, "ab", TASK_FDS)));
    pool_task_free(task);
}

static void tasks_with_fds(void)
{
    enum { COUNT = 8 };
    struct pool_task *with_fds[COUNT];
    struct pool *pool = make_pool(2);
    if (!pool)
        return;
    for (int i = 0; i < COUNT; i++)
        with_fds[i] = submit_with_fds(pool, i % 3 == 0);
    if (with_fds[COUNT - 1] && pool_cancel(with_fds[COUNT - 1]) >= 0) {
        pool_task_free(with_fds[COUNT - 1]);
        with_fds[COUNT - 1] = NULL;
    }
    for (int i = 0; i < COUNT; i++)
        check_fds_were_read(with_fds[i]);
    EXPECT_INT(pool_destroy(pool), 0);
}

/* ---- scenarios: shutdown ---- */

static void shut_down(enum pool_shutdown_mode mode)
{
    struct book book = {.pool = NULL};
    struct pool_task *task = NULL;
    bool kills = mode == POOL_TERMINATE || mode == POOL_KILL;
    fill_payload();
    book.pool = make_pool(2);
    if (!book.pool)
        return;
    for (size_t i = 0; i < 6; i++) {
        if (kills)
            submit(&book, NEVER_ENDS, 10);
        submit(&book, COMPUTES, i * 20000);
    }
    for (size_t i = 0; i < book.count && mode != POOL_DRAIN; i++)
        book.records[i].canceled = book.records[i].accepted; /* or it has ended before */
    int rc = pool_shutdown(book.pool, mode, 0);
    if (rc)
        EXPECT_INT(rc, POOL_PENDING);
    rc = pool_submit(book.pool, compute, NULL, 0, NULL, &task);
    EXPECT(rc == POOL_ECLOSED || is_due_to_fault(rc));
    EXPECT_INT(pool_shutdown(book.pool, mode, POOL_FOREVER), 0);
    while (!(rc = pool_next(book.pool, POOL_FOREVER, &task))) {
        struct record *record = pool_task_tag(task);
        struct pool_result result;
        EXPECT_INT(pool_task_result(task, &result), 0);
        record->canceled = record->canceled && result.status == POOL_ECANCELED;
        take_handed_out(&book, task);
    }
    EXPECT_INT(rc, POOL_EMPTY);
    expect_all_handed_out(&book);
    expect_all_counted(&book);
    EXPECT_INT(pool_destroy(book.pool), 0);
}

static void shutdown_drain(void)
{
    shut_down(POOL_DRAIN);
}

static void shutdown_cancel(void)
{
    shut_down(POOL_CANCEL);
}

static void shutdown_terminate(void)
{
    shut_down(POOL_TERMINATE);
}

static void shutdown_kill(void)
{
    shut_down(POOL_KILL);
}

/* ---- scenarios: who drives ---- */

static void event_loop(void)
{
    struct book book = {.pool = NULL};
    struct pool_task *task = NULL;
    size_t ended = 0, taken = 0;
    fill_payload();
    book.pool = make_pool(2);
    if (!book.pool)
        return;
    int fd = pool_fd(book.pool);
    EXPECT(fd >= 0 || (is_due_to_fault(fd) && *pool_message()));
    for (size_t i = 0; i < 10; i++)
        submit(&book, i == 4 ? CRASHES : COMPUTES, i * 11000);
    for (int rc = 0; rc != POOL_EMPTY;) {
        int count = pool_process(book.pool);
        EXPECT(count >= 0);
        ended += (size_t)count;
        while (!(rc = pool_next(book.pool, fd < 0 ? PATIENCE_MS : 0, &task))) {
            taken++;
            take_handed_out(&book, task);
        }
        EXPECT(rc == POOL_EMPTY || (rc == POOL_PENDING && becomes_readable(fd)));
    }
    int count = pool_process(book.pool);
    EXPECT(count >= 0);
    EXPECT_INT(ended + (size_t)count, taken);
    expect_all_handed_out(&book);
    expect_all_counted(&book);
    EXPECT(fd < 0 || pool_fd(book.pool) == fd);
    EXPECT_INT(pool_destroy(book.pool), 0);
}

/* Nobody waits in the pool, and tasks end all the same. */
static void progress_thread(void)
{
    struct book book = {.pool = NULL};
    struct pool_options options = default_options(2);
    struct pool_result result;
    fill_payload();
    options.progress_thread = 1;
    book.pool = make_pool_with(&options);
    if (!book.pool)
        return;
    for (size_t i = 0; i < 10; i++)
        submit(&book, i == 4 ? CRASHES : i == 5 ? RUNS_LATE : COMPUTES, i * 11000);
    for (size_t i = 0; i < book.count; i++) {
        uint64_t since_ms = now_ms();
        while (book.records[i].task && pool_task_result(book.records[i].task, &result) == POOL_PENDING)
            be_patient(since_ms, "the progress thread");
    }
    take_all(&book);
    expect_all_handed_out(&book);
    EXPECT_INT(pool_destroy(book.pool), 0);
}

/* ---- scenarios: workers that are replaced ---- */

static int make_state(const void *arg, size_t arg_size, void **state_out)
{
    if (arg_size != sizeof(long))
        return pool_call_fail(NULL, 1, "no argument");
    *state_out = malloc(sizeof(long));
    if (!*state_out)
        return pool_call_fail(NULL, 2, "no memory");
    memcpy(*state_out, arg, sizeof(long));
    return 0;
}

static int add_state(struct pool_call *call)
{
    size_t size;
    const long *input = pool_call_input(call, &size), *state = pool_call_state(call);
    long *reply = pool_call_reply(call, sizeof *reply);
    if (!reply)
        return 1;
    *reply = *input + *state;
    return 0;
}

static void check_sum(struct pool_task *task, long input, long state)
{
    struct pool_result result;
    if (!task)
        return;
    EXPECT_INT(pool_wait(task, POOL_FOREVER), 0);
    EXPECT_INT(pool_task_result(task, &result), 0);
    EXPECT_STATUS(result.status, 0);
    EXPECT(result.status || (result.data_size == sizeof input && *(const long *)result.data == input + state));
    pool_task_free(task);
}

static void recycling(void)
{
    enum { COUNT = 20, LIMIT = 3 };
    static const long state = 1000;
    struct pool_task *sums[COUNT] = {NULL};
    struct pool_stats stats = POOL_STATS_INIT;
    struct pool_options options = default_options(2);
    options.initializer = make_state;
    options.finalizer = free;
    options.arg = &state;
    options.arg_size = sizeof state;
    options.max_tasks_per_worker = LIMIT;
    struct pool *pool = make_pool_with(&options);
    if (!pool)
        return;
    for (long i = 0; i < COUNT; i++)
        (void)GRANTED(pool_submit(pool, add_state, &i, sizeof i, NULL, &sums[i]));
    for (long i = 0; i < COUNT; i++)
        check_sum(sums[i], i, state);
    EXPECT_INT(pool_stats(pool, &stats), 0);
    EXPECT(stats.recycled >= COUNT / LIMIT - 2 || fault_is_felt());
    EXPECT_INT(pool_destroy(pool), 0);
}

const struct scenario scenarios[] = {
    {"create", create_and_destroy},
    {"map", map_with_a_crash},
    {"large-map", large_map_with_a_crash},
    {"payloads", map_of_payloads},
    {"tasks", tasks},
    {"tasks-outlive-pool", tasks_of_a_destroyed_pool},
    {"shared-memory", shared_memory},
    {"streams", streams},
    {"broadcasts", broadcasts},
    {"fds", tasks_with_fds},
    {"shutdown-drain", shutdown_drain},
    {"shutdown-cancel", shutdown_cancel},
    {"shutdown-terminate", shutdown_terminate},
    {"shutdown-kill", shutdown_kill},
    {"event-loop", event_loop},
    {"progress-thread", progress_thread},
    {"recycling", recycling},
    {NULL, NULL},
};
