/* sched_scene: see sched_scene.h. */
#include "sched_scene.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

const struct sched_config plain = {
    .workers = 2, .max_attempts = 1, .start_timeout_ns = 30 * S, .kill_grace_ns = 100 * MS};

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

void expect(struct scene *scene, const char *expected)
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

void open_scene(struct scene *scene, struct sched_config config)
{
    memset(scene, 0, sizeof *scene);
    assert_int_equal(sched_init(&scene->sched, &config), 0);
}

void open_ready(struct scene *scene, struct sched_config config)
{
    open_scene(scene, config);
    sched_boot(&scene->sched);
    expect(scene, config.workers == 1 ? "slot 0: start worker 0" : "slot 0: start worker 0; slot 1: start worker 1");
    for (unsigned i = 0; i < config.workers; i++)
        sched_ready(&scene->sched, i);
    expect(scene, "");
}

void close_scene(struct scene *scene)
{
    sched_clear(&scene->sched);
    sched_clear(&scene->sched);
    lane_destroy(scene->lane);
    scene->lane = NULL;
}

struct job job_of(uint64_t count, uint64_t chunk_size)
{
    return (struct job){.kind = JOB_FIXED, .count = count, .chunk_size = chunk_size, .item_size = 8, .result_size = 8};
}

void submit(struct scene *scene, struct job *job, struct job given)
{
    *job = given;
    job_begin(job);
    job->cold_ns = S; /* costs are taken for what they are */
    sched_submit(&scene->sched, job);
}

void ended(struct scene *scene, unsigned slot, uint64_t items)
{
    sched_items_ended(&scene->sched, slot, items, 0, items * MS, false);
}

void is_gone(struct scene *scene, unsigned slot)
{
    sched_eof(&scene->sched, slot);
    expect(scene, "");
    sched_gone(&scene->sched, slot);
}

void one_failed(struct scene *scene, unsigned slot, uint64_t items)
{
    sched_items_ended(&scene->sched, slot, items, 1, items * MS, false);
}

void open_lane(struct scene *scene, unsigned kind)
{
    scene->lane = lane_create(0, kind);
    assert_non_null(scene->lane);
    scene->lane->job.cold_ns = S;
}

void add_task(struct scene *scene, uint64_t timeout_ns)
{
    struct job_item *task = &scene->tasks[scene->task_number];
    *task = (struct job_item){.number = scene->task_number++, .timeout_ns = timeout_ns};
    assert_int_equal(lane_reserve(scene->lane), 0);
    lane_add(scene->lane, task);
    assert_int_equal(sched_add(&scene->sched, &scene->lane->job), 0);
}

void add_tasks(struct scene *scene, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        add_task(scene, 0);
}

void task_took(struct scene *scene, unsigned slot, uint64_t task, uint64_t ns)
{
    sched_items_ended(&scene->sched, slot, 1, 0, ns, false);
    lane_drop(scene->lane, task);
}

void task_ended(struct scene *scene, unsigned slot, uint64_t task)
{
    task_took(scene, slot, task, MS);
}

void cancel_task(struct scene *scene, uint64_t task)
{
    sched_cancel_item(&scene->sched, &scene->lane->job, task);
    lane_drop(scene->lane, task);
}

void broadcast(struct scene *scene)
{
    static const struct pool_bytes input = {NULL, 0};
    scene->all = (struct job){.kind = JOB_BROADCAST, .count = scene->sched.slot_count, .inputs = &input};
    job_begin(&scene->all);
    sched_broadcast(&scene->sched, &scene->all);
}

void at(struct scene *scene, uint64_t ns)
{
    sched_clock(&scene->sched, ns);
    sched_expire(&scene->sched);
}

void open_at_tasks(struct scene *scene)
{
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(scene, config);
    open_lane(scene, LANE_DEADLINES);
    add_tasks(scene, 12);
    expect(scene, "slot 0: task 0-0 stepwise");
    sched_items_ended(&scene->sched, 0, 1, 0, 1000, false);
    lane_drop(scene->lane, 0);
    expect(scene, "slot 0: task 1-5 stepwise");
}
