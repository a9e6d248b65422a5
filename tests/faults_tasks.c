/* faults_tasks: scenarios with single tasks, each with its fate, and with what is done to their pool: it is destroyed,
 * shut down, driven by an event loop or by a thread of its own. */
#include "faults_scenarios.h"
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* ---- what workers do ---- */

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

/* ---- tasks ---- */

static void submit_a_mixture(struct book *book)
{
    static const size_t sizes[] = {0, 10, 300000, 1000, 70000, 8, 64, 5000};
    for (size_t i = 0; i < 24; i++)
        submit(book, COMPUTES, sizes[i % 8]);
    submit(book, REFUSES, 10);
    submit(book, CRASHES, 10);
    submit(book, RUNS_LATE, 0);
}

void tasks(void)
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
void tasks_of_a_destroyed_pool(void)
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

/* ---- shutdown ---- */

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

void shutdown_drain(void)
{
    shut_down(POOL_DRAIN);
}

void shutdown_cancel(void)
{
    shut_down(POOL_CANCEL);
}

void shutdown_terminate(void)
{
    shut_down(POOL_TERMINATE);
}

void shutdown_kill(void)
{
    shut_down(POOL_KILL);
}

/* ---- who drives ---- */

void event_loop(void)
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
void progress_thread(void)
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
