/* sim_model: what the engine has to do, worked out anew from what it was told, item by item.
 *
 * It shares nothing with sched.c but the header. It is told every event together with the engine, follows each slot and each item, and
 * judges every effect: whether it may come, and when nothing more comes whether one is missing. It looks at what workers
 * really did only to judge who is blamed: an item that fails for a death must have caused it, or have run too long. */
#include "sim.h"
#include <signal.h>
#include <stdlib.h>

/* The documented bounds of what is in flight at a slot. */
#define QUEUED_NS    (4 * SIM_MS)
#define QUEUED_BYTES ((uint64_t)512 << 10)
#define CHUNK_NS     (500 * SIM_US)
#define CHUNK_BYTES  ((uint64_t)128 << 10)
#define EXIT_PAUSE_NS SIM_S

#define U(x) ((unsigned long long)(x))

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

struct sim_job *model_find_job(const struct sim *sim, const struct job *job)
{
    for (unsigned i = 0; i < sim->job_count; i++)
        if (sim->jobs[i].job == job)
            return (struct sim_job *)&sim->jobs[i];
    sim_fail(sim, "an effect names a job that is not there");
}

/* ---- items ---- */

static uint64_t *count_of(struct sim_job *job, enum sim_item_state state)
{
    uint64_t *const counts[] = {[ITEM_PENDING] = &job->pending, [ITEM_IN_FLIGHT] = &job->in_flight,
                                [ITEM_FAILING] = &job->failing};
    return counts[state];
}

static void move(struct sim *sim, struct sim_job *job, uint64_t i, enum sim_item_state from, enum sim_item_state to)
{
    struct sim_item *item = &job->items[i];
    if (i >= job->given.count || item->state != from)
        sim_fail(sim, "item %llu of job %u is in state %u, not %u", U(i), job->number, item->state, from);
    item->state = (uint8_t)to;
    --*count_of(job, from);
    if (to == ITEM_ENDED)
        job->unended--;
    else
        ++*count_of(job, to);
}

static void wind_down(struct sim *sim);

static void end_item(struct sim *sim, struct sim_job *job, uint64_t i, enum sim_item_state from, int status)
{
    job->items[i].status = status;
    sim->totals.items++;
    move(sim, job, i, from, ITEM_ENDED);
}

static void note_ended(struct sim *sim, struct sim_job *job)
{
    if (job->unended || job->ended)
        return;
    job->ended = true;
    wind_down(sim);
}

static void cancel(struct sim_job *job, int status)
{
    if (!job->cancel_status)
        job->cancel_status = status;
}

/* The first `count` items of a flight go back to their job. */
static void put_back(struct sim *sim, const struct sim_flight *flight, bool doubted)
{
    for (uint64_t i = flight->first; i < flight->first + flight->count; i++) {
        move(sim, flight->job, i, ITEM_IN_FLIGHT, ITEM_PENDING);
        flight->job->items[i].doubted |= doubted;
    }
    if (flight->count && sim->broken)
        cancel(flight->job, POOL_EBROKEN);
}

/* ---- slots ---- */

static void set_due(struct sim *sim, struct sim_slot *slot, uint64_t after_ns)
{
    slot->due_ns = sim->now_ns + after_ns;
}

static void kill_slot(struct sim *sim, struct sim_slot *slot, int signal)
{
    slot->state = SLOT_DYING;
    slot->signal = signal;
    slot->refresh = slot->dismiss = false;
    set_due(sim, slot, signal == SIGTERM ? sim->config.kill_grace_ns : EXIT_PAUSE_NS);
}

static void await_ready(struct sim *sim, struct sim_slot *slot)
{
    slot->state = SLOT_STARTING;
    slot->ready = slot->worn = false;
    slot->verdict = 0;
    slot->tasks_left = sim->config.max_tasks_per_worker ? sim->config.max_tasks_per_worker : SIM_NEVER;
    set_due(sim, slot, sim->config.start_timeout_ns);
}

static void dismiss(struct sim *sim, struct sim_slot *slot)
{
    slot->state = SLOT_RETIRING;
    slot->numbered = false;
    slot->dismiss = true;
    set_due(sim, slot, sim->config.start_timeout_ns);
}

static void vacate(struct sim_slot *slot)
{
    slot->state = SLOT_EMPTY;
    slot->numbered = slot->refresh = slot->dismiss = false;
    slot->signal = 0;
    slot->due_ns = SIM_NEVER;
}

static unsigned count_state(const struct sim *sim, enum slot_state state)
{
    unsigned count = 0;
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        count += sim->slots[i].state == state;
    return count;
}

static void arm_deadline(struct sim *sim, struct sim_slot *slot)
{
    uint64_t timeout_ns = slot->flight_count ? slot->flights[0].job->given.timeout_ns : 0;
    slot->due_ns = timeout_ns ? sim->now_ns + timeout_ns : SIM_NEVER;
}

static void kill_unwanted(struct sim *sim, struct sim_slot *slot)
{
    slot->unwanted = true;
    kill_slot(sim, slot, SIGKILL);
}

static bool work_is_left(const struct sim *sim)
{
    for (unsigned i = 0; i < sim->job_count; i++)
        if (sim->jobs[i].submitted && !sim->jobs[i].ended)
            return true;
    return false;
}

static void wind_down(struct sim *sim)
{
    if (!sim->closing || work_is_left(sim))
        return;
    for (unsigned i = 0; i < sim->sched.slot_count; i++) {
        struct sim_slot *slot = &sim->slots[i];
        if (slot->state == SLOT_READY)
            dismiss(sim, slot);
        else if (slot->state == SLOT_STARTING || slot->state == SLOT_CLOSED)
            kill_unwanted(sim, slot);
    }
}

/* ---- starts ---- */

static void pause_starts(struct sim *sim, uint64_t pause_ns)
{
    uint64_t until_ns = sim->now_ns + pause_ns;
    sim->next_start_ns = until_ns > sim->next_start_ns ? until_ns : sim->next_start_ns;
}

static void break_pool(struct sim *sim)
{
    sim->broken = true;
    sim->totals.broken++;
    for (unsigned i = 0; i < sim->job_count; i++)
        if (sim->jobs[i].submitted && sim->jobs[i].pending)
            cancel(&sim->jobs[i], POOL_EBROKEN);
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        if (sim->slots[i].state == SLOT_STARTING)
            kill_unwanted(sim, &sim->slots[i]);
}

static void count_failed_start(struct sim *sim)
{
    pause_starts(sim, 10 * SIM_MS << (sim->failed_starts < 7 ? sim->failed_starts : 7));
    sim->failed_starts++;
    if (sim->failed_starts >= SCHED_FAILED_STARTS && !count_state(sim, SLOT_READY) && !sim->broken)
        break_pool(sim);
}

/* ---- events ---- */

void model_begin(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_MAX_SLOTS; i++)
        sim->slots[i] = (struct sim_slot){.state = SLOT_EMPTY, .due_ns = SIM_NEVER};
}

void model_boot(struct sim *sim)
{
    sim->boots_left = sim->config.workers;
}

void model_submit(struct sim *sim, struct sim_job *job)
{
    job->submitted = true;
    job->pending = job->unended = job->given.count;
    if (sim->broken)
        cancel(job, POOL_EBROKEN);
    note_ended(sim, job);
}

void model_cancel(struct sim *sim, struct sim_job *job, int status)
{
    (void)sim;
    cancel(job, status);
}

void model_close(struct sim *sim)
{
    sim->closing = true;
    wind_down(sim);
}

void model_refused(struct sim *sim, unsigned slot)
{
    vacate(&sim->slots[slot]);
    count_failed_start(sim);
}

void model_put_off(struct sim *sim, unsigned slot)
{
    vacate(&sim->slots[slot]);
    pause_starts(sim, 2 * SIM_MS);
}

static void be_ready(struct sim *sim, struct sim_slot *slot)
{
    slot->state = SLOT_READY;
    slot->ready = true;
    slot->due_ns = SIM_NEVER;
    sim->failed_starts = 0;
    sim->next_start_ns = sim->now_ns;
    sim->ever_ready = true;
    wind_down(sim);
}

static void kill_for_garbage(struct sim *sim, struct sim_slot *slot)
{
    slot->verdict = POOL_EPROTO;
    sim->totals.garbage++;
    kill_slot(sim, slot, SIGKILL);
}

static void await_exit(struct sim *sim, struct sim_slot *slot)
{
    slot->state = SLOT_CLOSED;
    set_due(sim, slot, EXIT_PAUSE_NS);
}

void model_said(struct sim *sim, unsigned index, enum sim_say say)
{
    struct sim_slot *slot = &sim->slots[index];
    bool starting = slot->state == SLOT_STARTING;
    if (slot->state == SLOT_DYING)
        return;
    if (say == SAY_READY && starting)
        be_ready(sim, slot);
    else if ((say == SAY_FAILED && starting) || (say == SAY_EOF && (starting || slot->state == SLOT_READY)))
        await_exit(sim, slot);
    else if (say != SAY_EOF)
        kill_for_garbage(sim, slot);
}

static void pop_flight(struct sim_slot *slot)
{
    slot->flight_count--;
    for (unsigned i = 0; i < slot->flight_count; i++)
        slot->flights[i] = slot->flights[i + 1];
}

static void replace_if_worn(struct sim *sim, struct sim_slot *slot)
{
    if (slot->state != SLOT_READY || slot->flight_count || (!slot->worn && slot->tasks_left))
        return;
    if (!sim->config.restarts) {
        dismiss(sim, slot);
        return;
    }
    await_ready(sim, slot);
    slot->refresh = true;
}

static void end_reported(struct sim *sim, struct sim_slot *slot, const struct sim_report *report)
{
    struct sim_flight *flight = &slot->flights[0];
    struct sim_job *job = flight->job;
    for (uint64_t i = 0; i < report->count; i++) {
        uint64_t index = flight->first + i;
        bool failed = report->failures && i + 1 == report->count;
        bool own = job->items[index].fate == FATE_FAILS;
        end_item(sim, job, index, ITEM_IN_FLIGHT, own || failed);
    }
    flight->first += report->count;
    flight->count -= report->count;
    if (report->failures && job->given.stop_on_error) {
        cancel(job, POOL_ECANCELED);
        put_back(sim, flight, false);
        flight->count = 0;
    }
    if (!flight->count)
        pop_flight(slot);
}

void model_ended(struct sim *sim, unsigned index, const struct sim_report *report)
{
    struct sim_slot *slot = &sim->slots[index];
    if (slot->state == SLOT_DYING)
        return;
    if (slot->state != SLOT_READY) {
        kill_for_garbage(sim, slot);
        return;
    }
    if (!slot->flight_count || slot->flights[0].job != report->job || slot->flights[0].first != report->first)
        sim_fail(sim, "slot %u reports items that are not the next ones there", index);
    slot->worn |= report->worn;
    end_reported(sim, slot, report);
    arm_deadline(sim, slot);
    note_ended(sim, report->job);
    replace_if_worn(sim, slot);
}

/* ---- the end of a worker ---- */

/* What a death says about the one item that it is certainly due to. */
static void judge(struct sim *sim, const struct sim_slot *slot, const struct sim_worker *worker, struct sim_job *job,
                  uint64_t i)
{
    struct sim_item *item = &job->items[i];
    bool is_culprit = worker->culprit_job == job && worker->culprit == i;
    if (slot->verdict == POOL_ETIMEOUT || is_culprit)
        return;
    if (worker->culprit_job)
        sim_fail(sim, "item %llu of job %u is blamed for what item %llu of job %u did", U(i), job->number,
                 U(worker->culprit), worker->culprit_job->number);
    if (!worker->by_itself)
        sim_fail(sim, "item %llu of job %u is blamed though nothing happened", U(i), job->number);
    item->unlucky++;
}

static void convict(struct sim *sim, struct sim_slot *slot, const struct sim_worker *worker)
{
    struct sim_flight *flight = &slot->flights[0];
    struct sim_job *job = flight->job;
    struct sim_item *item = &job->items[flight->first];
    judge(sim, slot, worker, job, flight->first);
    item->attempts++;
    sim->totals.blamed++;
    bool final = slot->verdict == POOL_ETIMEOUT || job->given.at_most_once || job->cancel_status ||
                 item->attempts >= sim->config.max_attempts;
    if (!final) {
        item->doubted = true;
        return;
    }
    slot->fail_job = job;
    slot->fail_item = flight->first;
    slot->fail_status = slot->verdict ? slot->verdict : POOL_ECRASH;
    slot->fail_attempts = item->attempts;
    move(sim, job, flight->first, ITEM_IN_FLIGHT, ITEM_FAILING);
    flight->first++;
    flight->count--;
}

static void settle(struct sim *sim, struct sim_slot *slot, const struct sim_worker *worker)
{
    if (!slot->flight_count)
        return;
    bool alone = slot->flight_count == 1 && slot->flights[0].count == 1;
    bool doubt = !alone && !slot->flights[0].stepwise;
    sim->totals.doubted += doubt;
    if (!doubt)
        convict(sim, slot, worker);
    for (unsigned i = 0; i < slot->flight_count; i++) {
        doubt = doubt && !slot->flights[i].stepwise;
        put_back(sim, &slot->flights[i], doubt);
    }
    slot->flight_count = 0;
}

void model_exited(struct sim *sim, const struct sim_worker *worker)
{
    struct sim_slot *slot = &sim->slots[worker->slot];
    settle(sim, slot, worker);
    vacate(slot);
    if (!slot->ready && !slot->unwanted)
        count_failed_start(sim);
}

/* ---- time ---- */

/* Rule 3: it has really run too long, all of it in its own time. */
static void judge_deadline(struct sim *sim, struct sim_slot *slot)
{
    struct sim_flight *flight = &slot->flights[0];
    const struct sim_item *item = &flight->job->items[flight->first];
    uint64_t ran_ns = item->begun ? sim->now_ns - item->began_ns : 0;
    sim->totals.timeouts++;
    if (ran_ns + SIM_LATENCY_NS < flight->job->given.timeout_ns)
        sim_fail(sim, "item %llu of job %u has run %llu ns only, and its time is up", U(flight->first),
                 flight->job->number, U(ran_ns));
    if (item->fate != FATE_HANGS && item->fate != FATE_SLOW && item->fate != FATE_GARBAGE && item->fate != FATE_CLOSES)
        sim_fail(sim, "item %llu of job %u is in time, and its time is up", U(flight->first), flight->job->number);
}

static void expire_slot(struct sim *sim, struct sim_slot *slot)
{
    switch (slot->state) {
    case SLOT_STARTING:
        slot->verdict = POOL_ETIMEOUT;
        kill_slot(sim, slot, SIGKILL);
        break;
    case SLOT_READY:
        judge_deadline(sim, slot);
        slot->verdict = POOL_ETIMEOUT;
        kill_slot(sim, slot, sim->config.kill_grace_ns ? SIGTERM : SIGKILL);
        break;
    case SLOT_CLOSED:
        kill_for_garbage(sim, slot);
        break;
    default:
        kill_slot(sim, slot, SIGKILL);
        break;
    }
}

void model_expire(struct sim *sim)
{
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        if (sim->slots[i].due_ns <= sim->now_ns)
            expire_slot(sim, &sim->slots[i]);
}

/* ---- effects ---- */

static uint64_t pending_items(const struct sim *sim)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < sim->job_count; i++)
        count += sim->jobs[i].submitted ? sim->jobs[i].pending : 0;
    return count;
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
    if (sim->broken || (sim->closing && !work_is_left(sim)))
        sim_fail(sim, "a start that nobody needs");
    if (!sim->boots && !pending_items(sim) && !sim->failed_starts)
        sim_fail(sim, "a start without anything to do");
    sim->boots_left -= sim->boots_left > 0;
    *slot = (struct sim_slot){.numbered = true, .number = effect->worker_id};
    await_ready(sim, slot);
}

static void judge_bounds(struct sim *sim, const struct sched_effect *effect, const struct sim_flight *flight,
                         bool needs_stepwise)
{
    const struct sim_slot *slot = &sim->slots[effect->slot];
    uint64_t bytes = 0, cost_ns = 0;
    for (unsigned i = 0; i < slot->flight_count; i++) {
        bytes += slot->flights[i].bytes;
        cost_ns += slot->flights[i].cost_ns;
    }
    if (slot->flight_count >= SCHED_MAX_RUNS || bytes >= QUEUED_BYTES || cost_ns >= QUEUED_NS)
        sim_fail(sim, "slot %u has %u runs, %llu bytes and %llu ns of work, and is sent more", effect->slot,
                 slot->flight_count, U(bytes), U(cost_ns));
    const struct job *given = &flight->job->given;
    bool adaptive = !given->chunk_size;
    if (flight->count > 1 && flight->bytes > (adaptive ? CHUNK_BYTES : (uint64_t)64 << 20))
        sim_fail(sim, "a chunk of %llu bytes", U(flight->bytes));
    if (flight->count > 1 && adaptive && !needs_stepwise && (flight->cost_ns > CHUNK_NS || !flight->cost_ns))
        sim_fail(sim, "a chunk of %llu ns", U(flight->cost_ns));
    if (!adaptive && !needs_stepwise && flight->count > given->chunk_size)
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
    bool needs_stepwise = false;
    for (uint64_t i = span->first; i < span->first + span->count; i++) {
        move(sim, job, i, ITEM_PENDING, ITEM_IN_FLIGHT);
        needs_stepwise |= job->items[i].doubted;
        job->items[i].doubted = false;
    }
    flight.bytes = bytes_of(job, span->first, span->count);
    flight.cost_ns = span->count * job_item_ns(effect->job);
    judge_bounds(sim, effect, &flight, needs_stepwise || effect->stepwise);
    if ((needs_stepwise || job->given.timeout_ns || job->given.at_most_once) && !effect->stepwise)
        sim_fail(sim, "items %llu.. of job %u are not sent stepwise", U(span->first), job->number);
    slot->flights[slot->flight_count++] = flight;
    if (slot->tasks_left != SIM_NEVER)
        slot->tasks_left -= flight.count;
    if (slot->flight_count == 1)
        arm_deadline(sim, slot);
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
    end_item(sim, job, effect->first, ITEM_FAILING, effect->status);
    if (job->given.stop_on_error)
        cancel(job, POOL_ECANCELED);
    note_ended(sim, job);
}

static void fail_pending(struct sim *sim, const struct sched_effect *effect)
{
    struct sim_job *job = model_find_job(sim, effect->job);
    if (!job->cancel_status || job->cancel_status != effect->status)
        sim_fail(sim, "items of job %u end with %d, not %d", job->number, effect->status, job->cancel_status);
    for (uint64_t i = 0; i < effect->count; i++)
        end_item(sim, job, effect->first + i, ITEM_PENDING, effect->status);
    sim->totals.canceled += effect->count;
    note_ended(sim, job);
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

void model_effect(struct sim *sim, const struct sched_effect *effect)
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
        if (!head != !flight || (head && (head->job != flight->job->job || head->first != flight->first ||
                                          head->count != flight->count)))
            sim_fail(sim, "what slot %u has to report next is not what it was sent", i);
        if (slot->state != SLOT_EMPTY && sched_verdict(sched, i) != slot->verdict)
            sim_fail(sim, "the verdict on slot %u is %d, not %d", i, sched_verdict(sched, i), slot->verdict);
        if (sched->state_count[i % SLOT_STATE_COUNT] != count_state(sim, i % SLOT_STATE_COUNT))
            sim_fail(sim, "slots are counted wrongly");
    }
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
        if (job->pending + job->in_flight + job->failing != job->unended ||
            job->job->unended_count != job->unended || job->job->pending_count != job->pending ||
            job->job->cancel_status != job->cancel_status)
            sim_fail(sim, "job %u has %llu items that have not ended, %llu pending; it should be %llu and %llu", i,
                     U(job->job->unended_count), U(job->job->pending_count), U(job->unended), U(job->pending));
    }
    if (sim->sched.job_count != live_jobs || sim->sched.pending_items != pending_items(sim))
        sim_fail(sim, "%llu jobs and %llu pending items, not %llu and %llu", U(sim->sched.job_count),
                 U(sim->sched.pending_items), U(live_jobs), U(pending_items(sim)));
}

void model_check(const struct sim *sim)
{
    check_slots(sim);
    check_jobs(sim);
    if (sim->sched.broken != sim->broken || sim->sched.failed_starts != sim->failed_starts)
        sim_fail(sim, "%u starts failed in a row, broken: %d; it should be %u, %d", sim->sched.failed_starts,
                 sim->sched.broken, sim->failed_starts, sim->broken);
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

void model_check_quiet(const struct sim *sim)
{
    uint64_t due_ns = SIM_NEVER;
    for (unsigned i = 0; i < sim->sched.slot_count; i++) {
        const struct sim_slot *slot = &sim->slots[i];
        due_ns = earlier(due_ns, slot->due_ns);
        if (slot->signal || slot->refresh || slot->dismiss || slot->fail_job)
            sim_fail(sim, "slot %u: the engine still owes signal %d, a fresh start (%d), an end (%d), a failure (%d)", i,
                     slot->signal, slot->refresh, slot->dismiss, slot->fail_job != NULL);
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

void model_check_end(const struct sim *sim)
{
    for (unsigned i = 0; i < sim->job_count; i++) {
        if (!sim->jobs[i].told)
            sim_fail(sim, "the end of job %u was never told", i);
        for (uint64_t k = 0; k < sim->jobs[i].given.count; k++)
            check_item(sim, &sim->jobs[i], k);
    }
}
