/* chaos_tasks: tasks submitted, waited for, taken, cancelled, looked at and freed, by any thread at any time (see
 * chaos.h).
 *
 * What the caller owes the library is kept as well, since a program that breaks it proves nothing: no call with a task
 * that another thread may free. So a record counts its users; and one that pool_next might be about to hand to somebody
 * is freed only while nobody is being handed anything. */
#include "chaos.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct record records[RECORDS];
static unsigned record_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t moment; /* counts up, to tell what was before what */

void forget_records(void)
{
    record_count = 0;
}

static noreturn void complain(const struct record *record, const char *why)
{
    chaos_failed("order %u of pool %u: %s%s%s%s%s%s%s", record->order.number, record->arena->index, why,
                 record->kept ? ", kept" : "", record->claimed ? ", claimed" : "",
                 record->handed_out ? ", handed out" : "", record->freed ? ", freed" : "",
                 record->cancel_tried ? ", cancelled" : "", record->ended ? ", ended" : "");
}

/* ---- with the lock ---- */

static struct record *any_record(struct arena *arena, struct dice *dice)
{
    if (!record_count)
        return NULL;
    /* Rather one of the last. */
    unsigned back = dice_below(dice, dice_one_in(dice, 4) ? record_count : record_count < 40 ? record_count : 40);
    struct record *record = &records[record_count - 1 - back];
    return record->arena == arena && record->accepted && record->task && !record->freed ? record : NULL;
}

/* Use a record's task: it is not freed until it is put down. */
static struct record *pick_up(struct arena *arena, struct dice *dice)
{
    pthread_mutex_lock(&lock);
    struct record *record = any_record(arena, dice);
    if (record)
        record->users++;
    pthread_mutex_unlock(&lock);
    return record;
}

static void check_cancellation(const struct record *record)
{
    if (record->ended && record->cancel_worked && record->status != POOL_ECANCELED)
        complain(record, "a cancellation that worked has not cancelled it");
}

static void note_ended(struct record *record, int status)
{
    pthread_mutex_lock(&lock);
    if (record->ended && record->status != status)
        complain(record, "it ended twice, with different statuses");
    if (!record->ended)
        count_status(status);
    record->ended = true;
    record->status = status;
    check_cancellation(record);
    pthread_mutex_unlock(&lock);
}

/* Look at a task that has ended. The caller uses it. */
static void check_ended(struct record *record)
{
    struct pool_result result;
    if (pool_task_result(record->task, &result))
        complain(record, "it has ended, but has no result");
    pthread_mutex_lock(&lock);
    struct expectation expected = {
        &record->order, record->arena, record->at_most_once, record->has_deadline, record->cancel_tried,
        record->told,   UINT64_MAX};
    pthread_mutex_unlock(&lock);
    check_result(&expected, &result);
    if (pool_task_tag(record->task) != record)
        complain(record, "it has another's tag");
    note_ended(record, result.status);
}

static bool has_ended(const struct record *record)
{
    pthread_mutex_lock(&lock);
    bool ended = record->ended;
    pthread_mutex_unlock(&lock);
    return ended;
}

static void put_down(struct record *record)
{
    pthread_mutex_lock(&lock);
    record->users--;
    pthread_mutex_unlock(&lock);
}

/* ---- submit ---- */

static void open_fds(const struct order *order, int fds_out[MAX_ORDER_FDS])
{
    for (uint32_t i = 0; i < order->fd_count; i++) {
        uint64_t content = order->seed + i;
        fds_out[i] = memfd_create("chaos", MFD_CLOEXEC);
        if (fds_out[i] < 0 || write(fds_out[i], &content, sizeof content) != sizeof content)
            chaos_failed("no memfd: %s", strerror(errno));
    }
}

static struct record *new_record(struct arena *arena, struct dice *dice)
{
    pthread_mutex_lock(&lock);
    struct record *record = record_count < RECORDS && !orders_are_used_up() ? &records[record_count++] : NULL;
    if (record)
        *record = (struct record){.arena = arena, .told = arena->told};
    pthread_mutex_unlock(&lock);
    if (!record)
        return NULL;
    record->order = make_order(dice, true, dice_one_in(dice, 30) ? 3 << 20 : 50000);
    record->at_most_once = dice_one_in(dice, 4);
    record->has_deadline = dice_one_in(dice, 4);
    if (dice_one_in(dice, 8))
        record->order.fd_count = 1 + dice_below(dice, MAX_ORDER_FDS);
    if (dice_one_in(dice, 100))
        record->order.deed = OVERDOES;
    return record;
}

static void check_refusal(const struct record *record, int rc, bool no_wait)
{
    bool full = rc == POOL_EAGAIN && no_wait;
    if (!full && !(rc == POOL_ECLOSED && record->arena->shut))
        chaos_failed("pool_submit is %d (%s): %s", rc, pool_strerror(rc), pool_message());
}

static void note_submitted(struct record *record, int rc, struct pool_task *task)
{
    pthread_mutex_lock(&lock);
    record->accepted = rc == 0;
    if (!record->task) /* it may have been handed out before this */
        record->task = task;
    pthread_mutex_unlock(&lock);
    if (!rc)
        record->arena->accepted++;
}

/* What cannot end by itself has to be known, so that it can be cancelled. */
static bool is_kept(const struct record *record, struct dice *dice)
{
    return (deed_is_endless((enum deed)record->order.deed) && !record->has_deadline) || !dice_one_in(dice, 5);
}

void submit_at_random(struct arena *arena, struct dice *dice, bool in_callback)
{
    int fds[MAX_ORDER_FDS];
    struct pool_task *task = NULL;
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    struct record *record = new_record(arena, dice);
    if (!record)
        return;
    bool endless = deed_is_endless((enum deed)record->order.deed);
    record->kept = is_kept(record, dice);
    options.tag = record;
    options.at_most_once = record->at_most_once;
    options.timeout_ms = !record->has_deadline ? 0 : endless ? DEADLINE_MS : PATIENT_MS;
    options.no_wait = dice_one_in(dice, 4);
    options.fds = record->order.fd_count ? fds : NULL;
    options.fd_count = record->order.fd_count;
    open_fds(&record->order, fds);
    size_t size = sizeof record->order + record->order.size;
    struct memory input = take_memory(arena, dice, size);
    memcpy(input.data, &record->order, sizeof record->order);
    fill(input.data + sizeof record->order, record->order.size, record->order.seed);
    pthread_rwlock_rdlock(&arena->handing_out); /* a record's task is not freed before it is known here */
    int rc = pool_submit(arena->pool, endless ? do_endless_order : do_order, input.data, size, &options,
                         record->kept ? &task : NULL);
    note_submitted(record, rc, task);
    pthread_rwlock_unlock(&arena->handing_out);
    if (input.pool && dice_one_in(dice, 10))
        record->input = input;
    else
        give_memory(&input); /* what is under way still has it */
    for (uint32_t i = 0; i < record->order.fd_count; i++)
        close(fds[i]);
    if (rc)
        check_refusal(record, rc, options.no_wait || in_callback);
    count_up(COUNT_TASKS, rc == 0);
}

/* ---- wait, look, cancel ---- */

void wait_at_random(struct arena *arena, struct dice *dice)
{
    struct record *record = pick_up(arena, dice);
    int64_t timeout_ms = dice_one_in(dice, 3) ? 0 : dice_one_in(dice, 10) ? POOL_FOREVER : dice_below(dice, 20);
    if (!record)
        return;
    int rc = pool_wait(record->task, timeout_ms);
    pthread_mutex_lock(&lock);
    record->claimed_at = record->claimed ? record->claimed_at : ++moment;
    record->claimed = true;
    pthread_mutex_unlock(&lock);
    if (rc && (rc != POOL_PENDING || timeout_ms == POOL_FOREVER))
        chaos_failed("pool_wait is %d (%s): %s", rc, pool_strerror(rc), pool_message());
    if (!rc)
        check_ended(record);
    put_down(record);
}

void look_at_random(struct arena *arena, struct dice *dice)
{
    struct pool_result result;
    struct record *record = pick_up(arena, dice);
    if (!record)
        return;
    bool had_ended = has_ended(record); /* before the look: meanwhile another thread may see it end */
    int rc = pool_task_result(record->task, &result);
    if (rc && rc != POOL_PENDING)
        chaos_failed("pool_task_result is %d (%s)", rc, pool_strerror(rc));
    if (!rc)
        check_ended(record);
    else if (had_ended)
        complain(record, "it is pending again");
    put_down(record);
}

static void cancel(struct record *record)
{
    pthread_mutex_lock(&lock);
    bool had_ended = record->ended;
    record->cancel_tried = record->cancel_tried || !had_ended;
    pthread_mutex_unlock(&lock);
    int rc = pool_cancel(record->task);
    if (rc && rc != POOL_ENDED)
        chaos_failed("pool_cancel is %d (%s)", rc, pool_strerror(rc));
    if (!rc && had_ended && record->status != POOL_ECANCELED)
        complain(record, "it was cancelled after it had ended");
    pthread_mutex_lock(&lock);
    record->cancel_worked = record->cancel_worked || !rc;
    check_cancellation(record);
    pthread_mutex_unlock(&lock);
    if (rc)
        check_ended(record);
    count_up(COUNT_CANCELS, rc == 0);
}

void cancel_at_random(struct arena *arena, struct dice *dice)
{
    struct record *record = pick_up(arena, dice);
    if (!record)
        return;
    cancel(record);
    put_down(record);
}

static bool is_endless(const struct record *record)
{
    return record->accepted && record->task && !record->freed && !record->ended && !record->has_deadline &&
           !record->cancel_tried && deed_is_endless((enum deed)record->order.deed);
}

void cancel_endless(unsigned at_most)
{
    for (unsigned i = 0; at_most; i++) {
        pthread_mutex_lock(&lock);
        while (i < record_count && !is_endless(&records[i]))
            i++;
        struct record *record = i < record_count ? &records[i] : NULL;
        if (record)
            record->users++;
        pthread_mutex_unlock(&lock);
        if (!record)
            return;
        cancel(record);
        put_down(record);
        at_most--;
    }
}

/* ---- next ---- */

static struct record *take(struct arena *arena, struct pool_task *task, uint64_t since)
{
    struct record *record = pool_task_tag(task);
    if (record < records || record >= records + RECORDS || record->arena != arena)
        chaos_failed("pool_next gave a task that nobody has submitted to pool %u", arena->index);
    pthread_mutex_lock(&lock);
    if (record->handed_out || record->freed)
        complain(record, "it was handed out again");
    if (record->claimed && record->claimed_at < since)
        complain(record, "it was handed out though somebody had waited for it");
    if (record->task && record->task != task)
        complain(record, "it was handed out by another handle");
    record->task = task;
    record->accepted = record->handed_out = true;
    record->users++;
    pthread_mutex_unlock(&lock);
    return record;
}

int take_next(struct arena *arena, int64_t timeout_ms)
{
    struct pool_task *task = NULL;
    uint64_t since = ++moment;
    pthread_rwlock_rdlock(&arena->handing_out);
    int rc = pool_next(arena->pool, timeout_ms, &task);
    struct record *record = rc ? NULL : take(arena, task, since);
    pthread_rwlock_unlock(&arena->handing_out);
    if (rc && rc != POOL_PENDING && rc != POOL_EMPTY)
        chaos_failed("pool_next is %d (%s): %s", rc, pool_strerror(rc), pool_message());
    if (!record)
        return rc;
    check_ended(record);
    put_down(record);
    return 0;
}

void next_at_random(struct arena *arena, struct dice *dice)
{
    take_next(arena, dice_one_in(dice, 2) ? 0 : dice_below(dice, 10));
}

/* ---- free ---- */

/* Marked as freed, if it may be. */
static bool condemn(struct record *record)
{
    pthread_mutex_lock(&lock);
    bool endless = is_endless(record);
    bool free_to_go = record->task && !record->freed && !record->users && !endless;
    record->freed = record->freed || free_to_go;
    pthread_mutex_unlock(&lock);
    return free_to_go;
}

void free_at_random(struct arena *arena, struct dice *dice)
{
    if (pthread_rwlock_trywrlock(&arena->handing_out))
        return;
    pthread_mutex_lock(&lock);
    struct record *record = any_record(arena, dice);
    pthread_mutex_unlock(&lock);
    if (record && condemn(record))
        pool_task_free(record->task);
    pthread_rwlock_unlock(&arena->handing_out);
}

/* ---- at the end of a round, by one thread ---- */

void expect_all_ended(const struct arena *arena)
{
    for (unsigned i = 0; i < record_count; i++) {
        struct record *record = &records[i];
        if (record->arena != arena || !record->accepted || record->freed || record->handed_out)
            continue;
        if (!record->claimed)
            complain(record, "it was never handed out");
        if (pool_wait(record->task, POOL_FOREVER))
            chaos_failed("pool_wait: %s", pool_message());
        check_ended(record);
    }
}

/* Nobody has written to it. */
static void give_input(struct record *record)
{
    const struct order *order = &record->order;
    const char *data = record->input.data;
    if (memcmp(data, order, sizeof *order) != 0 || !is_filled(data + sizeof *order, order->size, order->seed))
        complain(record, "its input has changed");
    give_memory(&record->input);
}

void finish_records(void)
{
    for (unsigned i = 0; i < record_count; i++) {
        struct record *record = &records[i];
        if (record->task && !record->freed) {
            check_ended(record);
            pool_task_free(record->task);
            record->freed = true;
        }
        if (record->input.data)
            give_input(record);
    }
}
