/* sim_host: what the pool around the engine does: it submits, cancels and shuts down by the plan or on a whim, carries
 * out what the engine wants, and keeps the lanes as lane.h wants them kept. Each event is told to the model first. */
#include "sim.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#define U(x) ((unsigned long long)(x))

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void *get_memory(struct sim *sim, size_t size)
{
    void *memory = malloc(size);
    if (!memory)
        sim_fail(sim, "the simulator itself has no memory");
    return memory;
}

/* Whether the engine is to find no memory in what it does next. */
static void maybe_lack_memory(struct sim *sim)
{
    sim->memory_is_short = sim_chance(&sim->random, sim->shortage, 1000);
}

/* ---- submitting ---- */

static bool is_lane(const struct sim_job *job)
{
    return job->given.kind == JOB_LANE;
}

static void submit_map(struct sim *sim, struct sim_job *job)
{
    sim_trace(sim, "job %u is submitted: %llu items%s%s%s", job->number, U(job->given.count),
              job->given.timeout_ns ? ", with deadlines" : "", job->given.at_most_once ? ", at most once" : "",
              job->given.stop_on_error ? ", stops on error" : "");
    job->given.number = sim->task_number;
    job->job = get_memory(sim, sizeof *job->job);
    *job->job = job->given;
    job_begin(job->job);
    sim->submitted_any = true;
    model_submit(sim, job);
    sched_submit(&sim->sched, job->job);
}

static void open_lane(struct sim *sim, struct sim_job *lane)
{
    unsigned kind = (lane->given.has_deadlines ? LANE_DEADLINES : 0) |
                    (lane->given.at_most_once ? LANE_AT_MOST_ONCE : 0) | (lane->given.has_fds ? LANE_FDS : 0);
    sim_trace(sim, "job %u is a lane%s%s%s", lane->number, lane->given.has_deadlines ? ", with deadlines" : "",
              lane->given.at_most_once ? ", at most once" : "", lane->given.has_fds ? ", with fds" : "");
    lane->lane = lane_create(0, kind);
    if (!lane->lane)
        sim_fail(sim, "the simulator itself has no memory");
    lane->job = &lane->lane->job;
    lane->submitted = sim->submitted_any = true;
}

static void submit_broadcast(struct sim *sim, struct sim_job *job)
{
    sim_trace(sim, "job %u, a broadcast, is submitted", job->number);
    job->given.count = sim->sched.slot_count;
    job->job = get_memory(sim, sizeof *job->job);
    *job->job = job->given;
    job_begin(job->job);
    sim->submitted_any = true;
    model_broadcast(sim, job);
    sched_broadcast(&sim->sched, job->job);
}

/* The next task of its lane. False: no memory for it just now. */
static bool add_task(struct sim *sim, struct sim_job *lane)
{
    uint64_t i = lane->count;
    struct job_item *head = get_memory(sim, sizeof *head);
    *head = (struct job_item){
        .size = lane->inputs[i].size, .number = sim->task_number, .timeout_ns = lane->items[i].timeout_ns};
    maybe_lack_memory(sim);
    int rc = lane_reserve(lane->lane);
    if (!rc) {
        lane_add(lane->lane, head);
        rc = sched_add(&sim->sched, lane->job);
        if (rc)
            lane->job->ring[--lane->job->count & lane->job->ring_mask] = NULL;
    }
    sim->memory_is_short = false;
    sim_trace(sim, "task %llu of job %u is submitted%s", U(i), lane->number, rc ? ", but there is no memory" : "");
    if (rc) {
        free(head);
        return false;
    }
    lane->heads[i] = head;
    model_add(sim, lane);
    return true;
}

static void retire_lane(struct sim *sim, struct sim_job *lane)
{
    sim_trace(sim, "lane %u is retired", lane->number);
    lane->retire_at = SIM_NEVER;
    model_retire(sim, lane);
    sched_retire(&sim->sched, lane->job);
}

/* ---- ends ---- */

/* Those that have ended leave the lane. */
static void drop_ended(struct sim_job *lane, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; is_lane(lane) && i < first + count; i++) {
        if (lane->items[i].state != ITEM_ENDED || !lane->heads[i])
            continue;
        lane_drop(lane->lane, i);
        free(lane->heads[i]);
        lane->heads[i] = NULL;
    }
}

/* What came back for items that have ended. */
static void note_replies(struct sim_job *job, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; job->given.kind != JOB_FIXED && i < first + count; i++) {
        size_t size = job->inputs[i].size;
        job_note_reply(job->job, size);
        job->large_replies = size > SIM_LARGE_BYTES ? job->large_replies + 1 : 0;
    }
}

void host_ended(struct sim *sim, struct sim_worker *worker, const struct sim_report *report)
{
    sim_trace(sim, "slot %u: items %llu to %llu of job %u have ended, %llu failed%s", worker->slot, U(report->first),
              U(report->first + report->count - 1), report->job->number, U(report->failures),
              report->worn ? "; it is worn" : "");
    note_replies(report->job, report->first, report->count);
    model_ended(sim, worker->slot, report);
    sched_items_ended(&sim->sched, worker->slot, report->count, report->failures, report->elapsed_ns, report->worn);
    drop_ended(report->job, report->first, report->count);
}

static void cancel_task(struct sim *sim, struct sim_job *lane, uint64_t i)
{
    if (i >= lane->count || !model_is_live(lane, i))
        return;
    sim_trace(sim, "task %llu of job %u is cancelled", U(i), lane->number);
    model_cancel_item(sim, lane, i);
    sched_cancel_item(&sim->sched, lane->job, i);
    drop_ended(lane, i, 1);
}

static void cancel_map(struct sim *sim, struct sim_job *job)
{
    job->cancel_at = SIM_NEVER;
    if (!job->job)
        return;
    sim_trace(sim, "job %u is cancelled", job->number);
    model_cancel(sim, job, POOL_ECANCELED);
    sched_cancel(&sim->sched, job->job, POOL_ECANCELED);
}

static void free_job(struct sim_job *job)
{
    if (is_lane(job))
        lane_destroy(job->lane);
    else
        free(job->job);
    job->job = NULL;
    job->lane = NULL;
}

void host_clear(struct sim *sim)
{
    for (unsigned i = 0; i < sim->job_count; i++)
        free_job(&sim->jobs[i]);
}

/* A lane that is never retired has no end. */
static bool is_done(const struct sim *sim, const struct sim_job *job)
{
    if (!job->submitted)
        return sim->closing;
    bool goes_on = job->count < job->given.count && !sim->closing;
    return is_lane(job) && !job->retired ? !goes_on && !job->unended && job->retire_at == SIM_NEVER : job->told;
}

bool host_is_done(const struct sim *sim)
{
    for (unsigned i = 0; i < sim->job_count; i++)
        if (!is_done(sim, &sim->jobs[i]))
            return false;
    return true;
}

static void shut_down(struct sim *sim)
{
    static const char *const names[] = {"to drain", "to cancel", "to terminate", "to kill"};
    struct sim_shutdown next = sim->shutdowns[0];
    sim->shutdown_count--;
    for (unsigned i = 0; i < sim->shutdown_count; i++)
        sim->shutdowns[i] = sim->shutdowns[i + 1];
    sim_trace(sim, "the pool is shut down %s", names[next.mode]);
    model_shutdown(sim, next.mode);
    sched_shutdown(&sim->sched, next.mode);
}

/* ---- the plan ---- */

uint64_t host_plan_ns(const struct sim *sim)
{
    uint64_t at = sim->closes_early && sim->shutdown_count ? sim->shutdowns[0].at : SIM_NEVER;
    for (unsigned i = 0; i < sim->job_count; i++) {
        const struct sim_job *job = &sim->jobs[i];
        bool waits = job->given.kind == JOB_BROADCAST && sim->broadcast;
        if (!job->submitted && !sim->closing && !waits)
            at = earlier(at, job->submit_at);
        if (job->submitted)
            at = earlier(at, job->cancel_at);
        if (!job->lane)
            continue;
        if (job->count < job->given.count && !sim->closing)
            at = earlier(at, job->items[job->count].submit_at);
        else
            at = earlier(at, job->retire_at);
        for (unsigned k = 0; k < job->cancel_count; k++)
            at = earlier(at, job->cancels[k].at);
    }
    return at == SIM_NEVER || sim->base_ns == SIM_NEVER ? SIM_NEVER : sim->base_ns + at;
}

static bool is_time(const struct sim *sim, uint64_t at)
{
    return sim->base_ns != SIM_NEVER && at != SIM_NEVER && sim->base_ns + at <= sim->now_ns;
}

static void follow_lane(struct sim *sim, struct sim_job *lane)
{
    while (!sim->closing && lane->count < lane->given.count && is_time(sim, lane->items[lane->count].submit_at))
        if (!add_task(sim, lane)) {
            lane->items[lane->count].submit_at = sim->now_ns + 10 * SIM_US - sim->base_ns;
            break;
        }
    for (unsigned i = 0; i < lane->cancel_count; i++)
        if (is_time(sim, lane->cancels[i].at)) {
            uint64_t item = lane->cancels[i].item;
            if (item >= lane->count && !sim->closing) {
                lane->cancels[i].at = sim->now_ns + 10 * SIM_US - sim->base_ns; /* it was put off itself */
                continue;
            }
            lane->cancels[i--] = lane->cancels[--lane->cancel_count];
            cancel_task(sim, lane, item);
        }
    if (is_time(sim, lane->retire_at) && (sim->closing || lane->count == lane->given.count))
        retire_lane(sim, lane);
}

static void submit(struct sim *sim, struct sim_job *job)
{
    if (is_lane(job))
        open_lane(sim, job);
    else if (job->given.kind != JOB_BROADCAST)
        submit_map(sim, job);
    else if (!sim->broadcast)
        submit_broadcast(sim, job);
}

/* Early, whatever there is to do; or when everything has ended. */
static bool is_time_to_shut_down(const struct sim *sim)
{
    return sim->shutdown_count &&
           (sim->closes_early ? is_time(sim, sim->shutdowns[0].at) : sim->closing || host_is_done(sim));
}

void host_follow_plan(struct sim *sim)
{
    if (sim->base_ns == SIM_NEVER && (!sim->waits_for_boot || sim->ever_ready || sim->broken))
        sim->base_ns = sim->now_ns;
    for (unsigned i = 0; i < sim->job_count; i++) {
        struct sim_job *job = &sim->jobs[i];
        if (!job->submitted && !sim->closing && is_time(sim, job->submit_at))
            submit(sim, job);
        if (job->submitted && is_time(sim, job->cancel_at))
            cancel_map(sim, job);
        if (job->lane)
            follow_lane(sim, job);
    }
    if (is_time_to_shut_down(sim))
        shut_down(sim);
}

/* The host closes the pool's fds. */
static void maybe_lose_all(struct sim *sim)
{
    if (sim->was_lost || !sim_chance(&sim->random, sim->losses, 1000))
        return;
    sim_trace(sim, "all workers are lost");
    sim->was_lost = true;
    model_lose(sim);
    sched_lose(&sim->sched);
}

void host_have_a_whim(struct sim *sim)
{
    maybe_lose_all(sim);
    if (!sim_chance(&sim->random, sim->whims, 1000))
        return;
    struct sim_job *job = &sim->jobs[sim_between(&sim->random, 0, sim->job_count - 1)];
    if (is_lane(job) && job->count)
        cancel_task(sim, job, sim_between(&sim->random, 0, job->count - 1));
}

/* ---- what the engine wants ---- */

/* A default number of workers adapts to what the system has room for. */
static void adapt(struct sim *sim)
{
    unsigned live = 0;
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        live += sim->slots[i].state != SLOT_EMPTY;
    if (!sim->adapts || !live || sim->submitted_any || sim->broken)
        return;
    model_limit(sim, live);
    sched_limit_workers(&sim->sched, live);
}

static void start(struct sim *sim, unsigned slot)
{
    if (!sim_chance(&sim->random, sim->refusals, 100)) {
        sim_worker_start(sim, slot);
        return;
    }
    sim->totals.refused++;
    if (sim->refusals < 100 && sim_chance(&sim->random, 1, 2)) {
        sim_trace(sim, "the start in slot %u is put off", slot);
        model_put_off(sim, slot);
        sched_start_later(&sim->sched, slot);
        return;
    }
    sim_trace(sim, "the start in slot %u is refused", slot);
    model_refused(sim, slot);
    sched_not_started(&sim->sched, slot);
    adapt(sim);
}

/* Now and then what was to be written does not go through: the worker has a part of it, or nothing. */
static void maybe_be_cut_off(struct sim *sim, unsigned slot)
{
    if (!sim_chance(&sim->random, sim->unsent, 300))
        return;
    sim_trace(sim, "slot %u cannot be reached any more", slot);
    sim->workers[slot].cut_off = true;
    model_unreachable(sim, slot);
    sched_unreachable(&sim->sched, slot);
}

static void send(struct sim *sim, const struct sched_effect *effect)
{
    struct sim_job *job = model_find_job(sim, effect->job);
    const struct span *span = effect->span;
    if (sim_chance(&sim->random, sim->unsent, 100)) {
        sim_trace(sim, "there is no memory to send this to slot %u", effect->slot);
        sim->totals.unsent++;
        job->unsent_slots |= 1u << effect->slot;
        model_unsent(sim, effect->slot, -ENOMEM);
        sched_unsent(&sim->sched, effect->slot, -ENOMEM);
        return;
    }
    bool stop = job->given.stop_on_error && job->given.kind == JOB_FIXED;
    struct sim_run run = {job, span->first, span->count, 0, effect->stepwise, stop, 0};
    effect->span->begin_position = sim_worker_send(sim, effect->slot, run);
    model_sent(sim, effect->slot, effect->span->begin_position);
    maybe_be_cut_off(sim, effect->slot);
}

static void take_back(struct sim *sim, const struct sched_effect *effect)
{
    uint64_t items = sim_worker_take_back(sim, effect->slot, effect->count);
    sim_trace(sim, "slot %u: %llu items are taken back", effect->slot, U(items));
    model_taken_back(sim, effect->slot, items);
    sched_taken_back(&sim->sched, effect->slot, items);
}

void host_perform(struct sim *sim, const struct sched_effect *effect)
{
    switch (effect->kind) {
    case SCHED_START:
        start(sim, effect->slot);
        break;
    case SCHED_SEND:
        send(sim, effect);
        break;
    case SCHED_SIGNAL:
        sim_worker_signal(sim, effect->slot, effect->signal);
        break;
    case SCHED_REFRESH:
        sim->totals.refreshed++;
        sim_worker_refresh(sim, effect->slot);
        maybe_be_cut_off(sim, effect->slot);
        break;
    case SCHED_DISMISS:
        sim->totals.dismissed++;
        sim_worker_dismiss(sim, effect->slot);
        maybe_be_cut_off(sim, effect->slot);
        break;
    case SCHED_FAIL:
        drop_ended(model_find_job(sim, effect->job), effect->first, effect->count);
        break;
    case SCHED_END_JOB:
        free_job(model_find_job(sim, effect->job));
        break;
    case SCHED_BREAK:
        break;
    case SCHED_TAKE_BACK:
        take_back(sim, effect);
        break;
    }
}
