/* conformance_deeds: see conformance_deeds.h. */
#include "conformance_deeds.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- deeds ---- */

static struct board *board_of_handler;

static void note_sigterm(int number)
{
    (void)number;
    board_of_handler->counters[DEEDS_SIGTERMS]++;
    _exit(0);
}

static void prepare(struct board *board, enum deed deed)
{
    board_of_handler = board;
    if (deed == DEED_IGNORES_SIGTERM)
        signal(SIGTERM, SIG_IGN);
    if (deed == DEED_NOTES_SIGTERM)
        signal(SIGTERM, note_sigterm);
}

static void tell_begun(struct board *board, unsigned id)
{
    board->runs[id % BOARD_ITEMS]++;
    board->pids[id % BOARD_ITEMS] = getpid();
    board->counters[DEEDS_BEGUN]++;
}

/* Longer than the host has patience: whatever ends there has not ended since the gate did not hold. */
static bool wait_at_gate(struct board *board)
{
    return await_counter(board, DEEDS_GATE, 1) || await_counter(board, DEEDS_GATE, 1);
}

static int perform(struct board *board, enum deed deed)
{
    switch (deed) {
    case DEED_ENDS:
        return 0;
    case DEED_FAILS:
        return DEED_CODE;
    case DEED_CRASHES:
        return raise(SIGKILL);
    case DEED_WAITS_AT_GATE:
        return !wait_at_gate(board);
    case DEED_NEVER_ENDS:
    case DEED_IGNORES_SIGTERM:
    case DEED_NOTES_SIGTERM:
        break;
    }
    for (;;)
        pause();
}

int do_deed_item(const void *item, void *result, void *state)
{
    const struct deed_input *input = item;
    prepare(state, (enum deed)input->deed);
    tell_begun(state, input->id);
    *(unsigned *)result = input->id;
    return perform(state, (enum deed)input->deed);
}

int do_deed(struct pool_call *call)
{
    size_t size;
    void *reply = pool_call_reply(call, sizeof(unsigned));
    return reply ? do_deed_item(pool_call_input(call, &size), reply, pool_call_state(call)) : -1;
}

/* A function of its own, so that no deed of the other is taken for one that lasts, nor queued behind one. */
static int do_lasting_deed(struct pool_call *call)
{
    return do_deed(call);
}

static pool_task_fn *function_of(enum deed deed)
{
    return deed == DEED_ENDS || deed == DEED_FAILS || deed == DEED_CRASHES ? do_deed : do_lasting_deed;
}

/* ---- scenes ---- */

static int note_initialized(const void *arg, size_t arg_size, void **state_out)
{
    int code = attach_board(arg, arg_size, state_out);
    if (!code)
        ((struct board *)*state_out)->counters[WORKERS_INITIALIZED]++;
    return code;
}

static void note_finalized(void *state)
{
    ((struct board *)state)->counters[WORKERS_FINALIZED]++;
}

struct pool_options scene_options(unsigned workers)
{
    struct pool_options options = board_options(workers);
    options.initializer = note_initialized;
    options.finalizer = note_finalized;
    return options;
}

/* No item ends before all have begun, so each worker has one. */
static int meet(const void *item, void *result, void *state)
{
    struct board *board = state;
    board->counters[WORKERS_MET]++;
    *(pid_t *)result = getpid();
    return !await_counter(board, WORKERS_MET, *(const uint64_t *)item);
}

struct scene make_scene_with(const struct pool_options *options)
{
    struct scene scene = {.board = make_board(), .workers = options->workers};
    struct pool_map_options map = POOL_MAP_OPTIONS_INIT;
    uint64_t items[SCENE_WORKERS];
    memset(scene.board, 0, sizeof *scene.board);
    for (unsigned i = 0; i < scene.workers; i++)
        items[i] = scene.workers;
    map.chunk_size = 1;
    scene.pool = make_pool_with(options);
    EXPECT_OK(
        pool_map_with(scene.pool, meet, items, sizeof *items, scene.pids, sizeof *scene.pids, scene.workers, &map));
    return scene;
}

struct scene make_scene(unsigned workers)
{
    struct pool_options options = scene_options(workers);
    return make_scene_with(&options);
}

void await_begun(const struct scene *scene, uint64_t count)
{
    EXPECT(await_counter(scene->board, DEEDS_BEGUN, count));
}

void open_gate(const struct scene *scene)
{
    scene->board->counters[DEEDS_GATE] = 1;
}

struct pool_task *submit_deed_with(const struct scene *scene, enum deed deed, unsigned id,
                                   const struct pool_task_options *options)
{
    struct deed_input input = {(int)deed, id};
    struct pool_task *task = NULL;
    EXPECT_OK(pool_submit(scene->pool, function_of(deed), &input, sizeof input, options, &task));
    EXPECT(task);
    return task;
}

struct pool_task *submit_deed(const struct scene *scene, enum deed deed, unsigned id)
{
    return submit_deed_with(scene, deed, id, NULL);
}

void occupy(const struct scene *scene, enum deed deed, struct pool_task *tasks_out[])
{
    uint64_t begun = scene->board->counters[DEEDS_BEGUN];
    for (unsigned i = 0; i < scene->workers; i++)
        tasks_out[i] = submit_deed(scene, deed, i);
    await_begun(scene, begun + scene->workers);
}

void queue_deeds(const struct scene *scene, struct pool_task *tasks_out[QUEUED])
{
    for (unsigned i = 0; i < QUEUED; i++)
        tasks_out[i] = submit_deed(scene, DEED_ENDS, QUEUED_ID + i);
}

void free_tasks(struct pool_task *const tasks[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        pool_task_free(tasks[i]);
}

int status_of(const struct pool_task *task)
{
    return result_of(task).status;
}

int take_status(struct pool_task *task)
{
    EXPECT_OK(pool_wait(task, POOL_FOREVER));
    int status = status_of(task);
    pool_task_free(task);
    return status;
}

bool workers_are_gone(const struct scene *scene)
{
    for (unsigned i = 0; i < scene->workers; i++)
        if (is_running(scene->pids[i]))
            return false;
    return true;
}

void close_scene(struct scene *scene)
{
    EXPECT(workers_are_gone(scene));
    EXPECT(child_count() <= (method->traits & PRELOADS_ONCE ? 1 : 0)); /* a server */
    EXPECT_OK(pool_destroy(scene->pool));
}

/* ---- callers ---- */

static void *make_call(void *arg)
{
    struct caller *caller = arg;
    caller->id = (pid_t)syscall(SYS_gettid);
    caller->result = caller->call(caller->arg);
    caller->has_returned = true;
    return NULL;
}

void start_caller(struct caller *caller, int (*call)(void *arg), void *arg)
{
    *caller = (struct caller){.call = call, .arg = arg};
    EXPECT_OK(pthread_create(&caller->thread, NULL, make_call, caller));
}

static bool is_asleep(const struct caller *caller)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)caller->id);
    return caller->id && read_file(path, text, sizeof text) > 0 && *(strrchr(text, ')') + 2) == 'S';
}

/* It may doze on its way, in a lock for example: only when it is found asleep again and again does it wait. */
void await_sleep(struct caller *caller)
{
    enum { LOOKS = 20 };
    int asleep = 0;
    for (uint64_t since_ms = now_ms(); asleep < LOOKS; asleep = is_asleep(caller) ? asleep + 1 : 0)
        EXPECT(have_patience(since_ms));
}

int end_of_caller(struct caller *caller)
{
    for (uint64_t since_ms = now_ms(); !caller->has_returned;)
        EXPECT(have_patience(since_ms));
    EXPECT_OK(pthread_join(caller->thread, NULL));
    return caller->result;
}

int wait_for_ever(void *task)
{
    EXPECT_OK(pool_wait(task, POOL_FOREVER));
    return status_of(task);
}
