/* prefork-httpd: a small web server whose connections are served by worker processes.
 *
 *     client -> accept -> pool_submit with the connection's fd -> pool_call_fd in a worker -> one request, one answer
 *
 * The parent accepts connections, hands each to a worker as a task, and goes back to listening. It never reads a byte
 * that a client has sent: that is done in the workers, and a request that crashes one, or hangs in it, costs this one
 * connection.
 *
 * What to take from here for a server of your own:
 *   - One poll() waits for clients, for the pool (pool_fd) and for the signal to stop.
 *   - at_most_once: a connection on which something may have been said is not given to another worker when its own has
 *     died.
 *   - The library duplicates the fds of a task, so the parent closes its own at once. The client sees the end of the
 *     connection when the task has ended, however it ended.
 *   - Back-pressure: with MAX_CONNECTIONS under way the parent stops accepting, and the kernel lets the next clients
 *     wait.
 *   - A worker limits what it reads, in bytes and in time (see http.h). The deadline of the task, at which the worker
 *     is killed, is the last resort. */
#include "http.h"
#include <limits.h>
#include <netinet/in.h>
#include <procpool.h>
#include <signal.h>
#include <sys/signalfd.h>

enum {
    MAX_CONNECTIONS = 256,  /* under way: each is an fd of the parent's */
    REST_MS = 100,          /* how long not to accept when the system has refused something */
    DEFAULT_LIMIT_MS = 9000 /* deadline of a connection; each wait for the client is at most a third of it */
};

/* ---- in a worker ------------------------------------------------------------------------------------------------- */

/* A copy of this goes to every worker, as pool_options.arg. */
struct settings {
    char root[PATH_MAX];
    int limit_ms;
    bool test_mode; /* /crash and /hang do as they say */
};

struct site {
    struct settings settings;
    int root; /* fd of the folder */
};

/* The initializer: runs once in each worker. What it makes is what serve() gets from pool_call_state. */
static int open_site(const void *arg, size_t arg_size, void **state_out)
{
    static struct site site;
    memcpy(&site.settings, arg, arg_size);
    site.root = open(site.settings.root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int probe = site.root < 0 ? -1 : http_open_beneath(site.root, ".");
    if (probe < 0)
        return pool_call_fail(NULL, errno, "%s: %s", site.settings.root, strerror(errno));
    close(probe);
    signal(SIGPIPE, SIG_IGN); /* a client that has gone is an error of sendfile, and no reason to die */
    *state_out = &site;
    return 0;
}

static void misbehave(const char *path)
{
    if (strcmp(path, "/crash") == 0)
        abort();
    while (strcmp(path, "/hang") == 0)
        pause();
}

/* The task. When it returns the library closes the connection, here and in the parent. */
static int serve(struct pool_call *call)
{
    const struct site *site = pool_call_state(call);
    int connection = pool_call_fd(call, 0), patience_ms = site->settings.limit_ms / 3, file = -1;
    struct timeval patience = {patience_ms / 1000, patience_ms % 1000 * 1000};
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);

    struct http_request request;
    off_t size = 0;
    int status = http_read(connection, &request, patience_ms);
    if (status == 0)
        return 0;
    if (status == 200 && site->settings.test_mode)
        misbehave(request.path);
    if (status == 200)
        status = http_open(site->root, request.path, &file, &size);
    bool complete = http_answer(connection, &request, status, file, size);
    if (file >= 0)
        close(file);
    if (!complete) /* the client has been promised more: all that is left to do is to close */
        return pool_call_fail(call, EIO, "%s became shorter while it was sent", request.path);
    http_end(connection, patience_ms);
    return 0;
}

/* ---- in the parent ----------------------------------------------------------------------------------------------- */

struct server {
    struct pool *pool;
    int listener, signals;
    int limit_ms;
    int waiting;        /* a connection that the pool has not taken yet; -1: none */
    unsigned under_way; /* connections that the pool has */
    uintptr_t accepted;
    bool rests; /* from accepting */
};

static _Noreturn void fail(const char *about, const char *why)
{
    fprintf(stderr, "prefork-httpd: %s: %s\n", about, why);
    exit(EXIT_FAILURE);
}

static int hand_over(struct server *server, int connection)
{
    struct pool_task_options options = POOL_TASK_OPTIONS_INIT;
    options.fds = &connection;
    options.fd_count = 1;
    options.at_most_once = 1;
    options.timeout_ms = server->limit_ms;
    options.no_wait = 1; /* this loop has other things to do */
    options.tag = (void *)(server->accepted + 1);
    return pool_submit(server->pool, serve, NULL, 0, &options, NULL);
}

/* Accept what there is, as long as there is room. What the system or the pool refuses for now is tried again when
 * something has ended, or after a rest. */
static void accept_clients(struct server *server)
{
    while (server->under_way < MAX_CONNECTIONS) {
        int connection = server->waiting;
        server->waiting = -1;
        if (connection < 0)
            connection = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0) {
            server->rests = errno != EAGAIN && errno != ECONNABORTED && errno != EINTR;
            return;
        }
        int error = hand_over(server, connection);
        if (error == POOL_EAGAIN || error == -EMFILE || error == -ENFILE || error == -ENOMEM) {
            server->waiting = connection;
            server->rests = true;
            return;
        }
        if (error < 0)
            fail("the pool takes no more connections", pool_message());
        close(connection); /* the pool has a duplicate of its own */
        server->accepted++;
        server->under_way++;
    }
}

/* Nothing is said to the client of a failed task: what it has got so far cannot be known. Its connection has been
 * closed by now. */
static void collect_ended(struct server *server)
{
    struct pool_task *task;
    struct pool_result result;
    while (pool_next(server->pool, 0, &task) == 0) {
        server->under_way--;
        if (pool_task_result(task, &result) == 0 && result.status < 0)
            fprintf(stderr, "prefork-httpd: connection %ju: %s\n", (uintmax_t)(uintptr_t)pool_task_tag(task),
                    result.message);
        pool_task_free(task);
    }
}

static void serve_until_signal(struct server *server)
{
    for (;;) {
        bool accepts = !server->rests && server->under_way < MAX_CONNECTIONS;
        struct pollfd ready[] = {{server->signals, POLLIN, 0},
                                 {pool_fd(server->pool), POLLIN, 0},
                                 {accepts ? server->listener : -1, POLLIN, 0}};
        int count = poll(ready, 3, server->rests ? REST_MS : -1);
        if (count < 0 && errno != EINTR)
            fail("poll", strerror(errno));
        server->rests = false;
        if (count > 0 && ready[0].revents)
            return;
        if (count > 0 && ready[1].revents && pool_process(server->pool) < 0)
            fail("the pool", pool_message());
        collect_ended(server);
        accept_clients(server);
    }
}

/* Let what was accepted come to its end, for as long as one connection may take, and cut off the rest. */
static void shut_down(struct server *server)
{
    struct pool_stats stats = POOL_STATS_INIT;
    close(server->listener);
    if (server->waiting >= 0)
        close(server->waiting);
    if (pool_shutdown(server->pool, POOL_DRAIN, server->limit_ms) == POOL_PENDING) {
        fprintf(stderr, "prefork-httpd: %s\n", pool_message());
        pool_shutdown(server->pool, POOL_TERMINATE, POOL_FOREVER); /* SIGKILL comes soon after SIGTERM, so this ends */
    }
    collect_ended(server);
    pool_stats(server->pool, &stats);
    printf("%ju connections: %ju served, %ju failed, %ju cut off; %ju workers died, %ju were killed at the deadline\n",
           (uintmax_t)stats.submitted, (uintmax_t)stats.succeeded, (uintmax_t)stats.failed, (uintmax_t)stats.canceled,
           (uintmax_t)stats.crashes, (uintmax_t)stats.timeouts);
    pool_destroy(server->pool);
    close(server->signals);
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t address_size = sizeof address;
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, SOMAXCONN) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &address_size) < 0)
        fail("cannot listen", strerror(errno));
    printf("listening on http://127.0.0.1:%u/\n", (unsigned)ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static struct pool *start_workers(const struct settings *settings)
{
    struct pool *pool;
    struct pool_options options = POOL_OPTIONS_INIT;
    options.initializer = open_site;
    options.arg = settings;
    options.arg_size = sizeof *settings;
    if (pool_create(&options, &pool) < 0)
        fail("cannot start workers", pool_message());
    if (pool_fd(pool) < 0)
        fail("cannot watch the pool", pool_message());
    return pool;
}

/* From here on SIGINT and SIGTERM are events of the loop. Workers have a signal mask of their own. */
static int signals_to_stop(void)
{
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGINT);
    sigaddset(&stop, SIGTERM);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    int signals = signalfd(-1, &stop, SFD_CLOEXEC);
    if (signals < 0)
        fail("signalfd", strerror(errno));
    return signals;
}

int main(int argc, char **argv)
{
    pool_init(); /* first: a worker is this program, started again */

    static struct settings settings = {.limit_ms = DEFAULT_LIMIT_MS};
    bool usable = true;
    for (int option; (option = getopt(argc, argv, "t:x")) != -1;) {
        if (option == 't')
            settings.limit_ms = atoi(optarg);
        else if (option == 'x')
            settings.test_mode = true;
        else
            usable = false;
    }
    int port = argc - optind == 2 ? atoi(argv[optind + 1]) : 0;
    if (!usable || argc - optind < 1 || argc - optind > 2 || settings.limit_ms < 3 || port < 0 || port > UINT16_MAX) {
        fputs("usage: prefork-httpd [-t LIMIT_MS] [-x] ROOT [PORT]\n"
              "Serves the files below ROOT on 127.0.0.1, PORT 0 being any. -t: time for a connection; -x: /crash and "
              "/hang for tests.\n"
              "POOL_WORKERS and POOL_BACKEND in the environment say how many workers there are, and of which kind.\n",
              stderr);
        return 2;
    }
    snprintf(settings.root, sizeof settings.root, "%s", argv[optind]);

    struct server server = {.waiting = -1, .limit_ms = settings.limit_ms};
    server.signals = signals_to_stop();
    server.pool = start_workers(&settings);
    server.listener = listen_on((uint16_t)port);
    serve_until_signal(&server);
    shut_down(&server);
    return EXIT_SUCCESS;
}
