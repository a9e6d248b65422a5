/* slot: the table. Its cells are written out here a second time, in words.
 * Build: cc -Iinclude -Isrc tests/test_slot.c src/slot.c -lcmocka */
#include "slot.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static enum slot_action step(enum slot_state from, enum slot_event event, enum slot_state *next_out)
{
    *next_out = from;
    return slot_step(next_out, event);
}

static void assert_leads(enum slot_state from, enum slot_event event, enum slot_action action, enum slot_state to)
{
    enum slot_state next;
    assert_int_equal(step(from, event, &next), action);
    assert_int_equal(next, to);
}

static void every_cell_leads_to_a_state_and_an_action(void **unused)
{
    (void)unused;
    for (unsigned state = 0; state < SLOT_STATE_COUNT; state++)
        for (unsigned event = 0; event < SLOT_EVENT_COUNT; event++) {
            enum slot_state next;
            enum slot_action action = step((enum slot_state)state, (enum slot_event)event, &next);
            assert_in_range(next, 0, SLOT_STATE_COUNT - 1);
            assert_in_range(action, 0, SLOT_ACTION_COUNT - 1);
            if (action == SLOT_BUG)
                assert_int_equal(next, state);
        }
}

static void every_state_and_every_action_is_reached(void **unused)
{
    (void)unused;
    bool reached[SLOT_STATE_COUNT] = {[SLOT_EMPTY] = true}, done[SLOT_ACTION_COUNT] = {false};
    for (unsigned round = 0; round < SLOT_STATE_COUNT; round++)
        for (unsigned state = 0; state < SLOT_STATE_COUNT; state++)
            for (unsigned event = 0; reached[state] && event < SLOT_EVENT_COUNT; event++) {
                enum slot_state next;
                done[step((enum slot_state)state, (enum slot_event)event, &next)] = true;
                reached[next] = true;
            }
    for (unsigned state = 0; state < SLOT_STATE_COUNT; state++)
        assert_true(reached[state]);
    for (unsigned action = 0; action < SLOT_ACTION_COUNT; action++)
        assert_true(done[action]);
}

/* Nothing that a worker does, in whatever state, is a bug of ours. */
static void a_live_worker_may_say_anything(void **unused)
{
    (void)unused;
    static const enum slot_event says[] = {SLOT_SAYS_READY,   SLOT_SAYS_FAILED, SLOT_SAYS_ENDED,
                                           SLOT_SAYS_GARBAGE, SLOT_EOF,         SLOT_EXITED};
    for (unsigned state = SLOT_STARTING; state < SLOT_STATE_COUNT; state++)
        for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
            enum slot_state next;
            assert_int_not_equal(step((enum slot_state)state, says[i], &next), SLOT_BUG);
        }
}

static void an_exit_always_empties_the_slot(void **unused)
{
    (void)unused;
    for (unsigned state = SLOT_STARTING; state < SLOT_STATE_COUNT; state++)
        assert_leads((enum slot_state)state, SLOT_EXITED, SLOT_BURY, SLOT_EMPTY);
}

static void every_worker_can_be_killed_and_a_late_one_is(void **unused)
{
    (void)unused;
    assert_leads(SLOT_EMPTY, SLOT_KILL, SLOT_NOTHING, SLOT_EMPTY);
    for (unsigned state = SLOT_STARTING; state < SLOT_STATE_COUNT; state++) {
        assert_leads((enum slot_state)state, SLOT_KILL, SLOT_KILL_NOW, SLOT_DYING);
        enum slot_state next;
        assert_int_not_equal(step((enum slot_state)state, SLOT_DUE, &next), SLOT_BUG);
        assert_int_equal(next, SLOT_DYING);
    }
}

/* Who may have something to lose is asked first; the others have nothing, or do not listen. */
static void termination_is_soft_where_that_is_of_use(void **unused)
{
    (void)unused;
    assert_leads(SLOT_EMPTY, SLOT_TERMINATE, SLOT_NOTHING, SLOT_EMPTY);
    assert_leads(SLOT_STARTING, SLOT_TERMINATE, SLOT_KILL_NOW, SLOT_DYING);
    assert_leads(SLOT_READY, SLOT_TERMINATE, SLOT_KILL_SOFTLY, SLOT_DYING);
    assert_leads(SLOT_CLOSED, SLOT_TERMINATE, SLOT_KILL_NOW, SLOT_DYING);
    assert_leads(SLOT_RETIRING, SLOT_TERMINATE, SLOT_KILL_SOFTLY, SLOT_DYING);
    assert_leads(SLOT_DYING, SLOT_TERMINATE, SLOT_NOTHING, SLOT_DYING); /* its grace is running */
}

static void a_dying_worker_is_not_listened_to(void **unused)
{
    (void)unused;
    static const enum slot_event says[] = {SLOT_SAYS_READY, SLOT_SAYS_FAILED, SLOT_SAYS_ENDED, SLOT_SAYS_GARBAGE};
    for (size_t i = 0; i < sizeof says / sizeof *says; i++)
        assert_leads(SLOT_DYING, says[i], SLOT_NOTHING, SLOT_DYING);
    assert_leads(SLOT_DYING, SLOT_EOF, SLOT_NOTHING, SLOT_DYING);
    assert_leads(SLOT_DYING, SLOT_GONE, SLOT_LEAVE, SLOT_DYING); /* but for its end */
    assert_leads(SLOT_CLOSED, SLOT_GONE, SLOT_LEAVE, SLOT_DYING);
}

static void the_life_of_a_worker(void **unused)
{
    (void)unused;
    assert_leads(SLOT_EMPTY, SLOT_START, SLOT_LAUNCH, SLOT_STARTING);
    assert_leads(SLOT_STARTING, SLOT_NOT_STARTED, SLOT_COUNT_FAILURE, SLOT_EMPTY);
    assert_leads(SLOT_STARTING, SLOT_PUT_OFF, SLOT_TRY_LATER, SLOT_EMPTY);
    assert_leads(SLOT_STARTING, SLOT_SAYS_FAILED, SLOT_AWAIT_EXIT, SLOT_CLOSED);
    assert_leads(SLOT_STARTING, SLOT_DUE, SLOT_KILL_LATE, SLOT_DYING);
    assert_leads(SLOT_STARTING, SLOT_SAYS_READY, SLOT_WELCOME, SLOT_READY);
    assert_leads(SLOT_READY, SLOT_SAYS_ENDED, SLOT_ACCEPT, SLOT_READY);
    assert_leads(SLOT_READY, SLOT_DUE, SLOT_KILL_OVERDUE, SLOT_DYING);
    assert_leads(SLOT_READY, SLOT_SAYS_GARBAGE, SLOT_KILL_GARBAGE, SLOT_DYING);
    assert_leads(SLOT_READY, SLOT_EOF, SLOT_AWAIT_EXIT, SLOT_CLOSED);
    assert_leads(SLOT_READY, SLOT_RESTART, SLOT_REFRESH, SLOT_STARTING);
    assert_leads(SLOT_READY, SLOT_RETIRE, SLOT_DISMISS, SLOT_RETIRING);
    assert_leads(SLOT_CLOSED, SLOT_DUE, SLOT_KILL_GARBAGE, SLOT_DYING);
    assert_leads(SLOT_RETIRING, SLOT_GONE, SLOT_AWAIT_EXIT, SLOT_RETIRING);
    assert_leads(SLOT_RETIRING, SLOT_DUE, SLOT_KILL_NOW, SLOT_DYING);
    assert_leads(SLOT_DYING, SLOT_DUE, SLOT_KILL_NOW, SLOT_DYING);
}

static void states_and_events_have_names_of_their_own(void **unused)
{
    (void)unused;
    for (unsigned i = 0; i < SLOT_STATE_COUNT; i++)
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(slot_state_name((enum slot_state)i), slot_state_name((enum slot_state)k));
    for (unsigned i = 0; i < SLOT_EVENT_COUNT; i++)
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(slot_event_name((enum slot_event)i), slot_event_name((enum slot_event)k));
    assert_string_equal(slot_state_name(SLOT_DYING), "dying");
    assert_string_equal(slot_event_name(SLOT_KILL), "kill");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cell_leads_to_a_state_and_an_action),
        cmocka_unit_test(every_state_and_every_action_is_reached),
        cmocka_unit_test(a_live_worker_may_say_anything),
        cmocka_unit_test(an_exit_always_empties_the_slot),
        cmocka_unit_test(every_worker_can_be_killed_and_a_late_one_is),
        cmocka_unit_test(termination_is_soft_where_that_is_of_use),
        cmocka_unit_test(a_dying_worker_is_not_listened_to),
        cmocka_unit_test(the_life_of_a_worker),
        cmocka_unit_test(states_and_events_have_names_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
