/* wire: frames to bytes and back, pure.
 *
 * A stream each way is a sequence of frames: a fixed little-endian header of 40 bytes, then body_bytes of body. The
 * same protocol serves every start method. docs/wire-protocol.md describes it frame by frame; the table in wire.c is
 * what it is checked against: who may send a type, which header fields it uses (the others must be zero) and how large
 * its body may be.
 *
 * The parent treats a worker as hostile: any 40 bytes give either a header that the table allows or POOL_EPROTO.
 * Whether an allowed frame makes sense now (an item that was asked for, say) is for the reader of the stream to know.
 * Must not know: file descriptors, workers, jobs. */
#ifndef PROCPOOL_WIRE_H
#define PROCPOOL_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum {
    WIRE_VERSION = 7,
    WIRE_HEADER_BYTES = 40,
    WIRE_TEXT_BYTES = 1023,        /* longest text in an error */
    WIRE_FAILURE_BYTES = 8,        /* one entry of the list of failed items in a WIRE_RESULTS body */
    WIRE_REPLY_BYTES = 8,          /* what precedes each reply in a WIRE_REPLIES body */
    WIRE_REPLIES_BYTES = 16 << 10, /* largest body of WIRE_REPLIES */
    WIRE_REFERENCE_BYTES = 24,
};

enum wire_type {
    WIRE_HELLO = 1, /* both: version, pid, identity of the library. The first frame of each side */
    /* parent: (id: the worker's number) limits, initializer, finalizer, preload, their argument; then the replays */
    WIRE_CONFIG,
    WIRE_READY,    /* worker: preload, initializer and replays have succeeded */
    WIRE_FUNCTION, /* parent: what a function number means from now on */
    WIRE_TASK,     /* parent: one item of any size */
    WIRE_RUN,      /* parent: consecutive items of one size */
    WIRE_RESULT,   /* worker: the next WIRE_TASK ended: its reply, or its code and text */
    WIRE_RESULTS,  /* worker: the next items of a WIRE_RUN ended: who failed, then all results */
    WIRE_ERROR,    /* worker: the next items could not be run; before WIRE_READY: the worker cannot be had */
    WIRE_RECYCLE,  /* parent: start afresh in place; nothing follows until the next hello */
    WIRE_SHUTDOWN, /* parent: end in order */
    WIRE_CLAIMS,   /* parent: the page of claims comes through the socket; tickets are counted from here on */
    WIRE_SKIPPED,  /* worker: the next `count` items were taken back, and it has not begun them */
    WIRE_REPLIES,  /* worker: the next `count` tasks (WIRE_TASK) have succeeded, with small replies */
    WIRE_BUFFER,   /* parent: a shared buffer comes through the socket; from now on it is known by its number */
    WIRE_UNMAP,    /* parent: the number means nothing any more */
    WIRE_REGION,   /* worker: memory for its replies comes through the socket; from now on it is known by its number */
    WIRE_RETURN,   /* parent: the reply there is not needed any more */
    WIRE_DISCARD,  /* parent: the same, and the number means nothing any more */
    WIRE_TRANSIT,  /* parent: memory by which what is large may travel comes through the socket, or is given up */
    WIRE_TYPE_COUNT
};

enum {
    WIRE_STEPWISE = 1, /* TASK, RUN: report each item before beginning the next */
    WIRE_WORN = 2,     /* RESULT, RESULTS, ERROR: the worker is above max_worker_bytes and wants to be replaced */
    WIRE_STOP = 4,     /* RUN: it ends with its first failed item; the others are not begun and not reported */
    WIRE_FDS = 8,      /* TASK: `extra` fds come with it, through the socket */
    WIRE_REPLAY = 16,  /* TASK: a broadcast from before this worker's time; not answered, but part of becoming ready */
    WIRE_SPIN = 32,    /* TASK, RUN: a CPU is spare: who is out of work afterwards may look for more before it sleeps */
    /* TASK, RUN: the input is in memory that both have; RESULT: so is the reply; and the body says where. */
    WIRE_REFERENCE = 64,
    /* RUN: so are the results, TASK: so may the reply be, and the body begins with where. BUFFER: it is for results,
     * too. */
    WIRE_IN_PLACE = 128,
};

enum wire_side { WIRE_FROM_PARENT = 1, WIRE_FROM_WORKER = 2 };

struct wire_header {
    uint64_t body_bytes;
    /* Number of the (first) item. CONFIG: the worker's number. BUFFER, UNMAP: the buffer's. REGION, RETURN, DISCARD:
     * the region's. */
    uint64_t id;
    /* TASK: number of fds. RUN: size of one result. RESULT, RESULTS, ERROR: nanoseconds spent on these items. BUFFER,
     * REGION: its size. TRANSIT: of its halves, or 0 */
    uint64_t extra;
    uint32_t count;    /* items. CONFIG: tasks to be replayed */
    uint32_t function; /* FUNCTION, TASK, RUN: its number. RESULTS: entries in the list of failed items */
    int32_t code;      /* RESULT: what the task returned. ERROR: the error */
    uint8_t type;
    uint8_t flags;
};

void wire_encode(const struct wire_header *header, uint8_t bytes[WIRE_HEADER_BYTES]);

/* 0, or POOL_EPROTO with *header_out unspecified. max_result_bytes caps the body of a WIRE_RESULT. */
int wire_decode(const uint8_t bytes[WIRE_HEADER_BYTES], enum wire_side from, uint64_t max_result_bytes,
                struct wire_header *header_out);

/* Body of WIRE_HELLO. */
enum { WIRE_ID_BYTES = 64, WIRE_HELLO_BYTES = 16 + WIRE_ID_BYTES };
struct wire_hello {
    uint32_t version, pid;
    uint32_t id_size;
    uint8_t id[WIRE_ID_BYTES]; /* build-id of the library */
};
size_t wire_encode_hello(const struct wire_hello *hello, uint8_t bytes[WIRE_HELLO_BYTES]);
int wire_decode_hello(const uint8_t *bytes, size_t size, struct wire_hello *hello_out);

/* Body of WIRE_CONFIG, the same for all workers of a pool. The byte ranges are borrowed: by decode from its input, and
 * by encode from the caller. */
struct wire_bytes {
    const uint8_t *data;
    uint64_t size;
};
enum {
    WIRE_CONFIG_PRELOAD = 1,  /* the worker runs the preload itself */
    WIRE_CONFIG_RECYCLES = 2, /* WIRE_RECYCLE may come: remember what to restore */
};
struct wire_config {
    uint32_t flags;
    uint64_t max_result_bytes, max_worker_bytes;
    uint64_t spin_ns;                                  /* at most so long; 0: never */
    struct wire_bytes initializer, finalizer, preload; /* callables; size 0: none */
    struct wire_bytes arg;
};
size_t wire_config_size(const struct wire_config *config);
void wire_encode_config(const struct wire_config *config, uint8_t *bytes);
int wire_decode_config(const uint8_t *bytes, size_t size, struct wire_config *config_out);

/* One entry of the list that a WIRE_RESULTS body begins with. */
struct wire_failure {
    uint32_t offset; /* from the frame's first item; ascending */
    int32_t code;    /* non-zero */
};
void wire_encode_failure(struct wire_failure failure, uint8_t bytes[WIRE_FAILURE_BYTES]);
struct wire_failure wire_decode_failure(const uint8_t bytes[WIRE_FAILURE_BYTES]);
/* The whole list of a frame with `item_count` items: 0, or POOL_EPROTO. */
int wire_check_failures(const uint8_t *bytes, uint32_t failure_count, uint32_t item_count);

/* One entry of a WIRE_REPLIES body; `bytes` lie behind what is encoded. Decode: where the next entry begins, in a body
 * that was checked. */
struct wire_reply {
    uint32_t size;
    uint32_t elapsed_ns;
    const uint8_t *bytes;
};
void wire_encode_reply(const struct wire_reply *reply, uint8_t bytes[WIRE_REPLY_BYTES]);
const uint8_t *wire_decode_reply(const uint8_t *bytes, struct wire_reply *reply_out);
/* The whole body, of `count` entries: 0, or POOL_EPROTO. */
int wire_check_replies(const uint8_t *bytes, size_t size, uint32_t count, uint64_t max_result_bytes);

/* Instead of a number: in the memory of WIRE_TRANSIT, among the items or the results. */
#define WIRE_IN_TRANSIT UINT64_MAX

/* Memory that both have: what stands in a body for bytes that do not go through the pipe. */
struct wire_reference {
    uint64_t buffer; /* its number, or WIRE_IN_TRANSIT */
    uint64_t offset, size;
};
void wire_encode_reference(struct wire_reference reference, uint8_t bytes[WIRE_REFERENCE_BYTES]);
struct wire_reference wire_decode_reference(const uint8_t bytes[WIRE_REFERENCE_BYTES]);

#endif
