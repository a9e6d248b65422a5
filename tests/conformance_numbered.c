/* conformance_numbered: tasks that get a number and reply with one. See conformance_numbered.h. */
#include "conformance_numbered.h"
#include <string.h>

uint64_t number_of(const struct pool_call *call)
{
    size_t size;
    uint64_t number;
    const void *input = pool_call_input(call, &size);
    if (size != sizeof number)
        return UINT64_MAX;
    memcpy(&number, input, sizeof number);
    return number;
}

int reply_number(struct pool_call *call, uint64_t number)
{
    void *reply = pool_call_reply(call, sizeof number);
    if (reply)
        memcpy(reply, &number, sizeof number);
    return !reply;
}

int triple(struct pool_call *call)
{
    if (pool_call_state(call))
        mark_item(pool_call_state(call));
    return reply_number(call, 3 * number_of(call));
}

struct pool_task *submit_with(struct pool *pool, pool_task_fn *fn, uint64_t number,
                              const struct pool_task_options *options)
{
    struct pool_task *task = NULL;
    EXPECT_OK(pool_submit(pool, fn, &number, sizeof number, options, &task));
    EXPECT(task);
    return task;
}

struct pool_task *submit(struct pool *pool, pool_task_fn *fn, uint64_t number)
{
    return submit_with(pool, fn, number, NULL);
}

struct pool_result result_of(const struct pool_task *task)
{
    struct pool_result result;
    memset(&result, 0x5a, sizeof result);
    EXPECT_OK(pool_task_result(task, &result));
    EXPECT(result.message);
    EXPECT(!result.data == !result.data_size && (uintptr_t)result.data % 16 == 0);
    return result;
}

struct pool_result end_of(struct pool_task *task)
{
    EXPECT_OK(pool_wait(task, PATIENCE_MS));
    return result_of(task);
}

uint64_t reply_of(const struct pool_task *task)
{
    struct pool_result result = result_of(task);
    uint64_t number;
    EXPECT_INT(result.status, 0);
    EXPECT_INT(result.data_size, sizeof number);
    memcpy(&number, result.data, sizeof number);
    return number;
}

/* Wait for a task that runs triple(), and release it. */
void expect_triple(struct pool_task *task, uint64_t number)
{
    EXPECT_OK(pool_wait(task, PATIENCE_MS));
    EXPECT_INT(reply_of(task), 3 * number);
    pool_task_free(task);
}
