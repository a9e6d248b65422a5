/* sched: a broadcast runs on every worker, on those too that start while it runs. */
#include "sched_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct scene scene;

static void a_broadcast_comes_before_what_is_submitted_later(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(1, 1));
    expect(&scene, "slot 0: a0-0");
    broadcast(&scene);
    submit(&scene, &scene.b, job_of(2, 1));
    expect(&scene, "slot 0: all0-0 stepwise; slot 1: all1-1 stepwise");
    ended(&scene, 1, 1);
    expect(&scene, "slot 1: b0-0");
    ended(&scene, 0, 1);
    expect(&scene, "a has ended");
    ended(&scene, 0, 1);
    expect(&scene, "all has ended; slot 0: b1-1");
    close_scene(&scene);
}

static void who_starts_during_a_broadcast_takes_part(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    submit(&scene, &scene.a, job_of(2, 1));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    broadcast(&scene);
    expect(&scene, "slot 0: all0-0 stepwise; slot 1: all1-1 stepwise");
    sched_exited(&scene.sched, 0); /* before it has run it */
    submit(&scene, &scene.b, job_of(1, 1));
    expect(&scene, "slot 0: start worker 0");
    ended(&scene, 1, 1);
    ended(&scene, 1, 1);
    expect(&scene, "slot 1: a0-0 stepwise");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: all0-0 stepwise");
    ended(&scene, 0, 1);
    expect(&scene, "all has ended; slot 0: b0-0");
    close_scene(&scene);
}

static void a_broadcast_that_nobody_has_run_starts_a_worker(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.workers = 1;
    open_ready(&scene, config);
    sched_exited(&scene.sched, 0);
    broadcast(&scene);
    expect(&scene, "");
    at(&scene, 10 * MS);
    expect(&scene, "slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: all0-0 stepwise");
    ended(&scene, 0, 1);
    expect(&scene, "all has ended");
    close_scene(&scene);
}

/* Who starts afterwards would be killed by it too. */
static void a_broadcast_that_kills_fails_once_for_each(void **unused)
{
    (void)unused;
    open_ready(&scene, plain);
    broadcast(&scene);
    submit(&scene, &scene.a, job_of(1, 1));
    expect(&scene, "slot 0: all0-0 stepwise; slot 1: all1-1 stepwise");
    sched_exited(&scene.sched, 0);
    expect(&scene, "all0: crash, attempt 1; slot 0: start worker 0");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: a0-0");
    sched_exited(&scene.sched, 1);
    expect(&scene, "all1: crash, attempt 1; all has ended");
    close_scene(&scene);
}

static void a_worker_that_starts_afresh_runs_the_broadcast_again(void **unused)
{
    (void)unused;
    struct sched_config config = plain;
    config.wears_out = config.restarts = true;
    config.max_tasks_per_worker = 1;
    open_ready(&scene, config);
    submit(&scene, &scene.a, job_of(2, 1));
    expect(&scene, "slot 0: a0-0; slot 1: a1-1");
    broadcast(&scene);
    expect(&scene, "slot 0: all0-0 stepwise; slot 1: all1-1 stepwise");
    ended(&scene, 0, 1);
    ended(&scene, 0, 1);
    expect(&scene, "slot 0: start afresh");
    sched_ready(&scene.sched, 0);
    expect(&scene, "slot 0: all0-0 stepwise");
    ended(&scene, 0, 1);
    ended(&scene, 1, 1);
    ended(&scene, 1, 1);
    expect(&scene, "a has ended; all has ended; slot 1: start afresh");
    close_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broadcast_comes_before_what_is_submitted_later),
        cmocka_unit_test(who_starts_during_a_broadcast_takes_part),
        cmocka_unit_test(a_broadcast_that_nobody_has_run_starts_a_worker),
        cmocka_unit_test(a_broadcast_that_kills_fails_once_for_each),
        cmocka_unit_test(a_worker_that_starts_afresh_runs_the_broadcast_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
