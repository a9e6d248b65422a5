/* conformance_code: functions wherever they may lie: in the executable, in plug-ins, in no file at all.
 *
 * Needs plugin_map.so and plugin_map_other.so, built from tests/plugin_map*.c, in TEST_PLUGIN_DIR (default: plugins/
 * beside the program) with a build-id, and in TEST_PLUGIN_DIR/noid without one. */
#include "conformance.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COUNT = 300, UNTOUCHED = 0x5a5a5a5a };

/* A copy of a plug-in in the folder of this case, so that it may be replaced. */
static const char *copy_plugin(const char *plugin, const char *name, char path_out[static CASE_PATH_BYTES])
{
    char from[2048], beside[1024];
#ifdef TEST_PLUGIN_DIR
    (void)beside;
    snprintf(from, sizeof from, "%s/%s", TEST_PLUGIN_DIR, plugin);
#else
    snprintf(from, sizeof from, "%s/%s", program_path("plugins", beside), plugin);
#endif
    copy_file(from, case_path(name, path_out));
    return path_out;
}

static void *load(const char *path, int flags)
{
    void *plugin = dlopen(path, RTLD_NOW | flags);
    if (!plugin)
        expectation_failed(__FILE__, __LINE__, "dlopen: %s", dlerror());
    return plugin;
}

static pool_map_fn *find(void *plugin, const char *name)
{
    pool_map_fn *function;
    void *address = dlsym(plugin, name);
    EXPECT(address);
    memcpy(&function, &address, sizeof function);
    return function;
}

static pool_map_fn *find_hidden(void *plugin)
{
    pool_map_fn *(*getter)(void);
    void *address = dlsym(plugin, "plugin_hidden_answer");
    EXPECT(address);
    memcpy(&getter, &address, sizeof getter);
    return getter();
}

/* Map with the function: what it made of item 7, or the error, which then is every item's, unless the map was refused
 * before it began. */
static int outcome_of(struct pool *pool, pool_map_fn *function)
{
    int items[COUNT], results[COUNT] = {0}, status[COUNT];
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    map.status_out = status;
    for (int i = 0; i < COUNT; i++)
        items[i] = i, status[i] = UNTOUCHED;
    int rc = pool_map_with(pool, function, items, sizeof *items, results, sizeof *results, COUNT, &map);
    for (int i = 0; i < COUNT; i++)
        EXPECT(status[i] == rc || (rc && status[i] == UNTOUCHED && status[0] == UNTOUCHED));
    return rc ? rc : results[7];
}

static int triple(const void *item, void *result, void *state)
{
    (void)state;
    *(int *)result = 3 * *(const int *)item;
    return 0;
}

static void functions_of_a_plugin_run(const char *plugin_name)
{
    char path[CASE_PATH_BYTES];
    void *plugin = load(copy_plugin(plugin_name, "plugin.so", path), RTLD_LOCAL);
    struct pool *pool = make_pool(2);
    EXPECT_INT(outcome_of(pool, find(plugin, "plugin_answer")), 1007);
    EXPECT_INT(outcome_of(pool, find_hidden(plugin)), -1007);
    EXPECT_INT(outcome_of(pool, triple), 21);
    pool_destroy(pool);
    dlclose(plugin);
}

static void plugin_that_the_host_has_loaded(void)
{
    functions_of_a_plugin_run("plugin_map.so");
}

static void plugin_without_a_build_id(void)
{
    functions_of_a_plugin_run("noid/plugin_map.so");
}

static void plugin_that_the_workers_must_load(void)
{
    char path[CASE_PATH_BYTES];
    struct pool *pool = make_pool(2);
    EXPECT_INT(outcome_of(pool, triple), 21);
    void *plugin = load(copy_plugin("plugin_map.so", "plugin.so", path), RTLD_LOCAL);
    EXPECT_INT(outcome_of(pool, find(plugin, "plugin_answer")), 1007);
    EXPECT_INT(outcome_of(pool, find_hidden(plugin)), -1007);
    pool_destroy(pool);
    dlclose(plugin);
}

struct submission {
    struct pool *pool;
    pool_task_fn *fn;
    struct pool_task *task; /* NULL: the thread was cancelled in pool_submit */
};

static void *submit_while_cancelled(void *argument)
{
    struct submission *submission = argument;
    EXPECT_OK(pthread_cancel(pthread_self()));
    EXPECT_OK(pool_submit(submission->pool, submission->fn, NULL, 0, NULL, &submission->task));
    pthread_testcancel();
    return NULL;
}

/* What is asked about the plug-in's file then, libc may ask where threads can be cancelled. */
static void submitting_a_function_of_a_plugin_is_no_cancellation_point(void)
{
    char path[CASE_PATH_BYTES];
    void *plugin = load(copy_plugin("plugin_map.so", "plugin.so", path), RTLD_LOCAL);
    struct submission submission = {.pool = make_pool(1)};
    void *address = dlsym(plugin, "plugin_task"), *end = NULL;
    EXPECT(address);
    memcpy(&submission.fn, &address, sizeof submission.fn);
    pthread_t thread;
    EXPECT_OK(pthread_create(&thread, NULL, submit_while_cancelled, &submission));
    EXPECT_OK(pthread_join(thread, &end));
    EXPECT(end == PTHREAD_CANCELED && submission.task);
    EXPECT_OK(pool_wait(submission.task, POOL_FOREVER));
    pool_task_free(submission.task);
    EXPECT_OK(pool_destroy(submission.pool));
    dlclose(plugin);
}

/* What the loader was told is of no use elsewhere: the worker needs the real place. */
static void plugin_loaded_by_a_relative_path_or_a_link(void)
{
    char path[CASE_PATH_BYTES], folder[CASE_PATH_BYTES], link[CASE_PATH_BYTES];
    copy_plugin("plugin_map.so", "plugin.so", path);
    struct pool *pool = make_pool(1);
    EXPECT_OK(chdir(case_path("", folder)));
    void *plugin = load("./plugin.so", RTLD_LOCAL);
    EXPECT_OK(chdir("/"));
    EXPECT_INT(outcome_of(pool, find(plugin, "plugin_answer")), 1007);
    dlclose(plugin);
    pool_destroy(pool);
    EXPECT_OK(symlink(path, case_path("link.so", link)));
    pool = make_pool(1);
    plugin = load(link, RTLD_GLOBAL);
    EXPECT_INT(outcome_of(pool, find(plugin, "plugin_answer")), 1007);
    dlclose(plugin);
    pool_destroy(pool);
}

static void plugins_of_one_name_in_two_folders(void)
{
    char path[CASE_PATH_BYTES];
    EXPECT_OK(mkdir(case_path("one", path), 0700));
    EXPECT_OK(mkdir(case_path("two", path), 0700));
    struct pool *pool = make_pool(2);
    void *one = load(copy_plugin("plugin_map.so", "one/plugin.so", path), RTLD_LOCAL);
    void *two = load(copy_plugin("plugin_map_other.so", "two/plugin.so", path), RTLD_LOCAL);
    for (int i = 0; i < 3; i++) {
        EXPECT_INT(outcome_of(pool, find(one, "plugin_answer")), 1007);
        EXPECT_INT(outcome_of(pool, find(two, "plugin_answer")), 2007);
        EXPECT_INT(outcome_of(pool, find_hidden(two)), -2007);
    }
    pool_destroy(pool);
    dlclose(one);
    dlclose(two);
}

/* The host loads a plug-in, and another build takes its place before a worker has loaded it. */
static void replaced_plugin_is_refused(const char *first, const char *second)
{
    char path[CASE_PATH_BYTES], new_path[CASE_PATH_BYTES];
    struct pool *pool = make_pool(2);
    void *plugin = load(copy_plugin(first, "plugin.so", path), RTLD_LOCAL);
    copy_plugin(second, "new.so", new_path);
    EXPECT_OK(rename(new_path, path));
    EXPECT_INT(outcome_of(pool, find(plugin, "plugin_answer")), POOL_EBUILD);
    EXPECT_TEXT(pool_message(), "plugin.so");
    EXPECT_INT(outcome_of(pool, find_hidden(plugin)), POOL_EBUILD);
    EXPECT_INT(outcome_of(pool, triple), 21);
    EXPECT_OK(unlink(path));
    EXPECT_INT(outcome_of(pool, find(plugin, "plugin_answer")), POOL_EBUILD);
    EXPECT_INT(outcome_of(pool, triple), 21);
    pool_destroy(pool);
    dlclose(plugin);
}

static void plugin_replaced_by_another_build_is_refused(void)
{
    replaced_plugin_is_refused("plugin_map.so", "plugin_map_other.so");
}

static void plugin_without_a_build_id_replaced_by_another_build_is_refused(void)
{
    replaced_plugin_is_refused("noid/plugin_map.so", "noid/plugin_map_other.so");
}

/* The same file again, reinstalled: nothing is wrong with that when the build-id says so. */
static void plugin_replaced_by_the_same_build_runs(void)
{
    char path[CASE_PATH_BYTES], new_path[CASE_PATH_BYTES];
    struct pool *pool = make_pool(1);
    void *plugin = load(copy_plugin("plugin_map.so", "plugin.so", path), RTLD_LOCAL);
    copy_plugin("plugin_map.so", "new.so", new_path);
    EXPECT_OK(rename(new_path, path));
    EXPECT_INT(outcome_of(pool, find(plugin, "plugin_answer")), 1007);
    pool_destroy(pool);
    dlclose(plugin);
}

/* Another plug-in at the address of one that was unloaded: an address alone does not say which function is meant. */
static void plugin_loaded_where_another_one_was(void)
{
    char path[CASE_PATH_BYTES];
    struct pool *pool = make_pool(1);
    void *plugin = load(copy_plugin("plugin_map.so", "first.so", path), RTLD_LOCAL);
    pool_map_fn *first = find(plugin, "plugin_answer");
    EXPECT_INT(outcome_of(pool, first), 1007);
    dlclose(plugin);
    plugin = load(copy_plugin("plugin_map_other.so", "second.so", path), RTLD_LOCAL);
    pool_map_fn *second = find(plugin, "plugin_answer");
    EXPECT_INT(outcome_of(pool, second), 2007);
    pool_destroy(pool);
    dlclose(plugin);
    if (first != second)
        skip_case("the loader chose another address");
}

static int return_answer_of_state(const void *item, void *result, void *state)
{
    (void)item;
    *(int *)result = state ? *(int *)state : -1;
    return 0;
}

static void initializer_in_a_plugin(void)
{
    char path[CASE_PATH_BYTES];
    struct pool_options options = method_options(2);
    void *plugin = load(copy_plugin("plugin_map.so", "plugin.so", path), RTLD_LOCAL);
    void *address = dlsym(plugin, "plugin_initializer");
    memcpy(&options.initializer, &address, sizeof address);
    struct pool *pool = make_pool_with(&options);
    EXPECT_INT(outcome_of(pool, return_answer_of_state), 1);
    pool_destroy(pool);
    dlclose(plugin);
}

/* ---- no file at all ---- */

static void code_in_no_loaded_object_is_refused(void)
{
    static char data[16];
    char item = 0;
    pool_map_fn *function;
    struct pool *pool = make_pool(1);
    void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(code != MAP_FAILED);
    memcpy(&function, &code, sizeof function);
    EXPECT_INT(pool_map(pool, function, &item, 1, NULL, 0, 1), POOL_EBUILD);
    EXPECT(*pool_message());
    void *not_code = data;
    memcpy(&function, &not_code, sizeof function);
    EXPECT_INT(pool_map(pool, function, &item, 1, NULL, 0, 1), POOL_EBUILD);
    EXPECT_INT(outcome_of(pool, triple), 21);
    pool_destroy(pool);

    struct pool_options options = method_options(1);
    struct pool *none = NULL;
    memcpy(&options.initializer, &code, sizeof code);
    EXPECT_INT(pool_create(&options, &none), POOL_EBUILD);
    EXPECT(!none);
    options = method_options(1);
    memcpy(&options.finalizer, &code, sizeof code);
    EXPECT_INT(pool_create(&options, &none), POOL_EBUILD);
    options = method_options(1);
    memcpy(&options.preload, &code, sizeof code);
    EXPECT_INT(pool_create(&options, &none), POOL_EBUILD);
    munmap(code, 4096);
}

/* ---- many functions ---- */

#define EIGHT(macro, n) macro(n##0) macro(n##1) macro(n##2) macro(n##3) macro(n##4) macro(n##5) macro(n##6) macro(n##7)
#define DEFINE(n)                                                                                                      \
    static int add_##n(const void *item, void *result, void *state)                                                    \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        *(int *)result = *(const int *)item + n * 100;                                                                 \
        return 0;                                                                                                      \
    }
#define LIST(n)    add_##n,
#define ALL(macro) EIGHT(macro, 1) EIGHT(macro, 2) EIGHT(macro, 3) EIGHT(macro, 4) EIGHT(macro, 5) EIGHT(macro, 6)

ALL(DEFINE)

static void many_functions_are_told_apart_in_several_pools(void)
{
    static pool_map_fn *const functions[] = {ALL(LIST)};
    enum { FUNCTIONS = sizeof functions / sizeof *functions };
    struct pool_options options = method_options(2);
    options.max_tasks_per_worker = 50; /* fresh workers have to be told again */
    struct pool *pools[] = {make_pool_with(&options), make_pool(1)};
    for (int i = 0; i < 2 * FUNCTIONS; i++) {
        int item = i % 10, result = -1, number = i % FUNCTIONS;
        EXPECT_OK(pool_map(pools[i % 2], functions[number], &item, sizeof item, &result, sizeof result, 1));
        EXPECT_INT(result, item + 100 * (number / 8 * 10 + 10 + number % 8));
    }
    pool_destroy(pools[0]);
    pool_destroy(pools[1]);
}

/* ---- the executable itself ---- */

/* A copy of this program runs this very case, and is deleted, or replaced by something else, under its own feet. */
static void executable_may_be_deleted_while_it_runs(void)
{
    char path[CASE_PATH_BYTES];
    const char *inner = getenv("CONFORMANCE_INNER");
    if (!inner) {
        copy_file("/proc/self/exe", case_path("program", path));
        setenv("CONFORMANCE_INNER", path, 1);
        pid_t pid = fork();
        if (!pid)
            _exit(execl(path, path, "-k", "executable_may_be_deleted_while_it_runs", method->name, NULL));
        EXPECT_INT(end_of_process(pid), 0);
        return;
    }
    struct pool_options options = method_options(2);
    options.max_tasks_per_worker = 20;
    struct pool *pool = make_pool_with(&options);
    EXPECT_INT(outcome_of(pool, triple), 21);
    EXPECT_OK(unlink(inner));
    EXPECT_INT(outcome_of(pool, triple), 21);
    pool_destroy(pool);
    copy_file("/bin/true", inner);
    pool = make_pool(2);
    EXPECT_INT(outcome_of(pool, triple), 21);
    pool_destroy(pool);
}

const struct conformance_case code_cases[] = {
    CASE(plugin_that_the_host_has_loaded),
    CASE(plugin_without_a_build_id),
    CASE(plugin_that_the_workers_must_load),
    CASE(submitting_a_function_of_a_plugin_is_no_cancellation_point),
    CASE(plugin_loaded_by_a_relative_path_or_a_link),
    CASE(plugins_of_one_name_in_two_folders),
    CASE(plugin_replaced_by_another_build_is_refused),
    CASE(plugin_without_a_build_id_replaced_by_another_build_is_refused),
    CASE(plugin_replaced_by_the_same_build_runs),
    CASE(plugin_loaded_where_another_one_was),
    CASE(initializer_in_a_plugin),
    CASE(code_in_no_loaded_object_is_refused),
    CASE(many_functions_are_told_apart_in_several_pools),
    CASE_THAT(PRINTS, executable_may_be_deleted_while_it_runs),
    {0},
};
