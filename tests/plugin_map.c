/* A plug-in with functions for maps and for tasks. plugin_map_other.c is another build of it, with other answers. */
#include <stddef.h>

#ifndef PLUGIN_ANSWER
#define PLUGIN_ANSWER 1
#endif

int plugin_answer(const void *item, void *result, void *state);
int (*plugin_hidden_answer(void))(const void *item, void *result, void *state);
int plugin_initializer(const void *arg, size_t arg_size, void **state_out);
struct pool_call;
int plugin_task(struct pool_call *call);

/* 1000 times the build, and the item. */
int plugin_answer(const void *item, void *result, void *state)
{
    (void)state;
    *(int *)result = 1000 * PLUGIN_ANSWER + *(const int *)item;
    return 0;
}

static int hidden_answer(const void *item, void *result, void *state)
{
    (void)state;
    *(int *)result = -1000 * PLUGIN_ANSWER - *(const int *)item;
    return 0;
}

/* The address of a function that no symbol names. */
int (*plugin_hidden_answer(void))(const void *item, void *result, void *state)
{
    return hidden_answer;
}

int plugin_initializer(const void *arg, size_t arg_size, void **state_out)
{
    static int answer = PLUGIN_ANSWER;
    (void)arg, (void)arg_size;
    *state_out = &answer;
    return 0;
}

int plugin_task(struct pool_call *call)
{
    (void)call;
    return 0;
}
