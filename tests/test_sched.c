/* sched: the main stories, each as what the engine is told and what it answers, in plain words. The simulator
 * (simulator.c) looks at all the others.
 * Build: cc -Iinclude -Isrc tests/test_sched.c src/sched*.c src/flight.c src/chunk.c src/job.c src/lane.c src/slot.c
 * -lcmocka */
#include "lane.h"
#include "sched.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

enum { LOG_BYTES = 4096, MOST_TASKS = 16 };

struct scene {
    struct sched sched;
    struct job a, b, all;
    struct lane *lane;
    struct job_item tasks[MOST_TASKS];
    uint64_t task_number;
    char log[LOG_BYTES];
};

/* ---- effects in words ---- */

static const char *status_name(int status)
{
    switch (status) {
    case POOL_ECRASH:
        return "crash";
    case POOL_ETIMEOUT:
        return "deadline";
    case POOL_EPROTO:
        return "garbage";
    case POOL_ECANCELED:
        return "cancelled";
    case POOL_EBROKEN:
        return "broken";
    default:
        return "error";
    }
}

static const char *job_name(const struct scene *scene, const struct job *job)
{
    if (scene->lane && job == &scene->lane->job)
        return "task ";
    return job == &scene->a ? "a" : job == &scene->b ? "b" : "all";
}

/* What has ended leaves the lane; and the lane the scene. */
static void drop(struct scene *scene, const struct sched_effect *effect)
{
    if (!scene->lane || effect->job != &scene->lane->job)
        return;
    for (uint64_t i = 0; effect->kind == SCHED_FAIL && i < effect->count; i++)
        lane_drop(scene->lane, effect->first + i);
    if (effect->kind == SCHED_END_JOB) {
        lane_destroy(scene->lane);
        scene->lane = NULL;
    }
}

static void describe(const struct scene *scene, const struct sched_effect *effect, char *text, size_t size)
{
    const char *job = job_name(scene, effect->job);
    unsigned long long first = effect->span ? effect->span->first : effect->first;
    unsigned long long last = first + (effect->span ? effect->span->count : effect->count) - 1;
    switch (effect->kind) {
    case SCHED_START:
        snprintf(text, size, "slot %u: start worker %u", effect->slot, effect->worker_id);
        break;
    case SCHED_SEND:
        snprintf(text, size, "slot %u: %s%llu-%llu%s", effect->slot, job, first, last,
                 effect->stepwise ? " stepwise" : "");
        break;
    case SCHED_SIGNAL:
        snprintf(text, size, "slot %u: %s", effect->slot, effect->signal == SIGKILL ? "SIGKILL" : "SIGTERM");
        break;
    case SCHED_REFRESH:
        snprintf(text, size, "slot %u: start afresh", effect->slot);
        break;
    case SCHED_DISMISS:
        snprintf(text, size, "slot %u: end in order", effect->slot);
        break;
    case SCHED_FAIL:
        if (effect->slot == SCHED_NO_SLOT)
            snprintf(text, size, "%s%llu-%llu: %s", job, first, last, status_name(effect->status));
        else
            snprintf(text, size, "%s%llu: %s, attempt %u", job, first, status_name(effect->status), effect->attempts);
        break;
    case SCHED_END_JOB:
        snprintf(text, size, "%s has ended", job);
        break;
    case SCHED_BREAK:
        snprintf(text, size, "the pool is broken");
        break;
    case SCHED_TAKE_BACK:
        snprintf(text, size, "slot %u: take back %llu", effect->slot, (unsigned long long)effect->count);
        break;
    }
}

/* All effects that there are now, "; " between them. */
static void expect(struct scene *scene, const char *expected)
{
    struct sched_effect effect;
    scene->log[0] = '\0';
    while (sched_next(&scene->sched, &effect)) {
        char text[128];
        if (effect.kind != SCHED_SEND)
            effect.span = NULL;
        describe(scene, &effect, text, sizeof text);
        assert_true(strlen(scene->log) + strlen(text) + 3 < LOG_BYTES);
        strcat(scene->log, scene->log[0] ? "; " : "");
        strcat(scene->log, text);
        drop(scene, &effect);
    }
    assert_string_equal(scene->log, expected);
}

/* ---- setting scenes ---- */

static const struct sched_config plain = {
    .workers = 2, .max_attempts = 1, .start_timeout_ns = 30 * S, .kill_grace_ns = 100 * MS};

static void open_scene(struct scene *scene, struct sched_config config)
{
    memset(scene, 0, sizeof *scene);
    assert_int_equal(sched_init(&scene->sched, &config), 0);
}

/* A pool of one worker, or two, that are ready. */
static void open_ready(struct scene *scene, struct sched_config config)
{
    open_scene(scene, config);
    sched_boot(&scene->sched);
    expect(scene, config.workers == 1 ? "slot 0: start worker 0" : "slot 0: start worker 0; slot 1: start worker 1");
    for (unsigned i = 0; i < config.workers; i++)
        sched_ready(&scene->sched, i);
    expect(scene, "");
}

static void close_scene(struct scene *scene)
{
    sched_clear(&scene->sched);
    sched_clear(&scene->sched);
    lane_destroy(scene->lane);
    scene->lane = NULL;
}

static struct job job_of(uint64_t count, uint64_t chunk_size)
{
    return (struct job){.kind = JOB_FIXED, .count = count, .chunk_size = chunk_size, .item_size = 8, .result_size = 8};
}

static void submit(struct scene *scene, struct job *job, struct job given)
{
    *job = given;
    job_begin(job);
    sched_submit(&scene->sched, job);
}

static void ended(struct scene *scene, unsigned slot, uint64_t items)
{
    sched_items_ended(&scene->sched, slot, items, 0, items * MS, false);
}

/* Its process, and nobody knows how. */
static void is_gone(struct scene *scene, unsigned slot)
{
    sched_eof(&scene->sched, slot);
    expect(scene, "");
    sched_gone(&scene->sched, slot);
}

static void one_failed(struct scene *scene, unsigned slot, uint64_t items)
{
    sched_items_ended(&scene->sched, slot, items, 1, items * MS, false);
}

static void open_lane(struct scene *scene, unsigned kind)
{
    scene->lane = lane_create(0, kind);
    assert_non_null(scene->lane);
}

static void add_task(struct scene *scene, uint64_t timeout_ns)
{
    struct job_item *task = &scene->tasks[scene->task_number];
    *task = (struct job_item){.number = scene->task_number++, .timeout_ns = timeout_ns};
    assert_int_equal(lane_reserve(scene->lane), 0);
    lane_add(scene->lane, task);
    assert_int_equal(sched_add(&scene->sched, &scene->lane->job), 0);
}

static void add_tasks(struct scene *scene, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        add_task(scene, 0);
}

static void task_took(struct scene *scene, unsigned slot, uint64_t task, uint64_t ns)
{
    sched_items_ended(&scene->sched, slot, 1, 0, ns, false);
    lane_drop(scene->lane, task);
}

static void task_ended(struct scene *scene, unsigned slot, uint64_t task)
{
    task_took(scene, slot, task, MS);
}

static void cancel_task(struct scene *scene, uint64_t task)
{
    sched_cancel_item(&scene->sched, &scene->lane->job, task);
    lane_drop(scene->lane, task);
}

static void broadcast(struct scene *scene)
{
    static const struct pool_bytes input = {NULL, 0};
    scene->all = (struct job){.kind = JOB_BROADCAST, .count = scene->sched.slot_count, .inputs = &input};
    job_begin(&scene->all);
    sched_broadcast(&scene->sched, &scene->all);
}

/* The clock stands at ns, and all that was to be read is read. */
static void at(struct scene *scene, uint64_t ns)
{
    sched_clock(&scene->sched, ns);
    sched_expire(&scene->sched);
}

static struct scene scene;

/* ---- stories ---- */

static void a_map_is_shared_out_and_ends(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(10, 3));
    expect(&scene, "slot 0: a0-2; slot 1: a3-5");
    ended(&scene, 1, 3);
    expect(&scene, "slot 1: a6-8; slot 1: a9-9");
    ended(&scene, 0, 2);
    ended(&scene, 0, 1);
    ended(&scene, 1, 3);
    expect(&scene, "");
    ended(&scene, 1, 1);
    expect(&scene, "a has ended");
    close_scene(&scene);
}

static void nothing_is_due_once_all_are_ready(void **unused)
{
    (void)unused;
    open_scene(&scene, plain);
    sched_boot(&scene.sched);
    expect(&scene, "slot 0: start worker 0; slot 1: start worker 1");
    sched_ready(&scene.sched, 0);
    assert_true(sched_wake_ns(&scene.sched) == plain.start_timeout_ns); /* of the other */
    sched_ready(&scene.sched, 1);
    assert_true(sched_wake_ns(&scene.sched) == SCHED_NEVER);
    close_scene(&scene);
}

static void one_item_goes_first_while_the_cost_is_unknown(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1000000, 0));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    sched_items_ended(&scene.sched, 0, 1, 0, 1000, false);
    expect(&scene, "slot 0: a2-500; slot 0: a501-999; slot 0: a1000-1498; slot 0: a1499-1997; "
                   "slot 0: a1998-2496; slot 0: a2497-2995; slot 0: a2996-3494; slot 0: a3495-3993");
    close_scene(&scene);
}

static void the_parent_sleeps_while_those_who_work_have_more(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1000, 1));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    assert_int_equal(sched_nap(&scene.sched).ns, 0);
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a2-2; slot 0: a3-3; slot 0: a4-4; slot 0: a5-5; slot 0: a6-6; slot 0: a7-7; slot 0: a8-8; "
                   "slot 0: a9-9");
    struct sched_nap nap = sched_nap(&scene.sched);
    assert_true(nap.ns && nap.listened_count == 1 && nap.listened[0] == 1); /* it has nothing to go on with */
    ended(&scene, 1, 1);
    expect(&scene, "slot 1: a10-10; slot 1: a11-11; slot 1: a12-12; slot 1: a13-13; slot 1: a14-14; slot 1: a15-15; "
                   "slot 1: a16-16; slot 1: a17-17");
    nap = sched_nap(&scene.sched);
    assert_in_range(nap.ns, 1, 3 * MS);
    assert_int_equal(nap.listened_count, 0);
    scene.a.reply_bytes = 1 << 20; /* with which pipes would be full soon */
    assert_int_equal(sched_nap(&scene.sched).ns, 0);
    close_scene(&scene);
}

static void the_parent_sleeps_and_listens_to_who_is_stalled(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1000, 1));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a2-2; slot 0: a3-3; slot 0: a4-4; slot 0: a5-5; slot 0: a6-6; slot 0: a7-7; slot 0: a8-8; "
                   "slot 0: a9-9");
    sched_clock(&scene.sched, scene.sched.now_ns + 31 * MS);
    ended(&scene, 1, 1);
    expect(&scene, "slot 1: a10-10; slot 1: a11-11; slot 1: a12-12; slot 1: a13-13; slot 1: a14-14; slot 1: a15-15; "
                   "slot 1: a16-16; slot 1: a17-17");
    assert_int_equal(sched_nap(&scene.sched).listened_count, 0);
    at(&scene, scene.sched.now_ns + MS);
    expect(&scene, "slot 0: take back 7");
    sched_taken_back(&scene.sched, 0, 7);
    expect(&scene, "");
    struct sched_nap nap = sched_nap(&scene.sched);
    assert_true(nap.ns && nap.listened_count == 1 && nap.listened[0] == 0);
    close_scene(&scene);
}

static void who_is_stalled_keeps_the_next_task_until_it_is_stuck(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    open_lane(&scene, 0);
    add_tasks(&scene, 20);
    expect(&scene, "slot 0: task 0-0; slot 1: task 1-1");
    task_ended(&scene, 0, 0);
    expect(&scene, "slot 0: task 2-2; slot 0: task 3-3; slot 0: task 4-4; slot 0: task 5-5; slot 0: task 6-6; "
                   "slot 0: task 7-7; slot 0: task 8-8; slot 0: task 9-9");
    at(&scene, 4 * MS);
    expect(&scene, "slot 0: take back 6");
    sched_taken_back(&scene.sched, 0, 6);
    expect(&scene, "");
    at(&scene, 32 * MS - 1);
    expect(&scene, "");
    at(&scene, 32 * MS);
    expect(&scene, "slot 0: take back 1");
    close_scene(&scene);
}

static void the_parent_does_not_sleep_beyond_a_deadline(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    struct job job = job_of(1000, 1);
    job.timeout_ns = 5 * MS / 2;
    submit(&scene, &scene.a, job);
    expect(&scene, "slot 0: a0-0 stepwise; slot 1: a1-1 stepwise");
    sched_clock(&scene.sched, scene.sched.now_ns + MS);
    ended(&scene, 0, 1);
    while (sched_next(&scene.sched, &(struct sched_effect){0}))
        continue;
    assert_int_equal(sched_nap(&scene.sched).ns, 3 * MS / 2); /* slot 1 has had the rest of its time */
    close_scene(&scene);
}

/* Of short items workers tell by the thousand: what comes meanwhile is no more than their results. */
static void runs_of_short_items_leave_time_to_sleep_too(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1000000000, 0));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    for (unsigned slot = 0; slot < 2; slot++)
        sched_items_ended(&scene.sched, slot, 1, 0, 20, false);
    struct sched_effect effect;
    while (sched_next(&scene.sched, &effect))
        assert_int_equal(effect.kind, SCHED_SEND);
    assert_int_equal(sched_nap(&scene.sched).ns, 0); /* their results fill pipes in no time */
    scene.a.reply_bytes = 0;                         /* unless they are where they belong */
    assert_in_range(sched_nap(&scene.sched).ns, 1, 3 * MS);
    close_scene(&scene);
}

static void the_next_of_long_items_waits_at_its_worker(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(6, 1));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    sched_items_ended(&scene.sched, 0, 1, 0, S, false);
    expect(&scene, "slot 0: a2-2; slot 0: a3-3"); /* the other has not ended one: it might not be asked */
    sched_items_ended(&scene.sched, 1, 1, 0, S, false);
    expect(&scene, "slot 1: a4-4; slot 1: a5-5");
    close_scene(&scene);
}

static void a_job_of_nothing_ends_at_once(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(0, 0));
    expect(&scene, "a has ended");
    close_scene(&scene);
}

static void a_lone_item_is_to_blame_at_once(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1, 0));
    expect(&scene, "slot 0: a0-0");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: crash, attempt 1; a has ended");
    close_scene(&scene);
}

static void crash_in_a_chunk_fails_only_the_item_that_crashed(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(6, 4));
    expect(&scene, "slot 0: a0-3");
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a4-5");
    sched_exited(&scene.sched, 0); /* 1, 2 or 3, or even 4 or 5: who knows */
    expect(&scene, "slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: a1-3 stepwise");
    ended(&scene, 0, 1);
    sched_exited(&scene.sched, 0); /* 1 was reported: it was 2 */
    expect(&scene, "a2: crash, attempt 1; slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: a3-3");
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a4-5 stepwise");
    ended(&scene, 0, 1);
    ended(&scene, 0, 1);
    expect(&scene, "a has ended");
    close_scene(&scene);
}

static void spans_of_a_dead_worker_go_back_in_order(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(12, 2));
    expect(&scene, "slot 0: a0-1");
    sched_items_ended(&scene.sched, 0, 2, 0, 5 * MS, false);
    expect(&scene, "slot 0: a2-3; slot 0: a4-5");
    submit(&scene, &scene.b, job_of(1, 0));
    sched_exited(&scene.sched, 0);
    expect(&scene, "slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: a2-3 stepwise");
    ended(&scene, 0, 1);
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a4-5 stepwise");
    ended(&scene, 0, 1);
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a6-7; slot 0: a8-9; slot 0: a10-11");
    close_scene(&scene);
}

static void only_certain_deaths_are_attempts(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    config.max_attempts = 2;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(2, 2));
    expect(&scene, "slot 0: a0-1");
    sched_exited(&scene.sched, 0);
    for (unsigned attempt = 1; attempt <= 2; attempt++) {
        expect(&scene, "slot 0: start worker 0");
        sched_ready(&scene.sched, 0);
        expect(&scene, "slot 0: a0-1 stepwise");
        sched_exited(&scene.sched, 0);
    }
    expect(&scene, "a0: crash, attempt 2; slot 0: start worker 0");
    close_scene(&scene);
}

/* What it had not read it had not begun; but three times is enough. */
static void an_item_that_was_not_read_is_not_blamed(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(1, 0));
    for (unsigned i = 0; i < FLIGHT_UNREAD_DEATHS; i++) {
        expect(&scene, "slot 0: a0-0");
        sched_head(&scene.sched, 0)->begin_position = 1000;
        sched_unread(&scene.sched, 0, 999);
        sched_exited(&scene.sched, 0);
        expect(&scene, "slot 0: start worker 0");
        sched_ready(&scene.sched, 0);
    }
    expect(&scene, "slot 0: a0-0");
    sched_head(&scene.sched, 0)->begin_position = 1000;
    sched_unread(&scene.sched, 0, 999);
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: crash, attempt 1; a has ended");
    close_scene(&scene);
}

static void garbage_kills_the_worker_and_is_blamed_the_same_way(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1, 0));
    expect(&scene, "slot 0: a0-0");
    sched_garbage(&scene.sched, 0);
    expect(&scene, "slot 0: SIGKILL");
    ended(&scene, 0, 1); /* not listened to any more */
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: garbage, attempt 1; a has ended");
    close_scene(&scene);
}

static void end_of_file_is_not_death(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1, 0));
    expect(&scene, "slot 0: a0-0");
    sched_eof(&scene.sched, 0);
    expect(&scene, "");
    at(&scene, S - 1);
    expect(&scene, "");
    at(&scene, S);
    expect(&scene, "slot 0: SIGKILL");
    at(&scene, 2 * S); /* and again, for one that does not take it */
    expect(&scene, "slot 0: SIGKILL");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: garbage, attempt 1; a has ended");
    close_scene(&scene);
}

static void who_is_gone_is_replaced_before_it_is_known_how_it_ended(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(4, 0));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    is_gone(&scene, 0);
    expect(&scene, "slot 2: start worker 0");
    sched_ready(&scene.sched, 2);
    expect(&scene, "slot 2: a2-2");
    is_gone(&scene, 2);
    expect(&scene, ""); /* there is one slot to spare */
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: crash, attempt 1; slot 0: start worker 0");
    sched_exited(&scene.sched, 2);
    expect(&scene, "a2: crash, attempt 1");
    assert_int_equal(scene.sched.counts.crashes, 2);
    close_scene(&scene);
}

/* One worker, which is at task 1 of 12 and has those up to 5, to be reported one by one. */
static void open_at_tasks(void)
{
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    open_lane(&scene, LANE_DEADLINES);
    add_tasks(&scene, 12);
    expect(&scene, "slot 0: task 0-0 stepwise");
    sched_items_ended(&scene.sched, 0, 1, 0, 1000, false);
    lane_drop(scene.lane, 0);
    expect(&scene, "slot 0: task 1-5 stepwise");
}

/* Only the one that it died of waits for that. */
static void what_waited_behind_it_runs_elsewhere_when_its_worker_is_gone(void **unused)
{
    (void)unused;
    open_at_tasks();
    is_gone(&scene, 0);
    expect(&scene, "slot 1: start worker 0");
    sched_ready(&scene.sched, 1);
    expect(&scene, "slot 1: task 2-5 stepwise");
    sched_gone(&scene.sched, 0);
    expect(&scene, "");
    assert_int_equal(scene.sched.leaving_count, 1); /* though that was told twice */
    sched_exited(&scene.sched, 0);
    assert_int_equal(scene.sched.leaving_count, 0);
    expect(&scene, "task 1: crash, attempt 1");
    close_scene(&scene);
}

/* What it had begun with, which is not known, is sent again stepwise; what was not read is in no doubt. */
static void what_the_gone_had_not_read_is_in_no_doubt(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(2, 2));
    expect(&scene, "slot 0: a0-1");
    sched_head(&scene.sched, 0)->begin_position = 1000;
    sched_unread(&scene.sched, 0, 999);
    is_gone(&scene, 0);
    expect(&scene, "slot 1: start worker 0");
    sched_ready(&scene.sched, 1);
    expect(&scene, "slot 1: a0-1");
    sched_exited(&scene.sched, 0);
    ended(&scene, 1, 2);
    expect(&scene, "a has ended");
    close_scene(&scene);
}

static void a_task_that_is_to_blame_may_be_cancelled_before_that_is_told(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    open_lane(&scene, 0);
    add_tasks(&scene, 1);
    expect(&scene, "slot 0: task 0-0");
    is_gone(&scene, 0);
    expect(&scene, "");
    cancel_task(&scene, 0);
    sched_retire(&scene.sched, &scene.lane->job);
    expect(&scene, "task  has ended");
    sched_exited(&scene.sched, 0);
    expect(&scene, "");
    close_scene(&scene);
}

/* Its server is stopped, say: that is no fault of the item's. */
static void who_is_gone_is_not_blamed_for_garbage_when_that_is_told_late(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1, 0));
    expect(&scene, "slot 0: a0-0");
    is_gone(&scene, 0);
    expect(&scene, "");
    at(&scene, S);
    expect(&scene, "slot 0: SIGKILL");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: crash, attempt 1; a has ended");
    close_scene(&scene);
}

static void who_was_killed_is_replaced_when_it_is_gone(void **unused)
{
    (void)unused;
    struct job job = job_of(20, 0);
    open_ready(&scene, plain);
    job.timeout_ns = S;
    submit(&scene, &scene.a, job);
    expect(&scene, "slot 0: a0-0 stepwise; slot 1: a1-1 stepwise");
    at(&scene, S - MS);
    ended(&scene, 1, 1);
    while (sched_next(&scene.sched, &(struct sched_effect){0}))
        continue; /* slot 1 gets what it may queue */
    at(&scene, S);
    expect(&scene, "slot 0: SIGTERM");
    is_gone(&scene, 0);
    expect(&scene, "slot 2: start worker 0");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: deadline, attempt 1");
    close_scene(&scene);
}

static void who_dies_without_having_had_anything_is_not_replaced_at_once(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    is_gone(&scene, 0);
    is_gone(&scene, 1);
    submit(&scene, &scene.a, job_of(4, 0));
    expect(&scene, "");
    sched_exited(&scene.sched, 0);
    expect(&scene, "");
    at(&scene, 10 * MS);
    expect(&scene, "slot 0: start worker 0");
    close_scene(&scene);
}

/* It may be what it has died of: who is started when it has failed does without. */
static void who_dies_during_a_broadcast_is_not_replaced_at_once(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(4, 0));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    broadcast(&scene);
    expect(&scene, "slot 0: all0-0 stepwise; slot 1: all1-1 stepwise");
    ended(&scene, 0, 1);
    expect(&scene, "");
    is_gone(&scene, 0);
    expect(&scene, "");
    sched_exited(&scene.sched, 0);
    expect(&scene, "all0: crash, attempt 1; slot 0: start worker 0");
    close_scene(&scene);
}

static void deadline_runs_from_the_start_of_the_item(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    config.max_attempts = 3;
    open_ready(&scene, config);
    struct job given = job_of(3, 3);
    given.timeout_ns = 10 * MS;
    submit(&scene, &scene.a, given);
    expect(&scene, "slot 0: a0-2 stepwise");
    sched_clock(&scene.sched, 8 * MS);
    ended(&scene, 0, 1);
    assert_true(sched_wake_ns(&scene.sched) <= 18 * MS);
    at(&scene, 18 * MS - 1);
    expect(&scene, "");
    at(&scene, 18 * MS);
    expect(&scene, "slot 0: SIGTERM");
    at(&scene, 118 * MS);
    expect(&scene, "slot 0: SIGKILL");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a1: deadline, attempt 1; slot 0: start worker 0"); /* not tried again; its neighbour is */
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: a2-2 stepwise");
    close_scene(&scene);
}

static void without_grace_the_deadline_kills_at_once(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    config.kill_grace_ns = 0;
    open_ready(&scene, config);
    struct job given = job_of(1, 0);
    given.timeout_ns = 10 * MS;
    submit(&scene, &scene.a, given);
    expect(&scene, "slot 0: a0-0 stepwise");
    at(&scene, 10 * MS);
    expect(&scene, "slot 0: SIGKILL");
    close_scene(&scene);
}

static void at_most_once_sends_items_one_by_one(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.max_attempts = 3;
    open_ready(&scene, config);
    struct job given = job_of(5, 4);
    given.at_most_once = true;
    submit(&scene, &scene.a, given);
    expect(&scene, "slot 0: a0-0 stepwise; slot 1: a1-1 stepwise");
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a2-2 stepwise");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a2: crash, attempt 1; slot 0: start worker 0");
    close_scene(&scene);
}

static void stop_on_error_cancels_what_was_not_begun(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    struct job given = job_of(12, 4);
    given.stop_on_error = true;
    submit(&scene, &scene.a, given);
    expect(&scene, "slot 0: a0-3; slot 1: a4-7");
    one_failed(&scene, 0, 2);
    expect(&scene, "a8-11: cancelled; a2-3: cancelled");
    ended(&scene, 1, 4);
    expect(&scene, "a has ended");
    close_scene(&scene);
}

static void a_crash_stops_on_error_too(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    struct job given = job_of(3, 1);
    given.stop_on_error = true;
    submit(&scene, &scene.a, given);
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: crash, attempt 1; a2-2: cancelled");
    ended(&scene, 1, 1);
    expect(&scene, "a has ended");
    close_scene(&scene);
}

/* A run can be stopped by a failure in it; tasks of any size cannot. */
static void payloads_that_stop_on_error_go_one_by_one(void **unused)
{
    (void)unused;
    struct pool_bytes inputs[4] = {{NULL, 0}};
    open_ready(&scene, plain);
    struct job given = {.kind = JOB_BYTES, .count = 4, .inputs = inputs, .chunk_size = 4, .stop_on_error = true};
    submit(&scene, &scene.a, given);
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    close_scene(&scene);
}

static void cancelling_ends_what_was_not_sent(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(9, 2));
    expect(&scene, "slot 0: a0-1; slot 1: a2-3");
    sched_cancel(&scene.sched, &scene.a, POOL_ECANCELED);
    sched_cancel(&scene.sched, &scene.a, POOL_EBROKEN); /* the first word counts */
    expect(&scene, "a4-8: cancelled");
    ended(&scene, 1, 2);
    sched_exited(&scene.sched, 0); /* in doubt, and not run again */
    expect(&scene, "a0-1: cancelled; a has ended");
    close_scene(&scene);
}

static void a_span_that_cannot_be_sent_fails_and_its_job_goes_on(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    config.max_tasks_per_worker = 2;
    config.wears_out = config.restarts = true;
    struct sched_effect effect;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(4, 2));
    assert_true(sched_next(&scene.sched, &effect) && effect.kind == SCHED_SEND);
    sched_unsent(&scene.sched, 0, -ENOMEM);
    expect(&scene, "a0-1: error; slot 0: a2-3"); /* the worker has not been worn out by it */
    ended(&scene, 0, 2);
    expect(&scene, "a has ended; slot 0: start afresh");
    close_scene(&scene);
}

static void three_failed_starts_break_the_pool(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_scene(&scene, config);
    sched_boot(&scene.sched);
    submit(&scene, &scene.a, job_of(3, 0));
    expect(&scene, "slot 0: start worker 0");
    sched_not_started(&scene.sched, 0);
    expect(&scene, ""); /* not at once */
    at(&scene, 10 * MS);
    expect(&scene, "slot 0: start worker 0");
    sched_failed(&scene.sched, 0);
    expect(&scene, "");
    sched_exited(&scene.sched, 0);
    at(&scene, 30 * MS - 1);
    expect(&scene, "");
    at(&scene, 30 * MS); /* twice as long */
    expect(&scene, "slot 0: start worker 0");
    at(&scene, 30 * MS + 30 * S); /* never says that it is ready */
    expect(&scene, "slot 0: SIGKILL");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0-2: broken; a has ended; the pool is broken");
    submit(&scene, &scene.b, job_of(2, 0));
    expect(&scene, "b0-1: broken; b has ended");
    close_scene(&scene);
}

/* And those that follow begin one by one, until one succeeds. */
static void starts_that_fail_together_count_once(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 4;
    open_scene(&scene, config);
    sched_boot(&scene.sched);
    expect(&scene, "slot 0: start worker 0; slot 1: start worker 1; slot 2: start worker 2; slot 3: start worker 3");
    for (unsigned i = 0; i < config.workers; i++)
        sched_exited(&scene.sched, i);
    expect(&scene, "");
    at(&scene, 10 * MS);
    expect(&scene, "slot 0: start worker 0");
    sched_exited(&scene.sched, 0);
    at(&scene, 30 * MS - 1);
    expect(&scene, "");
    at(&scene, 30 * MS);
    expect(&scene, "slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 1: start worker 1; slot 2: start worker 2; slot 3: start worker 3");
    for (unsigned i = 0; i < config.workers; i++)
        sched_exited(&scene.sched, i);
    expect(&scene, ""); /* once more, and not for the third time */
    at(&scene, 40 * MS);
    expect(&scene, "slot 0: start worker 0");
    close_scene(&scene);
}

/* What is under way since before takes its time, and keeps nobody from being started, nor the pool from being broken
 * when that fails as well. */
static void a_start_that_takes_long_is_not_waited_for_by_others(void **unused)
{
    (void)unused;
    open_scene(&scene, plain);
    sched_boot(&scene.sched);
    expect(&scene, "slot 0: start worker 0; slot 1: start worker 1");
    submit(&scene, &scene.a, job_of(1, 0));
    for (unsigned round = 1; round <= 3; round++) {
        sched_exited(&scene.sched, 1);
        expect(&scene, "");
        at(&scene, round * S);
        expect(&scene, "slot 1: start worker 1");
    }
    sched_exited(&scene.sched, 1);
    expect(&scene, "");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0-0: broken; a has ended; the pool is broken");
    close_scene(&scene);
}

/* Also those that began after failures which a success has ended since. */
static void starts_that_fail_together_after_a_success_count_once(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 5;
    open_scene(&scene, config);
    sched_boot(&scene.sched);
    expect(&scene, "slot 0: start worker 0; slot 1: start worker 1; slot 2: start worker 2; slot 3: start worker 3; "
                   "slot 4: start worker 4");
    sched_ready(&scene.sched, 0);
    for (unsigned round = 1; round <= 3; round++) {
        for (unsigned i = 1; i < config.workers; i++)
            sched_exited(&scene.sched, i);
        at(&scene, round * 2 * S);
        expect(&scene, "slot 1: start worker 1; slot 2: start worker 2; slot 3: start worker 3; "
                       "slot 4: start worker 4");
    }
    sched_ready(&scene.sched, 1);
    for (unsigned i = 0; i < config.workers; i++)
        sched_exited(&scene.sched, i);
    expect(&scene, "");
    at(&scene, 6 * S + 10 * MS);
    expect(&scene, "slot 0: start worker 0");
    close_scene(&scene);
}

static void failed_starts_do_not_break_a_pool_that_has_a_worker(void **unused)
{
    (void)unused;
    uint64_t now_ns = 0;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(20, 1));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    sched_exited(&scene.sched, 1);
    expect(&scene, "a1: crash, attempt 1; slot 1: start worker 1");
    for (unsigned i = 0; i < 10; i++) {
        sched_not_started(&scene.sched, 1);
        at(&scene, now_ns += 2 * S);
        expect(&scene, "slot 1: start worker 1");
    }
    sched_ready(&scene.sched, 1);
    expect(&scene, "slot 1: a2-2");
    close_scene(&scene);
}

static void a_start_that_is_put_off_is_no_failure(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_scene(&scene, config);
    sched_boot(&scene.sched);
    for (unsigned i = 0; i < 10; i++) {
        at(&scene, i * 2 * MS);
        expect(&scene, "slot 0: start worker 0");
        sched_start_later(&scene.sched, 0);
        expect(&scene, "");
    }
    close_scene(&scene);
}

static void a_worn_worker_starts_afresh_in_place(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    config.wears_out = config.restarts = true;
    config.max_tasks_per_worker = 3;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(5, 2));
    expect(&scene, "slot 0: a0-1");
    ended(&scene, 0, 2);
    expect(&scene, "slot 0: a2-2"); /* a chunk never crosses the limit */
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: start afresh");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: a3-4");
    sched_items_ended(&scene.sched, 0, 2, 0, 0, true);
    expect(&scene, "a has ended; slot 0: start afresh");
    sched_shutdown(&scene.sched, POOL_DRAIN); /* its finalizer may be running: it is not killed */
    expect(&scene, "");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: end in order");
    sched_exited(&scene.sched, 0);
    assert_true(sched_all_gone(&scene.sched));
    close_scene(&scene);
}

static void a_worn_worker_ends_while_its_replacement_starts(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    config.wears_out = true;
    config.max_tasks_per_worker = 2;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(4, 2));
    expect(&scene, "slot 0: a0-1");
    ended(&scene, 0, 2);
    expect(&scene, "slot 0: end in order; slot 1: start worker 0");
    sched_garbage(&scene.sched, 0);
    expect(&scene, "slot 0: SIGKILL");
    sched_exited(&scene.sched, 0); /* the number stays its replacement's */
    sched_ready(&scene.sched, 1);
    expect(&scene, "slot 1: a2-3");
    ended(&scene, 1, 2);
    expect(&scene, "a has ended; slot 1: end in order");
    close_scene(&scene);
}

static void closing_waits_for_the_last_job(void **unused)
{
    (void)unused;
    open_scene(&scene, plain);
    sched_boot(&scene.sched);
    expect(&scene, "slot 0: start worker 0; slot 1: start worker 1");
    sched_ready(&scene.sched, 0);
    submit(&scene, &scene.a, job_of(1, 0));
    expect(&scene, "slot 0: a0-0");
    sched_shutdown(&scene.sched, POOL_DRAIN);
    expect(&scene, "");
    ended(&scene, 0, 1);
    expect(&scene, "a has ended; slot 0: end in order; slot 1: SIGKILL");
    sched_exited(&scene.sched, 1);
    assert_false(sched_all_gone(&scene.sched));
    at(&scene, 30 * S);
    expect(&scene, "slot 0: SIGKILL");
    sched_exited(&scene.sched, 0);
    expect(&scene, "");
    assert_true(sched_all_gone(&scene.sched));
    close_scene(&scene);
}

/* Its server is stopped, say, or its tracer keeps it: it needs no time to end in order any more. */
static void who_has_ended_in_order_is_not_waited_for_as_long_as_that_may_take(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    sched_shutdown(&scene.sched, POOL_DRAIN);
    expect(&scene, "slot 0: end in order; slot 1: end in order");
    sched_exited(&scene.sched, 1);
    is_gone(&scene, 0);
    expect(&scene, "");
    at(&scene, S);
    expect(&scene, "slot 0: SIGKILL");
    at(&scene, 2 * S);
    expect(&scene, "slot 0: SIGKILL");
    sched_exited(&scene.sched, 0);
    assert_true(sched_all_gone(&scene.sched));
    close_scene(&scene);
}

/* Not at once, since it may be that no worker lives long enough to be given anything. */
static void a_worker_that_dies_idle_is_replaced_when_there_is_work(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    sched_exited(&scene.sched, 0);
    sched_exited(&scene.sched, 1);
    expect(&scene, "");
    submit(&scene, &scene.a, job_of(1, 0));
    expect(&scene, "");
    at(&scene, 10 * MS);
    expect(&scene, "slot 0: start worker 0");
    close_scene(&scene);
}

/* ---- tasks ---- */

static void tasks_and_maps_go_in_the_order_of_submission(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    open_lane(&scene, 0);
    add_tasks(&scene, 2);
    struct job given = job_of(2, 1);
    given.number = 2;
    submit(&scene, &scene.a, given);
    add_tasks(&scene, 1);
    expect(&scene, "slot 0: task 0-0");
    task_ended(&scene, 0, 0);
    expect(&scene, "slot 0: task 1-1");
    sched_exited(&scene.sched, 0);
    expect(&scene, "task 1: crash, attempt 1; slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: a0-0");
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a1-1; slot 0: task 2-2"); /* which is behind it */
    ended(&scene, 0, 1);
    expect(&scene, "a has ended");
    close_scene(&scene);
}

/* To wake another takes longer than the one that is at work needs for a few short ones. */
static void a_few_short_tasks_wait_for_the_worker_that_is_at_work(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    open_lane(&scene, 0);
    add_tasks(&scene, 1);
    expect(&scene, "slot 0: task 0-0");
    task_took(&scene, 0, 0, 1000);
    add_tasks(&scene, 2);
    expect(&scene, "slot 0: task 1-1");
    task_took(&scene, 0, 1, 1000);
    expect(&scene, "slot 0: task 2-2");
    add_tasks(&scene, 1);
    expect(&scene, "");
    at(&scene, MS / 4); /* so it is not a short one that it is at */
    expect(&scene, "slot 1: task 3-3");
    close_scene(&scene);
}

static void short_tasks_that_together_are_long_are_for_all(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    open_lane(&scene, 0);
    add_tasks(&scene, 1);
    expect(&scene, "slot 0: task 0-0");
    task_took(&scene, 0, 0, 15000);
    add_tasks(&scene, 1);
    expect(&scene, "slot 0: task 1-1");
    add_tasks(&scene, 1);
    expect(&scene, "slot 1: task 2-2");
    close_scene(&scene);
}

/* It has been told of no page then, so that nothing could be taken back from behind it. */
static void nothing_waits_behind_the_one_item_that_a_worker_begins_with(void **unused)
{
    (void)unused;
    open_scene(&scene, plain);
    sched_boot(&scene.sched);
    expect(&scene, "slot 0: start worker 0; slot 1: start worker 1");
    sched_ready(&scene.sched, 0);
    submit(&scene, &scene.a, job_of(1000, 1));
    expect(&scene, "slot 0: a0-0");
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: a1-1; slot 0: a2-2; slot 0: a3-3; slot 0: a4-4; slot 0: a5-5; slot 0: a6-6; slot 0: a7-7; "
                   "slot 0: a8-8");
    sched_ready(&scene.sched, 1);
    expect(&scene, "slot 1: a9-9");
    ended(&scene, 1, 1);
    expect(&scene, "slot 1: a10-10; slot 1: a11-11; slot 1: a12-12; slot 1: a13-13; slot 1: a14-14; slot 1: a15-15; "
                   "slot 1: a16-16; slot 1: a17-17");
    close_scene(&scene);
}

static void what_comes_back_goes_before_what_came_later(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.max_attempts = 2;
    open_ready(&scene, config);
    open_lane(&scene, 0);
    add_tasks(&scene, 4);
    expect(&scene, "slot 0: task 0-0; slot 1: task 1-1");
    sched_exited(&scene.sched, 0);
    sched_exited(&scene.sched, 1);
    expect(&scene, "slot 0: start worker 0; slot 1: start worker 1");
    sched_ready(&scene.sched, 1);
    expect(&scene, "slot 1: task 0-0 stepwise");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: task 1-1 stepwise");
    close_scene(&scene);
}

static void each_task_has_its_own_deadline(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    open_lane(&scene, LANE_DEADLINES);
    add_task(&scene, 0);
    add_task(&scene, 5 * MS);
    expect(&scene, "slot 0: task 0-0 stepwise; slot 1: task 1-1 stepwise");
    at(&scene, 5 * MS);
    expect(&scene, "slot 1: SIGTERM");
    sched_exited(&scene.sched, 1);
    expect(&scene, "task 1: deadline, attempt 1");
    at(&scene, 100 * S);
    expect(&scene, "");
    close_scene(&scene);
}

static void a_cancelled_task_is_stepped_over(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    open_lane(&scene, 0);
    add_tasks(&scene, 6);
    cancel_task(&scene, 0);
    cancel_task(&scene, 3);
    expect(&scene, "slot 0: task 1-1; slot 1: task 2-2");
    cancel_task(&scene, 4);
    task_ended(&scene, 1, 2);
    expect(&scene, "slot 1: task 5-5");
    close_scene(&scene);
}

/* Those behind it go to another worker, and nobody is blamed. */
static void cancelling_a_running_task_kills_its_worker_and_no_other_task(void **unused)
{
    (void)unused;
    open_at_tasks();
    cancel_task(&scene, 1);
    expect(&scene, "slot 0: SIGTERM");
    cancel_task(&scene, 3);
    sched_exited(&scene.sched, 0);
    expect(&scene, "slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: task 2-2 stepwise; slot 0: task 4-5 stepwise");
    close_scene(&scene);
}

/* It has not been read three times; the new one has not been there. */
static void a_new_task_does_not_share_the_bad_luck_of_the_last(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    open_lane(&scene, 0);
    add_tasks(&scene, 1);
    for (unsigned i = 0; i < FLIGHT_UNREAD_DEATHS; i++) {
        expect(&scene, "slot 0: task 0-0");
        sched_head(&scene.sched, 0)->begin_position = 1000;
        sched_unread(&scene.sched, 0, 999);
        sched_exited(&scene.sched, 0);
        expect(&scene, "slot 0: start worker 0");
        sched_ready(&scene.sched, 0);
        if (i + 1 == FLIGHT_UNREAD_DEATHS)
            add_tasks(&scene, 1);
    }
    expect(&scene, "slot 0: task 0-0");
    task_ended(&scene, 0, 0);
    expect(&scene, "slot 0: task 1-1");
    sched_head(&scene.sched, 0)->begin_position = 1000;
    sched_unread(&scene.sched, 0, 999);
    sched_exited(&scene.sched, 0);
    expect(&scene, "slot 0: start worker 0");
    close_scene(&scene);
}

/* What it had said is lost with it: it may have ended every item. */
static void a_worker_that_cannot_be_reached_is_replaced_and_blames_nobody(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(2, 1));
    for (unsigned i = 0; i < FLIGHT_UNREAD_DEATHS; i++) {
        expect(&scene, "slot 0: a0-0");
        sched_unreachable(&scene.sched, 0);
        expect(&scene, "slot 0: SIGKILL");
        sched_exited(&scene.sched, 0);
        expect(&scene, ""); /* not in a spin */
        at(&scene, (i + 1) * S);
        expect(&scene, "slot 0: start worker 0");
        sched_ready(&scene.sched, 0);
    }
    expect(&scene, "slot 0: a0-0");
    sched_unreachable(&scene.sched, 0);
    sched_exited(&scene.sched, 0); /* not for ever */
    expect(&scene, "a0: crash, attempt 1");
    close_scene(&scene);
}

/* One that is at work, one that is being killed for its item, one that starts; and what waits. */
static void when_all_workers_are_lost_everything_ends_with_the_pool(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 2;
    open_ready(&scene, config);
    struct job given = job_of(4, 1);
    given.timeout_ns = 2 * S;
    submit(&scene, &scene.a, given);
    expect(&scene, "slot 0: a0-0 stepwise; slot 1: a1-1 stepwise");
    at(&scene, S);
    sched_items_ended(&scene.sched, 1, 1, 0, S, false);
    expect(&scene, "slot 1: a2-2 stepwise; slot 1: a3-3 stepwise");
    at(&scene, 2 * S);
    expect(&scene, "slot 0: SIGTERM; slot 1: take back 1");
    sched_taken_back(&scene.sched, 1, 0);
    sched_lose(&scene.sched);
    expect(&scene, "a0: deadline, attempt 1; a3-3: broken; a2-2: broken; a has ended; the pool is broken");
    assert_true(sched_all_gone(&scene.sched));
    close_scene(&scene);
}

/* However far it had read, which nobody may know. */
static void what_was_never_written_may_run_again_even_if_at_most_once(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    struct job given = job_of(1, 1);
    given.at_most_once = true;
    submit(&scene, &scene.a, given);
    expect(&scene, "slot 0: a0-0 stepwise");
    sched_head(&scene.sched, 0)->begin_position = UINT64_MAX;
    sched_unreachable(&scene.sched, 0);
    sched_exited(&scene.sched, 0);
    at(&scene, S);
    expect(&scene, "slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: a0-0 stepwise");
    sched_head(&scene.sched, 0)->begin_position = 1000; /* this time it was, and may have begun */
    sched_unreachable(&scene.sched, 0);
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0: crash, attempt 1; a has ended");
    close_scene(&scene);
}

/* Its end has not been told, and now need not be. */
static void a_task_that_was_blamed_may_be_cancelled(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    open_lane(&scene, 0);
    add_tasks(&scene, 2);
    expect(&scene, "slot 0: task 0-0");
    sched_exited(&scene.sched, 0);
    cancel_task(&scene, 0);
    expect(&scene, "slot 0: start worker 0");
    sched_shutdown(&scene.sched, POOL_CANCEL);
    cancel_task(&scene, 1);
    expect(&scene, "slot 0: SIGKILL");
    close_scene(&scene);
}

static void a_lane_that_is_retired_ends_with_its_last_task(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    open_lane(&scene, 0);
    add_tasks(&scene, 1);
    expect(&scene, "slot 0: task 0-0");
    sched_retire(&scene.sched, &scene.lane->job);
    expect(&scene, "");
    task_ended(&scene, 0, 0);
    expect(&scene, "task  has ended");
    close_scene(&scene);
}

/* It is in the hands of a worker still. */
static void a_retired_lane_waits_for_the_worker_of_a_cancelled_task(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    open_lane(&scene, 0);
    add_tasks(&scene, 1);
    expect(&scene, "slot 0: task 0-0");
    sched_retire(&scene.sched, &scene.lane->job);
    cancel_task(&scene, 0);
    expect(&scene, "slot 0: SIGTERM");
    sched_exited(&scene.sched, 0);
    expect(&scene, "task  has ended");
    close_scene(&scene);
}

/* ---- the broadcast ---- */

static void a_broadcast_comes_before_what_is_submitted_later(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1, 1));
    expect(&scene, "slot 0: a0-0");
    broadcast(&scene);
    submit(&scene, &scene.b, job_of(2, 1));
    expect(&scene, "slot 0: all0-0 stepwise; slot 1: all1-1 stepwise");
    ended(&scene, 1, 1);
    expect(&scene, "slot 1: b0-0");
    ended(&scene, 0, 1);
    expect(&scene, "a has ended");
    ended(&scene, 0, 1);
    expect(&scene, "all has ended; slot 0: b1-1");
    close_scene(&scene);
}

static void who_starts_during_a_broadcast_takes_part(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(2, 1));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    broadcast(&scene);
    expect(&scene, "slot 0: all0-0 stepwise; slot 1: all1-1 stepwise");
    sched_exited(&scene.sched, 0); /* before it has run it */
    submit(&scene, &scene.b, job_of(1, 1));
    expect(&scene, "slot 0: start worker 0");
    ended(&scene, 1, 1);
    ended(&scene, 1, 1);
    expect(&scene, "slot 1: a0-0 stepwise");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: all0-0 stepwise");
    ended(&scene, 0, 1);
    expect(&scene, "all has ended; slot 0: b0-0");
    close_scene(&scene);
}

static void a_broadcast_that_nobody_has_run_starts_a_worker(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    sched_exited(&scene.sched, 0);
    broadcast(&scene);
    expect(&scene, "");
    at(&scene, 10 * MS);
    expect(&scene, "slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: all0-0 stepwise");
    ended(&scene, 0, 1);
    expect(&scene, "all has ended");
    close_scene(&scene);
}

/* Who starts afterwards would be killed by it too. */
static void a_broadcast_that_kills_fails_once_for_each(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    broadcast(&scene);
    submit(&scene, &scene.a, job_of(1, 1));
    expect(&scene, "slot 0: all0-0 stepwise; slot 1: all1-1 stepwise");
    sched_exited(&scene.sched, 0);
    expect(&scene, "all0: crash, attempt 1; slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: a0-0");
    sched_exited(&scene.sched, 1);
    expect(&scene, "all1: crash, attempt 1; all has ended");
    close_scene(&scene);
}

static void a_worker_that_starts_afresh_runs_the_broadcast_again(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.wears_out = config.restarts = true;
    config.max_tasks_per_worker = 1;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(2, 1));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    broadcast(&scene);
    expect(&scene, "slot 0: all0-0 stepwise; slot 1: all1-1 stepwise");
    ended(&scene, 0, 1);
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: start afresh");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: all0-0 stepwise");
    ended(&scene, 0, 1);
    ended(&scene, 1, 1);
    ended(&scene, 1, 1);
    expect(&scene, "a has ended; all has ended; slot 1: start afresh");
    close_scene(&scene);
}

/* ---- shutting down ---- */

static void cancelling_shutdown_lets_workers_end_what_they_have(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(9, 2));
    expect(&scene, "slot 0: a0-1; slot 1: a2-3");
    sched_shutdown(&scene.sched, POOL_CANCEL);
    expect(&scene, "a4-8: cancelled");
    sched_exited(&scene.sched, 1); /* not replaced, and what it had is not run again */
    expect(&scene, "a2-3: cancelled");
    ended(&scene, 0, 2);
    expect(&scene, "a has ended; slot 0: end in order");
    close_scene(&scene);
}

static void shutdown_becomes_stronger_and_never_weaker(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(2, 1));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    sched_shutdown(&scene.sched, POOL_TERMINATE);
    expect(&scene, "slot 0: SIGTERM; slot 1: SIGTERM");
    sched_shutdown(&scene.sched, POOL_CANCEL);
    expect(&scene, "");
    sched_exited(&scene.sched, 0);
    expect(&scene, "a0-0: cancelled");
    sched_shutdown(&scene.sched, POOL_KILL);
    expect(&scene, "slot 1: SIGKILL");
    sched_exited(&scene.sched, 1);
    expect(&scene, "a1-1: cancelled; a has ended");
    assert_true(sched_all_gone(&scene.sched));
    close_scene(&scene);
}

static void a_broadcast_that_was_not_sent_is_dropped_by_shutdown(void **unused)
{
    (void)unused;
    open_scene(&scene, plain);
    sched_boot(&scene.sched);
    expect(&scene, "slot 0: start worker 0; slot 1: start worker 1");
    broadcast(&scene);
    sched_shutdown(&scene.sched, POOL_CANCEL);
    expect(&scene, "all has ended; slot 0: SIGKILL; slot 1: SIGKILL");
    close_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_is_shared_out_and_ends),
        cmocka_unit_test(nothing_is_due_once_all_are_ready),
        cmocka_unit_test(one_item_goes_first_while_the_cost_is_unknown),
        cmocka_unit_test(the_parent_sleeps_while_those_who_work_have_more),
        cmocka_unit_test(the_parent_sleeps_and_listens_to_who_is_stalled),
        cmocka_unit_test(who_is_stalled_keeps_the_next_task_until_it_is_stuck),
        cmocka_unit_test(the_parent_does_not_sleep_beyond_a_deadline),
        cmocka_unit_test(runs_of_short_items_leave_time_to_sleep_too),
        cmocka_unit_test(the_next_of_long_items_waits_at_its_worker),
        cmocka_unit_test(a_job_of_nothing_ends_at_once),
        cmocka_unit_test(a_lone_item_is_to_blame_at_once),
        cmocka_unit_test(crash_in_a_chunk_fails_only_the_item_that_crashed),
        cmocka_unit_test(spans_of_a_dead_worker_go_back_in_order),
        cmocka_unit_test(only_certain_deaths_are_attempts),
        cmocka_unit_test(an_item_that_was_not_read_is_not_blamed),
        cmocka_unit_test(garbage_kills_the_worker_and_is_blamed_the_same_way),
        cmocka_unit_test(end_of_file_is_not_death),
        cmocka_unit_test(who_is_gone_is_replaced_before_it_is_known_how_it_ended),
        cmocka_unit_test(what_waited_behind_it_runs_elsewhere_when_its_worker_is_gone),
        cmocka_unit_test(what_the_gone_had_not_read_is_in_no_doubt),
        cmocka_unit_test(a_task_that_is_to_blame_may_be_cancelled_before_that_is_told),
        cmocka_unit_test(who_is_gone_is_not_blamed_for_garbage_when_that_is_told_late),
        cmocka_unit_test(who_was_killed_is_replaced_when_it_is_gone),
        cmocka_unit_test(who_dies_without_having_had_anything_is_not_replaced_at_once),
        cmocka_unit_test(who_dies_during_a_broadcast_is_not_replaced_at_once),
        cmocka_unit_test(deadline_runs_from_the_start_of_the_item),
        cmocka_unit_test(without_grace_the_deadline_kills_at_once),
        cmocka_unit_test(at_most_once_sends_items_one_by_one),
        cmocka_unit_test(stop_on_error_cancels_what_was_not_begun),
        cmocka_unit_test(a_crash_stops_on_error_too),
        cmocka_unit_test(payloads_that_stop_on_error_go_one_by_one),
        cmocka_unit_test(cancelling_ends_what_was_not_sent),
        cmocka_unit_test(a_span_that_cannot_be_sent_fails_and_its_job_goes_on),
        cmocka_unit_test(three_failed_starts_break_the_pool),
        cmocka_unit_test(starts_that_fail_together_count_once),
        cmocka_unit_test(a_start_that_takes_long_is_not_waited_for_by_others),
        cmocka_unit_test(starts_that_fail_together_after_a_success_count_once),
        cmocka_unit_test(failed_starts_do_not_break_a_pool_that_has_a_worker),
        cmocka_unit_test(a_start_that_is_put_off_is_no_failure),
        cmocka_unit_test(a_worn_worker_starts_afresh_in_place),
        cmocka_unit_test(a_worn_worker_ends_while_its_replacement_starts),
        cmocka_unit_test(closing_waits_for_the_last_job),
        cmocka_unit_test(who_has_ended_in_order_is_not_waited_for_as_long_as_that_may_take),
        cmocka_unit_test(a_worker_that_dies_idle_is_replaced_when_there_is_work),
        cmocka_unit_test(tasks_and_maps_go_in_the_order_of_submission),
        cmocka_unit_test(a_few_short_tasks_wait_for_the_worker_that_is_at_work),
        cmocka_unit_test(short_tasks_that_together_are_long_are_for_all),
        cmocka_unit_test(nothing_waits_behind_the_one_item_that_a_worker_begins_with),
        cmocka_unit_test(what_comes_back_goes_before_what_came_later),
        cmocka_unit_test(each_task_has_its_own_deadline),
        cmocka_unit_test(a_cancelled_task_is_stepped_over),
        cmocka_unit_test(cancelling_a_running_task_kills_its_worker_and_no_other_task),
        cmocka_unit_test(a_new_task_does_not_share_the_bad_luck_of_the_last),
        cmocka_unit_test(a_worker_that_cannot_be_reached_is_replaced_and_blames_nobody),
        cmocka_unit_test(when_all_workers_are_lost_everything_ends_with_the_pool),
        cmocka_unit_test(what_was_never_written_may_run_again_even_if_at_most_once),
        cmocka_unit_test(a_task_that_was_blamed_may_be_cancelled),
        cmocka_unit_test(a_lane_that_is_retired_ends_with_its_last_task),
        cmocka_unit_test(a_retired_lane_waits_for_the_worker_of_a_cancelled_task),
        cmocka_unit_test(a_broadcast_comes_before_what_is_submitted_later),
        cmocka_unit_test(who_starts_during_a_broadcast_takes_part),
        cmocka_unit_test(a_broadcast_that_nobody_has_run_starts_a_worker),
        cmocka_unit_test(a_broadcast_that_kills_fails_once_for_each),
        cmocka_unit_test(a_worker_that_starts_afresh_runs_the_broadcast_again),
        cmocka_unit_test(cancelling_shutdown_lets_workers_end_what_they_have),
        cmocka_unit_test(shutdown_becomes_stronger_and_never_weaker),
        cmocka_unit_test(a_broadcast_that_was_not_sent_is_dropped_by_shutdown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
