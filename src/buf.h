/* buf: bounded cursors over bytes, little-endian.
 *
 * A reader never runs past its end and a writer never past its room: the first step that would marks the cursor as
 * failed, and every later one is a no-op that gives zeros. So a sequence is written straight down and checked once.
 * Pure; knows nothing. */
#ifndef PROCPOOL_BUF_H
#define PROCPOOL_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf_reader {
    const uint8_t *at, *end;
    bool failed;
};

struct buf_writer {
    uint8_t *start, *at, *end;
    bool failed;
};

struct buf_reader buf_reader(const void *bytes, size_t size);
uint8_t buf_read_u8(struct buf_reader *reader);
uint16_t buf_read_u16(struct buf_reader *reader);
uint32_t buf_read_u32(struct buf_reader *reader);
uint64_t buf_read_u64(struct buf_reader *reader);
/* A pointer to the next size bytes inside the reader's memory; NULL when there are fewer. */
const uint8_t *buf_borrow(struct buf_reader *reader, size_t size);
/* Read without failure, and to the last byte. */
bool buf_finished(const struct buf_reader *reader);

struct buf_writer buf_writer(void *bytes, size_t size);
void buf_write_u8(struct buf_writer *writer, uint8_t value);
void buf_write_u16(struct buf_writer *writer, uint16_t value);
void buf_write_u32(struct buf_writer *writer, uint32_t value);
void buf_write_u64(struct buf_writer *writer, uint64_t value);
void buf_write_bytes(struct buf_writer *writer, const void *bytes, size_t size);
size_t buf_written(const struct buf_writer *writer);

#endif
