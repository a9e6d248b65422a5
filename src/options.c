/* options: see options.h. First what is the same for every struct, then what pool_options says: numbers, the start
 * method, how many workers. */
#include "options.h"
#include "cpus.h"
#include "error.h"
#include "fd.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_WORKERS = 4096, FDS_PER_WORKER = 7, FDS_BESIDE = 16, OPTIONS_MAX_BYTES = 4096 };
enum { DEFAULT_SPIN_US = 50, MAX_SPIN_US = 1000 };
#define MAX_ARG_BYTES ((size_t)1 << 30)

int options_import(void *own, size_t own_size, const void *given, const char *name)
{
    uint32_t size;
    if (!given)
        return 0;
    memcpy(&size, given, sizeof size);
    if (size < sizeof size || size > OPTIONS_MAX_BYTES)
        return error_set(-EINVAL, "%s.size is %u: initialise the struct with its ..._INIT macro", name, size);
    const uint8_t *bytes = given;
    for (size_t i = own_size; i < size; i++)
        if (bytes[i])
            return error_set(-E2BIG, "%s has something set that this version of procpool does not know", name);
    memcpy(own, given, size < own_size ? size : own_size);
    return 0;
}

int options_settle(struct pool_options *options)
{
    if (options->workers > MAX_WORKERS)
        return error_set(-EINVAL, "workers is %u: at most %d", options->workers, MAX_WORKERS);
    if (options->arg_size > MAX_ARG_BYTES || (options->arg_size && !options->arg))
        return error_set(-EINVAL, "arg_size is %zu: at most 1 GiB, and 0 without arg", options->arg_size);
    if (options->start_timeout_ms < 0 || options->start_timeout_ms > INT64_MAX / 1000000)
        return error_set(-EINVAL, "start_timeout_ms is negative or too large");
    if (options->soft_kill_grace_ms < -1 || options->soft_kill_grace_ms > INT64_MAX / 1000000)
        return error_set(-EINVAL, "soft_kill_grace_ms is negative or too large: -1 for no grace");
    if (options->spin_us < -1 || options->spin_us > MAX_SPIN_US)
        return error_set(-EINVAL, "spin_us is %lld: at most %d, or -1 for never", (long long)options->spin_us,
                         MAX_SPIN_US);
    options->max_attempts = options->max_attempts ? options->max_attempts : 1;
    options->max_bytes_in_flight = options->max_bytes_in_flight ? options->max_bytes_in_flight : (size_t)64 << 20;
    options->max_result_bytes = options->max_result_bytes ? options->max_result_bytes : (size_t)1 << 30;
    options->start_timeout_ms = options->start_timeout_ms ? options->start_timeout_ms : 30000;
    options->soft_kill_grace_ms = options->soft_kill_grace_ms ? options->soft_kill_grace_ms : 100;
    options->spin_us = options->spin_us ? options->spin_us : DEFAULT_SPIN_US;
    return 0;
}

uint64_t options_spin_ns(const struct pool_options *options)
{
    return options->spin_us > 0 ? (uint64_t)options->spin_us * 1000u : 0;
}

static void list_backends(char *text, size_t size)
{
    text[0] = '\0';
    for (const struct backend *const *backend = backend_table; *backend; backend++) {
        strncat(text, *text ? ", " : "", size - strlen(text) - 1);
        strncat(text, (*backend)->name, size - strlen(text) - 1);
    }
}

int options_choose_backend(const struct pool_options *options, const struct backend **backend_out)
{
    const char *from_environment = secure_getenv("POOL_BACKEND");
    bool by_environment = !options->backend && from_environment && *from_environment;
    const char *name = options->backend ? options->backend : by_environment ? from_environment : "forkserver";
    char known[256];
    *backend_out = backend_find(name);
    if (*backend_out)
        return 0;
    list_backends(known, sizeof known);
    return error_set(POOL_ENOBACKEND, "no start method \"%.100s\"%s: choose one of %s", name,
                     by_environment ? " (from $POOL_BACKEND)" : "", known);
}

/* ---- how many workers ---- */

/* 0: the environment does not say. */
static int workers_by_environment(unsigned *workers_out)
{
    const char *text = secure_getenv("POOL_WORKERS");
    *workers_out = 0;
    if (!text || !*text)
        return 0;
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || *end || *text == '-' || !value || value > MAX_WORKERS)
        return error_set(-EINVAL, "$POOL_WORKERS is \"%.100s\": a number from 1 to %d", text, MAX_WORKERS);
    *workers_out = (unsigned)value;
    return 0;
}

/* How many fds this process has; 0: nobody can tell. The kernel does so since Linux 6.2, which takes no time; before,
 * they are counted, among them the two names that are no fds and the one by which they are read. */
static rlim_t count_fds(void)
{
    static const char path[] = "/proc/thread-self/fd";
    struct stat status;
    if (!stat(path, &status) && status.st_size > 0)
        return (rlim_t)status.st_size;
    DIR *directory = opendir(path);
    rlim_t count = 0, others = 3;
    while (directory && readdir(directory))
        count++;
    if (directory)
        closedir(directory);
    return count > others ? count - others : 0;
}

/* How many workers the fds that are left suffice for. */
static unsigned workers_by_fds(void)
{
    struct rlimit limit;
    rlim_t used = count_fds();
    if (!used || getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == RLIM_INFINITY)
        return MAX_WORKERS;
    used += FDS_BESIDE;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        used += !fd_is_open(fd); /* the library leaves these numbers alone */
    rlim_t left = limit.rlim_cur > used ? limit.rlim_cur - used : 0;
    return left / FDS_PER_WORKER < MAX_WORKERS ? (unsigned)(left / FDS_PER_WORKER) : MAX_WORKERS;
}

int options_choose_workers(const struct pool_options *options, unsigned *workers_out, bool *asked_out)
{
    unsigned workers = options->workers, most = workers_by_fds();
    int rc = workers ? 0 : workers_by_environment(&workers);
    if (rc)
        return rc;
    *asked_out = workers != 0;
    if (*asked_out && workers > most)
        return error_set(-EMFILE, "%u workers need %u fds: raise the limit (ulimit -n), or ask for fewer workers",
                         workers, workers * FDS_PER_WORKER);
    if (!workers)
        workers = cpus_available();
    *workers_out = workers < most ? workers : most ? most : 1;
    return 0;
}
