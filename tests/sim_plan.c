/* sim_plan: what a seed means. Everything random about a schedule comes from one generator; this file draws the settings of the
 * pool, the jobs, and the fate of each item. */
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

static enum sim_fate choose_fate(struct sim_random *random, const struct job *given)
{
    for (;;) {
        enum sim_fate fate = (enum sim_fate)sim_between(random, FATE_FAILS, FATE_COUNT - 1);
        if ((fate != FATE_HANGS && fate != FATE_SLOW) || given->timeout_ns)
            return fate;
    }
}

static void plan_item(struct sim_random *random, struct sim_item *item, const struct job *given, uint64_t longest_ns,
                      unsigned guilty_in_1000)
{
    *item = (struct sim_item){.state = ITEM_PENDING, .offences = SIM_ALWAYS};
    item->duration_ns = longest_ns ? sim_between(random, longest_ns / 4, longest_ns) : 0;
    if (!sim_chance(random, guilty_in_1000, 1000))
        return;
    item->fate = (uint8_t)choose_fate(random, given);
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
    uint64_t timeout_ns = job->given.timeout_ns;
    if (timeout_ns && longest_ns > timeout_ns / 2)
        longest_ns = timeout_ns / 2;
    unsigned guilty_in_1000 = guilt[sim_between(random, 0, 7)];
    if (job->given.count > 200 && guilty_in_1000 > 50)
        guilty_in_1000 = 10;
    uint64_t count = job->given.count;
    job->items = calloc(count + 1, sizeof *job->items);
    job->inputs = calloc(count + 1, sizeof *job->inputs);
    if (!job->items || !job->inputs)
        sim_fail(sim, "the simulator itself has no memory");
    size_t most_bytes = sim_chance(random, 1, 4) ? 300000 : 2000;
    for (uint64_t i = 0; i < count; i++) {
        plan_item(random, &job->items[i], &job->given, longest_ns, guilty_in_1000);
        job->inputs[i].size = sim_chance(random, 1, 10) ? 0 : (size_t)sim_between(random, 1, most_bytes);
    }
}

/* ---- jobs ---- */

static void plan_job(struct sim *sim, unsigned number)
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

/* ---- the pool ---- */

static void plan_config(struct sim *sim)
{
    static const uint64_t graces[] = {0, 5 * SIM_MS, 100 * SIM_MS};
    struct sim_random *random = &sim->random;
    struct sched_config *config = &sim->config;
    config->workers = (unsigned)sim_between(random, 1, SIM_MAX_WORKERS);
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
    sim->trouble_left = 12;
    sim->boots = sim_chance(random, 7, 8);
    sim->waits_for_boot = sim->boots && sim_chance(random, 2, 3);
    sim->adapts = sim->waits_for_boot && sim_chance(random, 1, 4);
    sim->closes_early = sim_chance(random, 1, 2);
    sim->sleepy = sim_chance(random, 1, 3);
}

void sim_plan(struct sim *sim)
{
    plan_config(sim);
    plan_trouble(sim);
    sim->job_count = (unsigned)sim_between(&sim->random, 1, SIM_MAX_JOBS);
    sim->step_limit = 20000;
    for (unsigned i = 0; i < sim->job_count; i++) {
        plan_job(sim, i);
        sim->step_limit += 100 * sim->jobs[i].given.count;
    }
}

void sim_plan_clear(struct sim *sim)
{
    for (unsigned i = 0; i < sim->job_count; i++) {
        free(sim->jobs[i].items);
        free(sim->jobs[i].inputs);
        free(sim->jobs[i].job);
    }
}
