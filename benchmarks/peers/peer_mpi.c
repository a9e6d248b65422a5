/* A farm over plain MPI: rank 0 hands out pieces of an array and the others send them back, worked on. Everybody polls
 * and nobody sleeps, which is how MPI is fast and what it costs: all CPUs, all the time.
 *
 * A worker has at most two pieces at once, and one where they are too large to be sent without waiting for the
 * receiver. */
#include "peer.h"
#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SAME = 1, SPIN, STOP };
enum { SMALL_BYTES = 2000, MAX_RANKS = 64, AHEAD = 2, TASKS = 1000000 };

/* ---- the workers ------------------------------------------------------------------------------------------------ */

static uint64_t same(uint64_t item)
{
    return item;
}
static uint64_t (*volatile function)(uint64_t) = same;

static void work(int tag, char *piece, int bytes)
{
    if (tag == SAME) {
        uint64_t *items = (uint64_t *)piece;
        for (size_t i = 0; i < (size_t)bytes / sizeof *items; i++)
            items[i] = function(items[i]);
    } else {
        double *costs = (double *)piece;
        for (size_t i = 0; i < (size_t)bytes / sizeof *costs; i++)
            peer_spin(costs[i]);
    }
}

static void serve(void)
{
    char *piece = malloc(PEER_PAYLOAD);
    MPI_Status status;
    int bytes;
    for (;;) {
        MPI_Recv(piece, PEER_PAYLOAD, MPI_BYTE, 0, MPI_ANY_TAG, MPI_COMM_WORLD, &status);
        MPI_Get_count(&status, MPI_BYTE, &bytes);
        if (status.MPI_TAG == STOP)
            break;
        work(status.MPI_TAG, piece, bytes);
        MPI_Send(piece, bytes, MPI_BYTE, 0, status.MPI_TAG, MPI_COMM_WORLD);
    }
    free(piece);
}

/* ---- rank 0 --------------------------------------------------------------------------------------------------- */

struct farm {
    int workers;
    char *items, *results;
    size_t piece_bytes;
    int tag;                         /* what is to be done with a piece */
    size_t places[MAX_RANKS][AHEAD]; /* where the pieces under way at a worker belong */
    unsigned sent[MAX_RANKS], received[MAX_RANKS];
};

static size_t send_piece(struct farm *farm, int worker, size_t at, size_t total)
{
    size_t bytes = total - at < farm->piece_bytes ? total - at : farm->piece_bytes;
    if (bytes == 0)
        return 0;
    farm->places[worker][farm->sent[worker]++ % AHEAD] = at;
    MPI_Send(farm->items + at, (int)bytes, MPI_BYTE, worker, farm->tag, MPI_COMM_WORLD);
    return bytes;
}

static size_t receive_piece(struct farm *farm, int *worker_out)
{
    MPI_Status status;
    int bytes;
    MPI_Probe(MPI_ANY_SOURCE, farm->tag, MPI_COMM_WORLD, &status);
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    int worker = status.MPI_SOURCE;
    size_t place = farm->places[worker][farm->received[worker]++ % AHEAD];
    MPI_Recv(farm->results + place, bytes, MPI_BYTE, worker, farm->tag, MPI_COMM_WORLD, &status);
    *worker_out = worker;
    return (size_t)bytes;
}

static void run_farm(struct farm *farm, size_t total)
{
    size_t sent = 0, received = 0;
    for (int ahead = 0; ahead < (farm->piece_bytes > SMALL_BYTES ? 1 : AHEAD); ahead++)
        for (int worker = 1; worker <= farm->workers; worker++)
            sent += send_piece(farm, worker, sent, total);
    while (received < total) {
        int worker;
        received += receive_piece(farm, &worker);
        sent += send_piece(farm, worker, sent, total);
    }
}

static void run_items(void *context, size_t count)
{
    run_farm(context, count * sizeof(uint64_t));
}

/* Round after round of the same few, so that one by one there is memory enough. */
static void run_one_by_one(void *context, size_t count)
{
    for (size_t done = 0; done < count; done += TASKS)
        run_items(context, count - done < TASKS ? count - done : TASKS);
}

static void run_one(void *context)
{
    run_items(context, 1);
}

/* ---- the questions -------------------------------------------------------------------------------------------- */

static void ask_map(struct farm *farm)
{
    static const size_t chunks[] = {1000, 10000, 100000};
    double best = 0;
    char note[64];
    memset(farm->items, 1, PEER_MAX_ITEMS * sizeof(uint64_t));
    memset(farm->results, 1, PEER_MAX_ITEMS * sizeof(uint64_t));
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        farm->piece_bytes = chunks[i] * sizeof(uint64_t);
        double rate = peer_rate(run_items, farm) / 1e6;
        if (rate <= best)
            continue;
        best = rate;
        snprintf(note, sizeof note, "chunks of %zu", chunks[i]);
    }
    peer_answer("map", "best chunk size", best, "M items/s", note);
}

static void ask_tasks(struct farm *farm)
{
    peer_answer("tasks", "default", peer_rate(run_one_by_one, farm) / 1e6, "M/s",
                "a message each, two under way at a worker");
}

static void ask_roundtrip(struct farm *farm)
{
    peer_answer_trips(run_one, farm, "both ranks polling");
}

static void ask_start(struct farm *farm)
{
    const char *began = getenv("PEER_BEGAN_NS");
    struct timespec now;
    char setting[32];
    clock_gettime(CLOCK_REALTIME, &now);
    double ms = ((double)now.tv_sec * 1e9 + (double)now.tv_nsec - (began ? strtod(began, NULL) : 0)) / 1e6;
    snprintf(setting, sizeof setting, "%d workers", farm->workers);
    peer_answer("start", setting, ms, "ms", "from the start of mpiexec");
}

static void echo(void *context, size_t count)
{
    struct farm *farm = context;
    for (size_t i = 0; i < count / 10; i++)
        run_farm(farm, PEER_PAYLOAD);
}

static void ask_echo(struct farm *farm)
{
    farm->piece_bytes = PEER_PAYLOAD;
    double rate = peer_rate(echo, farm) / 10;
    peer_answer("echo", "1 MiB", 2.0 * PEER_PAYLOAD * rate / 1e9, "GB/s", "both ranks polling");
}

static void ask_uneven(struct farm *farm)
{
    size_t count;
    double ideal;
    farm->items = (char *)peer_costs(&count, &ideal);
    farm->tag = SPIN;
    double start = peer_seconds();
    run_farm(farm, count * sizeof(double));
    peer_answer("uneven", "one by one", (peer_seconds() - start) / ideal, "x ideal",
                "rank 0 polls beside the two workers");
}

static void ask(const char *question, struct farm *farm)
{
    static const struct {
        const char *question;
        void (*ask)(struct farm *farm);
    } questions[] = {{"map", ask_map},     {"tasks", ask_tasks}, {"roundtrip", ask_roundtrip},
                     {"start", ask_start}, {"echo", ask_echo},   {"uneven", ask_uneven}};
    run_items(farm, (size_t)farm->workers); /* an answer of each */
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++)
        if (strcmp(questions[i].question, question) == 0)
            questions[i].ask(farm);
}

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (rank > 0) {
        serve();
    } else {
        size_t bytes = PEER_MAX_ITEMS * sizeof(uint64_t);
        struct farm farm = {ranks - 1, malloc(bytes), malloc(bytes), sizeof(uint64_t), SAME, {{0}}, {0}, {0}};
        if (!farm.items || !farm.results || ranks > MAX_RANKS)
            peer_fail("no memory, or too many ranks");
        ask(argc == 2 ? argv[1] : "", &farm);
        for (int worker = 1; worker < ranks; worker++)
            MPI_Send(NULL, 0, MPI_BYTE, worker, STOP, MPI_COMM_WORLD);
    }
    MPI_Finalize();
    return 0;
}
