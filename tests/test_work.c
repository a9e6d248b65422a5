/* work: what a worker does between two requests, where its pool only sees that it takes longer. */
#include "fd.h"
#include "work.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LARGE_BYTES = 2 << 20, ALIGNMENT = 64 };

/* It has been read already, so the pipe is empty: to wait there is to wait for the one after it. */
static void who_has_found_a_request_is_not_idle(void **unused)
{
    (void)unused;
    struct wire_header sent = {.type = WIRE_SHUTDOWN}, received;
    uint8_t bytes[WIRE_HEADER_BYTES], *memory = aligned_alloc(ALIGNMENT, LARGE_BYTES);
    int ends[2];
    assert_non_null(memory);
    assert_int_equal(fd_pipe(ends), 0);
    work_begin();
    chan_init(&work.chan, ends[0], -1, true, work.staging);
    work.input = (struct work_buffer){.data = memory, .capacity = LARGE_BYTES};
    work.spin.limit_ns = 1;
    work.may_spin = true;
    wire_encode(&sent, bytes);
    assert_int_equal(fd_write(ends[1], bytes, sizeof bytes), sizeof bytes);
    work_next(&received);
    assert_int_equal(received.type, WIRE_SHUTDOWN);
    assert_ptr_equal(work.input.data, memory);
    free(memory);
    chan_clear(&work.chan);
    fd_close(&ends[0]);
    fd_close(&ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_has_found_a_request_is_not_idle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
