/* sim_model: what the engine has to do with slots, worked out anew from what it was told.
 *
 * With sim_items.c it shares nothing with sched.c but the header. It is told every event together with the engine and
 * follows each slot and each item; sim_judge.c compares. It looks at what workers really did only to judge who is
 * blamed: an item that fails for a death must have caused it, or have run too long. */
#include "sim.h"
#include <signal.h>
#include <stdlib.h>

#define EXIT_PAUSE_NS SIM_S

#define U(x) ((unsigned long long)(x))

/* ---- slots ---- */

static void set_due(struct sim *sim, struct sim_slot *slot, uint64_t after_ns)
{
    slot->due_ns = sim->now_ns + after_ns;
}

static void kill_slot(struct sim *sim, struct sim_slot *slot, int signal)
{
    slot->state = SLOT_DYING;
    slot->signal = signal;
    slot->refresh = slot->dismiss = slot->take = false;
    set_due(sim, slot, signal == SIGTERM ? sim->config.kill_grace_ns : EXIT_PAUSE_NS);
}

void model_await_ready(struct sim *sim, struct sim_slot *slot)
{
    slot->state = SLOT_STARTING;
    slot->ready = slot->worn = slot->has_ended = false;
    slot->verdict = 0;
    slot->fails_along = false;
    slot->tasks_left = sim->config.max_tasks_per_worker ? sim->config.max_tasks_per_worker : SIM_NEVER;
    set_due(sim, slot, sim->config.start_timeout_ns);
}

static unsigned index_of(const struct sim *sim, const struct sim_slot *slot)
{
    return (unsigned)(slot - sim->slots);
}

static void dismiss(struct sim *sim, struct sim_slot *slot)
{
    slot->state = SLOT_RETIRING;
    slot->numbered = false;
    slot->dismiss = slot->dismissed = true;
    sim->counts.recycled += slot->worn || !slot->tasks_left;
    set_due(sim, slot, sim->config.start_timeout_ns);
    model_leave_broadcast(sim, index_of(sim, slot));
}

static void vacate(struct sim *sim, struct sim_slot *slot)
{
    slot->state = SLOT_EMPTY;
    slot->numbered = slot->leaves = slot->refresh = slot->dismiss = slot->take = false;
    slot->signal = 0;
    slot->due_ns = SIM_NEVER;
    model_leave_broadcast(sim, index_of(sim, slot));
}

unsigned model_count(const struct sim *sim, enum slot_state state)
{
    unsigned count = 0;
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        count += sim->slots[i].state == state;
    return count;
}

void model_arm_deadline(struct sim *sim, struct sim_slot *slot)
{
    const struct sim_flight *flight = slot->flights;
    uint64_t timeout_ns = slot->flight_count ? flight->job->items[flight->first].timeout_ns : 0;
    slot->due_ns = timeout_ns ? sim->now_ns + timeout_ns : SIM_NEVER;
    slot->moved_ns = sim->now_ns;
    slot->asked = false;
}

static void kill_softly(struct sim *sim, struct sim_slot *slot)
{
    kill_slot(sim, slot, sim->config.kill_grace_ns ? SIGTERM : SIGKILL);
}

static void be_unwanted(struct sim_slot *slot)
{
    slot->unwanted = true;
    if (!slot->verdict)
        slot->verdict = POOL_ECANCELED;
}

static void kill_unwanted(struct sim *sim, struct sim_slot *slot)
{
    be_unwanted(slot);
    kill_slot(sim, slot, SIGKILL);
}

void model_unreachable(struct sim *sim, unsigned slot)
{
    sim->slots[slot].cut_off = sim->slots[slot].verdict == 0;
    kill_slot(sim, &sim->slots[slot], SIGKILL);
}

static void kill_for_task(struct sim *sim, unsigned index)
{
    struct sim_slot *slot = &sim->slots[index];
    if (slot->state != SLOT_READY)
        return; /* it is about to be gone */
    sim->totals.task_kills++;
    slot->verdict = POOL_ECANCELED;
    kill_softly(sim, slot);
}

/* ---- taking back ---- */

/* Not the first of all, and not what has to stay, nor what is before that. */
uint64_t model_takeable(const struct sim_slot *slot, uint64_t *cost_ns_out)
{
    uint64_t items = 0;
    *cost_ns_out = 0;
    for (unsigned i = 0; i < slot->flight_count; i++) {
        const struct sim_flight *flight = &slot->flights[i];
        const struct job *given = &flight->job->given;
        bool alone = given->at_most_once || given->has_fds || (given->stop_on_error && given->kind == JOB_BYTES);
        bool stays = flight->doubted || alone || given->chunk_size > 1 || given->kind == JOB_BROADCAST;
        uint64_t count = flight->count - !i;
        items = stays ? 0 : items + count;
        *cost_ns_out = stays ? 0 : *cost_ns_out + flight->cost_ns / flight->count * count;
    }
    return items;
}

bool model_may_keep_one(const struct sim_slot *slot)
{
    return job_item_ns(slot->flights[slot->flights[0].count == 1].job->job) >= SIM_WORTH_NS;
}

/* Long items are left to it for longer, and the next of them for longest. */
uint64_t model_stalls_ns(const struct sim_slot *slot)
{
    uint64_t unused, items = model_takeable(slot, &unused);
    if (!items || !model_may_keep_one(slot))
        return slot->moved_ns + SIM_LONG_NS;
    return slot->moved_ns + (items > 1 ? SIM_LATE_NS : SIM_STUCK_NS);
}

bool model_has_gap(const struct sim_slot *slot)
{
    for (unsigned i = 0; i < slot->flight_count; i++)
        for (uint64_t k = 0; k < slot->flights[i].count; k++)
            if (!model_is_live(slot->flights[i].job, slot->flights[i].first + k))
                return true;
    return false;
}

bool model_wants_effects(const struct sim *sim)
{
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        if (sim->slots[i].take)
            return true;
    return false;
}

/* It keeps one that was cancelled: so it is killed. */
void model_end_taking(struct sim *sim, unsigned index)
{
    struct sim_slot *slot = &sim->slots[index];
    slot->take = false;
    if (model_has_gap(slot))
        kill_for_task(sim, index);
}

void model_take_for_task(struct sim *sim, unsigned index, const struct sim_job *lane, uint64_t i)
{
    struct sim_slot *slot = &sim->slots[index];
    const struct sim_flight *head = &slot->flights[0];
    uint64_t unused;
    bool is_first = slot->flight_count && head->job == lane && head->first == i;
    if (slot->state == SLOT_READY && !is_first && model_takeable(slot, &unused))
        slot->take = true;
    else
        kill_for_task(sim, index);
}

void model_taken_back(struct sim *sim, unsigned index, uint64_t items)
{
    struct sim_slot *slot = &sim->slots[index];
    slot->taken += items;
    slot->asked &= !items;
    sim->totals.taken += items;
    if (slot->tasks_left != SIM_NEVER)
        slot->tasks_left += items;
    while (items) {
        struct sim_flight *last = &slot->flights[slot->flight_count - 1], cut = *last;
        cut.count = last->count < items ? last->count : items;
        cut.first = last->first + last->count - cut.count;
        uint64_t cost_ns = last->cost_ns / last->count * cut.count;
        size_t bytes = last->bytes / last->count * (size_t)cut.count;
        last->cost_ns -= cost_ns;
        last->bytes -= bytes;
        last->count -= cut.count;
        slot->flight_count -= !last->count;
        items -= cut.count;
        model_put_back(sim, &cut, false);
        model_end_if_over(sim, cut.job);
    }
    model_end_taking(sim, index);
}

void model_skipped(struct sim *sim, unsigned index, uint64_t items)
{
    struct sim_slot *slot = &sim->slots[index];
    if (slot->taken < items)
        sim_fail(sim, "slot %u has stepped over %llu items, of which %llu were taken back", index, U(items),
                 U(slot->taken));
    slot->taken -= items;
    model_replace_if_worn(sim, index);
}

void model_wind_down(struct sim *sim)
{
    if (!sim->closing || sim->unended || sim->broadcast)
        return;
    for (unsigned i = 0; i < sim->sched.slot_count; i++) {
        struct sim_slot *slot = &sim->slots[i];
        if (slot->state == SLOT_READY)
            dismiss(sim, slot);
        else if (slot->state == SLOT_STARTING && slot->renewing)
            slot->unwanted = true;
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
    model_refuse(sim, POOL_EBROKEN);
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        if (sim->slots[i].state == SLOT_STARTING)
            kill_unwanted(sim, &sim->slots[i]);
}

static void owe_start(struct sim *sim)
{
    sim->starts_owed += sim->starts_owed < sim->config.workers;
}

static void set_fails_along(struct sim *sim, bool fails_along)
{
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        sim->slots[i].fails_along = fails_along;
}

/* Once for all that were under way together. */
static void count_failed_start(struct sim *sim, const struct sim_slot *slot)
{
    if (!slot->fails_along) {
        sim->failed_starts++;
        set_fails_along(sim, true);
    }
    owe_start(sim);
    pause_starts(sim, 10 * SIM_MS << (sim->failed_starts < 8 ? sim->failed_starts - 1 : 7));
    bool any = model_count(sim, SLOT_READY) || model_count(sim, SLOT_STARTING);
    if (sim->failed_starts >= SCHED_FAILED_STARTS && !any && !sim->broken)
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
    sim->starts_owed = sim->config.workers;
}

void model_limit(struct sim *sim, unsigned workers)
{
    sim->config.workers = workers;
    sim->starts_owed = 0;
}

static void terminate(struct sim *sim, struct sim_slot *slot)
{
    if (slot->state == SLOT_EMPTY)
        return;
    be_unwanted(slot);
    if (slot->state == SLOT_READY || slot->state == SLOT_RETIRING)
        kill_softly(sim, slot);
    else if (slot->state != SLOT_DYING)
        kill_slot(sim, slot, SIGKILL);
}

void model_shutdown(struct sim *sim, enum pool_shutdown_mode mode)
{
    if (sim->closing && mode <= sim->mode)
        return;
    sim->totals.shutdowns[mode]++;
    sim->closing = true;
    sim->mode = mode;
    if (mode != POOL_DRAIN)
        model_refuse(sim, POOL_ECANCELED);
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        if (mode == POOL_TERMINATE)
            terminate(sim, &sim->slots[i]);
        else if (mode == POOL_KILL && sim->slots[i].state != SLOT_EMPTY)
            kill_unwanted(sim, &sim->slots[i]);
    model_wind_down(sim);
}

void model_refused(struct sim *sim, unsigned slot)
{
    vacate(sim, &sim->slots[slot]);
    count_failed_start(sim, &sim->slots[slot]);
}

void model_put_off(struct sim *sim, unsigned slot)
{
    vacate(sim, &sim->slots[slot]);
    owe_start(sim);
    pause_starts(sim, 2 * SIM_MS);
}

static void be_ready(struct sim *sim, struct sim_slot *slot)
{
    slot->state = SLOT_READY;
    slot->ready = true;
    slot->renewing = false;
    slot->due_ns = SIM_NEVER;
    sim->failed_starts = 0;
    set_fails_along(sim, false);
    sim->next_start_ns = sim->now_ns;
    sim->ever_ready = true;
    model_wind_down(sim);
}

static void kill_for_garbage(struct sim *sim, struct sim_slot *slot)
{
    slot->verdict = POOL_EPROTO;
    sim->totals.garbage++;
    kill_slot(sim, slot, SIGKILL);
}

static void settle(struct sim *sim, struct sim_slot *slot, const struct sim_worker *worker);

/* Its place is another's, and what it had: unless starts have to pause since it was never of use, or could not be
 * reached. */
static void leave(struct sim *sim, struct sim_slot *slot)
{
    bool of_use = slot->ready && (slot->flight_count || slot->useful) && !slot->cut_off;
    if (!of_use || sim->broadcast)
        return;
    settle(sim, slot, &sim->workers[index_of(sim, slot)]);
    slot->leaves = true;
    slot->numbered = false;
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
    if (say == SAY_GONE && slot->state == SLOT_RETIRING) {
        set_due(sim, slot, EXIT_PAUSE_NS);
    } else if (say == SAY_GONE) {
        slot->state = SLOT_DYING;
        leave(sim, slot);
    }
    if (say == SAY_GONE || slot->state == SLOT_DYING)
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

/* In a broadcast that goes on and on workers are not replaced any more. */
bool model_may_wear_out(const struct sim *sim)
{
    return !sim->broadcast || sim->broadcast->ran < 2 * sim->config.workers;
}

void model_replace_if_worn(struct sim *sim, unsigned index)
{
    struct sim_slot *slot = &sim->slots[index];
    bool worn = slot->worn || !slot->tasks_left;
    bool is_idle = slot->state == SLOT_READY && !slot->flight_count && !slot->taken;
    if (!is_idle || !worn || !model_may_wear_out(sim))
        return;
    if (!sim->config.restarts) {
        dismiss(sim, slot);
        return;
    }
    model_await_ready(sim, slot);
    slot->refresh = slot->renewing = true;
    sim->counts.recycled++;
    if (sim->broadcast)
        model_take_part(sim, index);
}

static void end_reported(struct sim *sim, struct sim_slot *slot, const struct sim_report *report)
{
    struct sim_flight *flight = &slot->flights[0];
    struct sim_job *job = flight->job;
    for (uint64_t i = 0; i < report->count && job->given.kind != JOB_BROADCAST; i++) {
        uint64_t index = flight->first + i;
        bool failed = report->failures && i + 1 == report->count;
        bool own = job->items[index].fate == FATE_FAILS;
        model_end_item(sim, job, index, ITEM_IN_FLIGHT, own || failed);
    }
    flight->first += report->count;
    flight->count -= report->count;
    if (report->failures && job->given.stop_on_error) {
        model_cancel_job(sim, job, POOL_ECANCELED);
        model_put_back(sim, flight, false);
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
    bool of_broadcast = report->job->given.kind == JOB_BROADCAST;
    slot->worn |= report->worn && !of_broadcast;
    slot->useful = slot->has_ended = true;
    report->job->failed |= report->failures > 0;
    end_reported(sim, slot, report);
    model_arm_deadline(sim, slot);
    if (of_broadcast)
        model_end_part(sim, index, ITEM_IN_FLIGHT, true);
    else
        model_note_ended(sim, report->job);
    model_replace_if_worn(sim, index);
}

void model_sent(struct sim *sim, unsigned index, uint64_t position)
{
    struct sim_slot *slot = &sim->slots[index];
    slot->flights[slot->flight_count - 1].position = position;
}

void model_unsent(struct sim *sim, unsigned index, int status)
{
    struct sim_slot *slot = &sim->slots[index];
    struct sim_flight *last = &slot->flights[--slot->flight_count];
    last->job->failed = true;
    for (uint64_t i = last->first; i < last->first + last->count; i++)
        model_doom(sim, last->job, i, ITEM_IN_FLIGHT, status);
    if (slot->tasks_left != SIM_NEVER && last->job->given.kind != JOB_BROADCAST)
        slot->tasks_left += last->count;
    if (!slot->flight_count)
        slot->due_ns = SIM_NEVER;
}

/* ---- the end of a worker ---- */

/* What a death says about the one item that it is certainly due to. */
static void judge(struct sim *sim, const struct sim_slot *slot, const struct sim_worker *worker, struct sim_job *job,
                  uint64_t i)
{
    struct sim_item *item = &job->items[i];
    bool is_culprit = worker->culprit_job == job && worker->culprit == i;
    bool never_got_through = item->unread_deaths >= FLIGHT_UNREAD_DEATHS || job->given.at_most_once;
    if (slot->verdict == POOL_ETIMEOUT || is_culprit)
        return;
    if (worker->culprit_job && !worker->cut_off)
        sim_fail(sim, "item %llu of job %u is blamed for what item %llu of job %u did", U(i), job->number,
                 U(worker->culprit), worker->culprit_job->number);
    if (!worker->by_itself && !(worker->cut_off && never_got_through))
        sim_fail(sim, "item %llu of job %u is blamed though nothing happened", U(i), job->number);
    item->unlucky++;
}

static void convict(struct sim *sim, struct sim_slot *slot, const struct sim_worker *worker)
{
    struct sim_flight *flight = &slot->flights[0];
    struct sim_job *job = flight->job;
    struct sim_item *item = &job->items[flight->first];
    judge(sim, slot, worker, job, flight->first);
    job->failed |= job->given.kind == JOB_BROADCAST;
    item->attempts++;
    sim->totals.blamed++;
    bool final = slot->verdict == POOL_ETIMEOUT || job->given.at_most_once || job->cancel_status ||
                 job->given.kind == JOB_BROADCAST || item->attempts >= sim->config.max_attempts;
    for (uint64_t i = flight->first; i < flight->first + flight->count; i++)
        job->items[i].doubted = !final; /* once it is out, the others are beyond doubt */
    if (!final)
        return;
    slot->fail_job = job;
    slot->fail_item = flight->first;
    slot->fail_status = slot->verdict ? slot->verdict : POOL_ECRASH;
    slot->fail_attempts = item->attempts;
    model_move(sim, job, flight->first, ITEM_IN_FLIGHT, ITEM_FAILING);
    flight->first++;
    flight->count--;
}

/* What a worker had not read it had not begun. That saves an item a few times. */
static bool may_have_begun(const struct sim_slot *slot, const struct sim_worker *worker,
                           const struct sim_flight *flight)
{
    if (!flight->count)
        return false;
    const struct sim_item *item = &flight->job->items[flight->first];
    bool read = !worker->read_is_known || flight->position <= worker->read_position;
    return read || slot->verdict == POOL_ETIMEOUT || item->unread_deaths >= FLIGHT_UNREAD_DEATHS;
}

static void note_unread(struct sim *sim, struct sim_slot *slot)
{
    sim->totals.unread++;
    for (unsigned i = 0; i < slot->flight_count; i++)
        for (uint64_t k = 0; k < slot->flights[i].count; k++)
            slot->flights[i].job->items[slot->flights[i].first + k].unread_deaths++;
}

/* A broadcast is left by who has not run it. */
static void give_back(struct sim *sim, const struct sim_flight *flight, bool doubted)
{
    if (flight->job->given.kind == JOB_BROADCAST) {
        if (flight->count)
            model_move(sim, flight->job, flight->first, ITEM_IN_FLIGHT, ITEM_PENDING);
        return;
    }
    for (uint64_t i = flight->first; i < flight->first + flight->count; i++)
        sim->counts.retried += flight->job->items[i].state == ITEM_IN_FLIGHT;
    model_put_back(sim, flight, doubted);
}

static void settle(struct sim *sim, struct sim_slot *slot, const struct sim_worker *worker)
{
    slot->taken = 0;
    if (!slot->flight_count)
        return;
    const struct sim_flight *head = &slot->flights[0];
    bool alone = slot->flight_count == 1 && head->count == 1;
    bool spared = slot->cut_off && !head->job->given.at_most_once &&
                  head->job->items[head->first].unread_deaths < FLIGHT_UNREAD_DEATHS;
    bool innocent = spared || slot->verdict == POOL_ECANCELED; /* killed for what is not wanted any more */
    bool begun = !innocent && may_have_begun(slot, worker, head);
    bool certain = begun && model_is_live(head->job, head->first) && (alone || head->stepwise);
    bool doubt = begun && !certain;
    sim->totals.doubted += doubt;
    if (certain)
        convict(sim, slot, worker);
    for (unsigned i = 0; i < slot->flight_count; i++) {
        doubt = doubt && !slot->flights[i].stepwise && may_have_begun(slot, worker, &slot->flights[i]);
        give_back(sim, &slot->flights[i], doubt);
    }
    if (slot->cut_off || (!begun && !innocent))
        note_unread(sim, slot);
    unsigned count = slot->flight_count;
    slot->flight_count = 0;
    for (unsigned i = 0; i < count; i++)
        model_end_if_over(sim, slot->flights[i].job); /* a lane, of which nothing was left but this */
}

void model_exited(struct sim *sim, const struct sim_worker *worker)
{
    struct sim_slot *slot = &sim->slots[worker->slot];
    bool never_used = !slot->flight_count && !slot->useful && !slot->leaves;
    bool by_itself = slot->verdict == 0 || slot->verdict == POOL_EPROTO;
    sim->counts.crashes += slot->ready && !slot->dismissed && by_itself && !slot->unwanted;
    slot->state = SLOT_EMPTY;
    settle(sim, slot, worker);
    vacate(sim, slot);
    if (!slot->ready && !slot->unwanted)
        count_failed_start(sim, slot);
    else if ((never_used || slot->cut_off) && !slot->unwanted)
        pause_starts(sim, 10 * SIM_MS);
}

void model_lose(struct sim *sim)
{
    if (!sim->broken)
        break_pool(sim);
    for (unsigned i = 0; i < sim->sched.slot_count; i++) {
        struct sim_slot *slot = &sim->slots[i];
        if (slot->state == SLOT_EMPTY)
            continue;
        slot->unwanted = true;
        slot->cut_off = slot->verdict == 0;
        sim->workers[i].cut_off = true;
        sim->workers[i].exists = false;
        sim->workers[i].read_is_known = sim->workers[i].read_was_told;
        model_exited(sim, &sim->workers[i]);
    }
}

/* ---- time ---- */

/* Rule 3: it has really run too long, all of it in its own time. */
static void judge_deadline(struct sim *sim, struct sim_slot *slot)
{
    struct sim_flight *flight = &slot->flights[0];
    const struct sim_item *item = &flight->job->items[flight->first];
    uint64_t ran_ns = item->begun ? sim->now_ns - item->began_ns : 0;
    sim->totals.timeouts++;
    sim->counts.timeouts++;
    if (ran_ns + SIM_LATENCY_NS < item->timeout_ns)
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
        kill_softly(sim, slot);
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
        sim->slots[i].is_stalled = sim->now_ns >= model_stalls_ns(&sim->slots[i]);
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        if (sim->slots[i].due_ns <= sim->now_ns)
            expire_slot(sim, &sim->slots[i]);
}
