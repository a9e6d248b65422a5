/* pgz: gzip with worker processes.
 *
 * The input is read in rounds of some blocks of 2 MiB. pool_map_bytes makes of each block, in a worker, a complete gzip
 * member, and gzip members one after another are a gzip file again (RFC 1952, section 2.2). A member knows nothing of
 * what came before it; with blocks of this size that costs less than 1% of the ratio.
 *
 * One round is in memory at a time, however long the input is. At its end workers wait for the slowest of them and for
 * the next round to be read: a few per cent of the time, with 8 blocks for each worker. */
#include "output.h"
#include <procpool.h>
#include <string.h>
#define ZLIB_CONST
#include <zlib.h>

enum { BLOCK_BYTES = 2 << 20, BLOCKS_PER_WORKER = 8, LEVEL = 6, GZIP_FORMAT = MAX_WBITS + 16 };

static const char *input_name = "stdin", *output_name = "stdout";
static double bytes_done, bytes_total; /* bytes_total 0: not known */

static void clear_progress(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

static _Noreturn void fail(const char *about, const char *why)
{
    clear_progress();
    fprintf(stderr, "pgz: %s: %s\n", about, why);
    exit(EXIT_FAILURE);
}

/* Runs in a worker: a block in, a gzip member out. */
static int compress_block(struct pool_call *call)
{
    size_t size;
    const void *block = pool_call_input(call, &size);
    z_stream z = {.next_in = block, .avail_in = (uInt)size};
    if (deflateInit2(&z, LEVEL, Z_DEFLATED, GZIP_FORMAT, MAX_MEM_LEVEL - 1, Z_DEFAULT_STRATEGY) != Z_OK)
        return pool_call_fail(call, ENOMEM, "zlib finds no memory");
    z.avail_out = (uInt)deflateBound(&z, (uLong)size);
    z.next_out = pool_call_reply(call, z.avail_out);
    bool complete = z.next_out && deflate(&z, Z_FINISH) == Z_STREAM_END;
    pool_call_reply(call, z.total_out);
    deflateEnd(&z);
    return complete ? 0 : pool_call_fail(call, ENOMEM, "no memory for the compressed block");
}

/* Called by pool_map_bytes, a few times a second. */
static int draw_progress(void *arg, size_t blocks, size_t block_count)
{
    static const char bar[] = "########################################";
    double bytes = bytes_done + (double)blocks * BLOCK_BYTES;
    double part = bytes < bytes_total ? bytes / bytes_total : 1;
    (void)arg, (void)block_count;
    if (bytes_total > 0)
        fprintf(stderr, "\r[%-40.*s] %3.0f%%", (int)(40 * part), bar, 100 * part);
    else
        fprintf(stderr, "\r%.0f MiB", bytes / (1 << 20));
    return 0;
}

/* One round: the blocks of data go through the pool, their members to out, in order. No data is one empty block. */
static void compress_round(struct pool *pool, char *data, size_t size, FILE *out)
{
    size_t count = size > 0 ? (size + BLOCK_BYTES - 1) / BLOCK_BYTES : 1;
    struct pool_bytes *blocks = calloc(count, sizeof *blocks), *members = calloc(count, sizeof *members);
    if (!blocks || !members)
        fail(input_name, strerror(errno));
    for (size_t i = 0; i < count; i++)
        blocks[i] = (struct pool_bytes){data + i * BLOCK_BYTES, BLOCK_BYTES};
    blocks[count - 1].size = size - (count - 1) * BLOCK_BYTES;

    struct pool_map_options options = POOL_MAP_OPTIONS_INIT;
    options.stop_on_error = 1;
    options.progress = isatty(STDERR_FILENO) ? draw_progress : NULL;
    if (pool_map_bytes(pool, compress_block, blocks, count, members, &options) < 0)
        fail(input_name, pool_message());
    for (size_t i = 0; i < count; i++) {
        if (fwrite(members[i].data, 1, members[i].size, out) < members[i].size)
            fail(output_name, strerror(errno));
        pool_bytes_clear(&members[i]);
    }
    free(members);
    free(blocks);
}

static void compress_stream(const struct pool_options *pool_options, FILE *in, FILE *out)
{
    struct pool *pool;
    if (pool_create(pool_options, &pool) < 0)
        fail("cannot start workers", pool_message());
    size_t workers = pool_options->workers ? pool_options->workers : (size_t)sysconf(_SC_NPROCESSORS_ONLN);
    size_t room = workers * BLOCKS_PER_WORKER * BLOCK_BYTES, size;
    char *data = malloc(room);
    if (!data)
        fail(input_name, strerror(errno));
    do {
        size = fread(data, 1, room, in);
        if (ferror(in))
            fail(input_name, strerror(errno));
        if (size > 0 || bytes_done == 0)
            compress_round(pool, data, size, out);
        bytes_done += (double)size;
    } while (size == room);
    clear_progress();
    free(data);
    pool_destroy(pool);
}

static _Noreturn void usage(void)
{
    fputs("usage: pgz [-f] [-c | -o OUT] [-b fork|spawn|forkserver] [-j WORKERS] [FILE|-]\n"
          "Compresses FILE to FILE.gz, stdin to stdout; FILE is kept. -c: to stdout; -f: overwrite OUT.\n",
          stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    pool_init(); /* first: a worker is this program, started again */

    struct pool_options options = POOL_OPTIONS_INIT;
    const char *file = "-", *out_file = NULL;
    bool force = false;
    for (int option; (option = getopt(argc, argv, "b:cfj:o:")) != -1;) {
        if (option == 'b')
            options.backend = optarg;
        else if (option == 'c')
            out_file = "-";
        else if (option == 'f')
            force = true;
        else if (option == 'j' && atoi(optarg) > 0)
            options.workers = (unsigned)atoi(optarg);
        else if (option == 'o')
            out_file = optarg;
        else
            usage();
    }
    if (argc - optind > 1)
        usage();
    if (optind < argc)
        file = argv[optind];

    FILE *in = stdin, *out = stdout;
    char gz_file[PATH_MAX + sizeof ".gz"];
    if (strcmp(file, "-") != 0) {
        in = fopen(input_name = file, "rb");
        snprintf(gz_file, sizeof gz_file, "%s.gz", file);
        out_file = out_file ? out_file : gz_file;
    }
    struct stat status;
    if (!in || fstat(fileno(in), &status) < 0)
        fail(input_name, strerror(errno));
    bytes_total = S_ISREG(status.st_mode) ? (double)status.st_size : 0;

    if (out_file && strcmp(out_file, "-") != 0)
        out = output_create(output_name = out_file, fileno(in), force);
    else if (isatty(STDOUT_FILENO) && !force)
        fail(output_name, "compressed data is not for a terminal (-f writes it all the same)");
    if (!out)
        fail(output_name, errno == EEXIST ? "it exists already (-f overwrites it)" : strerror(errno));

    signal(SIGPIPE, SIG_IGN); /* a broken pipe is an error like any other */
    compress_stream(&options, in, out);
    if (output_finish(out, output_name) != 0)
        fail(output_name, strerror(errno));
    return EXIT_SUCCESS;
}
