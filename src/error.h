/* error: what a caller is told. The calling thread's message, and texts for codes.
 * Knows nothing of pools. */
#ifndef PROCPOOL_ERROR_H
#define PROCPOOL_ERROR_H

enum { ERROR_MESSAGE_BYTES = 2048 };

/* Set this thread's message and return error. */
int error_set(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Set it to what pool_strerror says, with what was being done. */
int error_system(int error, const char *doing);

/* What to do about an error that the system has given to the start of a process: ": do this", or "". */
const char *error_advice(int error);

/* Replace what a terminal would act on. Texts may come from a worker. */
void error_make_printable(char *text);

#endif
