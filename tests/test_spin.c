/* spin: a spin ends at its limit, and the less it pays, or when others have the CPU meanwhile, the less it is tried.
 * Build: cc -Iinclude -Isrc tests/test_spin.c src/spin.c -lcmocka */
#include "spin.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { LIMIT_NS = 50000, LOOK_NS = 500, MANY = 20000 };

/* A machine on which time goes by, and what is waited for comes after `news_ns`. */
struct machine {
    struct spin spin;
    uint64_t now_ns;
    unsigned spins;
};

static struct machine make_machine(void)
{
    return (struct machine){.spin.limit_ns = LIMIT_NS, .now_ns = 1000000};
}

/* A wait; whether it was spent spinning, successfully. step_ns: from one look to the next. */
static bool wait_for_news(struct machine *machine, uint64_t news_ns, uint64_t step_ns)
{
    uint64_t news_at_ns = machine->now_ns + news_ns;
    if (!spin_begin(&machine->spin))
        return false;
    machine->spins++;
    bool found = false;
    do {
        machine->now_ns += step_ns;
        found = machine->now_ns >= news_at_ns;
    } while (spin_goes_on(&machine->spin, found, machine->now_ns));
    return found;
}

static void nobody_spins_without_a_limit(void **unused)
{
    (void)unused;
    struct machine machine = make_machine();
    machine.spin.limit_ns = 0;
    for (int i = 0; i < MANY; i++)
        assert_false(wait_for_news(&machine, LOOK_NS, LOOK_NS));
    assert_int_equal(machine.spins, 0);
}

static void what_comes_soon_is_always_spun_for(void **unused)
{
    (void)unused;
    struct machine machine = make_machine();
    for (int i = 0; i < MANY; i++)
        assert_true(wait_for_news(&machine, LIMIT_NS - LOOK_NS, LOOK_NS));
}

static void spin_ends_at_its_limit(void **unused)
{
    (void)unused;
    struct machine machine = make_machine();
    uint64_t first_look_ns = machine.now_ns + LOOK_NS;
    assert_false(wait_for_news(&machine, UINT32_MAX, LOOK_NS));
    assert_int_equal(machine.now_ns - first_look_ns, LIMIT_NS);
}

/* Waits until the next that is spun in. */
static unsigned count_passes(struct machine *machine)
{
    unsigned passes = 0, spins = machine->spins;
    for (wait_for_news(machine, UINT32_MAX, LOOK_NS); machine->spins == spins; passes++)
        wait_for_news(machine, UINT32_MAX, LOOK_NS);
    return passes;
}

static void spins_that_do_not_pay_become_rare(void **unused)
{
    (void)unused;
    struct machine machine = make_machine();
    unsigned expected[] = {0, 0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 1023, 1023};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        assert_int_equal(count_passes(&machine), expected[i]);
}

static void spins_that_pay_again_become_frequent(void **unused)
{
    (void)unused;
    struct machine machine = make_machine();
    unsigned won = 0;
    for (int i = 0; i < MANY; i++)
        wait_for_news(&machine, UINT32_MAX, LOOK_NS);
    for (int i = 0; i < MANY; i++)
        won += wait_for_news(&machine, 2 * LOOK_NS, LOOK_NS);
    assert_true(won > MANY - 1100); /* after those that were being let pass */
}

static void what_is_there_already_is_no_reason_to_spin(void **unused)
{
    (void)unused;
    struct machine machine = make_machine();
    for (int i = 0; i < MANY; i++)
        wait_for_news(&machine, i % 10 ? LOOK_NS : UINT32_MAX, LOOK_NS);
    unsigned before = machine.spins;
    for (int i = 0; i < 10; i++)
        wait_for_news(&machine, UINT32_MAX, LOOK_NS);
    assert_true(machine.spins - before <= 1);
}

static void one_that_fails_now_and_then_costs_a_single_wait(void **unused)
{
    (void)unused;
    struct machine machine = make_machine();
    unsigned won = 0;
    for (int i = 0; i < MANY; i++)
        won += wait_for_news(&machine, i % 10 ? 2 * LOOK_NS : UINT32_MAX, LOOK_NS);
    assert_in_range(won, MANY / 10 * 8, MANY / 10 * 9);
}

static void what_others_had_the_cpu_for_is_not_spun_for(void **unused)
{
    (void)unused;
    struct machine machine = make_machine();
    unsigned won = 0;
    for (int i = 0; i < MANY; i++)
        won += wait_for_news(&machine, 8000, 4000);
    assert_in_range(won, 1, 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_spins_without_a_limit),
        cmocka_unit_test(what_comes_soon_is_always_spun_for),
        cmocka_unit_test(spin_ends_at_its_limit),
        cmocka_unit_test(spins_that_do_not_pay_become_rare),
        cmocka_unit_test(spins_that_pay_again_become_frequent),
        cmocka_unit_test(what_is_there_already_is_no_reason_to_spin),
        cmocka_unit_test(one_that_fails_now_and_then_costs_a_single_wait),
        cmocka_unit_test(what_others_had_the_cpu_for_is_not_spun_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
