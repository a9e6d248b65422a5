/* forgets_init: a program that makes mistakes with pool_init(), for the conformance suite (conformance_refusals.c).
 *
 *     forgets_init START METHOD             makes a pool without having called pool_init()
 *     FORGETS_INIT_EARLY=START METHOD ...   makes a pool in a constructor, before main could call pool_init()
 *     FORGETS_INIT_LATE=1                   calls pool_init() in main, so that only the constructor is at fault
 *     FORGETS_INIT_USER=UID                 becomes that user, after pool_init()
 *
 * Appends one line for each image that it runs in to the file $FORGETS_INIT_LOG, so that a fork bomb would show, and
 * one for each that comes to main, or past pool_init() there; prints the errors of pool_create. Needs to be built as
 * `forgets_init` beside `conformance`, linked with procpool. */
#include <fcntl.h>
#include <procpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void try_to_make_a_pool(const char *when, const char *backend)
{
    struct pool_options options = POOL_OPTIONS_INIT;
    struct pool *pool = NULL;
    options.backend = backend;
    options.workers = 2;
    int rc = pool_create(&options, &pool);
    printf("%s: %d %s\n", when, rc, rc ? pool_message() : "made");
    pool_destroy(pool);
}

static void log_line(const char *line)
{
    const char *path = getenv("FORGETS_INIT_LOG");
    int log = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (log >= 0 && write(log, line, strlen(line)) < 0)
        abort();
    close(log);
}

__attribute__((constructor)) static void before_main(void)
{
    const char *backend = getenv("FORGETS_INIT_EARLY");
    log_line("started\n");
    if (backend)
        try_to_make_a_pool("early", backend);
}

int main(int argc, char **argv)
{
    if (getenv("FORGETS_INIT_LATE"))
        pool_init();
    log_line("in main\n");
    const char *user = getenv("FORGETS_INIT_USER");
    if (user && setuid((uid_t)atoi(user)))
        abort();
    if (argc > 1)
        try_to_make_a_pool("main", argv[1]);
    return 0;
}
