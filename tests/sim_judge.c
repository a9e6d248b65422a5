/* sim_judge: whether each effect of the engine may come, whether one is missing when no more come, and whether the
 * engine and the model are of one mind after every step. */
#include "sim.h"
#include <errno.h>
#include <signal.h>

/* The documented bounds of what is in flight at a slot. */
#define QUEUED_NS    (8 * SIM_MS)
#define SHORT_NS     (20 * SIM_US)  /* an item that waits for a busy worker, if CPUs are short */
#define CROWD_NS     SIM_MS         /* no longer than that */
#define LITTLE_NS    (250 * SIM_US) /* or than that, where there is a CPU but little to do */
#define STAYS_NS     (250 * SIM_US) /* or what is behind an item that has run so long */
#define QUEUED_BYTES ((uint64_t)512 << 10)
#define CHUNK_NS     (500 * SIM_US)
#define CHUNK_BYTES  ((uint64_t)128 << 10)
#define MANY_TASKS   8 /* for each worker */

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
        if (sim->jobs[i].submitted && sim->jobs[i].given.kind != JOB_BROADCAST)
            count += sim->jobs[i].in_state[ITEM_PENDING];
    return count;
}

static unsigned count_idle(const struct sim *sim)
{
    unsigned count = 0;
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        count += sim->slots[i].state == SLOT_READY && !sim->slots[i].flight_count;
    return count;
}

static bool is_tried(const struct sim *sim)
{
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        if (sim->slots[i].state == SLOT_STARTING && !sim->slots[i].fails_along)
            return true;
    return false;
}

/* Whether one more worker is of use: the first ones and those that failed always are, one for a broadcast that nobody
 * takes part in, others when items wait for nobody, that is for none of the `idle` that are ready and none that is
 * starting. But one alone while starts fail, beside those that began before. */
static bool wants_worker(const struct sim *sim, unsigned idle)
{
    bool over = sim->refusal || (sim->closing && !sim->unended && !sim->broadcast);
    bool wait = pending_items(sim) > model_count(sim, SLOT_STARTING) + idle;
    bool one_tries = sim->failed_starts && !model_count(sim, SLOT_READY) && is_tried(sim);
    return !over && !one_tries && (sim->starts_owed || model_is_stranded(sim) || wait);
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
    if (sim->broadcast)
        model_take_part(sim, effect->slot);
}

/* What must not run twice, or is answered through other pipes, or stops its job. */
static bool goes_alone(const struct job *given)
{
    return given->at_most_once || given->has_fds || (given->stop_on_error && given->kind == JOB_BYTES);
}

static bool model_is_live_part(const struct sim *sim, unsigned slot)
{
    return sim->broadcast && model_is_live(sim->broadcast, slot);
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
    bool is_lone = slot->flight_count == 1 && slot->flights[0].count == 1;
    if (is_lone && !slot->has_ended && sim->config.workers > 1)
        sim_fail(sim, "slot %u is sent more behind its first item, from where it cannot be taken back", index);
    if (slot->flight_count >= SCHED_MAX_RUNS || bytes >= QUEUED_BYTES ||
        (cost_ns >= QUEUED_NS && !(is_lone && slot->has_ended)))
        sim_fail(sim, "slot %u has %u runs, %llu bytes and %llu ns of work, and is sent more", index,
                 slot->flight_count, U(bytes), U(cost_ns));
    if (model_is_live_part(sim, index))
        sim_fail(sim, "slot %u is sent more though it has not run the broadcast", index);
    if (slot->flight_count && goes_alone(&slot->flights[0].job->given))
        sim_fail(sim, "slot %u is sent more behind an item that goes alone", index);
    if (slot->flight_count && !job_item_ns(slot->flights[0].job->job))
        sim_fail(sim, "slot %u is sent more behind items of which nobody knows how long they take", index);
    if (slot->flight_count && sim->now_ns - slot->moved_ns >= SIM_LONG_NS)
        sim_fail(sim, "slot %u is sent more behind an item that it has been at for long", index);
    if (slot->flight_count && slot->flights[0].doubted)
        sim_fail(sim, "slot %u is sent more behind items that may end its worker", index);
}

/* Or is expected to be replied to with much. */
static bool any_large(const struct sim_flight *flight)
{
    const struct sim_job *job = flight->job;
    bool any = job->large_replies > 1;
    for (uint64_t i = flight->first; i < flight->first + flight->count; i++)
        any |= job->inputs[i].size > SIM_LARGE_BYTES;
    return any && job->given.kind != JOB_FIXED;
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
    if (adaptive && flight->count > 1 && any_large(flight))
        sim_fail(sim, "items of job %u, of which some are large, are sent together", flight->job->number);
    if (flight->count > slot->tasks_left)
        sim_fail(sim, "%llu items for a worker that may take %llu more", U(flight->count), U(slot->tasks_left));
    if (goes_alone(given) && (flight->count > 1 || slot->flight_count))
        sim_fail(sim, "an item that goes alone is not sent by itself");
}

static size_t bytes_of(const struct sim_job *job, uint64_t first, uint64_t count)
{
    size_t larger = job->given.item_size > job->given.result_size ? job->given.item_size : job->given.result_size;
    size_t bytes = 0;
    for (uint64_t i = first; i < first + count; i++)
        bytes += job->given.kind == JOB_FIXED ? larger : job->inputs[i].size + 64;
    return bytes;
}

static void broadcast_effect(struct sim *sim, const struct sched_effect *effect, struct sim_job *job)
{
    struct sim_slot *slot = &sim->slots[effect->slot];
    if (job != sim->broadcast || effect->span->first != effect->slot || effect->span->count != 1 || !effect->stepwise)
        sim_fail(sim, "what is sent to slot %u is not its part of the broadcast", effect->slot);
    if (slot->state != SLOT_READY)
        sim_fail(sim, "a broadcast for slot %u, which is %s", effect->slot, slot_state_name(slot->state));
    model_move(sim, job, effect->slot, ITEM_PENDING, ITEM_IN_FLIGHT);
    slot->flights[slot->flight_count++] =
        (struct sim_flight){.job = job, .first = effect->slot, .count = 1, .stepwise = true};
}

/* Nothing that is pending was submitted before it. */
static void judge_turn(struct sim *sim, const struct sim_job *job, uint64_t first)
{
    for (unsigned i = 0; i < sim->job_count; i++) {
        struct sim_job *other = &sim->jobs[i];
        if (!other->in_state[ITEM_PENDING] || other->given.kind == JOB_BROADCAST)
            continue;
        while (other->items[other->front].state != ITEM_PENDING)
            other->front++;
        uint64_t number = other->items[other->front].number;
        bool map_first = job->given.kind == JOB_LANE && other->given.kind != JOB_LANE;
        if (number < job->items[first].number || (number == job->items[first].number && map_first) ||
            (other == job && other->front < first))
            sim_fail(sim, "item %llu of job %u is sent before item %llu of job %u, which was submitted earlier",
                     U(first), job->number, U(other->front), i);
    }
}

static unsigned count_busy(const struct sim *sim)
{
    unsigned count = 0;
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        count += sim->slots[i].flight_count > 0;
    return count;
}

static bool is_short(const struct sim_job *job)
{
    uint64_t item_ns = job_item_ns(job->job);
    return item_ns && item_ns < SHORT_NS && !goes_alone(&job->given);
}

/* More workers than CPUs would be woken for short items. */
static bool crowds(const struct sim *sim, const struct sim_job *job)
{
    return is_short(job) && count_busy(sim) >= sim->config.cpus;
}

/* One worker has done all of it before another is awake. */
static bool is_little(const struct sim *sim, const struct sim_job *job)
{
    return is_short(job) && sim->unended * job_item_ns(job->job) < SHORT_NS;
}

static unsigned count_sharers(const struct sim *sim, const struct sim_job *job)
{
    if (is_little(sim, job))
        return 1;
    return crowds(sim, job) && sim->config.cpus < sim->config.workers ? sim->config.cpus : sim->config.workers;
}

static bool is_idle(const struct sim_slot *slot)
{
    return slot->state == SLOT_READY && !slot->flight_count && !slot->taken && !slot->worn && slot->tasks_left;
}

/* Whether somebody without work could have what waits at slot. */
static bool is_worth_taking(const struct sim *sim, const struct sim_slot *slot, uint64_t cost_ns)
{
    bool worth =
        sim->now_ns - slot->moved_ns >= STAYS_NS || (count_busy(sim) < sim->config.cpus && cost_ns >= SIM_WORTH_NS);
    bool any_idle = false;
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        any_idle |= is_idle(&sim->slots[i]) && !model_is_live_part(sim, i);
    return worth && any_idle && !sim->refusal && !pending_items(sim);
}

static void take_effect(struct sim *sim, const struct sched_effect *effect)
{
    struct sim_slot *slot = &sim->slots[effect->slot];
    uint64_t cost_ns, items = model_takeable(slot, &cost_ns);
    bool keeps_one =
        items > 1 && model_may_keep_one(slot) && !model_has_gap(slot) && sim->now_ns - slot->moved_ns < SIM_STUCK_NS;
    bool as_stalled = (slot->take || slot->is_stalled) && effect->count == items - keeps_one;
    bool for_idle = !slot->take && effect->count == items - items / 2 && is_worth_taking(sim, slot, cost_ns);
    if (slot->state != SLOT_READY || !items)
        sim_fail(sim, "slot %u, which is %s, is asked for what it has not", effect->slot, slot_state_name(slot->state));
    if (!as_stalled && !for_idle)
        sim_fail(sim, "slot %u is asked for the last %llu of %llu items that wait there", effect->slot,
                 U(effect->count), U(items));
    sim->totals.asked++;
    slot->asked = true;
    slot->is_stalled = false;
}

static void send_effect(struct sim *sim, const struct sched_effect *effect)
{
    struct sim_slot *slot = &sim->slots[effect->slot];
    const struct span *span = effect->span;
    struct sim_job *job = model_find_job(sim, effect->job);
    if (job->given.kind == JOB_BROADCAST) {
        broadcast_effect(sim, effect, job);
        return;
    }
    if (slot->state != SLOT_READY || slot->worn || slot->taken)
        sim_fail(sim, "items for slot %u, which is %s", effect->slot, slot_state_name(slot->state));
    if (job->cancel_status || span->job != effect->job || !span->count)
        sim_fail(sim, "items of job %u are sent though they must not be", job->number);
    struct sim_flight flight = {.job = job, .first = span->first, .count = span->count, .stepwise = effect->stepwise};
    judge_turn(sim, job, span->first);
    bool doubted = job->items[span->first].doubted;
    for (uint64_t i = span->first; i < span->first + span->count; i++) {
        model_move(sim, job, i, ITEM_PENDING, ITEM_IN_FLIGHT);
        job->items[i].slot = (uint8_t)effect->slot;
        if (job->items[i].doubted != doubted)
            sim_fail(sim, "items that are in doubt are sent with others");
    }
    if (effect->stepwise != (doubted || job->given.timeout_ns || job->given.has_deadlines || job->given.at_most_once))
        sim_fail(sim, "items %llu.. of job %u are %ssent stepwise", U(span->first), job->number,
                 effect->stepwise ? "" : "not ");
    flight.bytes = bytes_of(job, span->first, span->count);
    flight.cost_ns = span->count * job_item_ns(effect->job);
    flight.doubted = doubted;
    judge_chunk(sim, slot, &flight);
    judge_queue(sim, effect->slot);
    uint64_t were_pending = job->in_state[ITEM_PENDING] + flight.count;
    bool few = were_pending < MANY_TASKS * count_sharers(sim, job) && job_item_ns(effect->job) < SHORT_NS;
    if (job->given.kind == JOB_LANE && slot->flight_count && few)
        sim_fail(sim, "short tasks of job %u are queued, and there are %llu only", job->number, U(were_pending));
    slot->flights[slot->flight_count++] = flight;
    slot->sent_ns = sim->now_ns;
    slot->asked = false;
    if (slot->tasks_left != SIM_NEVER)
        slot->tasks_left -= flight.count;
    if (slot->flight_count == 1)
        model_arm_deadline(sim, slot);
}

static void fail_one(struct sim *sim, const struct sched_effect *effect)
{
    struct sim_slot *slot = &sim->slots[effect->slot];
    struct sim_job *job = model_find_job(sim, effect->job);
    if (slot->leaves)
        sim_fail(sim, "slot %u: an item fails before it is known how its worker ended", effect->slot);
    if (slot->fail_job != job || slot->fail_item != effect->first || effect->count != 1 ||
        slot->fail_status != effect->status || slot->fail_attempts != effect->attempts)
        sim_fail(sim, "item %llu of job %u fails with %d after %u attempts; expected: %d after %u", U(effect->first),
                 job->number, effect->status, effect->attempts, slot->fail_job ? slot->fail_status : 0,
                 slot->fail_job ? slot->fail_attempts : 0);
    slot->fail_job = NULL;
    if (job->given.kind == JOB_BROADCAST) {
        model_end_part(sim, (unsigned)effect->first, ITEM_FAILING, true);
        return;
    }
    model_end_item(sim, job, effect->first, ITEM_FAILING, effect->status);
    if (job->given.stop_on_error)
        model_cancel_job(sim, job, POOL_ECANCELED);
    model_note_ended(sim, job);
}

/* Only when nothing will ever come free. How much of the job that takes is for the engine to say. */
static void judge_shortage(struct sim *sim, struct sim_job *job, uint64_t i)
{
    if (!sim->memory_was_refused)
        sim_fail(sim, "item %llu of job %u ends for want of memory, of which there is enough", U(i), job->number);
    for (unsigned k = 0; k < sim->sched.slot_count; k++)
        if (sim->slots[k].flight_count)
            sim_fail(sim, "item %llu of job %u ends for want of memory, and slot %u would give some back", U(i),
                     job->number, k);
    uint64_t end = job->job->pending ? job->job->pending->first : job->count;
    for (; i < end; i++)
        if (job->items[i].state == ITEM_PENDING)
            model_doom(sim, job, i, ITEM_PENDING, -ENOMEM);
}

static void fail_pending(struct sim *sim, const struct sched_effect *effect)
{
    struct sim_job *job = model_find_job(sim, effect->job);
    if (job->given.kind == JOB_BROADCAST) {
        model_end_part(sim, (unsigned)effect->first, ITEM_DOOMED, true);
        return;
    }
    for (uint64_t i = effect->first; i < effect->first + effect->count; i++) {
        if (job->items[i].state == ITEM_PENDING && effect->status == -ENOMEM)
            judge_shortage(sim, job, i);
        if (job->items[i].status != effect->status)
            sim_fail(sim, "item %llu of job %u ends with %d, not %d", U(i), job->number, effect->status,
                     job->items[i].status);
        model_end_item(sim, job, i, ITEM_DOOMED, effect->status);
    }
    sim->totals.canceled += effect->count;
    model_note_ended(sim, job);
}

static void signal_effect(struct sim *sim, const struct sched_effect *effect)
{
    struct sim_slot *slot = &sim->slots[effect->slot];
    if (slot->take) /* nothing could be asked for any more */
        model_end_taking(sim, effect->slot);
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
    case SCHED_TAKE_BACK:
        take_effect(sim, effect);
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
    for (unsigned i = 0; i < sim->job_count; i++) {
        const struct sim_job *job = &sim->jobs[i];
        if (!job->submitted || job->told)
            continue;
        bool of_broadcast = job->given.kind == JOB_BROADCAST;
        uint64_t pending = of_broadcast ? job->job->pending_count : job->in_state[ITEM_PENDING];
        if (job->job->unended_count != job->unended || job->job->pending_count != pending ||
            job->job->cancel_status != job->cancel_status)
            sim_fail(sim, "job %u has %llu items that have not ended, %llu pending; it should be %llu and %llu", i,
                     U(job->job->unended_count), U(job->job->pending_count), U(job->unended), U(pending));
    }
    if (sim->sched.unended_items != sim->unended || sim->sched.pending_items != pending_items(sim))
        sim_fail(sim, "%llu unended and %llu pending items, not %llu and %llu", U(sim->sched.unended_items),
                 U(sim->sched.pending_items), U(sim->unended), U(pending_items(sim)));
    if ((sim->sched.broadcast != NULL) != (sim->broadcast != NULL))
        sim_fail(sim, "there is %s broadcast", sim->broadcast ? "a" : "no");
}

static void check_counts(const struct sim *sim)
{
    const struct sched_counts *is = &sim->sched.counts, *due = &sim->counts;
    if (is->retried != due->retried || is->crashes != due->crashes || is->timeouts != due->timeouts ||
        is->recycled != due->recycled)
        sim_fail(sim, "%llu retried, %llu crashes, %llu deadlines, %llu recycled; it should be %llu, %llu, %llu, %llu",
                 U(is->retried), U(is->crashes), U(is->timeouts), U(is->recycled), U(due->retried), U(due->crashes),
                 U(due->timeouts), U(due->recycled));
}

void judge_step(const struct sim *sim)
{
    check_slots(sim);
    check_jobs(sim);
    check_counts(sim);
    if (sim->sched.broken != sim->broken || sim->sched.failed_starts != sim->failed_starts)
        sim_fail(sim, "%u starts failed in a row, broken: %d; it should be %u, %d", sim->sched.failed_starts,
                 sim->sched.broken, sim->failed_starts, sim->broken);
}

static bool has_room(const struct sim *sim)
{
    unsigned ending = model_count(sim, SLOT_RETIRING), empty = model_count(sim, SLOT_EMPTY);
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        ending += sim->slots[i].leaves;
    return empty && sim->sched.slot_count - empty - ending < sim->config.workers;
}

/* Whether a busy worker takes more, and so short items wait for it. Which job is the first in the queue is the engine's
 * to know; that it is the right one is judged when it is sent. */
static bool may_wait_for_others(const struct sim *sim)
{
    const struct sim_job *first = sim->sched.queue ? model_find_job(sim, sim->sched.queue) : NULL;
    uint64_t patience_ns = !first ? 0 : crowds(sim, first) ? CROWD_NS : is_little(sim, first) ? LITTLE_NS : 0;
    for (unsigned i = 0; i < sim->sched.slot_count; i++) {
        const struct sim_slot *slot = &sim->slots[i];
        const struct sim_flight *head = &slot->flights[0];
        if (slot->state == SLOT_READY && slot->flight_count && !slot->taken && !head->doubted &&
            sim->now_ns - slot->moved_ns < patience_ns && sched_wake_ns(&sim->sched) <= slot->moved_ns + SIM_LONG_NS)
            return true;
    }
    return false;
}

/* What waits behind an item that takes long is asked for. */
static void judge_tails(const struct sim *sim)
{
    for (unsigned i = 0; i < sim->sched.slot_count; i++) {
        const struct sim_slot *slot = &sim->slots[i];
        uint64_t cost_ns, since_ns = slot->moved_ns > slot->sent_ns ? slot->moved_ns : slot->sent_ns;
        since_ns = since_ns > sim->refused_ns ? since_ns : sim->refused_ns;
        if (slot->state != SLOT_READY || slot->asked || sim->config.workers == 1 || !model_takeable(slot, &cost_ns))
            continue;
        if (is_worth_taking(sim, slot, cost_ns))
            sim_fail(sim, "somebody has nothing to do, and slot %u is not asked for what waits there", i);
        uint64_t due_ns = model_stalls_ns(slot) + since_ns - slot->moved_ns; /* past, if the next proved to be short */
        if (sched_wake_ns(&sim->sched) > (due_ns > sim->now_ns ? due_ns : sim->now_ns))
            sim_fail(sim, "slot %u will not be asked for what waits there", i);
    }
}

/* Whether work lies about that a worker without any could have. */
static bool is_idle_for_nothing(const struct sim *sim)
{
    bool waiting = pending_items(sim) && !sim->memory_was_refused;
    for (unsigned i = 0; waiting && i < sim->sched.slot_count; i++) {
        const struct sim_slot *slot = &sim->slots[i];
        if (is_idle(slot))
            return !may_wait_for_others(sim);
    }
    return false;
}

static bool is_listened_to(const struct sched_nap *nap, unsigned slot)
{
    for (unsigned i = 0; i < nap->listened_count; i++)
        if (nap->listened[i] == slot)
            return true;
    return false;
}

/* While the parent sleeps all who work have something to go on with, or are listened to, and nobody who has not could
 * be given anything; and nothing falls due. */
static void judge_nap(const struct sim *sim)
{
    struct sched_nap nap = sched_nap(&sim->sched);
    if (!nap.ns)
        return;
    for (unsigned i = 0; i < sim->sched.slot_count; i++) {
        const struct sim_slot *slot = &sim->slots[i];
        bool runs_out = slot->taken || (slot->flight_count == 1 && slot->flights[0].count == 1);
        if (slot->state != SLOT_EMPTY && (slot->state != SLOT_READY || (runs_out && !is_listened_to(&nap, i))))
            sim_fail(sim, "the parent would sleep, and slot %u is %s and has nothing to go on with", i,
                     slot_state_name(slot->state));
        if (slot->due_ns < sim->now_ns + nap.ns)
            sim_fail(sim, "the parent would sleep beyond what is due at slot %u", i);
    }
    if (!pending_items(sim))
        sim_fail(sim, "the parent would sleep, and nothing waits");
}

void judge_quiet(const struct sim *sim)
{
    uint64_t due_ns = SIM_NEVER;
    judge_nap(sim);
    if (!sim->memory_was_refused)
        judge_tails(sim);
    for (unsigned i = 0; i < sim->sched.slot_count; i++) {
        const struct sim_slot *slot = &sim->slots[i];
        if (slot->state == SLOT_READY && model_has_gap(slot))
            sim_fail(sim, "slot %u has a task that was cancelled, and is not killed for it", i);
        due_ns = earlier(due_ns, slot->due_ns);
        if (slot->signal || slot->refresh || slot->dismiss || (slot->fail_job && !slot->leaves))
            sim_fail(sim, "slot %u: the engine still owes signal %d, a fresh start (%d), an end (%d), a failure (%d)",
                     i, slot->signal, slot->refresh, slot->dismiss, slot->fail_job != NULL);
        if (slot->state == SLOT_READY && model_owes(sim, i) && !slot->taken)
            sim_fail(sim, "slot %u is ready, and is not sent the broadcast", i);
        bool worn =
            slot->state == SLOT_READY && !slot->flight_count && !slot->taken && (slot->worn || !slot->tasks_left);
        if (worn && model_may_wear_out(sim))
            sim_fail(sim, "slot %u is worn out, and is not replaced", i);
    }
    if (sched_wake_ns(&sim->sched) > due_ns)
        sim_fail(sim, "the engine would sleep beyond what is due");
    for (unsigned i = 0; i < sim->job_count; i++) {
        const struct sim_job *job = &sim->jobs[i];
        if ((job->ended && !job->told) || job->in_state[ITEM_DOOMED])
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
    if (!item->excused && !of_death && item->status != POOL_ETIMEOUT && item->status != 0 && item->status != 1)
        sim_fail(sim, "item %llu of job %u ends with %d", U(i), job->number, item->status);
    if (item->fate == FATE_HANGS && item->offences == SIM_ALWAYS && item->begun && item->status == 0)
        sim_fail(sim, "item %llu of job %u never ends, and ended", U(i), job->number);
    if (item->status == 0 && !item->begun)
        sim_fail(sim, "item %llu of job %u ended without having begun", U(i), job->number);
}

void judge_end(const struct sim *sim)
{
    for (unsigned i = 0; i < sim->job_count; i++) {
        const struct sim_job *job = &sim->jobs[i];
        if (job->submitted && job->ended != job->told)
            sim_fail(sim, "the end of job %u was never told", i);
        if (job->given.kind == JOB_BROADCAST && job->submitted && !job->ran && !sim->refusal)
            sim_fail(sim, "the broadcast %u has ended, and nobody has run it", i);
        for (uint64_t k = 0; k < job->count && job->given.kind != JOB_BROADCAST; k++)
            check_item(sim, job, k);
    }
}
