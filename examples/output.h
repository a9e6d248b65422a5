/* output: a file that appears under its name whole or not at all. Nothing in here is about procpool.
 *
 * It grows under a temporary name in the same directory and is renamed at the end. If the program ends before that, by
 * exit or by one of the usual signals, the temporary file is removed; an older file of the same name is untouched until
 * the rename. A name that exists and is no regular file (/dev/null, a FIFO) is simply written to.
 * One output at a time. A header, so that an example stays one command to compile. */
#ifndef PGZ_OUTPUT_H
#define PGZ_OUTPUT_H

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char output_temporary[PATH_MAX]; /* what must not outlive this process; "": nothing */

static void output_remove(void)
{
    unlink(output_temporary);
}

static void output_on_signal(int number)
{
    output_remove();
    raise(number); /* SA_RESETHAND: its default action ends the process when this handler returns */
}

static void output_remove_on_signals(void)
{
    static const int signals[] = {SIGHUP, SIGINT, SIGTERM};
    struct sigaction action = {.sa_handler = output_on_signal, .sa_flags = (int)SA_RESETHAND};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (signal(signals[i], SIG_IGN) != SIG_IGN) /* nohup stays in force */
            sigaction(signals[i], &action, NULL);
}

static mode_t output_default_mode(void)
{
    mode_t mask = umask(0);
    umask(mask);
    return 0666 & ~mask;
}

/* Begin the output `name`, with the permissions of the open file `model` if that is a regular one.
 * NULL with errno: EEXIST when there is such a file and it is not to be replaced. */
static FILE *output_create(const char *name, int model, bool replace)
{
    struct stat status;
    bool exists = stat(name, &status) == 0;
    if (exists && !S_ISREG(status.st_mode))
        return fopen(name, "wb");
    if (exists && !replace) {
        errno = EEXIST;
        return NULL;
    }
    if (snprintf(output_temporary, PATH_MAX, "%s.XXXXXX", name) >= PATH_MAX) {
        *output_temporary = '\0';
        errno = ENAMETOOLONG;
        return NULL;
    }
    atexit(output_remove);
    output_remove_on_signals();
    int fd = mkstemp(output_temporary);
    if (fd < 0)
        return NULL;
    bool has_model = fstat(model, &status) == 0 && S_ISREG(status.st_mode);
    fchmod(fd,
           has_model ? status.st_mode & 0777 : output_default_mode()); /* may fail: not every file system has them */
    return fdopen(fd, "wb");
}

/* Close the file and give it its name. -1 with errno. */
static int output_finish(FILE *file, const char *name)
{
    if (fclose(file) != 0 || (*output_temporary && rename(output_temporary, name) != 0))
        return -1;
    *output_temporary = '\0';
    return 0;
}

#endif
