/* sim_plan: what a seed means. Everything random about a schedule comes from one generator; this file draws the
 * settings of the pool, the jobs, and the fate of each item. */
#include "sim.h"
#include <stdlib.h>

/* splitmix64 */
uint64_t sim_random(struct sim_random *random)
{
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t sim_between(struct sim_random *random, uint64_t least, uint64_t most)
{
    return least + sim_random(random) % (most - least + 1);
}

bool sim_chance(struct sim_random *random, unsigned of, unsigned in)
{
    return sim_random(random) % in < of;
}

const char *sim_fate_name(enum sim_fate fate)
{
    static const char *const names[FATE_COUNT] = {"fine",        "fails",         "kills its worker", "hangs",
                                                  "is too slow", "sends garbage", "closes its pipe"};
    return names[fate];
}

/* ---- items ---- */

static uint64_t choose_count(struct sim_random *random)
{
    unsigned die = (unsigned)sim_between(random, 0, 99);
    if (die < 4)
        return 0;
    if (die < 50)
        return sim_between(random, 1, 5);
    if (die < 80)
        return sim_between(random, 6, 40);
    return die < 98 ? sim_between(random, 41, 200) : sim_between(random, 200, 2000);
}

static enum sim_fate choose_fate(struct sim_random *random, uint64_t timeout_ns)
{
    for (;;) {
        enum sim_fate fate = (enum sim_fate)sim_between(random, FATE_FAILS, FATE_COUNT - 1);
        if ((fate != FATE_HANGS && fate != FATE_SLOW) || timeout_ns)
            return fate;
    }
}

static void plan_item(struct sim_random *random, struct sim_item *item, const struct job *given, uint64_t longest_ns,
                      unsigned guilty_in_1000)
{
    *item = (struct sim_item){.timeout_ns = given->timeout_ns, .offences = SIM_ALWAYS};
    if (given->has_deadlines && sim_chance(random, 2, 3))
        item->timeout_ns = sim_between(random, SIM_MS, 300 * SIM_MS);
    if (item->timeout_ns && longest_ns > item->timeout_ns / 2)
        longest_ns = item->timeout_ns / 2;
    item->duration_ns = longest_ns ? sim_between(random, longest_ns / 4, longest_ns) : 0;
    if (!sim_chance(random, guilty_in_1000, 1000))
        return;
    item->fate = (uint8_t)choose_fate(random, item->timeout_ns);
    if (sim_chance(random, 1, 3))
        item->offences = (uint8_t)sim_between(random, 1, 3);
    if (item->fate == FATE_FAILS)
        item->offences = SIM_ALWAYS;
}

static void plan_items(struct sim *sim, struct sim_job *job)
{
    static const uint64_t longest[] = {0, SIM_US, 20 * SIM_US, 300 * SIM_US, 3 * SIM_MS, 20 * SIM_MS};
    static const unsigned guilt[] = {0, 0, 0, 10, 50, 200, 200, 1000};
    struct sim_random *random = &sim->random;
    uint64_t longest_ns = longest[sim_between(random, 0, 5)];
    unsigned guilty_in_1000 = guilt[sim_between(random, 0, 7)];
    if (job->given.count > 200 && guilty_in_1000 > 50)
        guilty_in_1000 = 10;
    uint64_t count = job->given.count;
    job->items = calloc(count + 1, sizeof *job->items);
    job->inputs = calloc(count + 1, sizeof *job->inputs);
    job->heads = job->given.kind == JOB_LANE ? calloc(count + 1, sizeof(struct job_item *)) : NULL;
    if (!job->items || !job->inputs || (job->given.kind == JOB_LANE && !job->heads))
        sim_fail(sim, "the simulator itself has no memory");
    size_t most_bytes = sim_chance(random, 1, 4) ? 300000 : 2000;
    for (uint64_t i = 0; i < count; i++) {
        plan_item(random, &job->items[i], &job->given, longest_ns, guilty_in_1000);
        job->inputs[i].size = sim_chance(random, 1, 10) ? 0 : (size_t)sim_between(random, 1, most_bytes);
    }
}

/* ---- jobs ---- */

static void plan_map(struct sim *sim, unsigned number)
{
    struct sim_random *random = &sim->random;
    struct sim_job *job = &sim->jobs[number];
    struct job *given = &job->given;
    *job = (struct sim_job){.number = number};
    given->kind = sim_chance(random, 1, 2) ? JOB_FIXED : JOB_BYTES;
    given->count = choose_count(random);
    given->item_size = (size_t)sim_between(random, 1, sim_chance(random, 1, 5) ? 100000 : 64);
    given->result_size = sim_chance(random, 1, 4) ? 0 : (size_t)sim_between(random, 1, 64);
    given->chunk_size = sim_chance(random, 1, 3) ? sim_between(random, 1, 50) : 0;
    given->timeout_ns = sim_chance(random, 1, 3) ? sim_between(random, SIM_MS, 300 * SIM_MS) : 0;
    given->at_most_once = sim_chance(random, 1, 6);
    given->stop_on_error = sim_chance(random, 1, 5);
    plan_items(sim, job);
    given->inputs = given->kind == JOB_BYTES ? job->inputs : NULL;
    job->submit_at = sim_chance(random, 1, 2) ? 0 : sim_between(random, 0, 30 * SIM_MS);
    job->cancel_at = sim_chance(random, 1, 6) ? job->submit_at + sim_between(random, 0, 20 * SIM_MS) : SIM_NEVER;
}

/* Tasks come one by one or in bursts. Some are cancelled at a moment of their own, wherever they are by then; and what
 * would never end without a deadline always is. */
static void plan_tasks(struct sim *sim, struct sim_job *lane)
{
    static const uint64_t pauses[] = {0, 2 * SIM_US, 50 * SIM_US, SIM_MS};
    struct sim_random *random = &sim->random;
    uint64_t at = lane->submit_at, longest_ns = pauses[sim_between(random, 0, 3)];
    bool cancels = sim_chance(random, 1, 2);
    for (uint64_t i = 0; i < lane->given.count; i++) {
        struct sim_item *item = &lane->items[i];
        at += sim_chance(random, 1, 2) ? 0 : sim_between(random, 0, longest_ns);
        item->submit_at = at;
        if (!cancels || lane->cancel_count == SIM_MAX_CANCELS || !sim_chance(random, 1, 5))
            continue;
        uint64_t after_ns = sim_between(random, 0, sim_chance(random, 1, 2) ? 5 * SIM_MS : 100 * SIM_US);
        lane->cancels[lane->cancel_count++] = (struct sim_cancel){at + after_ns, i};
        if (item->fate == FATE_FINE && !item->timeout_ns && sim_chance(random, 1, 4))
            item->fate = FATE_HANGS;
    }
    lane->retire_at = sim_chance(random, 1, 4) ? SIM_NEVER : at + sim_between(random, 0, 2 * SIM_MS);
}

static void plan_lane(struct sim *sim, unsigned number)
{
    struct sim_random *random = &sim->random;
    struct sim_job *lane = &sim->jobs[number];
    *lane = (struct sim_job){.number = number, .cancel_at = SIM_NEVER};
    lane->given = (struct job){.kind = JOB_LANE,
                               .count = choose_count(random),
                               .has_deadlines = sim_chance(random, 1, 2),
                               .at_most_once = sim_chance(random, 1, 5),
                               .has_fds = sim_chance(random, 1, 6)};
    lane->submit_at = sim_chance(random, 1, 2) ? 0 : sim_between(random, 0, 20 * SIM_MS);
    plan_items(sim, lane);
    plan_tasks(sim, lane);
}

static void plan_broadcast(struct sim *sim, unsigned number)
{
    struct sim_job *job = &sim->jobs[number];
    *job = (struct sim_job){.number = number, .cancel_at = SIM_NEVER};
    job->given = (struct job){.kind = JOB_BROADCAST, .count = SIM_MAX_SLOTS};
    job->submit_at = sim_between(&sim->random, 0, sim_chance(&sim->random, 1, 2) ? 30 * SIM_MS : SIM_MS);
    plan_items(sim, job);
    job->given.inputs = job->inputs;
}

/* ---- the pool ---- */

static void plan_config(struct sim *sim)
{
    static const uint64_t graces[] = {0, 5 * SIM_MS, 100 * SIM_MS};
    struct sim_random *random = &sim->random;
    struct sched_config *config = &sim->config;
    config->workers = (unsigned)sim_between(random, 1, SIM_MAX_WORKERS);
    config->cpus = (unsigned)sim_between(random, 1, config->workers + 1);
    config->restarts = sim_chance(random, 1, 2);
    config->wears_out = sim_chance(random, 1, 3);
    config->max_tasks_per_worker = config->wears_out && sim_chance(random, 2, 3) ? sim_between(random, 1, 20) : 0;
    config->max_attempts = (unsigned)sim_between(random, 1, 3);
    config->start_timeout_ns = sim_between(random, 20 * SIM_MS, 2 * SIM_S);
    config->kill_grace_ns = graces[sim_between(random, 0, 2)];
}

static void plan_trouble(struct sim *sim)
{
    static const unsigned start_trouble[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 5, 10, 30, 100};
    static const unsigned refusals[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 5, 10, 30, 100};
    static const unsigned own_deaths[] = {0, 0, 0, 5, 15, 40};
    struct sim_random *random = &sim->random;
    sim->start_trouble = start_trouble[sim_between(random, 0, 13)];
    sim->refusals = refusals[sim_between(random, 0, 13)];
    sim->own_deaths = own_deaths[sim_between(random, 0, 5)];
    sim->unsent = sim_chance(random, 1, 8) ? 8 : 0;
    sim->losses = sim_chance(random, 1, 20) ? 20 : 0;
    sim->trouble_left = 12;
    sim->boots = sim_chance(random, 7, 8);
    sim->waits_for_boot = sim->boots && sim_chance(random, 2, 3);
    sim->adapts = sim->waits_for_boot && sim_chance(random, 1, 4);
    sim->closes_early = sim_chance(random, 1, 2);
    sim->whims = sim_chance(random, 1, 2) ? (unsigned)sim_between(random, 1, 60) : 0;
    sim->shortage = sim_chance(random, 1, 4) ? (unsigned)sim_between(random, 50, 900) : 0;
    sim->sleepy = sim_chance(random, 1, 3);
}

/* Each is at least as strong as the one before, or changes nothing. The first may be when everything has ended: then it
 * is without a time. */
static void plan_shutdowns(struct sim *sim)
{
    static const enum pool_shutdown_mode modes[] = {POOL_DRAIN,  POOL_DRAIN,     POOL_DRAIN, POOL_CANCEL,
                                                    POOL_CANCEL, POOL_TERMINATE, POOL_KILL};
    struct sim_random *random = &sim->random;
    sim->shutdown_count = sim_chance(random, 1, 2) ? 1 : (unsigned)sim_between(random, 1, SIM_MAX_SHUTDOWNS);
    uint64_t at = sim_between(random, 0, sim_chance(random, 1, 3) ? 4 * SIM_MS : 60 * SIM_MS);
    for (unsigned i = 0; i < sim->shutdown_count; i++) {
        sim->shutdowns[i] = (struct sim_shutdown){at, modes[sim_between(random, 0, 6)]};
        at += sim_between(random, 0, sim_chance(random, 1, 2) ? SIM_MS : 20 * SIM_MS);
    }
}

static void plan_jobs(struct sim *sim, unsigned count, void (*plan)(struct sim *, unsigned))
{
    for (unsigned i = 0; i < count; i++) {
        plan(sim, sim->job_count);
        sim->step_limit += 100 * sim->jobs[sim->job_count++].given.count;
    }
}

void sim_plan(struct sim *sim)
{
    struct sim_random *random = &sim->random;
    plan_config(sim);
    plan_trouble(sim);
    plan_shutdowns(sim);
    sim->step_limit = 20000;
    unsigned maps = sim_chance(random, 2, 3) ? (unsigned)sim_between(random, 1, 4) : 0;
    unsigned lanes = sim_chance(random, 2, 3) ? (unsigned)sim_between(random, 1, 3) : 0;
    plan_jobs(sim, maps + lanes ? maps : 1, plan_map);
    plan_jobs(sim, lanes, plan_lane);
    plan_jobs(sim, sim_chance(random, 1, 2) ? (unsigned)sim_between(random, 1, 4) : 0, plan_broadcast);
}

void sim_plan_clear(struct sim *sim)
{
    for (unsigned i = 0; i < sim->job_count; i++) {
        free(sim->jobs[i].items);
        free(sim->jobs[i].inputs);
        free(sim->jobs[i].heads);
    }
}
