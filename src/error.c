/* error: see error.h. The message is the thread's own: it needs no lock and nobody has to free it. */
#include "error.h"
#include "procpool.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char thread_message[ERROR_MESSAGE_BYTES];

static const struct {
    int error;
    const char *text;
} texts[] = {
    {0, "success"},
    {POOL_ETASK, "the item's function returned an error"},
    {POOL_ECRASH, "the worker died while it ran the item"},
    {POOL_ETIMEOUT, "the item ran past its deadline"},
    {POOL_ECANCELED, "the item was cancelled"},
    {POOL_EPROTO, "the worker broke the protocol"},
    {POOL_EBROKEN, "the pool is broken: workers cannot be started"},
    {POOL_ENOTINIT, "pool_init() is missing at the start of main"},
    {POOL_ECLOSED, "the pool has been shut down"},
    {POOL_EFORKED, "the pool belongs to the process that this one was forked from"},
    {POOL_EAGAIN, "no room now"},
    {POOL_EBUILD, "the worker cannot run this function"},
    {POOL_ENOBACKEND, "no such start method"},
    {POOL_PENDING, "not ended yet"},
    {POOL_EMPTY, "there is no task left"},
    {POOL_ENDED, "it had ended already"},
};

const char *pool_strerror(int error)
{
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].error == error)
            return texts[i].text;
    return error < 0 && error > -4096 ? strerror(-error) : "unknown procpool error";
}

static const struct {
    int error;
    const char *text;
} advice[] = {
    {-EAGAIN, ": raise the limit on processes (ulimit -u, or pids.max of the container)"},
    {-EMFILE, ": raise the limit on fds (ulimit -n)"},
    {-E2BIG, ": the environment is too large to start a program with"},
    {-ENOENT, ": is /proc mounted, in this root directory?"},
    {-EPERM, ": the effective user and group must be the real ones, but for \"fork\""},
};

const char *error_advice(int error)
{
    for (size_t i = 0; i < sizeof advice / sizeof *advice; i++)
        if (advice[i].error == error)
            return advice[i].text;
    return "";
}

const char *pool_message(void)
{
    return thread_message;
}

int error_set(int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(thread_message, sizeof thread_message, format, arguments);
    va_end(arguments);
    return error;
}

int error_system(int error, const char *doing)
{
    return error_set(error, "%s: %s", doing, pool_strerror(error));
}

void error_make_printable(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}
