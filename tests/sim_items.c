/* sim_items: what the engine has to do with items, jobs and the broadcast, worked out anew from what it was told.
 *
 * Every item is in one state (enum sim_item_state) and moves only as model_move allows, so that an item which ends
 * twice, or is sent without being pending, is found at once. What is cancelled or refused while it is pending is
 * doomed: it has to be told next. A broadcast has an item for each slot, which is pending while the slot owes it; an
 * item that is left by a worker that is gone is none again. */
#include "sim.h"

#define U(x) ((unsigned long long)(x))

struct sim_job *model_find_job(const struct sim *sim, const struct job *job)
{
    for (unsigned i = 0; i < sim->job_count; i++)
        if (sim->jobs[i].job == job)
            return (struct sim_job *)&sim->jobs[i];
    sim_fail(sim, "an effect names a job that is not there");
}

/* ---- items ---- */

static bool is_unended(enum sim_item_state state)
{
    return state != ITEM_NONE && state != ITEM_ENDED;
}

bool model_is_live(const struct sim_job *job, uint64_t i)
{
    return is_unended((enum sim_item_state)job->items[i].state);
}

void model_move(struct sim *sim, struct sim_job *job, uint64_t i, enum sim_item_state from, enum sim_item_state to)
{
    struct sim_item *item = &job->items[i];
    if (i >= job->count || item->state != from)
        sim_fail(sim, "item %llu of job %u is in state %u, not %u", U(i), job->number,
                 i < job->count ? item->state : 99, from);
    item->state = (uint8_t)to;
    job->in_state[from]--;
    job->in_state[to]++;
    job->unended += (uint64_t)is_unended(to) - (uint64_t)is_unended(from);
    sim->unended += (uint64_t)is_unended(to) - (uint64_t)is_unended(from);
    if (to == ITEM_PENDING && i < job->front)
        job->front = i;
}

void model_end_item(struct sim *sim, struct sim_job *job, uint64_t i, enum sim_item_state from, int status)
{
    job->items[i].status = status;
    sim->totals.items++;
    model_move(sim, job, i, from, ITEM_ENDED);
}

void model_doom(struct sim *sim, struct sim_job *job, uint64_t i, enum sim_item_state from, int status)
{
    job->items[i].status = status;
    job->items[i].excused = true;
    model_move(sim, job, i, from, ITEM_DOOMED);
}

/* ---- jobs ---- */

/* Of a lane a worker may be left with items that were cancelled. */
static bool is_at_a_slot(const struct sim *sim, const struct sim_job *job)
{
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        for (unsigned k = 0; k < sim->slots[i].flight_count; k++)
            if (sim->slots[i].flights[k].job == job)
                return true;
    return false;
}

void model_end_if_over(struct sim *sim, struct sim_job *job)
{
    bool is_lane = job->given.kind == JOB_LANE;
    if (!job->unended && !job->ended && job->given.kind != JOB_BROADCAST)
        job->ended = !is_lane || (job->retired && !is_at_a_slot(sim, job));
}

void model_note_ended(struct sim *sim, struct sim_job *job)
{
    model_end_if_over(sim, job);
    model_wind_down(sim);
}

void model_cancel_job(struct sim *sim, struct sim_job *job, int status)
{
    if (!job->cancel_status)
        job->cancel_status = status;
    for (uint64_t i = 0; job->in_state[ITEM_PENDING] && i < job->count; i++)
        if (job->items[i].state == ITEM_PENDING)
            model_doom(sim, job, i, ITEM_PENDING, job->cancel_status);
}

void model_refuse(struct sim *sim, int status)
{
    if (!sim->refusal)
        sim->refusal = status;
    for (unsigned i = 0; i < sim->job_count; i++) {
        struct sim_job *job = &sim->jobs[i];
        if (job->submitted && job->given.kind != JOB_BROADCAST && job->in_state[ITEM_PENDING])
            model_cancel_job(sim, job, sim->refusal);
    }
    for (unsigned i = 0; sim->broadcast && i < sim->sched.slot_count; i++)
        model_leave_broadcast(sim, i);
    model_end_broadcast_if_due(sim);
}

void model_put_back(struct sim *sim, const struct sim_flight *flight, bool doubted)
{
    struct sim_job *job = flight->job;
    int status = job->cancel_status ? job->cancel_status : sim->refusal;
    for (uint64_t i = flight->first; i < flight->first + flight->count; i++) {
        if (job->items[i].state != ITEM_IN_FLIGHT)
            continue; /* it was cancelled */
        job->items[i].doubted |= doubted;
        if (status)
            model_doom(sim, job, i, ITEM_IN_FLIGHT, status);
        else
            model_move(sim, job, i, ITEM_IN_FLIGHT, ITEM_PENDING);
    }
}

static void stamp(struct sim *sim, struct sim_job *job, uint64_t i, uint64_t number)
{
    job->items[i].stamp = job->stamp;
    job->items[i].number = number;
    job->in_state[ITEM_NONE]++;
    model_move(sim, job, i, ITEM_NONE, ITEM_PENDING);
}

void model_submit(struct sim *sim, struct sim_job *job)
{
    job->submitted = true;
    job->count = job->given.count;
    job->stamp = ++sim->stamp;
    for (uint64_t i = 0; i < job->count; i++)
        stamp(sim, job, i, job->given.number);
    if (sim->refusal && job->count)
        model_cancel_job(sim, job, sim->refusal);
    model_note_ended(sim, job);
}

void model_add(struct sim *sim, struct sim_job *lane)
{
    lane->stamp = ++sim->stamp;
    stamp(sim, lane, lane->count++, sim->task_number++);
    sim->totals.tasks++;
    if (sim->refusal)
        model_cancel_job(sim, lane, sim->refusal);
}

void model_retire(struct sim *sim, struct sim_job *lane)
{
    lane->retired = true;
    model_end_if_over(sim, lane);
}

void model_cancel(struct sim *sim, struct sim_job *job, int status)
{
    model_cancel_job(sim, job, status);
}

void model_cancel_item(struct sim *sim, struct sim_job *lane, uint64_t i)
{
    struct sim_item *item = &lane->items[i];
    enum sim_item_state state = (enum sim_item_state)item->state;
    item->excused = true;
    model_end_item(sim, lane, i, state, POOL_ECANCELED);
    if (state == ITEM_IN_FLIGHT)
        model_take_for_task(sim, item->slot, lane, i);
    if (state == ITEM_FAILING)
        sim->slots[item->slot].fail_job = NULL;
    model_note_ended(sim, lane);
}

/* ---- the broadcast ---- */

bool model_owes(const struct sim *sim, unsigned slot)
{
    return sim->broadcast && sim->broadcast->items[slot].state == ITEM_PENDING;
}

bool model_is_stranded(const struct sim *sim)
{
    return sim->broadcast && !sim->broadcast->unended;
}

void model_take_part(struct sim *sim, unsigned slot)
{
    struct sim_job *job = sim->broadcast;
    struct sim_item *item = &job->items[slot];
    if (job->failed || model_is_live(job, slot))
        return;
    item->attempts = item->unread_deaths = 0;
    if (item->state == ITEM_ENDED)
        model_move(sim, job, slot, ITEM_ENDED, ITEM_NONE);
    model_move(sim, job, slot, ITEM_NONE, ITEM_PENDING);
}

void model_end_broadcast_if_due(struct sim *sim)
{
    struct sim_job *job = sim->broadcast;
    if (!job || job->unended || (!job->ran && !sim->refusal))
        return;
    sim->broadcast = NULL;
    job->ended = true;
    model_wind_down(sim);
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        model_replace_if_worn(sim, i);
}

void model_end_part(struct sim *sim, unsigned slot, enum sim_item_state from, bool has_run)
{
    struct sim_job *job = sim->broadcast;
    model_move(sim, job, slot, from, has_run ? ITEM_ENDED : ITEM_NONE);
    job->ran += has_run;
    model_end_broadcast_if_due(sim);
}

void model_leave_broadcast(struct sim *sim, unsigned slot)
{
    if (model_owes(sim, slot))
        model_end_part(sim, slot, ITEM_PENDING, false);
}

void model_broadcast(struct sim *sim, struct sim_job *job)
{
    job->submitted = true;
    job->stamp = ++sim->stamp;
    job->count = sim->sched.slot_count;
    job->in_state[ITEM_NONE] = job->count;
    sim->totals.broadcasts++;
    sim->broadcast = job;
    for (unsigned i = 0; i < sim->sched.slot_count && !sim->refusal; i++) {
        const struct sim_slot *slot = &sim->slots[i];
        if (slot->state == SLOT_READY || (slot->state == SLOT_STARTING && !slot->unwanted))
            model_take_part(sim, i);
    }
    model_end_broadcast_if_due(sim);
}
