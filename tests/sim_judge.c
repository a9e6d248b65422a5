/* sim_judge: whether each effect of the engine may come, whether one is missing when no more come, and whether the engine and the
 * model are of one mind after every step. */
#include "sim.h"
#include <signal.h>

/* The documented bounds of what is in flight at a slot. */
#define QUEUED_NS    (4 * SIM_MS)
#define QUEUED_BYTES ((uint64_t)512 << 10)
#define CHUNK_NS     (500 * SIM_US)
#define CHUNK_BYTES  ((uint64_t)128 << 10)

#define U(x) ((unsigned long long)(x))

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- effects ---- */

static uint64_t pending_items(const struct sim *sim)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < sim->job_count; i++)
        count += sim->jobs[i].submitted ? sim->jobs[i].pending : 0;
    return count;
}

static unsigned count_idle(const struct sim *sim)
{
    unsigned count = 0;
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        count += sim->slots[i].state == SLOT_READY && !sim->slots[i].flight_count;
    return count;
}

/* Whether one more worker is of use: the first ones and those that failed always are, others when items wait for nobody, that is
 * for none of the `idle` that are ready and none that is starting. */
static bool wants_worker(const struct sim *sim, unsigned idle)
{
    uint64_t waiting = 0;
    for (unsigned i = 0; i < sim->job_count; i++)
        waiting += sim->jobs[i].submitted && !sim->jobs[i].cancel_status ? sim->jobs[i].pending : 0;
    bool over = sim->broken || (sim->closing && !model_work_is_left(sim));
    return !over && (sim->starts_owed || waiting > model_count(sim, SLOT_STARTING) + idle);
}

static void judge_number(const struct sim *sim, const struct sched_effect *effect)
{
    unsigned live = 0;
    for (unsigned i = 0; i < sim->sched.slot_count; i++) {
        const struct sim_slot *other = &sim->slots[i];
        live += other->numbered;
        if (other->numbered && other->number == effect->worker_id)
            sim_fail(sim, "slots %u and %u have the same worker number %u", i, effect->slot, effect->worker_id);
    }
    if (live >= sim->config.workers || effect->worker_id >= sim->config.workers)
        sim_fail(sim, "worker number %u is started beside %u others", effect->worker_id, live);
}

static void start_effect(struct sim *sim, const struct sched_effect *effect)
{
    struct sim_slot *slot = &sim->slots[effect->slot];
    judge_number(sim, effect);
    if (slot->state != SLOT_EMPTY)
        sim_fail(sim, "a start in slot %u, which is %s", effect->slot, slot_state_name(slot->state));
    if (sim->now_ns < sim->next_start_ns)
        sim_fail(sim, "a start %llu ns before the pause is over", U(sim->next_start_ns - sim->now_ns));
    if (!wants_worker(sim, 0)) /* workers that are about to be gone count against the idle ones */
        sim_fail(sim, "a start that nobody needs");
    sim->starts_owed -= sim->starts_owed > 0;
    *slot = (struct sim_slot){.numbered = true, .number = effect->worker_id};
    model_await_ready(sim, slot);
}

/* Rule 5, for what is there already. */
static void judge_queue(const struct sim *sim, unsigned index)
{
    const struct sim_slot *slot = &sim->slots[index];
    uint64_t bytes = 0, cost_ns = 0;
    for (unsigned i = 0; i < slot->flight_count; i++) {
        bytes += slot->flights[i].bytes;
        cost_ns += slot->flights[i].cost_ns;
    }
    if (slot->flight_count >= SCHED_MAX_RUNS || bytes >= QUEUED_BYTES || cost_ns >= QUEUED_NS)
        sim_fail(sim, "slot %u has %u runs, %llu bytes and %llu ns of work, and is sent more", index,
                 slot->flight_count, U(bytes), U(cost_ns));
    if (slot->flight_count && slot->flights[0].doubted)
        sim_fail(sim, "slot %u is sent more behind items that may end its worker", index);
}

static void judge_chunk(const struct sim *sim, const struct sim_slot *slot, const struct sim_flight *flight)
{
    const struct job *given = &flight->job->given;
    bool adaptive = !given->chunk_size;
    if (flight->count > 1 && flight->bytes > (adaptive ? CHUNK_BYTES : (uint64_t)64 << 20))
        sim_fail(sim, "a chunk of %llu bytes", U(flight->bytes));
    if (flight->count > 1 && adaptive && !flight->doubted && (flight->cost_ns > CHUNK_NS || !flight->cost_ns))
        sim_fail(sim, "a chunk of %llu ns", U(flight->cost_ns));
    if (!adaptive && !flight->doubted && flight->count > given->chunk_size)
        sim_fail(sim, "a chunk of %llu items, where %llu were asked for", U(flight->count), U(given->chunk_size));
    if (flight->count > slot->tasks_left)
        sim_fail(sim, "%llu items for a worker that may take %llu more", U(flight->count), U(slot->tasks_left));
    if (given->at_most_once && (flight->count > 1 || slot->flight_count))
        sim_fail(sim, "an item that must not run twice is not sent by itself");
}

static size_t bytes_of(const struct sim_job *job, uint64_t first, uint64_t count)
{
    size_t larger = job->given.item_size > job->given.result_size ? job->given.item_size : job->given.result_size;
    size_t bytes = 0;
    for (uint64_t i = first; i < first + count; i++)
        bytes += job->given.kind == JOB_FIXED ? larger : job->inputs[i].size + 64;
    return bytes;
}

static void send_effect(struct sim *sim, const struct sched_effect *effect)
{
    struct sim_slot *slot = &sim->slots[effect->slot];
    const struct span *span = effect->span;
    struct sim_job *job = model_find_job(sim, effect->job);
    if (slot->state != SLOT_READY || slot->worn)
        sim_fail(sim, "items for slot %u, which is %s", effect->slot, slot_state_name(slot->state));
    if (job->cancel_status || span->job != effect->job || !span->count)
        sim_fail(sim, "items of job %u are sent though they must not be", job->number);
    struct sim_flight flight = {.job = job, .first = span->first, .count = span->count, .stepwise = effect->stepwise};
    bool doubted = job->items[span->first].doubted;
    for (uint64_t i = span->first; i < span->first + span->count; i++) {
        model_move(sim, job, i, ITEM_PENDING, ITEM_IN_FLIGHT);
        if (job->items[i].doubted != doubted)
            sim_fail(sim, "items that are in doubt are sent with others");
    }
    if (effect->stepwise != (doubted || job->given.timeout_ns || job->given.at_most_once))
        sim_fail(sim, "items %llu.. of job %u are %ssent stepwise", U(span->first), job->number,
                 effect->stepwise ? "" : "not ");
    flight.bytes = bytes_of(job, span->first, span->count);
    flight.cost_ns = span->count * job_item_ns(effect->job);
    flight.doubted = doubted;
    judge_chunk(sim, slot, &flight);
    judge_queue(sim, effect->slot);
    slot->flights[slot->flight_count++] = flight;
    if (slot->tasks_left != SIM_NEVER)
        slot->tasks_left -= flight.count;
    if (slot->flight_count == 1)
        model_arm_deadline(sim, slot);
}

static void fail_one(struct sim *sim, const struct sched_effect *effect)
{
    struct sim_slot *slot = &sim->slots[effect->slot];
    struct sim_job *job = model_find_job(sim, effect->job);
    if (slot->fail_job != job || slot->fail_item != effect->first || effect->count != 1 ||
        slot->fail_status != effect->status || slot->fail_attempts != effect->attempts)
        sim_fail(sim, "item %llu of job %u fails with %d after %u attempts; expected: %d after %u", U(effect->first),
                 job->number, effect->status, effect->attempts, slot->fail_job ? slot->fail_status : 0,
                 slot->fail_job ? slot->fail_attempts : 0);
    slot->fail_job = NULL;
    model_end_item(sim, job, effect->first, ITEM_FAILING, effect->status);
    if (job->given.stop_on_error)
        model_cancel_job(job, POOL_ECANCELED);
    model_note_ended(sim, job);
}

static void fail_pending(struct sim *sim, const struct sched_effect *effect)
{
    struct sim_job *job = model_find_job(sim, effect->job);
    if (!job->cancel_status || job->cancel_status != effect->status)
        sim_fail(sim, "items of job %u end with %d, not %d", job->number, effect->status, job->cancel_status);
    for (uint64_t i = 0; i < effect->count; i++)
        model_end_item(sim, job, effect->first + i, ITEM_PENDING, effect->status);
    sim->totals.canceled += effect->count;
    model_note_ended(sim, job);
}

static void signal_effect(struct sim *sim, const struct sched_effect *effect)
{
    struct sim_slot *slot = &sim->slots[effect->slot];
    if (!slot->signal || slot->signal != effect->signal)
        sim_fail(sim, "signal %d for slot %u, not %d", effect->signal, effect->slot, slot->signal);
    slot->signal = 0;
}

static void flag_effect(struct sim *sim, const struct sched_effect *effect, bool *expected, const char *name)
{
    if (!*expected)
        sim_fail(sim, "slot %u is to %s, which nobody needs", effect->slot, name);
    *expected = false;
}

static void end_job_effect(struct sim *sim, const struct sched_effect *effect)
{
    struct sim_job *job = model_find_job(sim, effect->job);
    if (!job->ended || job->told)
        sim_fail(sim, "the end of job %u is told though %llu items have not ended", job->number, U(job->unended));
    job->told = true;
}

void judge_effect(struct sim *sim, const struct sched_effect *effect)
{
    struct sim_slot *slot = effect->slot == SCHED_NO_SLOT ? NULL : &sim->slots[effect->slot];
    switch (effect->kind) {
    case SCHED_START:
        start_effect(sim, effect);
        break;
    case SCHED_SEND:
        send_effect(sim, effect);
        break;
    case SCHED_SIGNAL:
        signal_effect(sim, effect);
        break;
    case SCHED_REFRESH:
        flag_effect(sim, effect, &slot->refresh, "start afresh");
        break;
    case SCHED_DISMISS:
        flag_effect(sim, effect, &slot->dismiss, "end in order");
        break;
    case SCHED_FAIL:
        if (slot)
            fail_one(sim, effect);
        else
            fail_pending(sim, effect);
        break;
    case SCHED_END_JOB:
        end_job_effect(sim, effect);
        break;
    case SCHED_BREAK:
        if (!sim->broken || sim->break_told)
            sim_fail(sim, "the pool is not broken, or was told to be before");
        sim->break_told = true;
        break;
    }
}

/* ---- after every step ---- */

static void check_slots(const struct sim *sim)
{
    const struct sched *sched = &sim->sched;
    unsigned busy = 0;
    for (unsigned i = 0; i < sched->slot_count; i++) {
        const struct sim_slot *slot = &sim->slots[i];
        const struct span *head = sched_head(sched, i);
        const struct sim_flight *flight = slot->flight_count ? &slot->flights[0] : NULL;
        busy += flight != NULL;
        if (sched_state(sched, i) != slot->state)
            sim_fail(sim, "slot %u is %s; it should be %s", i, slot_state_name(sched_state(sched, i)),
                     slot_state_name(slot->state));
        if (!head != !flight ||
            (head && (head->job != flight->job->job || head->first != flight->first || head->count != flight->count)))
            sim_fail(sim, "what slot %u has to report next is not what it was sent", i);
        if (slot->state != SLOT_EMPTY && sched_verdict(sched, i) != slot->verdict)
            sim_fail(sim, "the verdict on slot %u is %d, not %d", i, sched_verdict(sched, i), slot->verdict);
    }
    for (enum slot_state state = 0; state < SLOT_STATE_COUNT; state++)
        if (sched->state_count[state] != model_count(sim, state))
            sim_fail(sim, "%u slots are %s, not %u", model_count(sim, state), slot_state_name(state),
                     sched->state_count[state]);
    if (busy != sched->busy_count)
        sim_fail(sim, "%u slots are busy, not %u", busy, sched->busy_count);
}

static void check_jobs(const struct sim *sim)
{
    uint64_t live_jobs = 0;
    for (unsigned i = 0; i < sim->job_count; i++) {
        const struct sim_job *job = &sim->jobs[i];
        if (!job->submitted || job->told)
            continue;
        live_jobs += !job->ended;
        if (job->pending + job->in_flight + job->failing != job->unended || job->job->unended_count != job->unended ||
            job->job->pending_count != job->pending || job->job->cancel_status != job->cancel_status)
            sim_fail(sim, "job %u has %llu items that have not ended, %llu pending; it should be %llu and %llu", i,
                     U(job->job->unended_count), U(job->job->pending_count), U(job->unended), U(job->pending));
    }
    if (sim->sched.job_count != live_jobs || sim->sched.pending_items != pending_items(sim))
        sim_fail(sim, "%llu jobs and %llu pending items, not %llu and %llu", U(sim->sched.job_count),
                 U(sim->sched.pending_items), U(live_jobs), U(pending_items(sim)));
}

void judge_step(const struct sim *sim)
{
    check_slots(sim);
    check_jobs(sim);
    if (sim->sched.broken != sim->broken || sim->sched.failed_starts != sim->failed_starts)
        sim_fail(sim, "%u starts failed in a row, broken: %d; it should be %u, %d", sim->sched.failed_starts,
                 sim->sched.broken, sim->failed_starts, sim->broken);
}

static bool has_room(const struct sim *sim)
{
    unsigned ending = model_count(sim, SLOT_RETIRING), empty = model_count(sim, SLOT_EMPTY);
    return empty && sim->sched.slot_count - empty - ending < sim->config.workers;
}

/* Whether work lies about that a worker without any could have. */
static bool is_idle_for_nothing(const struct sim *sim)
{
    bool waiting = false;
    for (unsigned i = 0; i < sim->job_count; i++)
        waiting |= sim->jobs[i].submitted && sim->jobs[i].pending;
    for (unsigned i = 0; waiting && i < sim->sched.slot_count; i++) {
        const struct sim_slot *slot = &sim->slots[i];
        if (slot->state == SLOT_READY && !slot->flight_count && !slot->worn && slot->tasks_left)
            return true;
    }
    return false;
}

void judge_quiet(const struct sim *sim)
{
    uint64_t due_ns = SIM_NEVER;
    for (unsigned i = 0; i < sim->sched.slot_count; i++) {
        const struct sim_slot *slot = &sim->slots[i];
        due_ns = earlier(due_ns, slot->due_ns);
        if (slot->signal || slot->refresh || slot->dismiss || slot->fail_job)
            sim_fail(sim, "slot %u: the engine still owes signal %d, a fresh start (%d), an end (%d), a failure (%d)",
                     i, slot->signal, slot->refresh, slot->dismiss, slot->fail_job != NULL);
    }
    if (sched_wake_ns(&sim->sched) > due_ns)
        sim_fail(sim, "the engine would sleep beyond what is due");
    for (unsigned i = 0; i < sim->job_count; i++) {
        const struct sim_job *job = &sim->jobs[i];
        if (job->submitted && ((job->ended && !job->told) || (job->cancel_status && job->pending)))
            sim_fail(sim, "job %u has ended or was cancelled, and that is not told", i);
    }
    if (sim->broken != sim->break_told)
        sim_fail(sim, "the pool is broken, and that is not told");
    if (wants_worker(sim, count_idle(sim)) && has_room(sim) && sim->now_ns >= sim->next_start_ns)
        sim_fail(sim, "a worker is wanted, and none is started");
    if (is_idle_for_nothing(sim))
        sim_fail(sim, "a worker is idle while items wait");
}

/* ---- when all is over ---- */

/* Rule 2: who failed with what. */
static void check_item(const struct sim *sim, const struct sim_job *job, uint64_t i)
{
    const struct sim_item *item = &job->items[i];
    bool of_death = item->status == POOL_ECRASH || item->status == POOL_EPROTO;
    bool may_end_worker = item->fate == FATE_KILLS || item->fate == FATE_GARBAGE || item->fate == FATE_CLOSES ||
                          item->fate == FATE_HANGS || item->fate == FATE_SLOW;
    if (item->state != ITEM_ENDED)
        sim_fail(sim, "item %llu of job %u has not ended", U(i), job->number);
    if (!may_end_worker && (item->status == POOL_ETIMEOUT || (of_death && !item->unlucky)))
        sim_fail(sim, "item %llu of job %u fails with %d and did nothing", U(i), job->number, item->status);
    if (!job->cancel_status && !of_death && item->status != POOL_ETIMEOUT && item->status != 0 && item->status != 1)
        sim_fail(sim, "item %llu of job %u ends with %d", U(i), job->number, item->status);
    if (item->fate == FATE_HANGS && item->offences == SIM_ALWAYS && item->begun && item->status == 0)
        sim_fail(sim, "item %llu of job %u never ends, and ended", U(i), job->number);
    if (item->status == 0 && !item->begun)
        sim_fail(sim, "item %llu of job %u ended without having begun", U(i), job->number);
}

void judge_end(const struct sim *sim)
{
    for (unsigned i = 0; i < sim->job_count; i++) {
        if (!sim->jobs[i].told)
            sim_fail(sim, "the end of job %u was never told", i);
        for (uint64_t k = 0; k < sim->jobs[i].given.count; k++)
            check_item(sim, &sim->jobs[i], k);
    }
}
