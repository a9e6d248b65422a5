/* forks: threads of a host fork again and again while its pools start workers by `fork`. Many a libc (musl, glibc
 * before 2.36) lets one fork in at a time, its handlers included, so that two that wait for each other hang for ever.
 * Without a test framework, for platforms where there is none (musl). The last line is `N passed, N failed`. */
#include <fcntl.h>
#include <procpool.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FORKERS = 3, MAPPERS = 3, PATIENCE_S = 80, MAX_FDS = 256, WORN_OUT_COUNT = 200, DEFAULT_POOLS = 30 };

/* A sanitizer's allocator may stay locked in a copy that is made while other threads allocate. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

static unsigned passed, failed;

static void check(bool ok, const char *what)
{
    if (ok) {
        passed++;
        return;
    }
    failed++;
    printf("FAILED  %s: %s\n", what, pool_message());
}

static int add_one(const void *item, void *result, void *state)
{
    (void)state;
    *(int *)result = *(const int *)item + 1;
    return 0;
}

static bool maps(struct pool *pool, unsigned count)
{
    int items[WORN_OUT_COUNT] = {0}, results[WORN_OUT_COUNT];
    for (unsigned i = 0; i < count; i++)
        items[i] = (int)i;
    bool right = !pool_map(pool, add_one, items, sizeof *items, results, sizeof *results, count);
    for (unsigned i = 0; i < count; i++)
        right = right && results[i] == (int)i + 1;
    return right;
}

static unsigned open_fds(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < MAX_FDS; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* ---- threads that fork ---- */

struct forkers {
    pthread_t threads[FORKERS];
    struct pool *pool; /* the copies destroy it; may be NULL */
    unsigned fds;      /* that a copy has */
    sem_t begun;
    atomic_bool stop;
    atomic_uint bad_copies;
};

/* It has nothing of a pool's, and can give up the copy of it. */
static _Noreturn void be_copy(const struct forkers *forkers)
{
    alarm(PATIENCE_S);
    bool good = open_fds() == forkers->fds;
    if (!SANITIZED)
        good = good && !pool_destroy(forkers->pool);
    _exit(!good);
}

static void *fork_again_and_again(void *argument)
{
    struct forkers *forkers = argument;
    for (bool first = true; !forkers->stop; first = false) {
        int status = -1;
        pid_t pid = fork();
        if (!pid)
            be_copy(forkers);
        forkers->bad_copies += pid < 0 || waitpid(pid, &status, 0) != pid || status;
        if (first)
            sem_post(&forkers->begun);
    }
    return NULL;
}

static void start_forkers(struct forkers *forkers, struct pool *pool, unsigned fds)
{
    forkers->pool = pool;
    forkers->fds = fds;
    check(!sem_init(&forkers->begun, 0, 0), "a semaphore");
    for (unsigned i = 0; i < FORKERS; i++)
        check(!pthread_create(&forkers->threads[i], NULL, fork_again_and_again, forkers), "a thread");
    for (unsigned i = 0; i < FORKERS; i++)
        sem_wait(&forkers->begun);
}

static void end_forkers(struct forkers *forkers)
{
    forkers->stop = true;
    for (unsigned i = 0; i < FORKERS; i++)
        pthread_join(forkers->threads[i], NULL);
    check(!forkers->bad_copies, "copies have nothing of a pool, and can destroy it");
}

/* ---- scenes, each in a host of its own: one that hangs may do so with all signals blocked ---- */

/* Each item has a worker of its own. */
static struct pool *make_pool(void)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    struct pool *pool = NULL;
    options.backend = "fork";
    options.workers = 2;
    options.max_tasks_per_worker = 1;
    check(!pool_create(&options, &pool), "create");
    return pool;
}

static void *map_all(void *pool)
{
    return maps(pool, WORN_OUT_COUNT) ? pool : NULL;
}

static void map_in_threads(struct pool *pool)
{
    pthread_t threads[MAPPERS];
    for (unsigned i = 0; i < MAPPERS; i++)
        check(!pthread_create(&threads[i], NULL, map_all, pool), "a thread");
    for (unsigned i = 0; i < MAPPERS; i++) {
        void *right = NULL;
        check(!pthread_join(threads[i], &right) && right, "map");
    }
}

static void fork_while_workers_start(void)
{
    static struct forkers forkers;
    unsigned fds = open_fds();
    struct pool *pool = make_pool();
    start_forkers(&forkers, pool, fds);
    map_in_threads(pool);
    end_forkers(&forkers);
    check(!pool_destroy(pool), "destroy");
    check(open_fds() == fds, "no fd is left");
}

/* It is the first of all pools. */
static void fork_while_the_default_pool_is_made(void)
{
    static struct forkers forkers;
    setenv("POOL_BACKEND", "fork", 1);
    setenv("POOL_WORKERS", "3", 1);
    start_forkers(&forkers, NULL, open_fds());
    check(maps(NULL, FORKERS), "map by the default pool");
    end_forkers(&forkers);
}

static bool host_ends_in_time(pid_t pid, const sigset_t *child_ends, int *status_out)
{
    const struct timespec patience = {.tv_sec = PATIENCE_S};
    bool in_time = sigtimedwait(child_ends, NULL, &patience) == SIGCHLD;
    if (!in_time)
        kill(pid, SIGKILL);
    return waitpid(pid, status_out, 0) == pid && in_time;
}

static void play(void (*scene)(void), const char *what)
{
    sigset_t child_ends, before;
    int status = -1;
    sigemptyset(&child_ends);
    sigaddset(&child_ends, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_ends, &before);
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        scene();
        fflush(stdout);
        _exit(failed != 0);
    }
    check(host_ends_in_time(pid, &child_ends, &status) && !status, what);
}

int main(void)
{
    pool_init();
    play(fork_while_workers_start, "a host that forks while workers start");
    for (unsigned i = 0; i < DEFAULT_POOLS && !failed; i++)
        play(fork_while_the_default_pool_is_made, "a host that forks while the default pool is made");
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
