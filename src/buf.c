/* buf: see buf.h. Numbers are put together byte by byte: neither the machine's byte order nor alignment matters. */
#include "buf.h"
#include <string.h>

struct buf_reader buf_reader(const void *bytes, size_t size)
{
    static const uint8_t nothing[1];
    const uint8_t *start = size ? bytes : nothing;
    return (struct buf_reader){.at = start, .end = start + size};
}

const uint8_t *buf_borrow(struct buf_reader *reader, size_t size)
{
    if (reader->failed || size > (size_t)(reader->end - reader->at)) {
        reader->failed = true;
        return NULL;
    }
    const uint8_t *bytes = reader->at;
    reader->at += size;
    return bytes;
}

static uint64_t read_little_endian(struct buf_reader *reader, size_t size)
{
    const uint8_t *bytes = buf_borrow(reader, size);
    uint64_t value = 0;
    for (size_t i = 0; bytes && i < size; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

uint8_t buf_read_u8(struct buf_reader *reader)
{
    return (uint8_t)read_little_endian(reader, 1);
}

uint16_t buf_read_u16(struct buf_reader *reader)
{
    return (uint16_t)read_little_endian(reader, 2);
}

uint32_t buf_read_u32(struct buf_reader *reader)
{
    return (uint32_t)read_little_endian(reader, 4);
}

uint64_t buf_read_u64(struct buf_reader *reader)
{
    return read_little_endian(reader, 8);
}

bool buf_finished(const struct buf_reader *reader)
{
    return !reader->failed && reader->at == reader->end;
}

struct buf_writer buf_writer(void *bytes, size_t size)
{
    return (struct buf_writer){.start = bytes, .at = bytes, .end = (uint8_t *)bytes + size};
}

static uint8_t *claim(struct buf_writer *writer, size_t size)
{
    if (writer->failed || size > (size_t)(writer->end - writer->at)) {
        writer->failed = true;
        return NULL;
    }
    uint8_t *room = writer->at;
    writer->at += size;
    return room;
}

void buf_write_bytes(struct buf_writer *writer, const void *bytes, size_t size)
{
    uint8_t *room = claim(writer, size);
    if (room && size)
        memcpy(room, bytes, size);
}

static void write_little_endian(struct buf_writer *writer, uint64_t value, size_t size)
{
    uint8_t *room = claim(writer, size);
    for (size_t i = 0; room && i < size; i++)
        room[i] = (uint8_t)(value >> (8 * i));
}

void buf_write_u8(struct buf_writer *writer, uint8_t value)
{
    write_little_endian(writer, value, 1);
}

void buf_write_u16(struct buf_writer *writer, uint16_t value)
{
    write_little_endian(writer, value, 2);
}

void buf_write_u32(struct buf_writer *writer, uint32_t value)
{
    write_little_endian(writer, value, 4);
}

void buf_write_u64(struct buf_writer *writer, uint64_t value)
{
    write_little_endian(writer, value, 8);
}

size_t buf_written(const struct buf_writer *writer)
{
    return (size_t)(writer->at - writer->start);
}
