/* httpd_load: examples/prefork-httpd under load, from outside, while its workers are killed.
 *
 *     httpd_load HTTPD [REQUESTS [KILLS [SEED]]]
 *
 * Clients of four threads send requests of every kind: right ones, wrong ones, slow ones, clients that leave. Of every
 * answer every byte is looked at, to the end of the connection. It is *right*; or *cut*, when the connection ended
 * before the answer was complete and what came of it is right; or *wrong*. Then it is asked:
 *   - without kills every answer is right; with kills no more are cut than workers were killed, and none is wrong;
 *   - a request that crashes its worker, or hangs in it, gets no answer, and a client that does not send its request
 *     gets a 408;
 *   - the server holds no more connections than it should, and afterwards has as many fds as before;
 *   - at SIGTERM what it had accepted is answered, then it ends with status 0 and leaves no process behind.
 *
 * The server has a session of its own, by which its processes are found, whoever their parent is.
 * Must not know: anything of the library. The answers are all there is to see. */
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    WORKERS = 3,
    THREADS = 4,
    CONNECTIONS_PER_THREAD = 6,
    MAX_CONNECTIONS = 256, /* as in prefork-httpd.c */
    CROWD = MAX_CONNECTIONS + 50,
    LONG_LIMIT_MS = 90000, /* for a connection: nobody should come near */
    SHORT_LIMIT_MS = 3000, /* somebody should */
    PATIENCE_MS = 60000,   /* how long an event is waited for that must come */
    PIECE_BYTES = 5,       /* what a slow client sends at a time, */
    PIECE_MS = 2,          /* and when */
    ANSWER_ROOM = (1 << 20) + 2048
};

static unsigned failures;

static void expect(bool condition, const char *what)
{
    if (!condition) {
        printf("FAILED  %s\n", what);
        failures++;
    }
}

static _Noreturn void give_up(const char *what)
{
    printf("FAILED  %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Sleep a little in a loop that waits for something which nothing tells of; false: PATIENCE_MS have passed. */
static bool have_patience(int64_t since_ms)
{
    nanosleep(&(struct timespec){0, 2000000}, NULL);
    return now_ms() < since_ms + PATIENCE_MS;
}

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* ---- the files that are served ----------------------------------------------------------------------------------- */

enum { NO_FILE = -1, INDEX, EMPTY, ONE_BYTE, PAGE, MANY_PAGES, LARGE, SPACE, FOLDER_INDEX, FILE_COUNT };

static struct file {
    const char *name;
    size_t size;
    char *bytes;
} files[FILE_COUNT] = {
    [INDEX] = {"index.html", 300, NULL},
    [EMPTY] = {"empty", 0, NULL},
    [ONE_BYTE] = {"one", 1, NULL},
    [PAGE] = {"page", 4096, NULL},
    [MANY_PAGES] = {"pages", 65537, NULL},
    [LARGE] = {"large", 1 << 20, NULL},
    [SPACE] = {"a name with % in it", 9, NULL},
    [FOLDER_INDEX] = {"folder/index.html", 2000, NULL},
};

static char scratch[] = "/tmp/httpd_load.XXXXXX";

static const char *in_scratch(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    return path;
}

static const char *in_root(const char *name)
{
    char inside[256];
    snprintf(inside, sizeof inside, "root/%s", name);
    return in_scratch(inside);
}

static void write_file(const char *path, const char *bytes, size_t size)
{
    FILE *file = fopen(path, "w");
    if (!file || fwrite(bytes, 1, size, file) < size || fclose(file) != 0)
        give_up(path);
}

static void make_files(void)
{
    if (!mkdtemp(scratch) || mkdir(in_scratch("root"), 0700) < 0 || mkdir(in_root("folder"), 0700) < 0)
        give_up(scratch);
    for (size_t i = 0; i < FILE_COUNT; i++) {
        files[i].bytes = malloc(files[i].size + 1);
        for (size_t k = 0; k < files[i].size; k++)
            files[i].bytes[k] = (char)(k * 31 + k / 257 + i * 7);
        write_file(in_root(files[i].name), files[i].bytes, files[i].size);
    }
    write_file(in_scratch("secret"), "not to be seen", 14);
    if (symlink("../secret", in_root("escape")) < 0 || symlink("/etc/passwd", in_root("passwd")) < 0 ||
        symlink("page", in_root("link")) < 0 || mkfifo(in_root("fifo"), 0600) < 0)
        give_up("links");
}

static void remove_files(void)
{
    static const char *const others[] = {"root/escape", "root/passwd", "root/link", "root/fifo", "root/folder",
                                         "root",        "secret",      "log",       ""};
    for (size_t i = 0; i < FILE_COUNT; i++) {
        unlink(in_root(files[i].name));
        free(files[i].bytes);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        remove(in_scratch(others[i]));
}

/* ---- what clients ask for, and what they ought to get ------------------------------------------------------------ */

enum manner {
    AT_ONCE,
    SLOWLY,       /* a few bytes at a time */
    WITH_FILLER,  /* and FILLER_BYTES of 'x' after the text */
    HALF_CLOSED,  /* and the end of what is sent after it */
    LEAVING_EARLY /* closes at the first bytes of the answer */
};

enum { FILLER_BYTES = 200000, SILENCE = 0 };

struct request {
    const char *text;
    int status; /* SILENCE: the connection is closed without an answer */
    int file;
    enum manner manner;
};

#define HEADERS    " HTTP/1.1\r\nHost: test\r\n"
#define GET(path)  "GET " path HEADERS "User-Agent: httpd_load\r\n\r\n"
#define HEAD(path) "HEAD " path HEADERS "\r\n"

static const struct request requests[] = {
    {GET("/"), 200, INDEX, AT_ONCE},
    {GET("/index.html"), 200, INDEX, AT_ONCE},
    {GET("/empty"), 200, EMPTY, AT_ONCE},
    {GET("/one"), 200, ONE_BYTE, AT_ONCE},
    {GET("/page"), 200, PAGE, AT_ONCE},
    {GET("/link"), 200, PAGE, AT_ONCE},
    {GET("//page"), 200, PAGE, AT_ONCE},
    {GET("/pages?query=/../page"), 200, MANY_PAGES, AT_ONCE},
    {GET("/large"), 200, LARGE, AT_ONCE},
    {GET("/l%61rge"), 200, LARGE, SLOWLY},
    {GET("/a%20name%20with%20%25%20in%20it"), 200, SPACE, AT_ONCE},
    {GET("/folder/"), 200, FOLDER_INDEX, AT_ONCE},
    {GET("/folder/../pages"), 200, MANY_PAGES, AT_ONCE},
    {GET("/pages"), 200, MANY_PAGES, SLOWLY},
    {GET("/pages") GET("/large"), 200, MANY_PAGES, AT_ONCE}, /* one request on a connection: */
    {GET("/large"), 200, LARGE, WITH_FILLER},                /* what comes after it is dropped */
    {GET("/large"), 200, LARGE, HALF_CLOSED},
    {GET("/large"), 200, LARGE, LEAVING_EARLY},
    {"GET /page HTTP/1.0\r\n\r\n", 200, PAGE, AT_ONCE},
    {"GET /page" HEADERS "Content-Length: 00\r\n\r\n", 200, PAGE, AT_ONCE},
    {HEAD("/"), 200, INDEX, AT_ONCE},
    {HEAD("/large"), 200, LARGE, AT_ONCE},
    {HEAD("/empty"), 200, EMPTY, SLOWLY},
    {GET("/missing"), 404, NO_FILE, AT_ONCE},
    {HEAD("/missing"), 404, NO_FILE, AT_ONCE},
    {GET("/folder"), 404, NO_FILE, AT_ONCE},
    {GET("/page/"), 404, NO_FILE, AT_ONCE},
    {GET("/fifo"), 404, NO_FILE, AT_ONCE},
    {GET("/../secret"), 404, NO_FILE, AT_ONCE},
    {GET("/folder/../../secret"), 404, NO_FILE, AT_ONCE},
    {GET("/%2e%2e%2fsecret"), 404, NO_FILE, AT_ONCE},
    {GET("//etc/passwd"), 404, NO_FILE, AT_ONCE},
    {GET("/escape"), 404, NO_FILE, AT_ONCE},
    {GET("/passwd"), 404, NO_FILE, AT_ONCE},
    {"POST /page" HEADERS "\r\n", 405, NO_FILE, AT_ONCE},
    {"DELETE /page" HEADERS "\r\n", 405, NO_FILE, SLOWLY},
    {"PUT /page" HEADERS "Content-Length: 200000\r\n\r\n", 405, NO_FILE, WITH_FILLER},
    {"GET /page" HEADERS "Content-Length: 200000\r\n\r\n", 413, NO_FILE, WITH_FILLER},
    {"GET /page" HEADERS "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413, NO_FILE, AT_ONCE},
    {"GET /page" HEADERS "X: ", 431, NO_FILE, WITH_FILLER},
    {"GET /", 431, NO_FILE, WITH_FILLER},
    {"GET /page\r\n\r\n", 400, NO_FILE, AT_ONCE},
    {"GET  /page" HEADERS "\r\n", 400, NO_FILE, AT_ONCE},
    {"GET /page HTTP/2.0\r\nHost: test\r\n\r\n", 400, NO_FILE, AT_ONCE},
    {"GET page" HEADERS "\r\n", 400, NO_FILE, AT_ONCE},
    {"GET /page HTTP/1.1\r\n\r\n", 400, NO_FILE, AT_ONCE},
    {"GET /page" HEADERS "Host: other\r\n\r\n", 400, NO_FILE, AT_ONCE},
    {"GET /page" HEADERS "Content-Length: some\r\n\r\n", 400, NO_FILE, AT_ONCE},
    {"GET /page" HEADERS "no header\r\n\r\n", 400, NO_FILE, AT_ONCE},
    {"GET /page" HEADERS "Folded: \r\n header\r\n\r\n", 400, NO_FILE, AT_ONCE},
    {GET("/%zz"), 400, NO_FILE, AT_ONCE},
    {GET("/page%00"), 400, NO_FILE, AT_ONCE},
    {GET("/page%"), 400, NO_FILE, SLOWLY},
    {"\r\n\r\n", 400, NO_FILE, AT_ONCE},
    {"\x16\x03\x01\x02 rubbish\r\n\r\n", 400, NO_FILE, AT_ONCE},
    {"GET /page HT", 400, NO_FILE, HALF_CLOSED},
    {"", SILENCE, NO_FILE, HALF_CLOSED},
};

enum { REQUEST_KINDS = sizeof requests / sizeof *requests };

/* ---- judging answers --------------------------------------------------------------------------------------------- */

enum verdict { RIGHT, CUT, WRONG };

/* The value of a header, which must be there once; NULL otherwise. */
static const char *header(const char *head, const char *name)
{
    const char *value = NULL;
    for (const char *line = strstr(head, "\r\n"); line && line[2]; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, name, strlen(name)) == 0 && line[2 + strlen(name)] == ':') {
            if (value)
                return NULL;
            value = line + 2 + strlen(name) + 1;
            value += strspn(value, " ");
        }
    return value;
}

/* The head of an answer, as a string. Whether it is what it should be; with the size of the body that it promises. */
static bool judge_head(const struct request *request, const char *head, size_t *size_out)
{
    const char *size = header(head, "Content-Length"), *connection = header(head, "Connection");
    char *end;
    if (!size || !isdigit((unsigned char)*size) || !connection || strncmp(connection, "close\r\n", 7) != 0)
        return false;
    if (request->status == 405 && !header(head, "Allow"))
        return false;
    *size_out = strtoul(size, &end, 10);
    return *end == '\r' && (request->file == NO_FILE || *size_out == files[request->file].size);
}

/* An answer of `size` bytes, after which the connection ended. */
static enum verdict judge(const struct request *request, const char *answer, size_t size)
{
    char start[32], head[1024] = "";
    size_t body_size, promised;
    if (request->status == SILENCE)
        return size == 0 ? RIGHT : WRONG;
    size_t start_size = (size_t)snprintf(start, sizeof start, "HTTP/1.1 %d ", request->status);
    if (memcmp(answer, start, size < start_size ? size : start_size) != 0)
        return WRONG;

    memcpy(head, answer, size < sizeof head ? size : sizeof head - 1);
    char *end = strstr(head, "\r\n\r\n");
    if (!end)
        return size < sizeof head - 1 ? CUT : WRONG;
    end[2] = '\0';
    const char *body = answer + (end + 4 - head);
    body_size = size - (size_t)(body - answer);
    if (!judge_head(request, head, &promised))
        return WRONG;
    if (strncmp(request->text, "HEAD ", 5) == 0)
        return body_size == 0 ? RIGHT : WRONG;
    const char *expected = request->file == NO_FILE ? start + strlen("HTTP/1.1 ") : files[request->file].bytes;
    size_t compared = request->file == NO_FILE && body_size > 4 ? 4 : body_size; /* "404 Not Found": the number */
    if (body_size > promised || memcmp(body, expected, compared) != 0)
        return WRONG;
    return body_size == promised ? RIGHT : CUT;
}

/* ---- one connection ---------------------------------------------------------------------------------------------- */

struct client {
    int fd; /* -1: none */
    const struct request *request;
    size_t sent, size_to_send, got;
    int64_t started_ms, next_piece_ms;
    char *answer; /* answer_room bytes */
    size_t answer_room;
};

static struct client new_client(size_t answer_room)
{
    struct client client = {.fd = -1, .answer = malloc(answer_room), .answer_room = answer_room};
    if (!client.answer)
        give_up("malloc");
    return client;
}

static uint16_t port;
static char filler[4096]; /* of 'x' */

/* Begin a connection. 0, or a negative errno. */
static int client_connect(struct client *client, const struct request *request)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        give_up("socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    client->fd = fd;
    client->request = request;
    client->sent = client->got = 0;
    client->size_to_send = strlen(request->text) + (request->manner == WITH_FILLER ? FILLER_BYTES : 0);
    client->started_ms = client->next_piece_ms = now_ms();
    return 0;
}

static void client_begin(struct client *client, const struct request *request)
{
    int error = client_connect(client, request);
    if (error < 0) {
        errno = -error;
        give_up("connect");
    }
}

/* Send what is due. What can no longer be sent is no failure: the server may have answered before it read all. */
static void client_send(struct client *client)
{
    const struct request *request = client->request;
    bool is_slow = request->manner == SLOWLY;
    while (client->sent < client->size_to_send && (!is_slow || now_ms() >= client->next_piece_ms)) {
        size_t text_size = strlen(request->text), left = client->size_to_send - client->sent;
        const char *from = client->sent < text_size ? request->text + client->sent : filler;
        size_t size = is_slow ? PIECE_BYTES : sizeof filler;
        if (client->sent < text_size && size > text_size - client->sent)
            size = text_size - client->sent;
        ssize_t count = send(client->fd, from, size < left ? size : left, MSG_NOSIGNAL);
        if (count < 0 && errno == EAGAIN)
            return;
        client->sent = count < 0 ? client->size_to_send : client->sent + (size_t)count;
        client->next_piece_ms = now_ms() + PIECE_MS;
    }
    if (client->sent == client->size_to_send && request->manner == HALF_CLOSED)
        shutdown(client->fd, SHUT_WR);
}

/* Read what there is. true: there will be no more. */
static bool client_receive(struct client *client)
{
    for (;;) {
        ssize_t count = recv(client->fd, client->answer + client->got, client->answer_room - client->got, 0);
        if (count < 0 && errno == EAGAIN)
            return false;
        if (count <= 0)
            return true;
        client->got += (size_t)count;
        if (client->got == client->answer_room || client->request->manner == LEAVING_EARLY)
            return true;
    }
}

static enum verdict client_end(struct client *client)
{
    enum verdict verdict = judge(client->request, client->answer, client->got);
    if (client->request->manner == LEAVING_EARLY && client->got > 0 && verdict == CUT)
        verdict = RIGHT;
    if (verdict == WRONG)
        printf("wrong: %.60s\ngot %zu bytes: %.*s\n", client->request->text, client->got,
               client->got < 200 ? (int)client->got : 200, client->answer);
    close(client->fd);
    client->fd = -1;
    return verdict;
}

/* Wait for something to happen on some of the connections, and go on with them. How many ended: their verdicts are
 * counted. */
static unsigned clients_go_on(struct client *clients, unsigned count, unsigned verdicts[static 3])
{
    struct pollfd ready[CROWD];
    int timeout_ms = PATIENCE_MS;
    unsigned ended = 0;
    for (unsigned i = 0; i < count; i++) {
        if (clients[i].fd >= 0)
            client_send(&clients[i]);
        bool is_slow = clients[i].fd >= 0 && clients[i].request->manner == SLOWLY;
        bool sends = clients[i].fd >= 0 && clients[i].sent < clients[i].size_to_send;
        ready[i] = (struct pollfd){clients[i].fd, (short)(POLLIN | (sends && !is_slow ? POLLOUT : 0)), 0};
        timeout_ms = sends && is_slow ? PIECE_MS : timeout_ms;
    }
    if (poll(ready, count, timeout_ms) < 0)
        give_up("poll");
    for (unsigned i = 0; i < count; i++) {
        if (clients[i].fd < 0)
            continue;
        bool is_stuck = now_ms() > clients[i].started_ms + PATIENCE_MS;
        if (is_stuck)
            printf("no end of: %.60s\n", clients[i].request->text);
        if ((ready[i].revents && client_receive(&clients[i])) || is_stuck) {
            enum verdict verdict = client_end(&clients[i]);
            verdicts[is_stuck ? WRONG : verdict]++;
            ended++;
        }
    }
    return ended;
}

/* One connection from beginning to end. */
static enum verdict ask(const struct request *request)
{
    unsigned verdicts[3] = {0};
    struct client client = new_client(ANSWER_ROOM);
    client_begin(&client, request);
    while (clients_go_on(&client, 1, verdicts) == 0)
        continue;
    free(client.answer);
    return verdicts[RIGHT] ? RIGHT : verdicts[CUT] ? CUT : WRONG;
}

/* ---- the load ---------------------------------------------------------------------------------------------------- */

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t progress;
    unsigned to_begin, done, verdicts[3];
    uint32_t seed;
} load = {.mutex = PTHREAD_MUTEX_INITIALIZER, .progress = PTHREAD_COND_INITIALIZER};

/* What to ask next; NULL: it is enough. Each kind has its turn, in an order of chance. */
static const struct request *next_request(void)
{
    const struct request *request = NULL;
    pthread_mutex_lock(&load.mutex);
    if (load.to_begin > 0) {
        load.to_begin--;
        request = &requests[next_random(&load.seed) % REQUEST_KINDS];
    }
    pthread_mutex_unlock(&load.mutex);
    return request;
}

static void count_verdicts(const unsigned verdicts[static 3])
{
    pthread_mutex_lock(&load.mutex);
    for (int i = 0; i < 3; i++) {
        load.verdicts[i] += verdicts[i];
        load.done += verdicts[i];
    }
    pthread_cond_signal(&load.progress);
    pthread_mutex_unlock(&load.mutex);
}

static void *be_clients(void *unused)
{
    struct client clients[CONNECTIONS_PER_THREAD];
    const struct request *request;
    unsigned active = 0;
    for (int i = 0; i < CONNECTIONS_PER_THREAD; i++)
        clients[i] = new_client(ANSWER_ROOM);
    do {
        unsigned verdicts[3] = {0};
        if (active > 0)
            active -= clients_go_on(clients, CONNECTIONS_PER_THREAD, verdicts);
        count_verdicts(verdicts);
        for (int i = 0; i < CONNECTIONS_PER_THREAD; i++)
            if (clients[i].fd < 0 && (request = next_request())) {
                client_begin(&clients[i], request);
                active++;
            }
    } while (active > 0);
    for (int i = 0; i < CONNECTIONS_PER_THREAD; i++)
        free(clients[i].answer);
    return unused;
}

/* Wait until so many requests of the load are done. */
static void await_done(unsigned done)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    pthread_mutex_lock(&load.mutex);
    while (load.done < done)
        if (pthread_cond_timedwait(&load.progress, &load.mutex, &until) == ETIMEDOUT)
            give_up("the load makes no progress");
    pthread_mutex_unlock(&load.mutex);
}

/* ---- the server -------------------------------------------------------------------------------------------------- */

static pid_t server;
static FILE *server_output;

static void start_server(const char *httpd, int limit_ms)
{
    int output[2];
    char limit[16], line[256];
    snprintf(limit, sizeof limit, "%d", limit_ms);
    snprintf(line, sizeof line, "%d", WORKERS);
    setenv("POOL_WORKERS", line, 1);
    if (pipe2(output, O_CLOEXEC) < 0 || (server = fork()) < 0)
        give_up("fork");
    if (server == 0) {
        int log = open(in_scratch("log"), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setsid();
        dup2(output[1], STDOUT_FILENO);
        dup2(log, STDERR_FILENO);
        execl(httpd, httpd, "-x", "-t", limit, in_scratch("root"), (char *)NULL);
        _exit(127);
    }
    close(output[1]);
    server_output = fdopen(output[0], "r");
    if (!fgets(line, sizeof line, server_output) || sscanf(line, "listening on http://127.0.0.1:%hu/", &port) != 1)
        give_up("the server does not say where it listens");
}

static void show_log(void)
{
    char line[512];
    FILE *log = fopen(in_scratch("log"), "r");
    for (int i = 0; log && i < 40 && fgets(line, sizeof line, log); i++)
        fputs(line, stdout);
    if (log)
        fclose(log);
}

/* The processes of the server's session whose names begin so; at most `room` pids are stored, all are counted. */
static unsigned find_processes(const char *name, pid_t *pids_out, unsigned room)
{
    unsigned count = 0;
    DIR *processes = opendir("/proc");
    for (struct dirent *entry; processes && (entry = readdir(processes));) {
        char path[300], line[512] = "";
        int session = 0;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        FILE *file = isdigit((unsigned char)*entry->d_name) ? fopen(path, "r") : NULL;
        if (!file)
            continue;
        char *name_in = fgets(line, sizeof line, file) ? strchr(line, '(') : NULL, *after = strrchr(line, ')');
        fclose(file);
        if (!name_in || !after || sscanf(after, ") %*c %*d %*d %d", &session) != 1 || session != server)
            continue;
        if (strncmp(name_in + 1, name, strlen(name)) != 0)
            continue;
        if (count < room)
            pids_out[count] = atoi(entry->d_name);
        count++;
    }
    if (processes)
        closedir(processes);
    return count;
}

static unsigned fd_count_of_server(void)
{
    char path[64];
    unsigned count = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)server);
    DIR *fds = opendir(path);
    for (struct dirent *entry; fds && (entry = readdir(fds));)
        count += *entry->d_name != '.';
    if (fds)
        closedir(fds);
    return count;
}

static void await_all_workers(void)
{
    int64_t since_ms = now_ms();
    while (find_processes("pool-worker/", NULL, 0) != WORKERS)
        if (!have_patience(since_ms))
            give_up("not all workers are there");
}

static bool await_fd_count(unsigned fd_count)
{
    int64_t since_ms = now_ms();
    while (fd_count_of_server() != fd_count)
        if (!have_patience(since_ms))
            return false;
    return true;
}

/* What the server says of itself at its end. */
struct account {
    uintmax_t connections, served, failed, cut_off, deaths, timeouts;
};

/* The server has been told to end. */
static struct account end_of_server(void)
{
    char line[256] = "";
    struct account account = {0};
    int status, count = 0;
    if (fgets(line, sizeof line, server_output))
        count = sscanf(line,
                       "%ju connections: %ju served, %ju failed, %ju cut off; %ju workers died, %ju were killed at the "
                       "deadline",
                       &account.connections, &account.served, &account.failed, &account.cut_off, &account.deaths,
                       &account.timeouts);
    fclose(server_output);
    expect(count == 6, "the server gives an account of itself");
    fputs(line, stdout);
    expect(account.connections == account.served + account.failed + account.cut_off, "its account adds up");
    expect(waitpid(server, &status, 0) == server && status == 0, "the server ends with status 0");
    expect(find_processes("", NULL, 0) == 0, "no process is left");
    if (failures > 0)
        show_log();
    server = 0;
    return account;
}

/* ---- the trials -------------------------------------------------------------------------------------------------- */

/* The load, while `kills` workers are killed at random. How many were. */
static unsigned run_load(unsigned request_count, unsigned kills, uint32_t seed)
{
    pthread_t threads[THREADS];
    unsigned killed = 0;
    int64_t started_ms = now_ms();
    load.to_begin = request_count;
    load.seed = seed;
    load.done = 0;
    memset(load.verdicts, 0, sizeof load.verdicts);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, be_clients, NULL);
    for (unsigned i = 0; i < kills; i++) {
        pid_t workers[WORKERS];
        await_done(request_count * (i + 1) / (kills + 2));
        unsigned count = find_processes("pool-worker/", workers, WORKERS);
        killed += count > 0 && kill(workers[next_random(&seed) % (count < WORKERS ? count : WORKERS)], SIGKILL) == 0;
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("%u requests in %.1f s, %u workers killed: %u right, %u cut, %u wrong\n", load.done,
           (double)(now_ms() - started_ms) / 1000, killed, load.verdicts[RIGHT], load.verdicts[CUT],
           load.verdicts[WRONG]);
    expect(load.done == request_count, "every request came to an end");
    expect(load.verdicts[WRONG] == 0, "no answer is wrong");
    return killed;
}

static void every_kind_of_request_is_answered_rightly(void)
{
    for (int i = 0; i < REQUEST_KINDS; i++)
        if (ask(&requests[i]) != RIGHT) {
            printf("asked: %s\n", requests[i].text);
            expect(false, "every kind of request is answered rightly");
        }
}

/* More clients than it takes connect and say nothing. Then all of them ask. */
static void crowd_is_kept_waiting_and_then_served(unsigned fd_count_at_rest)
{
    static struct client crowd[CROWD];
    static const struct request page = {GET("/page"), 200, PAGE, AT_ONCE};
    unsigned verdicts[3] = {0}, left = CROWD;
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = new_client(8192);
        client_begin(&crowd[i], &page);
    }
    expect(await_fd_count(fd_count_at_rest + MAX_CONNECTIONS), "as many connections are under way as it takes");
    while (left > 0)
        left -= clients_go_on(crowd, CROWD, verdicts);
    expect(verdicts[RIGHT] == CROWD, "everybody in the crowd is served");
    for (int i = 0; i < CROWD; i++)
        free(crowd[i].answer);
}

static void server_that_is_told_to_end_answers_first_what_it_has_accepted(void)
{
    static const struct request large = {GET("/large"), 200, LARGE, AT_ONCE};
    unsigned verdicts[3] = {0};
    struct client client = new_client(ANSWER_ROOM), other = {.fd = -1};
    client_begin(&client, &large);
    client.size_to_send /= 2;
    client_send(&client);
    ask(&requests[INDEX]); /* it came later, so the other one has been accepted */
    kill(server, SIGTERM);
    int64_t since_ms = now_ms();
    while (client_connect(&other, &large) == 0 && have_patience(since_ms))
        close(other.fd);
    client.size_to_send = strlen(large.text);
    while (clients_go_on(&client, 1, verdicts) == 0)
        continue;
    expect(verdicts[RIGHT] == 1, "what was accepted before SIGTERM is answered");
    free(client.answer);
}

static void try_load(const char *httpd, unsigned request_count, unsigned kills, uint32_t seed)
{
    start_server(httpd, LONG_LIMIT_MS);
    await_all_workers();
    every_kind_of_request_is_answered_rightly();
    unsigned fd_count = fd_count_of_server();
    run_load(request_count / 3, 0, seed);
    expect(load.verdicts[CUT] == 0, "without kills no answer is cut");
    unsigned killed = run_load(request_count - request_count / 3, kills, seed + 1), cut = load.verdicts[CUT];
    expect(killed >= kills / 2, "workers are killed");
    expect(cut <= killed, "no more answers are cut than workers were killed");
    crowd_is_kept_waiting_and_then_served(fd_count);
    await_all_workers();
    expect(await_fd_count(fd_count), "the server has as many fds as before");
    server_that_is_told_to_end_answers_first_what_it_has_accepted();

    struct account account = end_of_server();
    expect(account.failed <= killed && account.failed >= cut, "it counts the connections that its workers died on");
    expect(account.deaths <= killed && (account.deaths > 0 || killed == 0), "it counts the workers that were killed");
    expect(account.timeouts == 0 && account.cut_off == 0, "nothing else went wrong");
}

/* One request crashes its worker, one hangs in it, and one client goes silent in the middle. */
static void try_limits(const char *httpd)
{
    static const struct request bad[] = {
        {GET("/crash"), SILENCE, NO_FILE, AT_ONCE},
        {GET("/hang"), SILENCE, NO_FILE, AT_ONCE},
        {GET("/page"), 408, NO_FILE, AT_ONCE},
    };
    enum { COUNT = sizeof bad / sizeof *bad };
    struct client clients[COUNT];
    unsigned verdicts[3] = {0}, left = COUNT;
    start_server(httpd, SHORT_LIMIT_MS);
    for (int i = 0; i < COUNT; i++) {
        clients[i] = new_client(8192);
        client_begin(&clients[i], &bad[i]);
    }
    clients[COUNT - 1].size_to_send /= 2;
    while (left > 0)
        left -= clients_go_on(clients, COUNT, verdicts);
    expect(verdicts[RIGHT] == COUNT, "requests that go wrong end as they should");
    for (int i = 0; i < COUNT; i++)
        free(clients[i].answer);
    expect(ask(&requests[INDEX]) == RIGHT, "afterwards the server goes on");
    kill(server, SIGTERM);

    struct account account = end_of_server();
    expect(account.connections == COUNT + 1 && account.failed == 2 && account.served == 2, "two connections failed");
    expect(account.deaths == 1 && account.timeouts == 1, "one worker crashed, another was killed at its deadline");
}

static void clean_up(void)
{
    if (server > 0) {
        show_log();
        kill(server, SIGKILL);
    }
    remove_files();
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fputs("usage: httpd_load HTTPD [REQUESTS [KILLS [SEED]]]\n", stderr);
        return 2;
    }
    unsigned request_count = argc > 2 ? (unsigned)atoi(argv[2]) : 4500, kills = argc > 3 ? (unsigned)atoi(argv[3]) : 40;
    uint32_t seed = argc > 4 ? (uint32_t)atoi(argv[4]) : 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    memset(filler, 'x', sizeof filler);
    make_files();
    atexit(clean_up);
    try_load(argv[1], request_count, kills, seed);
    try_limits(argv[1]);
    printf("%u expectations failed\n", failures);
    return failures > 0;
}
