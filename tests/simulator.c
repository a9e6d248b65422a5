/* simulator: the engine (src/sched*.c) under random schedules, in virtual time.
 *
 * Each schedule is a pool with random settings; maps, and tasks that come one by one and are cancelled wherever they
 * are, whose items do what fate has decided; broadcasts; shutdowns in every mode; and workers that start late, fail to,
 * die at any point, send garbage, close their pipes, cannot be reached and ignore signals. A seed determines all of it.
 * The host keeps the contract of sched.h: what a worker said is told in its order, that of different workers in any
 * order, and sched_expire is called only when everything that can be read by then was told. After every step the engine
 * is compared with a model of its own (sim_model.c, sim_items.c), which keeps the five rules item by item; that items
 * go in the order in which they were submitted; and that a broadcast comes before what was submitted after it, on every
 * worker. And where the engine, which asks only for what may have changed, has no effect, it must have none when it
 * asks for everything.
 *
 * Build: cc -std=c11 -D_GNU_SOURCE -Iinclude -Isrc -Wl,--wrap=malloc -o simulator tests/simulator.c tests/sim_*.c
 *        src/sched*.c src/flight.c src/chunk.c src/job.c src/lane.c src/slot.c
 * Run:   simulator [--schedules N] [--seed S [--trace]] [--from S]
 *        N schedules (10,000), seeds from S (1) on; or the one of seed S, and what happens in it in plain words.
 * Exit status: 0; 1 when a schedule broke a rule: its seed and the way to replay it are printed.
 *
 * Does it find anything? Mutations of the engine, put in one at a time, and the seed from 1 on that finds each are
 * listed at the end of this file. */
#include "sim.h"
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define U(x) ((unsigned long long)(x))

enum { SCHEDULE_S = 60 }; /* a schedule takes a tenth of a millisecond */

/* ---- what is printed ---- */

static const struct sim *current; /* for the handlers and the malloc below */

static void print_replay(const struct sim *sim)
{
    fprintf(stderr, "simulator: seed %llu failed; replay: simulator --seed %llu --trace\n", U(sim->seed), U(sim->seed));
}

void sim_fail(const struct sim *sim, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "simulator: at %llu.%03llu us: ", U(sim->now_ns / 1000), U(sim->now_ns % 1000));
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    print_replay(sim);
    fflush(stdout);
    _exit(1);
}

void sim_trace(const struct sim *sim, const char *format, ...)
{
    if (!sim->trace)
        return;
    va_list arguments;
    va_start(arguments, format);
    printf("%9llu.%03llu us  ", U(sim->now_ns / 1000), U(sim->now_ns % 1000));
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

/* An assertion of the engine, a sanitizer's report, or an endless loop: say which seed it was. */
static void on_death(void)
{
    if (current)
        print_replay(current);
}

static void on_signal(int signal)
{
    (void)signal;
    on_death();
    _exit(1);
}

/* The engine has no memory now and then: with -Wl,--wrap=malloc. */
void *__real_malloc(size_t size) __attribute__((weak));
void *__wrap_malloc(size_t size);

void *__wrap_malloc(size_t size)
{
    struct sim *sim = (struct sim *)(uintptr_t)current;
    if (!sim || !sim->memory_is_short)
        return __real_malloc(size);
    sim->memory_was_refused = true;
    sim->refused_ns = sim->now_ns;
    sim->totals.no_memory++;
    return NULL;
}

void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

/* ---- effects ---- */

static void trace_effect(const struct sim *sim, const struct sched_effect *effect)
{
    unsigned slot = effect->slot;
    switch (effect->kind) {
    case SCHED_START:
        sim_trace(sim, "   engine:  start worker %u in slot %u", effect->worker_id, slot);
        break;
    case SCHED_SEND:
        sim_trace(sim, "   engine:  send items %llu to %llu of job %u to slot %u%s", U(effect->span->first),
                  U(effect->span->first + effect->span->count - 1), model_find_job(sim, effect->job)->number, slot,
                  effect->stepwise ? ", stepwise" : "");
        break;
    case SCHED_SIGNAL:
        sim_trace(sim, "   engine:  %s for slot %u", effect->signal == SIGKILL ? "SIGKILL" : "SIGTERM", slot);
        break;
    case SCHED_REFRESH:
        sim_trace(sim, "   engine:  the worker in slot %u is to start afresh", slot);
        break;
    case SCHED_DISMISS:
        sim_trace(sim, "   engine:  the worker in slot %u is to end in order", slot);
        break;
    case SCHED_FAIL:
        sim_trace(sim, "   engine:  items %llu to %llu of job %u end with %d", U(effect->first),
                  U(effect->first + effect->count - 1), model_find_job(sim, effect->job)->number, effect->status);
        break;
    case SCHED_END_JOB:
        sim_trace(sim, "   engine:  job %u has ended", model_find_job(sim, effect->job)->number);
        break;
    case SCHED_BREAK:
        sim_trace(sim, "   engine:  the pool is broken");
        break;
    case SCHED_TAKE_BACK:
        sim_trace(sim, "   engine:  slot %u is asked for the last %llu items", slot, U(effect->count));
        break;
    }
}

static void count_step(struct sim *sim)
{
    if (++sim->steps > sim->step_limit)
        sim_fail(sim, "stuck: %llu steps and no end", U(sim->steps));
}

/* There is no effect, says the engine, which asks only for what may have changed: so it is if it asks for
 * everything. */
static void ask_everything(struct sim *sim)
{
    struct sched_effect effect;
    uint64_t wake_ns = sched_wake_ns(&sim->sched);
    sim->sched.questions = SCHED_ALL_QUESTIONS;
    if (sched_next(&sim->sched, &effect))
        sim_fail(sim, "an effect of kind %d was not asked for", (int)effect.kind);
    if (sched_wake_ns(&sim->sched) != wake_ns)
        sim_fail(sim, "what was not asked for would have to be asked at %llu us", U(sched_wake_ns(&sim->sched) / 1000));
}

/* At most `most` effects; false: that was all. */
static bool drain(struct sim *sim, unsigned most)
{
    struct sched_effect effect;
    if (sim->memory_was_refused) /* the engine tries again after the next change, here at once */
        sim->sched.questions = SCHED_ALL_QUESTIONS;
    sim->memory_was_refused = false;
    for (unsigned i = 0; i < most; i++) {
        sim->memory_is_short = sim_chance(&sim->random, sim->shortage, 1000);
        bool any = sched_next(&sim->sched, &effect);
        sim->memory_is_short = false;
        if (!any) {
            judge_quiet(sim);
            if (!sim->memory_was_refused)
                ask_everything(sim);
            return false;
        }
        trace_effect(sim, &effect);
        judge_effect(sim, &effect);
        host_perform(sim, &effect);
        judge_step(sim);
        sim->totals.effects++;
        count_step(sim);
    }
    return true;
}

static void drain_all(struct sim *sim)
{
    while (drain(sim, 1000))
        continue;
}

/* ---- events ---- */

static void tell(struct sim *sim, struct sim_worker *worker, struct sim_message message)
{
    static const char *const texts[] = {
        [SAY_READY] = "is ready",          [SAY_FAILED] = "cannot be had", [SAY_GARBAGE] = "says nonsense",
        [SAY_EOF] = "has closed its pipe", [SAY_GONE] = "is gone",         [SAY_EXITED] = "has told how it ended"};
    static void (*const events[])(struct sched *, unsigned) = {
        [SAY_READY] = sched_ready, [SAY_FAILED] = sched_failed, [SAY_GARBAGE] = sched_garbage,
        [SAY_EOF] = sched_eof,     [SAY_GONE] = sched_gone,     [SAY_EXITED] = sched_exited};
    if (message.say == SAY_ENDED) {
        host_ended(sim, worker, &message.report);
        return;
    }
    if (message.say == SAY_SKIPPED) {
        sim_trace(sim, "slot %u: %llu items were stepped over", worker->slot, U(message.report.count));
        model_skipped(sim, worker->slot, message.report.count);
        sched_skipped(&sim->sched, worker->slot, message.report.count);
        return;
    }
    sim_trace(sim, "slot %u: process %u %s", worker->slot, worker->process, texts[message.say]);
    if (message.say >= SAY_GONE && worker->read_is_known) {
        sched_unread(&sim->sched, worker->slot, worker->read_position);
        worker->read_was_told = true;
    }
    if (message.say == SAY_EXITED) {
        model_exited(sim, worker);
        worker->exists = false;
    } else {
        model_said(sim, worker->slot, message.say);
    }
    events[message.say](&sim->sched, worker->slot);
}

/* One thing that can be read, of any worker. */
static bool tell_something(struct sim *sim)
{
    unsigned count = sim->sched.slot_count;
    unsigned first = (unsigned)sim_between(&sim->random, 0, count - 1);
    for (unsigned i = 0; i < count; i++) {
        struct sim_worker *worker = &sim->workers[(first + i) % count];
        struct sim_message *message = sim_worker_heard(sim, worker);
        if (!message)
            continue;
        worker->said_first++;
        tell(sim, worker, *message);
        judge_step(sim);
        sim->totals.events++;
        count_step(sim);
        return true;
    }
    return false;
}

/* ---- time ---- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When the host has something to do next, if it is awake then. */
static uint64_t host_ns(const struct sim *sim)
{
    uint64_t next_ns = sched_wake_ns(&sim->sched);
    for (unsigned i = 0; i < sim->sched.slot_count; i++) {
        const struct sim_worker *worker = &sim->workers[i];
        if (worker->exists && worker->said_first < worker->said_end)
            next_ns = earlier(next_ns, worker->said[worker->said_first].at_ns);
    }
    next_ns = earlier(next_ns, host_plan_ns(sim));
    return next_ns > sim->sleeps_until_ns ? next_ns : sim->sleeps_until_ns;
}

static void move_time(struct sim *sim)
{
    uint64_t next_ns = host_ns(sim);
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        next_ns = earlier(next_ns, sim_worker_next_ns(&sim->workers[i]));
    if (next_ns == SIM_NEVER && sim->shutdown_count && host_is_done(sim))
        next_ns = sim->sleeps_until_ns; /* to shut down, as soon as it is awake */
    if (next_ns == SIM_NEVER)
        sim_fail(sim, "stuck: nothing will ever happen again");
    if (next_ns > sim->now_ns)
        sim->now_ns = next_ns;
    count_step(sim);
    if (sim->now_ns > 36000 * SIM_S)
        sim_fail(sim, "stuck: ten hours have passed");
}

static void follow_plan(struct sim *sim)
{
    host_follow_plan(sim);
    judge_step(sim);
    host_have_a_whim(sim);
    judge_step(sim);
    if (model_wants_effects(sim))
        drain_all(sim);
}

static void run_workers(struct sim *sim)
{
    for (unsigned i = 0; i < sim->sched.slot_count; i++)
        while (sim_worker_next_ns(&sim->workers[i]) <= sim->now_ns) {
            sim_worker_act(sim, &sim->workers[i]);
            count_step(sim);
        }
}

static void expire(struct sim *sim)
{
    model_expire(sim);
    sched_expire(&sim->sched);
    judge_step(sim);
    if (sched_wake_ns(&sim->sched) <= sim->now_ns)
        sim_fail(sim, "the engine wants to be woken again at once");
}

/* Everything that can be read now, with effects in between or after; then what is due. */
static void drive(struct sim *sim)
{
    sched_clock(&sim->sched, sim->now_ns);
    follow_plan(sim);
    do {
        while (tell_something(sim)) {
            if (sim_chance(&sim->random, 1, 2))
                drain(sim, (unsigned)sim_between(&sim->random, 1, 8));
            follow_plan(sim);
        }
        drain_all(sim);
        run_workers(sim);
    } while (tell_something(sim));
    expire(sim);
    drain_all(sim);
    follow_plan(sim);
    drain_all(sim);
}

static void maybe_sleep(struct sim *sim)
{
    if (sim->sleepy && sim_chance(&sim->random, 1, 30))
        sim->sleeps_until_ns =
            sim->now_ns + sim_between(&sim->random, 0, sim_chance(&sim->random, 1, 4) ? 60 * SIM_S : 10 * SIM_MS);
}

/* ---- a schedule ---- */

static void begin(struct sim *sim)
{
    if (sched_init(&sim->sched, &sim->config) != 0)
        sim_fail(sim, "the simulator itself has no memory");
    sim_trace(sim, "%u workers, %s, %u attempts; %u jobs", sim->config.workers,
              !sim->config.wears_out ? "never worn out"
              : sim->config.restarts ? "start afresh in place"
                                     : "replaced when worn out",
              sim->config.max_attempts, sim->job_count);
    sim->base_ns = SIM_NEVER;
    model_begin(sim);
    if (sim->boots) {
        model_boot(sim);
        sched_boot(&sim->sched);
    }
}

static void trace_fates(const struct sim *sim)
{
    for (unsigned i = 0; i < sim->job_count; i++)
        for (uint64_t k = 0; k < sim->jobs[i].given.count; k++) {
            const struct sim_item *item = &sim->jobs[i].items[k];
            if (item->fate != FATE_FINE)
                sim_trace(sim, "item %llu of job %u %s%s", U(k), i, sim_fate_name(item->fate),
                          item->offences == SIM_ALWAYS ? "" : " the first times");
        }
}

static void run_schedule(struct sim *sim)
{
    sim_plan(sim);
    trace_fates(sim);
    begin(sim);
    drive(sim);
    while (!sim->closing || !sched_all_gone(&sim->sched) || !host_is_done(sim)) {
        move_time(sim);
        run_workers(sim);
        if (sim->now_ns >= sim->sleeps_until_ns) {
            drive(sim);
            maybe_sleep(sim);
        }
    }
    judge_end(sim);
    host_clear(sim);
    sched_clear(&sim->sched);
    sched_clear(&sim->sched);
    sim_plan_clear(sim);
    for (unsigned i = 0; i < SIM_MAX_SLOTS; i++)
        sim_worker_clear(&sim->workers[i]);
}

/* ---- the command line ---- */

static struct sim_totals simulate(uint64_t seed, bool trace, struct sim_totals totals)
{
    static struct sim sim;
    sim = (struct sim){.seed = seed, .trace = trace, .random = {seed}, .totals = totals};
    current = &sim;
    alarm(SCHEDULE_S);
    run_schedule(&sim);
    current = NULL;
    return sim.totals;
}

static void print_totals(uint64_t schedules, const struct sim_totals *totals)
{
    printf(
        "%llu schedules, no rule broken: %llu events, %llu effects, %llu items; %llu deaths, %llu blamed "
        "on an item, "
        "%llu in doubt, %llu before it was read; %llu deadlines, %llu times garbage, %llu items cancelled, %llu "
        "starts refused, "
        "%llu spans not sent, %llu fresh starts, %llu orderly ends, %llu broken pools; %llu tasks, %llu kills for one "
        "that was cancelled, %llu items of %llu slots taken back, %llu broadcasts, %llu times no memory; shut down "
        "%llu times to drain, %llu to cancel, "
        "%llu "
        "to terminate, %llu to kill\n",
        U(schedules), U(totals->events), U(totals->effects), U(totals->items), U(totals->deaths), U(totals->blamed),
        U(totals->doubted), U(totals->unread), U(totals->timeouts), U(totals->garbage), U(totals->canceled),
        U(totals->refused), U(totals->unsent), U(totals->refreshed), U(totals->dismissed), U(totals->broken),
        U(totals->tasks), U(totals->task_kills), U(totals->taken), U(totals->asked), U(totals->broadcasts),
        U(totals->no_memory), U(totals->shutdowns[POOL_DRAIN]), U(totals->shutdowns[POOL_CANCEL]),
        U(totals->shutdowns[POOL_TERMINATE]), U(totals->shutdowns[POOL_KILL]));
}

static int usage(void)
{
    fprintf(stderr, "usage: simulator [--schedules N] [--from S] [--seed S [--trace]]\n");
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t schedules = 10000, from = 1;
    bool trace = false;
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (!strcmp(argv[i], "--trace"))
            trace = true;
        else if (!strcmp(argv[i], "--schedules") && has_value)
            schedules = strtoull(argv[++i], NULL, 0);
        else if (!strcmp(argv[i], "--from") && has_value)
            from = strtoull(argv[++i], NULL, 0);
        else if (!strcmp(argv[i], "--seed") && has_value)
            from = strtoull(argv[++i], NULL, 0), schedules = 1;
        else
            return usage();
    }
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(on_death);
    else
        signal(SIGSEGV, on_signal);
    struct sim_totals totals = {0};
    for (uint64_t i = 0; i < schedules; i++)
        totals = simulate(from + i, trace, totals);
    print_totals(schedules, &totals);
    return 0;
}

/* Mutations of the engine, one at a time, and the first seed that finds each (a change of the plan changes them):
 *
 *   blame      what was in doubt is not sent stepwise (flight_is_stepwise)                         4
 *              an item is thought alone whatever is queued behind it (flight_settle)               4
 *              suspicion stays on the others when the culprit is out (convict)                     4
 *              an item whose time was up is tried again (convict)                                  4
 *              what the worker had not read is blamed all the same (may_have_begun)                5
 *              items that must not run twice are sent in chunks (chunk_choose)                     4
 *              a worker that is killed for a cancelled task blames another (is_innocent)           1
 *              one that was cut off blames what it was at (is_innocent)                            10
 *              what was cancelled is convicted (flight_settle)                                     465
 *   time       the deadline of the next item is not armed (sched_items_ended)                      4
 *              the deadline begins anew when something is sent behind the item (next_send)         10
 *              the deadline begins anew when a span was not sent (sched_unsent)                    449
 *              sched_wake_ns forgets the deadlines (sched_expire)                                  4
 *              tasks have no deadlines of their own (job_timeout_ns)                               6
 *   starts     the pause after failed starts does not grow (count_failed_start)                    7
 *              a broken pool goes on starting (wants_start)                                        7
 *              the number of a dismissed worker is released twice (release_number)                 6
 *              dying workers do not count as live (wants_start)                                    6
 *   items      the rest of a run that was stopped is lost (sched_items_ended)                      109
 *              what comes back to a pool that refuses it is pending for ever (sched_put_back)      1
 *              a job's own span joins the free ones (release_span)                                 2
 *              a cancelled job stays in the queue (sched_cancel)                                   1, a crash
 *              what comes back goes to the end of its job (job_push)                               4
 *              what cannot be sent takes the rest of its job with it (sched_unsent)                10
 *              gaps count as run again (settle)                                                    10
 *   bounds     a chunk crosses the limit of tasks per worker (chunk_choose)                        4
 *              bytes in flight are not bounded (sched_note_capacity)                               16
 *              what is large is sent with others, or what is replied to with much (job_fit)        27
 *              something is sent behind an item that must not run twice (sched_note_capacity)      37
 *              or behind one of which nobody knows how long it takes (sched_note_capacity)         40
 *              or behind one that the worker has been at for long (choose_room)                    120
 *   tasks      an index that has left the ring is taken for the newer one there (job_is_live)      514
 *              a blamed task that is cancelled ends twice (sched_take_item)            4005
 *              a doomed one counts as pending when it is cancelled (sched_doom)                    46
 *              the worker of a cancelled one is not killed (sched_take_item)            10
 *              a retired lane ends while a dying worker has a span of it (sched_end_if_over)       25
 *              a retired lane that is empty never ends (sched_retire)                              1
 *              gaps at the front are not stepped over (sched_settle_front)                         3, a crash
 *              a chunk goes over a gap (job_fit)                                                   15
 *              a new task joins a span that is in doubt (sched_add)                                639
 *              a job keeps its place in the queue whatever its first item is (enqueue)             6
 *              a task goes before the map that was submitted before it (comes_later)               1
 *              without memory more is sent than goes together (sched_take_span)                    6107
 *   broadcast  who starts during it does not run it (do_launch)                                    22
 *              who starts afresh in place does not run it again (do_refresh)                       44
 *              items are queued behind it (sched_note_capacity)                                    44
 *              one that is dismissed owes it for ever (do_dismiss)                                 2046
 *              one that is gone owes it for ever (vacate)                                          1
 *              nobody is started for it (wants_start)                                              45
 *              one that died counts as having run it (sched_leave_broadcast)                       30
 *              it goes on killing when it has failed (sched_take_part)                             36
 *              workers that wear out keep it going for ever (sched_replace_if_worn)                165
 *              its end is told after a fresh start that had to know of it (sched_next)             165
 *   questions  a broadcast with nobody to run it does not ask for a start (sched_broadcast)        13
 *              nor does one that takes an idle worker (sched_next_part)                            154
 *              a look that is forgotten is not asked for anew (sched_look_for_stalled)             25
 *              a job that is dropped does not ask what comes instead (sched_cancel)                10009
 *              nor does a new first item (sched_settle_front)                                      3214
 *   shutdown   TERMINATE spares those that start (slot.c)                                          50
 *              a weaker mode counts (sched_shutdown)                                               118
 *              KILL does not reach those that have their grace (slot.c)                            19
 *              a broadcast that was not sent is not dropped (sched_shutdown)                       1
 *              who is killed by it counts as crashed (kill_unwanted)                               1
 *
 * Not found here but by test_sched_*.c: deaths of workers that had not read their items which are not counted, or which
 * are counted for a task that was added later, since such deaths are few in a schedule. */
