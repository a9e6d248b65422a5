/* peer: when a worker is given memory for what is large. Nobody is at the other end: what matters is what is put.
 * Build: cc -Iinclude -Isrc -Ibackends tests/test_peer.c src/…*.c -lcmocka */
#include "fd.h"
#include "peer.h"
#include "procpool.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ITEM_BYTES = 300 << 10 }; /* three of them are more than the ring that one of them asks for */

static int do_nothing(struct pool_call *call)
{
    (void)call;
    return 0;
}

struct scene {
    struct peer peer;
    struct peer_setup setup;
    uint8_t config[1];
    struct job job;
    struct span spans[8];
    unsigned span_count;
    int others[3];
    uint8_t *items, *staging;
};

static void open_scene(struct scene *scene)
{
    int requests[2], replies[2], sockets[2];
    char message[1024];
    *scene = (struct scene){.items = calloc(1, ITEM_BYTES), .staging = malloc(CHAN_STAGING_BYTES)};
    assert_true(scene->items && scene->staging);
    assert_int_equal(fd_pipe(requests) | fd_pipe(replies) | fd_socketpair(sockets), 0);
    scene->others[0] = requests[0], scene->others[1] = replies[1], scene->others[2] = sockets[1];
    struct backend_child child = {.pid = 1,
                                  .request_fd = requests[1],
                                  .request_end_fd = -1,
                                  .reply_fd = replies[0],
                                  .socket_fd = sockets[0],
                                  .lifeline_fd = -1,
                                  .exit_fd = -1,
                                  .pidfd = -1,
                                  .greeted = 1};
    assert_int_equal(fd_set_nonblocking(requests[1]), 0);
    scene->setup.config = scene->config;
    scene->job = (struct job){.kind = JOB_FIXED, .count = 8, .item_size = ITEM_BYTES, .items = scene->items};
    assert_int_equal(functions_number(&scene->setup.functions, (callable_fn *)(void (*)(void))do_nothing,
                                      &scene->job.function, message),
                     0);
    peer_init(&scene->peer);
    assert_int_equal(peer_open(&scene->peer, &child, 0, &scene->setup, scene->staging), 0);
}

static void close_scene(struct scene *scene)
{
    peer_close(&scene->peer);
    functions_clear(&scene->setup.functions);
    for (size_t i = 0; i < sizeof scene->others / sizeof *scene->others; i++)
        fd_close(&scene->others[i]);
    free(scene->items);
    free(scene->staging);
}

/* Each time the same one: its place in memory is all that matters. */
static void put_large(struct scene *scene)
{
    struct span *span = &scene->spans[scene->span_count++];
    *span = (struct span){.job = &scene->job, .count = 1, .bytes = ITEM_BYTES};
    assert_int_equal(peer_put_span(&scene->peer, span, false, false), 0);
}

/* Three, of which the last makes it pay. */
static void put_what_is_worth_memory(struct scene *scene)
{
    put_large(scene);
    put_large(scene);
    assert_int_equal(scene->peer.transit_due, 0);
    put_large(scene);
    assert_int_equal(scene->peer.transit_due, transit_ring_for(ITEM_BYTES));
}

static void what_goes_through_the_pipes_in_a_row_is_worth_memory(void **unused)
{
    (void)unused;
    struct scene scene;
    open_scene(&scene);
    put_what_is_worth_memory(&scene);
    close_scene(&scene);
}

/* Who sends something large once in a while does not pay for it, however long that goes on. */
static void what_went_through_before_the_last_look_is_forgotten(void **unused)
{
    (void)unused;
    struct scene scene;
    open_scene(&scene);
    for (int i = 0; i < 4; i++) {
        put_large(&scene);
        assert_true(peer_has_large_items(&scene.peer)); /* so it is looked at */
        peer_trim(&scene.peer);
        assert_false(peer_has_large_items(&scene.peer));
        assert_int_equal(scene.peer.transit_due, 0);
    }
    close_scene(&scene);
}

/* All that is put is read by whoever is there. */
static void flush(struct scene *scene)
{
    static char bytes[64 << 10];
    int rc;
    do {
        rc = peer_flush(&scene->peer);
        assert_true(rc >= 0);
        while (fd_read(scene->others[0], bytes, sizeof bytes) > 0)
            ;
    } while (rc == CHAN_AGAIN);
}

/* It may be able to by then. That costs no more than what it would save, and no more often than once in two looks. */
static void what_a_worker_did_not_map_is_offered_anew_when_that_would_pay(void **unused)
{
    (void)unused;
    struct scene scene;
    open_scene(&scene);
    assert_int_equal(fd_set_nonblocking(scene.others[0]), 0);
    put_what_is_worth_memory(&scene);
    flush(&scene);
    assert_non_null(scene.peer.transit.memory);
    put_large(&scene); /* through the pipe: it has not said that it has it */
    assert_int_equal(scene.peer.transit_due, 0);
    peer_trim(&scene.peer);
    assert_non_null(scene.peer.transit.memory);
    peer_trim(&scene.peer);
    assert_null(scene.peer.transit.memory);
    put_what_is_worth_memory(&scene);
    close_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_through_the_pipes_in_a_row_is_worth_memory),
        cmocka_unit_test(what_went_through_before_the_last_look_is_forgotten),
        cmocka_unit_test(what_a_worker_did_not_map_is_offered_anew_when_that_would_pay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
