/* http: as much of HTTP/1.1 (RFC 9112) as it takes to serve files: GET and HEAD, one request on a connection.
 * Nothing in here is about procpool.
 *
 * What a client sends is limited in bytes (HTTP_HEAD_BYTES) and in time. A request is spoken of by the status of its
 * answer, which is 200 as long as all is well. A header, so that an example stays one command to compile. */
#ifndef PREFORK_HTTP_H
#define PREFORK_HTTP_H

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { HTTP_HEAD_BYTES = 8192 }; /* of a request: its first line and its headers */

struct http_request {
    char head[HTTP_HEAD_BYTES + 1]; /* a string, which `path` points into */
    const char *path;               /* begins with "/"; %XX is resolved */
    bool is_head;                   /* the answer has no body */
};

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static int64_t http_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* recv that gives up at until_ms. A timeout for each recv alone would let a client send a byte a second for ever. */
static ssize_t http_receive(int connection, char *room, size_t size, int64_t until_ms)
{
    struct pollfd ready = {connection, POLLIN, 0};
    int64_t left_ms = until_ms - http_now_ms();
    if (poll(&ready, 1, left_ms > 0 ? (int)left_ms : 0) <= 0)
        return -1;
    return recv(connection, room, size, 0);
}

/* Read until the empty line. 0: there is nobody to answer. */
static int http_read_head(int connection, char *head, int64_t until_ms)
{
    for (size_t size = 0; size < HTTP_HEAD_BYTES;) {
        ssize_t count = http_receive(connection, head + size, HTTP_HEAD_BYTES - size, until_ms);
        if (count < 0)
            return 408;
        if (count == 0)
            return size > 0 ? 400 : 0;
        if (memchr(head + size, '\0', (size_t)count))
            return 400;
        size += (size_t)count;
        head[size] = '\0';
        if (strstr(head, "\r\n\r\n"))
            return 200;
    }
    return 431;
}

/* End the string at the first `mark`: what comes after it, or NULL when there is none. */
static char *http_cut(char *text, const char *mark)
{
    char *found = strstr(text, mark);
    if (!found)
        return NULL;
    *found = '\0';
    return found + strlen(mark);
}

/* Whether a name is what RFC 9110 calls a token, up to the character `end`. */
static bool http_is_token(const char *name, char end)
{
    size_t length = 0;
    while (isalnum((unsigned char)name[length]) || (name[length] && strchr("!#$%&'*+-.^_`|~", name[length])))
        length++;
    return length > 0 && name[length] == end;
}

/* Drop the query and resolve %XX, in place. */
static bool http_decode_path(char *path)
{
    char *to = path;
    path[strcspn(path, "?")] = '\0';
    for (const char *from = path; *from; from++, to++) {
        *to = *from;
        if (*from == '%') {
            if (!isxdigit((unsigned char)from[1]) || !isxdigit((unsigned char)from[2]))
                return false;
            *to = (char)strtol((char[]){from[1], from[2], '\0'}, NULL, 16);
            if (*to == '\0')
                return false;
            from += 2;
        }
    }
    *to = '\0';
    return *path == '/';
}

/* What matters here: that HTTP/1.1 has one Host, and that there is no body, which nobody would read. */
static int http_check_headers(char *headers, bool must_have_host)
{
    unsigned hosts = 0;
    bool has_body = false;
    for (char *line = headers, *next; *line; line = next) {
        next = http_cut(line, "\r\n");
        if (!http_is_token(line, ':') || line[strcspn(line, "\r\n")])
            return 400;
        const char *value = strchr(line, ':') + 1;
        value += strspn(value, " \t");
        if (strncasecmp(line, "Host:", 5) == 0) {
            hosts++;
        } else if (strncasecmp(line, "Transfer-Encoding:", 18) == 0) {
            has_body = true;
        } else if (strncasecmp(line, "Content-Length:", 15) == 0) {
            if (value[strspn(value, "0123456789")] || !*value)
                return 400;
            has_body |= value[strspn(value, "0")] != '\0';
        }
    }
    if (hosts > 1 || (must_have_host && hosts == 0))
        return 400;
    return has_body ? 413 : 200;
}

static int http_parse(struct http_request *request)
{
    char *method = request->head;
    strstr(method, "\r\n\r\n")[2] = '\0'; /* what follows the empty line is not ours */
    char *headers = http_cut(method, "\r\n"), *target = http_cut(method, " ");
    char *version = target ? http_cut(target, " ") : NULL;
    if (!version || !http_is_token(method, '\0') || !http_decode_path(target))
        return 400;
    if (strncmp(version, "HTTP/1.", 7) != 0 || !isdigit((unsigned char)version[7]) || version[8])
        return 400;
    request->path = target;
    request->is_head = strcmp(method, "HEAD") == 0;
    int status = http_check_headers(headers, version[7] != '0');
    bool is_known = request->is_head || strcmp(method, "GET") == 0;
    return status != 400 && !is_known ? 405 : status;
}

/* Read one request, for patience_ms at most. 200, or the status of the refusal; 0: the client left without a word. */
static int http_read(int connection, struct http_request *request, int patience_ms)
{
    request->is_head = false;
    int status = http_read_head(connection, request->head, http_now_ms() + patience_ms);
    return status == 200 ? http_parse(request) : status;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

/* Open for reading what is below the folder `root`. The kernel itself sees to it that neither ".." nor a symbolic link
 * leads out. The system call is made by hand since not every C library has a function, or the header, for it. */
static int http_open_beneath(int root, const char *path)
{
    struct {
        uint64_t flags, mode, resolve; /* as struct open_how of <linux/openat2.h> */
    } how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, .resolve = 0x08 /* RESOLVE_BENEATH */};
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

static int http_status_of_failed_open(void)
{
    switch (errno) {
    case EACCES:
        return 403;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return 500;
    default: /* also EXDEV: it leads out of the root */
        return 404;
    }
}

/* 200 with an open file, or the status of the refusal. */
static int http_open(int root, const char *path, int *file_out, off_t *size_out)
{
    char name[HTTP_HEAD_BYTES + sizeof "index.html"];
    struct stat about;
    bool is_folder = path[strlen(path) - 1] == '/';
    snprintf(name, sizeof name, "%s%s", path + strspn(path, "/"), is_folder ? "index.html" : "");
    int file = http_open_beneath(root, name);
    if (file < 0)
        return http_status_of_failed_open();
    if (fstat(file, &about) < 0 || !S_ISREG(about.st_mode)) {
        close(file);
        return 404;
    }
    *file_out = file;
    *size_out = about.st_size;
    return 200;
}

/* ---- answering --------------------------------------------------------------------------------------------------- */

static const char *http_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {400, "Bad Request"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {431, "Request Header Fields Too Large"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Internal Server Error";
}

static bool http_send_text(int connection, const char *text, int flags)
{
    for (size_t left = strlen(text); left > 0;) {
        ssize_t count = send(connection, text, left, flags | MSG_NOSIGNAL);
        if (count < 0)
            return false;
        text += count;
        left -= (size_t)count;
    }
    return true;
}

static bool http_send_file(int connection, int file, off_t size)
{
    for (off_t sent = 0; sent < size;) {
        ssize_t count = sendfile(connection, file, &sent, (size_t)(size - sent));
        if (count <= 0)
            return count < 0;
    }
    return true;
}

/* Send the answer: a file of that size, or, with file -1, the status in words. false: the file became shorter
 * meanwhile. A client that has gone, or does not read, is no failure of ours. */
static bool http_answer(int connection, const struct http_request *request, int status, int file, off_t size)
{
    char words[64] = "", head[256];
    if (file < 0)
        size = snprintf(words, sizeof words, "%d %s\n", status, http_reason(status));
    snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\nContent-Length: %jd\r\n%sConnection: close\r\n\r\n%s", status,
             http_reason(status), (intmax_t)size, status == 405 ? "Allow: GET, HEAD\r\n" : "",
             request->is_head ? "" : words);
    bool file_follows = !request->is_head && file >= 0 && size > 0;
    if (!http_send_text(connection, head, file_follows ? MSG_MORE : 0))
        return true;
    return !file_follows || http_send_file(connection, file, size);
}

/* Closing a connection with something unread in it resets it, and the client may lose the answer. So: say that this was
 * all, and read on until the client has closed its end, for patience_ms at most. */
static void http_end(int connection, int patience_ms)
{
    char unread[4096];
    int64_t until_ms = http_now_ms() + patience_ms;
    shutdown(connection, SHUT_WR);
    while (http_receive(connection, unread, sizeof unread, until_ms) > 0)
        continue;
}

#endif
