/* sim_worker: simulated worker processes: what is true, as opposed to what the engine is told.
 *
 * A worker keeps the protocol as docs/wire-protocol.md has it: items in order; the items of a stepwise span are
 * reported one by one, each before the next begins, and everything is reported before a stepwise span begins; a run
 * that stops on an error ends with its first failure, the rest neither begun nor reported; reports go out in between at
 * the latest after 200 us, but not in the middle of an item; what was not written when it dies is lost. Beside that it
 * does what fate has in store for it. */
#include "sim.h"
#include <signal.h>
#include <stdlib.h>

enum { FLUSH_AFTER_NS = 200000 };

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- what it says ---- */

static void say(struct sim *sim, struct sim_worker *worker, enum sim_say what, const struct sim_report *report,
                uint64_t after_ns)
{
    if (worker->pipe_closed && what < SAY_GONE)
        return;
    if (worker->said_first == worker->said_end)
        worker->said_first = worker->said_end = 0;
    if (worker->said_end == worker->said_room) {
        worker->said_room = worker->said_room * 2 + 16;
        worker->said = realloc(worker->said, worker->said_room * sizeof *worker->said);
        if (!worker->said)
            sim_fail(sim, "the simulator itself has no memory");
    }
    struct sim_message message = {.say = what, .at_ns = sim->now_ns + after_ns};
    if (worker->said_end > worker->said_first && worker->said[worker->said_end - 1].at_ns > message.at_ns)
        message.at_ns = worker->said[worker->said_end - 1].at_ns;
    if (report)
        message.report = *report;
    worker->said[worker->said_end++] = message;
}

static void close_pipe(struct sim *sim, struct sim_worker *worker)
{
    say(sim, worker, SAY_EOF, NULL, 0);
    worker->pipe_closed = true;
}

/* Its exit is known a little after its pipe is closed, or much later; and that it is gone perhaps before that. */
static void die(struct sim *sim, struct sim_worker *worker)
{
    struct sim_random *random = &sim->random;
    worker->phase = WORKER_DEAD;
    worker->act_at = worker->die_at = SIM_NEVER;
    worker->report_count = 0;
    if (!worker->pipe_kept)
        close_pipe(sim, worker);
    uint64_t delay_ns = sim_chance(random, 1, 4) ? sim_between(random, 0, 100 * SIM_US) : 0;
    if (!worker->pipe_kept && sim_chance(random, 1, 40))
        delay_ns = sim_between(random, 0, 3 * SIM_S);
    if (!worker->pipe_kept && sim_chance(random, 1, 2))
        say(sim, worker, SAY_GONE, NULL, sim_between(random, 0, delay_ns));
    say(sim, worker, SAY_EXITED, NULL, delay_ns);
    sim->totals.deaths++;
    sim_trace(sim, "            process %u in slot %u dies%s", worker->process, worker->slot,
              worker->culprit_job ? " of an item"
              : worker->killed    ? ", killed"
                                  : "");
}

/* What misbehaves first is what the worker ends for. */
static void blame(struct sim_worker *worker, struct sim_job *job, uint64_t item)
{
    if (!worker->culprit_job && !worker->by_itself) {
        worker->culprit_job = job;
        worker->culprit = item;
    }
}

/* Also a frame that is well-formed but not due: whoever reads the stream tells the engine the same of it. */
static void say_nonsense(struct sim *sim, struct sim_worker *worker)
{
    say(sim, worker, SAY_GARBAGE, NULL, 0);
}

static void get_stuck(struct sim_worker *worker)
{
    worker->phase = WORKER_STUCK;
    worker->act_at = SIM_NEVER;
}

/* ---- starting ---- */

/* What it is given as it starts, or need not have. */
static unsigned broadcasts_of_the_past(const struct sim *sim)
{
    unsigned known = 0;
    for (unsigned i = 0; i < sim->job_count; i++)
        if (sim->jobs[i].given.kind == JOB_BROADCAST && (sim->jobs[i].told || sim->jobs[i].failed))
            known |= 1u << i;
    return known;
}

static void boot(struct sim *sim, struct sim_worker *worker)
{
    struct sim_random *random = &sim->random;
    worker->phase = WORKER_BOOTING;
    uint64_t longest_ns = sim_chance(random, 1, 5) ? 30 * SIM_MS : SIM_MS;
    worker->act_at = sim->now_ns + sim_between(random, 0, longest_ns);
    if (sim_chance(random, sim->own_deaths, 100) && sim->trouble_left) {
        sim->trouble_left--;
        worker->die_at = sim->now_ns + sim_between(random, 0, sim_chance(random, 1, 2) ? SIM_MS : 40 * SIM_MS);
    }
}

static void fail_to_start(struct sim *sim, struct sim_worker *worker)
{
    worker->by_itself = true;
    switch (sim_between(&sim->random, 0, 4)) {
    case 0:
        die(sim, worker);
        return;
    case 1: /* never says hello */
        break;
    case 2:
        say_nonsense(sim, worker);
        break;
    case 3: /* says why, but does not end */
        say(sim, worker, SAY_FAILED, NULL, 0);
        break;
    default:
        say(sim, worker, SAY_FAILED, NULL, 0);
        die(sim, worker);
        return;
    }
    get_stuck(worker);
}

static void take_next(struct sim *sim, struct sim_worker *worker);

static void finish_booting(struct sim *sim, struct sim_worker *worker)
{
    if (sim_chance(&sim->random, sim->start_trouble, 100)) {
        fail_to_start(sim, worker);
        return;
    }
    say(sim, worker, SAY_READY, NULL, 0);
    worker->flushed_ns = sim->now_ns;
    take_next(sim, worker);
}

void sim_worker_start(struct sim *sim, unsigned slot)
{
    struct sim_worker *worker = &sim->workers[slot];
    struct sim_message *said = worker->said;
    size_t said_room = worker->said_room;
    *worker = (struct sim_worker){.exists = true, .slot = slot, .process = sim->next_process++, .die_at = SIM_NEVER};
    worker->said = said;
    worker->said_room = said_room;
    worker->knows = broadcasts_of_the_past(sim);
    worker->ignores_sigterm = sim_chance(&sim->random, 1, 4);
    worker->pipe_kept = sim_chance(&sim->random, 1, 10);
    worker->read_is_known = sim_chance(&sim->random, 9, 10);
    boot(sim, worker);
}

/* ---- items ---- */

static struct sim_item *current_item(const struct sim_worker *worker)
{
    return &worker->run.job->items[worker->run.first];
}

static enum sim_fate fate_of(const struct sim_item *item)
{
    return item->offences ? (enum sim_fate)item->fate : FATE_FINE;
}

/* Each broadcast comes before whatever was submitted after it. */
static void judge_broadcasts(struct sim *sim, struct sim_worker *worker)
{
    const struct sim_job *job = worker->run.job;
    if (job->given.kind == JOB_BROADCAST)
        worker->knows |= 1u << job->number;
    for (unsigned i = 0; i < sim->job_count && job->given.kind != JOB_BROADCAST; i++) {
        const struct sim_job *other = &sim->jobs[i];
        bool is_due = other->given.kind == JOB_BROADCAST && other->submitted &&
                      other->stamp < current_item(worker)->stamp && !(other->unsent_slots >> worker->slot & 1);
        if (is_due && !(worker->knows >> i & 1))
            sim_fail(sim, "slot %u begins item %llu of job %u before the broadcast %u, which was submitted earlier",
                     worker->slot, (unsigned long long)worker->run.first, job->number, i);
    }
}

static void begin_item(struct sim *sim, struct sim_worker *worker)
{
    struct sim_item *item = current_item(worker);
    const struct job *given = &worker->run.job->given;
    judge_broadcasts(sim, worker);
    item->began_ns = sim->now_ns;
    if (item->begun++ && given->at_most_once)
        sim_fail(sim, "item %llu of job %u, which is to run at most once, begins again",
                 (unsigned long long)worker->run.first, worker->run.job->number);
    worker->phase = WORKER_RUNNING;
    worker->act_at = sim->now_ns + item->duration_ns;
    if (fate_of(item) == FATE_SLOW)
        worker->act_at = sim->now_ns + sim_between(&sim->random, item->timeout_ns + 1, 3 * item->timeout_ns);
    if (fate_of(item) == FATE_HANGS) {
        worker->act_at = SIM_NEVER;
        blame(worker, worker->run.job, worker->run.first);
    }
}

/* Items of a run share a report, in a frame of that run. */
static void note_finished(struct sim *sim, struct sim_worker *worker, bool failed)
{
    struct sim_run *run = &worker->run;
    struct sim_report *last = worker->report_count ? &worker->reports[worker->report_count - 1] : NULL;
    bool together = last && run->job->given.kind == JOB_FIXED && last->job == run->job && last->first >= run->start &&
                    last->first + last->count == run->first;
    if (!together) {
        last = &worker->reports[worker->report_count++];
        *last = (struct sim_report){.job = run->job, .first = run->first};
    }
    last->count++;
    last->failures += failed;
    last->elapsed_ns += sim->now_ns - current_item(worker)->began_ns;
    last->worn = last->worn || (sim->config.wears_out && sim_chance(&sim->random, 1, 50));
    run->first++;
    run->count--;
    if (failed && run->stop)
        run->count = 0;
}

static void write_reports(struct sim *sim, struct sim_worker *worker)
{
    for (unsigned i = 0; i < worker->report_count; i++)
        say(sim, worker, SAY_ENDED, &worker->reports[i], 0);
    worker->report_count = 0;
    worker->flushed_ns = sim->now_ns;
}

/* True: the write takes a while, and what comes next has to wait. Until it is through, nothing of it is readable as a
 * frame. */
static bool flush(struct sim *sim, struct sim_worker *worker)
{
    if (!worker->report_count)
        return false;
    if (sim_chance(&sim->random, 1, 6)) {
        worker->phase = WORKER_WRITING;
        worker->act_at = sim->now_ns + sim_between(&sim->random, 0, SIM_WRITE_NS);
        return true;
    }
    write_reports(sim, worker);
    return false;
}

static void misbehave(struct sim *sim, struct sim_worker *worker)
{
    blame(worker, worker->run.job, worker->run.first);
    if (fate_of(current_item(worker)) == FATE_GARBAGE)
        say_nonsense(sim, worker);
    else
        close_pipe(sim, worker);
}

/* Whether it goes on after it. */
static bool suffer_fate(struct sim *sim, struct sim_worker *worker)
{
    struct sim_item *item = current_item(worker);
    enum sim_fate fate = fate_of(item);
    bool goes_on = true;
    if (fate == FATE_KILLS) {
        blame(worker, worker->run.job, worker->run.first);
        die(sim, worker);
        goes_on = false;
    } else if (fate == FATE_GARBAGE || fate == FATE_CLOSES) {
        misbehave(sim, worker);
        if (sim_chance(&sim->random, 1, 3))
            get_stuck(worker);
        goes_on = worker->phase == WORKER_RUNNING;
    }
    if (item->offences != SIM_ALWAYS && item->offences && fate != FATE_FINE)
        item->offences--;
    return goes_on;
}

static void finish_item(struct sim *sim, struct sim_worker *worker)
{
    bool failed = fate_of(current_item(worker)) == FATE_FAILS;
    if (!suffer_fate(sim, worker))
        return;
    bool report_now = worker->run.stepwise || worker->report_count + 1 == SIM_MAX_REPORTS;
    note_finished(sim, worker, failed);
    if (!report_now || !flush(sim, worker))
        take_next(sim, worker);
}

/* ---- between items ---- */

static bool must_flush(struct sim *sim, const struct sim_worker *worker)
{
    bool runs_out = !worker->run.count && !worker->inbox_count;
    const struct sim_run *next = worker->run.count ? &worker->run : &worker->inbox[0];
    return runs_out || next->stepwise || sim->now_ns - worker->flushed_ns >= FLUSH_AFTER_NS ||
           sim_chance(&sim->random, 1, 5);
}

/* What was taken back, perhaps in two frames. */
static void skip(struct sim *sim, struct sim_worker *worker)
{
    while (worker->to_skip) {
        uint64_t count = sim_between(&sim->random, 1, worker->to_skip);
        say(sim, worker, SAY_SKIPPED, &(struct sim_report){.count = count}, 0);
        worker->to_skip -= count;
    }
}

static void be_idle(struct sim *sim, struct sim_worker *worker)
{
    worker->phase = WORKER_IDLE;
    worker->act_at = SIM_NEVER;
    if (worker->refreshed || worker->dismissed) {
        worker->phase = WORKER_ENDING; /* the finalizer */
        worker->act_at = sim->now_ns + sim_between(&sim->random, 0, SIM_MS);
    } else if (sim_chance(&sim->random, sim->own_deaths, 1000) && sim->trouble_left) {
        sim->trouble_left--;
        worker->by_itself = true;
        say_nonsense(sim, worker);
    }
}

/* With the run that it needs it may read some of those behind it. */
static void read_run(struct sim *sim, struct sim_worker *worker)
{
    uint64_t position = sim_between(&sim->random, worker->inbox[0].position, worker->sent_position);
    worker->read_position = position > worker->read_position ? position : worker->read_position;
    worker->run = worker->inbox[0];
    worker->run.start = worker->run.first;
    worker->inbox_count--;
    for (unsigned i = 0; i < worker->inbox_count; i++)
        worker->inbox[i] = worker->inbox[i + 1];
}

/* What it does when an item has ended, or when it has something to read. */
static void take_next(struct sim *sim, struct sim_worker *worker)
{
    if (worker->report_count && must_flush(sim, worker) && flush(sim, worker))
        return;
    if (!worker->run.count && worker->inbox_count)
        read_run(sim, worker);
    if (worker->run.count) {
        begin_item(sim, worker);
        return;
    }
    skip(sim, worker);
    be_idle(sim, worker);
}

/* ---- ending ---- */

static void end_in_order(struct sim *sim, struct sim_worker *worker)
{
    bool troubled = sim_chance(&sim->random, sim->own_deaths, 400) && sim->trouble_left;
    if (troubled) {
        sim->trouble_left--;
        worker->by_itself = true;
        if (sim_chance(&sim->random, 1, 2))
            say_nonsense(sim, worker);
        get_stuck(worker);
    } else if (worker->refreshed) {
        worker->refreshed = false;
        boot(sim, worker);
    } else {
        die(sim, worker);
    }
}

/* ---- what is done to it ---- */

/* It looks at what it was sent a little later. */
static void wake(struct sim *sim, struct sim_worker *worker)
{
    if (worker->phase != WORKER_IDLE)
        return;
    uint64_t after_ns = sim_chance(&sim->random, 1, 2) ? sim_between(&sim->random, 0, SIM_LATENCY_NS) : 0;
    worker->act_at = earlier(worker->act_at, sim->now_ns + after_ns);
}

uint64_t sim_worker_send(struct sim *sim, unsigned slot, struct sim_run run)
{
    struct sim_worker *worker = &sim->workers[slot];
    run.position = ++worker->sent_position;
    if (worker->phase == WORKER_DEAD)
        return run.position;
    if (worker->inbox_count == SIM_MAX_RUNS)
        sim_fail(sim, "slot %u is sent more than it can hold", slot);
    worker->inbox[worker->inbox_count++] = run;
    wake(sim, worker);
    return run.position;
}

static uint64_t count_unbegun(const struct sim_worker *worker)
{
    bool at_one = worker->run.count && worker->phase != WORKER_WRITING;
    uint64_t count = worker->run.count - at_one;
    for (unsigned i = 0; i < worker->inbox_count; i++)
        count += worker->inbox[i].count;
    return count;
}

uint64_t sim_worker_take_back(struct sim *sim, unsigned slot, uint64_t most)
{
    struct sim_worker *worker = &sim->workers[slot];
    uint64_t unbegun = count_unbegun(worker), count = unbegun < most ? unbegun : most;
    if (sim_chance(&sim->random, 1, 6)) /* it has no page, or was quicker */
        count = sim_between(&sim->random, 0, count);
    for (uint64_t left = count; left;) {
        struct sim_run *last = worker->inbox_count ? &worker->inbox[worker->inbox_count - 1] : &worker->run;
        uint64_t step = last->count < left ? last->count : left;
        last->count -= step;
        left -= step;
        worker->inbox_count -= last != &worker->run && !last->count;
    }
    worker->to_skip += worker->phase == WORKER_DEAD ? 0 : count;
    wake(sim, worker);
    return count;
}

void sim_worker_refresh(struct sim *sim, unsigned slot)
{
    sim->workers[slot].refreshed = true;
    sim->workers[slot].knows = broadcasts_of_the_past(sim);
    wake(sim, &sim->workers[slot]);
}

void sim_worker_dismiss(struct sim *sim, unsigned slot)
{
    sim->workers[slot].dismissed = true;
    wake(sim, &sim->workers[slot]);
}

void sim_worker_signal(struct sim *sim, unsigned slot, int signal)
{
    struct sim_worker *worker = &sim->workers[slot];
    if (worker->phase == WORKER_DEAD || (signal == SIGTERM && worker->ignores_sigterm))
        return;
    worker->killed = true;
    uint64_t after_ns = sim_chance(&sim->random, 1, 2) ? sim_between(&sim->random, 0, 30 * SIM_US) : 0;
    worker->die_at = earlier(worker->die_at, sim->now_ns + after_ns);
}

/* ---- time ---- */

uint64_t sim_worker_next_ns(const struct sim_worker *worker)
{
    return worker->exists ? earlier(worker->act_at, worker->die_at) : SIM_NEVER;
}

void sim_worker_act(struct sim *sim, struct sim_worker *worker)
{
    if (worker->die_at <= worker->act_at) {
        worker->by_itself = worker->by_itself || !worker->killed;
        die(sim, worker);
        return;
    }
    worker->act_at = SIM_NEVER;
    switch (worker->phase) {
    case WORKER_BOOTING:
        finish_booting(sim, worker);
        break;
    case WORKER_RUNNING:
        finish_item(sim, worker);
        break;
    case WORKER_WRITING:
        write_reports(sim, worker);
        take_next(sim, worker);
        break;
    case WORKER_ENDING:
        end_in_order(sim, worker);
        break;
    default:
        take_next(sim, worker);
        break;
    }
}

struct sim_message *sim_worker_heard(const struct sim *sim, const struct sim_worker *worker)
{
    bool any = worker->exists && worker->said_first < worker->said_end;
    struct sim_message *next = any ? &worker->said[worker->said_first] : NULL;
    return next && next->at_ns <= sim->now_ns ? next : NULL;
}

void sim_worker_clear(struct sim_worker *worker)
{
    free(worker->said);
    *worker = (struct sim_worker){0};
}
