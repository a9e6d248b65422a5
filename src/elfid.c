/* elfid: what identifies a build of an object. See elfid.h.
 *
 * Notes are data of someone else's making: every size in them is checked against what holds it, and a malformed note
 * counts as none. */
#include "elfid.h"
#include "buf.h"
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Notes beyond this are not looked at; those of real objects are a few hundred bytes. */
enum { NOTES_MAX_BYTES = 8192 };

static uint64_t round_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) / alignment * alignment;
}

/* Whether the loader brings the bytes of this segment into readable memory. */
static bool is_loaded(const struct elfimage *image, const ElfW(Phdr) * segment)
{
    for (size_t i = 0; i < image->header_count; i++) {
        const ElfW(Phdr) *load = &image->headers[i];
        if (load->p_type == PT_LOAD && (load->p_flags & PF_R) && segment->p_vaddr >= load->p_vaddr &&
            segment->p_filesz <= load->p_filesz &&
            segment->p_vaddr - load->p_vaddr <= load->p_filesz - segment->p_filesz)
            return true;
    }
    return false;
}

/* A build-id too long for our ids counts as none: half of one could be that of another build too. */
static bool find_build_id(const uint8_t *notes, size_t size, uint64_t alignment, struct elfid *id_out)
{
    static const char owner[] = "GNU";
    ElfW(Nhdr) note;
    for (uint64_t at = 0; at + sizeof note <= size;) {
        memcpy(&note, notes + at, sizeof note);
        uint64_t name = at + sizeof note;
        uint64_t description = round_up(name + note.n_namesz, alignment);
        if (description > size || note.n_descsz > size - description)
            return false;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof owner &&
            memcmp(notes + name, owner, sizeof owner) == 0 && note.n_descsz > 0 && note.n_descsz < ELFID_BYTES) {
            id_out->size = 1 + note.n_descsz;
            id_out->bytes[0] = ELFID_BUILD;
            memcpy(id_out->bytes + 1, notes + description, note.n_descsz);
            return true;
        }
        at = round_up(description + note.n_descsz, alignment);
    }
    return false;
}

static uint64_t note_alignment(const ElfW(Phdr) * segment)
{
    return segment->p_align == 8 ? 8 : 4;
}

static size_t notes_size(const ElfW(Phdr) * segment)
{
    return segment->p_filesz < NOTES_MAX_BYTES ? (size_t)segment->p_filesz : NOTES_MAX_BYTES;
}

/* Where they are: a new process pays for each page of stack that it touches. */
static bool find_in_memory(const struct elfimage *image, const ElfW(Phdr) * segment, struct elfid *id_out)
{
    const uint8_t *notes = (const uint8_t *)(image->base + segment->p_vaddr);
    return find_build_id(notes, notes_size(segment), note_alignment(segment), id_out);
}

/* Fewer bytes than the segment has when the file ends early. */
static bool find_in_file(const struct elfimage *image, const ElfW(Phdr) * segment, struct elfid *id_out)
{
    uint8_t notes[NOTES_MAX_BYTES];
    if (fseeko(image->file, (off_t)segment->p_offset, SEEK_SET) != 0)
        return false;
    size_t size = fread(notes, 1, notes_size(segment), image->file);
    return find_build_id(notes, size, note_alignment(segment), id_out);
}

/* FNV-1a over what the loader goes by. */
static uint64_t hash_layout(const struct elfimage *image)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < image->header_count; i++) {
        const ElfW(Phdr) *load = &image->headers[i];
        if (load->p_type != PT_LOAD)
            continue;
        const uint64_t facts[] = {load->p_offset, load->p_vaddr, load->p_filesz, load->p_memsz, load->p_flags};
        for (size_t fact = 0; fact < sizeof facts / sizeof *facts; fact++)
            hash = (hash ^ facts[fact]) * 1099511628211u;
    }
    return hash;
}

static void write_file_id(struct elfid *id, const struct stat *file, uint64_t layout)
{
    struct buf_writer writer = buf_writer(id->bytes, sizeof id->bytes);
    buf_write_u8(&writer, ELFID_FILE);
    buf_write_u64(&writer, file->st_dev);
    buf_write_u64(&writer, file->st_ino);
    buf_write_u64(&writer, (uint64_t)file->st_size);
    buf_write_u64(&writer, (uint64_t)file->st_mtim.tv_sec * 1000000000u + (uint64_t)file->st_mtim.tv_nsec);
    buf_write_u64(&writer, layout);
    id->size = buf_written(&writer);
}

void elfid_of_image(const struct elfimage *image, struct elfid *id_out)
{
    for (size_t i = 0; i < image->header_count; i++) {
        const ElfW(Phdr) *segment = &image->headers[i];
        if (segment->p_type != PT_NOTE || segment->p_align > 8 || !is_loaded(image, segment))
            continue;
        if (image->file ? find_in_file(image, segment, id_out) : find_in_memory(image, segment, id_out))
            return;
    }
    write_file_id(id_out, &(struct stat){0}, hash_layout(image));
}

int elfid_add_file(struct elfid *id, const char *path)
{
    if (id->bytes[0] != ELFID_FILE)
        return 0;
    struct stat file;
    if (stat(path, &file) != 0)
        return -errno;
    struct buf_reader reader = buf_reader(id->bytes, id->size);
    buf_borrow(&reader, ELFID_FILE_BYTES - sizeof(uint64_t));
    write_file_id(id, &file, buf_read_u64(&reader));
    return 0;
}

bool elfid_same(const struct elfid *a, const struct elfid *b)
{
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

/* ---- an object that is still a file ------------------------------------------------------------------------------ */

static bool is_own_kind(const ElfW(Ehdr) * header)
{
    const uint16_t one = 1;
    const unsigned char own_data = *(const unsigned char *)&one ? ELFDATA2LSB : ELFDATA2MSB;
    const unsigned char own_class = sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32;
    return memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 && header->e_ident[EI_CLASS] == own_class &&
           header->e_ident[EI_DATA] == own_data && header->e_phentsize == sizeof(ElfW(Phdr));
}

static int identify_open_file(FILE *file, struct elfid *id_out)
{
    ElfW(Ehdr) header;
    if (fread(&header, sizeof header, 1, file) != 1 || !is_own_kind(&header))
        return ELFID_MALFORMED;
    ElfW(Phdr) *headers = calloc(header.e_phnum + 1u, sizeof *headers);
    if (!headers)
        return -ENOMEM;
    int result = ELFID_MALFORMED;
    if (fseeko(file, (off_t)header.e_phoff, SEEK_SET) == 0 &&
        fread(headers, sizeof *headers, header.e_phnum, file) == header.e_phnum) {
        elfid_of_image(&(struct elfimage){.headers = headers, .header_count = header.e_phnum, .file = file}, id_out);
        result = 0;
    }
    free(headers);
    return result;
}

int elfid_of_file(const char *path, struct elfid *id_out)
{
    struct stat facts;
    if (stat(path, &facts) != 0)
        return -errno;
    if (!S_ISREG(facts.st_mode)) /* opening a fifo would wait */
        return ELFID_MALFORMED;
    FILE *file = fopen(path, "re");
    if (!file)
        return -errno;
    int result = identify_open_file(file, id_out);
    fclose(file);
    return result ? result : elfid_add_file(id_out, path);
}
