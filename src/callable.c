/* callable: functions as bytes, and back. See callable.h.
 *
 * The bytes, little-endian:
 *     u8   object         0 the executable, 1 a shared object
 *     u64  offset         of the function from the object's load address
 *     u8   id_size        0 for the executable, at most 64
 *     ..   id             'b' and the build-id, or 'f' and five u64: device, inode, size, mtime in ns, layout
 *     u16  path_size      0 for the executable, below 4096
 *     ..   path           absolute, without a terminating zero
 *
 * It is the value of the pointer that counts. In an executable that is not PIE a pointer to a shared library's function
 * may be the executable's own PLT slot: then it is a function of the executable, and leads to the library there. A
 * pointer to an IFUNC is what the resolver chose here; the workers run on the same machine, and nothing but the same
 * build is accepted. */
#include "callable.h"
#include "buf.h"
#include "elfobject.h"
#include "once.h"
#include "procpool.h"
#include <assert.h>
#include <dlfcn.h>
#include <link.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { OBJECT_EXECUTABLE = 0, OBJECT_SHARED = 1 };

_Static_assert((int)CALLABLE_PATH_BYTES == (int)ELFOBJECT_PATH_BYTES, "a path on the wire is a loaded object's path");
_Static_assert((int)CALLABLE_ID_BYTES == (int)ELFID_BYTES, "an id on the wire is a loaded object's id");

struct reference {
    bool is_executable;
    uint64_t offset;
    struct elfid id;
    const char *path; /* borrowed; terminated, but for what was just decoded */
    size_t path_size;
};

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static int fail(char *message, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

static int fail(char *message, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, CALLABLE_TEXT_BYTES, format, arguments);
    va_end(arguments);
    return error;
}

enum { ID_TEXT_BYTES = 96, ID_SHOWN_BYTES = 20 };

/* The first bytes of a build-id in hex, like file(1) shows it; they fit a message twice. */
static const char *id_text(const struct elfid *id, char *text_out)
{
    if (id->bytes[0] == ELFID_FILE) {
        struct buf_reader reader = buf_reader(id->bytes + 1 + 8, id->size - 1 - 8);
        uint64_t inode = buf_read_u64(&reader), size = buf_read_u64(&reader), mtime_ns = buf_read_u64(&reader);
        snprintf(text_out, ID_TEXT_BYTES, "inode %llu, %llu bytes, mtime %llu.%09llu", (unsigned long long)inode,
                 (unsigned long long)size, (unsigned long long)(mtime_ns / 1000000000u),
                 (unsigned long long)(mtime_ns % 1000000000u));
        return text_out;
    }
    size_t length = (size_t)snprintf(text_out, ID_TEXT_BYTES, "build-id ");
    for (size_t i = 1; i < id->size && i <= ID_SHOWN_BYTES; i++)
        length += (size_t)snprintf(text_out + length, ID_TEXT_BYTES - length, "%02x", id->bytes[i]);
    return text_out;
}

static int fail_other_build(char *message, const struct reference *wanted, const struct elfid *here)
{
    char wanted_text[ID_TEXT_BYTES], here_text[ID_TEXT_BYTES];
    return fail(message, POOL_EBUILD, "other build of the object: wanted %s, found %s: %s",
                id_text(&wanted->id, wanted_text), id_text(here, here_text), wanted->path);
}

static int fail_offset(char *message, const struct reference *reference)
{
    const char *place = reference->is_executable ? "the executable" : reference->path;
    size_t size = reference->is_executable ? strlen(place) : reference->path_size;
    return fail(message, POOL_EBUILD, "offset %#llx is not in the code of %.*s", (unsigned long long)reference->offset,
                (int)size, place);
}

/* ---- describe ---------------------------------------------------------------------------------------------------- */

static int find_function(uintptr_t address, struct reference *reference_out, char *message)
{
    struct elfobject object;
    if (elfobject_executable_has(address)) {
        reference_out->is_executable = true;
        reference_out->offset = address - elfobject_executable_base();
        return 0;
    }
    if (elfobject_at(address, &object) != 0)
        return fail(message, POOL_EBUILD, "%#lx lies in no loaded object: no other process can find such code",
                    (unsigned long)address);
    if (!object.is_code)
        return fail(message, POOL_EBUILD, "%#lx is data, not a function", (unsigned long)address);
    reference_out->is_executable = object.is_executable;
    reference_out->offset = address - object.base;
    reference_out->id = object.id;
    return 0;
}

/* What a shared object needs besides: its path, and the facts about its file if they are its identity. */
static int find_file(uintptr_t address, char path[CALLABLE_PATH_BYTES], struct reference *reference, char *message)
{
    bool is_gone;
    int result = elfobject_path(address, path, &is_gone);
    if (result == ELFOBJECT_NONE)
        return fail(message, POOL_EBUILD, "%#lx lies in an object without a file", (unsigned long)address);
    if (result < 0)
        return fail(message, result, "cannot read /proc/self/maps: %s", strerror(-result));
    reference->path = path;
    reference->path_size = strlen(path);
    if (reference->id.bytes[0] == ELFID_FILE && is_gone)
        return fail(message, POOL_EBUILD, "has no build-id and was replaced or removed since it was loaded: %s",
                    reference->path);
    result = elfid_add_file(&reference->id, reference->path);
    if (result < 0)
        return fail(message, POOL_EBUILD, "has no build-id and cannot be examined (%s): %s", strerror(-result),
                    reference->path);
    return 0;
}

static size_t encode(const struct reference *reference, uint8_t *bytes)
{
    size_t id_size = reference->is_executable ? 0 : reference->id.size;
    struct buf_writer writer = buf_writer(bytes, CALLABLE_MAX_BYTES);
    buf_write_u8(&writer, reference->is_executable ? OBJECT_EXECUTABLE : OBJECT_SHARED);
    buf_write_u64(&writer, reference->offset);
    buf_write_u8(&writer, (uint8_t)id_size);
    buf_write_bytes(&writer, reference->id.bytes, id_size);
    buf_write_u16(&writer, (uint16_t)reference->path_size);
    buf_write_bytes(&writer, reference->path, reference->path_size);
    assert(!writer.failed);
    return buf_written(&writer);
}

int callable_describe(callable_fn *fn, uint8_t *bytes, size_t *size_out, char *message)
{
    struct reference reference = {0};
    char path[CALLABLE_PATH_BYTES];
    int result = find_function((uintptr_t)fn, &reference, message);
    if (result == 0 && !reference.is_executable)
        result = find_file((uintptr_t)fn, path, &reference, message);
    if (result == 0)
        *size_out = encode(&reference, bytes);
    return result;
}

bool callable_is_lasting(const uint8_t *bytes)
{
    return bytes[0] == OBJECT_EXECUTABLE;
}

/* ---- resolve ----------------------------------------------------------------------------------------------------- */

static bool is_id(const struct elfid *id)
{
    return (id->bytes[0] == ELFID_BUILD && id->size > 1) ||
           (id->bytes[0] == ELFID_FILE && id->size == ELFID_FILE_BYTES);
}

/* Whether the bytes are what encode writes, and nothing else. */
static bool decode(const uint8_t *bytes, size_t size, struct reference *reference)
{
    struct buf_reader reader = buf_reader(bytes, size);
    uint8_t object = buf_read_u8(&reader);
    reference->offset = buf_read_u64(&reader);
    reference->id.size = buf_read_u8(&reader);
    const uint8_t *id = buf_borrow(&reader, reference->id.size);
    reference->path_size = buf_read_u16(&reader);
    reference->path = (const char *)buf_borrow(&reader, reference->path_size);
    if (!buf_finished(&reader) || object > OBJECT_SHARED || reference->id.size > sizeof reference->id.bytes ||
        reference->path_size >= CALLABLE_PATH_BYTES ||
        (reference->path_size && memchr(reference->path, '\0', reference->path_size)))
        return false;
    memcpy(reference->id.bytes, id, reference->id.size);
    reference->is_executable = object == OBJECT_EXECUTABLE;
    if (reference->is_executable)
        return reference->id.size == 0 && reference->path_size == 0;
    return is_id(&reference->id) && reference->path_size && reference->path[0] == '/';
}

/* The object behind a handle of dlopen: the one that holds its dynamic section. */
static int identify_handle(void *handle, const char *path, struct elfobject *object_out)
{
    struct link_map *map = NULL;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || elfobject_at((uintptr_t)map->l_ld, object_out) != 0)
        return ELFOBJECT_NONE;
    return elfid_add_file(&object_out->id, path);
}

/* Loading runs the object's constructors, so the file is examined first and one of another build is never loaded; it is
 * compared again afterwards, since it may have been replaced in between. Loading the very file that was examined (by
 * /proc/self/fd/N) would give the object that name: $ORIGIN in it, debuggers and a later dlopen by path would go wrong.
 * The object stays loaded for good: its functions may be called at any time. */
static int load_object(const struct reference *reference, struct elfobject *object_out, char *message)
{
    struct elfid id;
    int result = elfid_of_file(reference->path, &id);
    if (result == ELFID_MALFORMED)
        return fail(message, POOL_EBUILD, "not an object of this machine: %s", reference->path);
    if (result < 0)
        return fail(message, POOL_EBUILD, "cannot read the object (%s): %s", strerror(-result), reference->path);
    if (!elfid_same(&id, &reference->id))
        return fail_other_build(message, reference, &id);
    void *handle = dlopen(reference->path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *reason = dlerror();
        return fail(message, POOL_EBUILD, "cannot load the object: %s", reason ? reason : reference->path);
    }
    if (identify_handle(handle, reference->path, object_out) != 0)
        return fail(message, POOL_EBUILD, "loaded, but not to be found among the loaded objects: %s", reference->path);
    if (!elfid_same(&object_out->id, &reference->id))
        return fail_other_build(message, reference, &object_out->id);
    return 0;
}

/* On its own, so that the path has room on the stack only where there is one: in a new process its pages would have to
 * be made. */
__attribute__((noinline)) static int find_object(const struct reference *decoded, struct elfobject *object_out,
                                                 char *message)
{
    char path[CALLABLE_PATH_BYTES];
    struct reference reference = *decoded;
    memcpy(path, decoded->path, decoded->path_size);
    path[decoded->path_size] = '\0';
    reference.path = path;
    int result = elfobject_find(path, &reference.id, object_out);
    if (result == ELFOBJECT_NONE)
        return load_object(&reference, object_out, message);
    if (result == ELFOBJECT_OTHER_BUILD)
        return fail_other_build(message, &reference, &object_out->id);
    if (result < 0)
        return fail(message, result, "cannot read /proc/self/maps: %s", strerror(-result));
    return 0;
}

int callable_resolve(const uint8_t *bytes, size_t size, callable_fn **fn_out, char *message)
{
    struct reference reference;
    if (!decode(bytes, size, &reference))
        return fail(message, POOL_EPROTO, "malformed description of a function (%zu bytes)", size);
    struct elfobject object = {0}, target;
    int result = 0;
    if (reference.is_executable)
        object.base = elfobject_executable_base();
    else
        result = find_object(&reference, &object, message);
    if (result != 0)
        return result;
    uintptr_t address = object.base + (uintptr_t)reference.offset;
    if (reference.is_executable && elfobject_executable_has(address)) {
        *fn_out = (callable_fn *)address;
        return 0;
    }
    if (elfobject_at(address, &target) != 0 || !target.is_code || target.base != object.base ||
        target.is_executable != reference.is_executable)
        return fail_offset(message, &reference);
    *fn_out = (callable_fn *)address;
    return 0;
}

/* ---- for handshakes and messages --------------------------------------------------------------------------------- */

/* Without these facts the layout must do. */
static void add_own_file(uintptr_t own_code, struct elfid *id)
{
    char path[ELFOBJECT_PATH_BYTES];
    bool is_gone;
    if (elfobject_path(own_code, path, &is_gone) == 0 && !is_gone)
        (void)elfid_add_file(id, path);
}

static struct elfid library_id;

/* In the executable the file is left out of the identity: workers run the very same file, which may be touched
 * meanwhile. With a build-id, which this library has, its path is not looked up: that takes longer than starting a
 * process. */
static void find_library(void)
{
    uintptr_t own_code = (uintptr_t)callable_library_id;
    struct elfobject object = {0};
    int result = elfobject_at(own_code, &object);
    assert(result == 0);
    (void)result;
    if (!object.is_executable && object.id.bytes[0] == ELFID_FILE)
        add_own_file(own_code, &object.id);
    library_id = object.id;
}

size_t callable_library_id(uint8_t *bytes)
{
    static struct once once = ONCE_INIT;
    once_call(&once, find_library);
    memcpy(bytes, library_id.bytes, library_id.size);
    return library_id.size;
}

void callable_prepare(void)
{
    uint8_t unused[CALLABLE_ID_BYTES];
    callable_library_id(unused);
    (void)elfobject_executable_base();
}

/* dladdr knows dynamic symbols only, and in a program linked statically against musl nothing at all. */
void callable_name(callable_fn *fn, char *text_out, size_t text_size)
{
    uintptr_t address = (uintptr_t)fn;
    struct elfobject object;
    char path[ELFOBJECT_PATH_BYTES];
    bool is_gone;
    Dl_info symbol;
    if (elfobject_at(address, &object) != 0 || elfobject_path(address, path, &is_gone) != 0)
        snprintf(text_out, text_size, "%#lx", (unsigned long)address);
    else if (dladdr((void *)address, &symbol) != 0 && symbol.dli_sname && (uintptr_t)symbol.dli_saddr == address)
        snprintf(text_out, text_size, "%s in %s", symbol.dli_sname, path);
    else
        snprintf(text_out, text_size, "%s+%#lx", path, (unsigned long)(address - object.base));
}

bool callable_started_by_loader(void)
{
    return !elfobject_executable_is_exe();
}

static int sum_changes(struct dl_phdr_info *info, size_t size, void *sum)
{
    (void)size;
    *(uint64_t *)sum = info->dlpi_adds + info->dlpi_subs; /* of the whole process: the first object tells */
    return 1;
}

uint64_t callable_generation(void)
{
    uint64_t sum = 0;
    dl_iterate_phdr(sum_changes, &sum);
    return sum;
}
