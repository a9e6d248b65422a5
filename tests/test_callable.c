/* callable: functions as bytes, and back: in this process, which loads, unloads and replaces plug-ins so that it is at
 * one time the process that describes and at another the one that resolves. */
#include "callable.h"
#include "elfid.h"
#include "procpool.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { MESSAGE_BYTES = 256 };

typedef int value_fn(void);

/* ---- plug-ins in a folder of their own --------------------------------------------------------------------------- */

static const char *const variants[] = {"", "noid/"}; /* with a build-id, without */

struct fixture {
    char directory[PATH_MAX];
    char plugin[PATH_MAX + 32]; /* where tests put it */
    void *handle;
    uint8_t bytes[CALLABLE_MAX_BYTES];
    size_t size;
    char message[MESSAGE_BYTES];
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    char name[] = "/tmp/test_callable.XXXXXX";
    if (!fixture || !mkdtemp(name) || !realpath(name, fixture->directory))
        return -1;
    snprintf(fixture->plugin, sizeof fixture->plugin, "%s/plugin.so", fixture->directory);
    unsetenv("PLUGIN_B_WAS_LOADED");
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    if (fixture->handle)
        dlclose(fixture->handle);
    unlink(fixture->plugin);
    int result = rmdir(fixture->directory);
    free(fixture);
    return result;
}

static void copy_file(const char *from, const char *to)
{
    FILE *in = fopen(from, "re"), *out = fopen(to, "we");
    assert_non_null(in);
    assert_non_null(out);
    char buffer[4096];
    for (size_t size; (size = fread(buffer, 1, sizeof buffer, in)) > 0;)
        assert_int_equal(fwrite(buffer, 1, size, out), size);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

/* A new file takes the place of what is there, as an installer does it. */
static void install(struct fixture *fixture, const char *variant, const char *name)
{
    char from[PATH_MAX], fresh[PATH_MAX + 32];
    snprintf(from, sizeof from, "%s/%s%s.so", TEST_PLUGIN_DIR, variant, name);
    snprintf(fresh, sizeof fresh, "%s/fresh", fixture->directory);
    copy_file(from, fresh);
    assert_int_equal(rename(fresh, fixture->plugin), 0);
}

static void load(struct fixture *fixture, const char *path)
{
    fixture->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!fixture->handle)
        fail_msg("%s", dlerror());
}

static void unload(struct fixture *fixture)
{
    assert_int_equal(dlclose(fixture->handle), 0);
    fixture->handle = NULL;
    assert_null(dlopen(fixture->plugin, RTLD_NOW | RTLD_NOLOAD));
}

static callable_fn *symbol(const struct fixture *fixture, const char *name)
{
    void *address = dlsym(fixture->handle, name);
    assert_non_null(address);
    return (callable_fn *)(uintptr_t)address;
}

static void describe(struct fixture *fixture, callable_fn *fn)
{
    if (callable_describe(fn, fixture->bytes, &fixture->size, fixture->message) != 0)
        fail_msg("%s", fixture->message);
    assert_in_range(fixture->size, 1, CALLABLE_MAX_BYTES);
}

static int resolve(struct fixture *fixture, callable_fn **fn_out)
{
    return callable_resolve(fixture->bytes, fixture->size, fn_out, fixture->message);
}

static int value_of(callable_fn *fn)
{
    return ((value_fn *)fn)();
}

static void assert_comes_back(struct fixture *fixture, callable_fn *fn)
{
    callable_fn *found = NULL;
    describe(fixture, fn);
    if (resolve(fixture, &found) != 0)
        fail_msg("%s", fixture->message);
    assert_ptr_equal(found, fn);
}

static void assert_fails(struct fixture *fixture, const char *reason)
{
    callable_fn *found = NULL;
    assert_int_equal(resolve(fixture, &found), POOL_EBUILD);
    assert_null(found);
    if (!strstr(fixture->message, reason))
        fail_msg("expected \"%s\" in: %s", reason, fixture->message);
}

/* Make the plug-in known by its bytes only. */
static void describe_and_unload(struct fixture *fixture, const char *variant)
{
    install(fixture, variant, "plugin_a");
    load(fixture, fixture->plugin);
    describe(fixture, symbol(fixture, "plugin_value"));
    unload(fixture);
}

/* ---- what can be described --------------------------------------------------------------------------------------- */

static void static_function(void)
{
}

static void functions_of_the_executable_come_back(void **state)
{
    assert_comes_back(*state, static_function);
    assert_comes_back(*state, (callable_fn *)callable_describe);
}

/* Without PIE `puts` is the executable's own PLT slot, and `memcpy` is an IFUNC in glibc: only the pointer's value
 * counts. */
static void functions_of_shared_libraries_come_back(void **state)
{
    assert_comes_back(*state, (callable_fn *)puts);
    assert_comes_back(*state, (callable_fn *)(uintptr_t)dlsym(RTLD_DEFAULT, "puts"));
    assert_comes_back(*state, (callable_fn *)(uintptr_t)dlsym(RTLD_DEFAULT, "memcpy"));
}

static void functions_of_plugins_come_back(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        install(fixture, variants[i], "plugin_a");
        load(fixture, fixture->plugin);
        assert_comes_back(fixture, symbol(fixture, "plugin_value"));
        value_fn *(*static_fn)(void) = (value_fn * (*)(void)) symbol(fixture, "plugin_static_function");
        assert_comes_back(fixture, (callable_fn *)static_fn());
        unload(fixture);
    }
}

static void a_plugin_loaded_by_a_relative_path_is_found_after_chdir(void **state)
{
    struct fixture *fixture = *state;
    char cwd[PATH_MAX];
    assert_non_null(getcwd(cwd, sizeof cwd));
    install(fixture, "", "plugin_a");
    assert_int_equal(chdir(fixture->directory), 0);
    load(fixture, "./plugin.so");
    assert_int_equal(chdir("/"), 0);
    describe(fixture, symbol(fixture, "plugin_value"));
    unload(fixture);
    assert_int_equal(chdir(cwd), 0);
    callable_fn *found = NULL;
    assert_int_equal(resolve(fixture, &found), 0);
    assert_int_equal(value_of(found), 1);
}

static void paths_may_hold_any_character(void **state)
{
    static const char *const names[] = {"a b", "new\nline", "back\\slash", "x (deleted)", "(deleted) x"};
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(fixture->plugin, sizeof fixture->plugin, "%s/%s", fixture->directory, names[i]);
        describe_and_unload(fixture, "");
        callable_fn *found = NULL;
        if (resolve(fixture, &found) != 0)
            fail_msg("%s", fixture->message);
        assert_int_equal(value_of(found), 1);
        unlink(fixture->plugin);
    }
}

static void assert_not_describable(struct fixture *fixture, uintptr_t address)
{
    fixture->message[0] = '\0';
    assert_int_equal(callable_describe((callable_fn *)address, fixture->bytes, &fixture->size, fixture->message),
                     POOL_EBUILD);
    assert_string_not_equal(fixture->message, "");
}

static void code_in_no_loaded_object_cannot_be_described(void **state)
{
    long page = sysconf(_SC_PAGESIZE);
    void *generated = mmap(NULL, (size_t)page, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(generated, MAP_FAILED);
    assert_not_describable(*state, (uintptr_t)generated);
    assert_int_equal(munmap(generated, (size_t)page), 0);
    assert_not_describable(*state, 0);
    assert_not_describable(*state, UINTPTR_MAX);
}

static void the_vdso_cannot_be_described(void **state)
{
    unsigned long vdso = getauxval(AT_SYSINFO_EHDR);
    if (vdso == 0) /* under valgrind */
        skip();
    assert_not_describable(*state, vdso);
    assert_not_describable(*state, vdso + ((const ElfW(Ehdr) *)vdso)->e_entry);
}

static void data_cannot_be_described(void **state)
{
    static int datum;
    assert_not_describable(*state, (uintptr_t)&datum);
    assert_not_describable(*state, (uintptr_t)*state);
}

/* ---- loading ----------------------------------------------------------------------------------------------------- */

static void a_plugin_that_is_not_loaded_is_loaded_for_good(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        callable_fn *found = NULL, *again = NULL;
        snprintf(fixture->plugin, sizeof fixture->plugin, "%s/%zu.so", fixture->directory, i);
        describe_and_unload(fixture, variants[i]);
        if (resolve(fixture, &found) != 0)
            fail_msg("%s", fixture->message);
        assert_int_equal(value_of(found), 1);
        assert_int_equal(resolve(fixture, &again), 0);
        assert_ptr_equal(again, found);
        void *handle = dlopen(fixture->plugin, RTLD_NOW | RTLD_NOLOAD);
        assert_non_null(handle);
        dlclose(handle);
        assert_int_equal(value_of(found), 1);
        assert_int_equal(unlink(fixture->plugin), 0);
    }
}

static void a_plugin_is_found_after_its_file_was_removed_while_it_is_loaded(void **state)
{
    struct fixture *fixture = *state;
    install(fixture, "", "plugin_a");
    load(fixture, fixture->plugin);
    assert_int_equal(unlink(fixture->plugin), 0);
    assert_comes_back(fixture, symbol(fixture, "plugin_value"));
}

static void a_removed_file_without_build_id_cannot_be_described(void **state)
{
    struct fixture *fixture = *state;
    install(fixture, "noid/", "plugin_a");
    load(fixture, fixture->plugin);
    uintptr_t fn = (uintptr_t)symbol(fixture, "plugin_value");
    assert_int_equal(unlink(fixture->plugin), 0);
    assert_not_describable(fixture, fn);
}

static void a_plugin_described_after_it_was_replaced_is_another_build(void **state)
{
    struct fixture *fixture = *state;
    install(fixture, "", "plugin_a");
    load(fixture, fixture->plugin);
    install(fixture, "", "plugin_b");
    describe(fixture, symbol(fixture, "plugin_value"));
    unload(fixture);
    assert_fails(fixture, "other build");
    assert_null(getenv("PLUGIN_B_WAS_LOADED"));
}

static void a_replaced_plugin_is_never_loaded(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        for (size_t other = 0; other < sizeof variants / sizeof *variants; other++) {
            describe_and_unload(fixture, variants[i]);
            install(fixture, variants[other], "plugin_b");
            assert_fails(fixture, "other build");
            assert_null(getenv("PLUGIN_B_WAS_LOADED"));
        }
    }
}

static void the_same_code_with_and_without_build_id_differs(void **state)
{
    struct fixture *fixture = *state;
    describe_and_unload(fixture, "");
    install(fixture, "noid/", "plugin_a");
    assert_fails(fixture, "other build");
}

static void a_file_without_build_id_is_another_build_once_it_is_touched(void **state)
{
    struct fixture *fixture = *state;
    describe_and_unload(fixture, "noid/");
    const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    assert_int_equal(utimensat(AT_FDCWD, fixture->plugin, times, 0), 0);
    assert_fails(fixture, "other build");
}

static void hex_id(const char *path, char *text_out)
{
    struct elfid id;
    assert_int_equal(elfid_of_file(path, &id), 0);
    assert_int_equal(id.bytes[0], ELFID_BUILD);
    assert_int_equal(id.size, 1 + 20);
    for (size_t i = 1; i < id.size; i++)
        sprintf(text_out + 2 * (i - 1), "%02x", id.bytes[i]);
}

static void both_builds_are_named_when_another_one_is_loaded(void **state)
{
    struct fixture *fixture = *state;
    char wanted[64], loaded[64];
    describe_and_unload(fixture, "");
    hex_id(fixture->plugin, wanted);
    install(fixture, "", "plugin_b");
    hex_id(fixture->plugin, loaded);
    load(fixture, fixture->plugin);
    assert_fails(fixture, "other build");
    assert_non_null(strstr(fixture->message, wanted));
    assert_non_null(strstr(fixture->message, loaded));
}

static void what_is_no_object_of_this_machine_is_not_loaded(void **state)
{
    struct fixture *fixture = *state;
    describe_and_unload(fixture, "");
    assert_int_equal(truncate(fixture->plugin, 100), 0);
    assert_fails(fixture, "not an object");
    assert_int_equal(truncate(fixture->plugin, 0), 0);
    assert_fails(fixture, "not an object");
    assert_int_equal(unlink(fixture->plugin), 0);
    assert_fails(fixture, "No such file");
    assert_int_equal(mkfifo(fixture->plugin, 0600), 0); /* to open it would wait */
    assert_fails(fixture, "not an object");
}

/* ---- malformed bytes --------------------------------------------------------------------------------------------- */

static void put_offset(struct fixture *fixture, uint64_t offset)
{
    for (size_t i = 0; i < 8; i++)
        fixture->bytes[1 + i] = (uint8_t)(offset >> (8 * i));
}

static void offsets_outside_of_the_objects_code_are_refused(void **state)
{
    static int datum;
    struct fixture *fixture = *state;
    callable_fn *found = NULL;
    describe(fixture, static_function);
    put_offset(fixture, UINT64_MAX / 2);
    assert_fails(fixture, "the executable");
    describe(fixture, static_function);
    uint64_t offset = fixture->bytes[1];
    for (size_t i = 1; i < 8; i++)
        offset |= (uint64_t)fixture->bytes[1 + i] << (8 * i);
    put_offset(fixture, offset + (uintptr_t)&datum - (uintptr_t)static_function);
    assert_fails(fixture, "the executable");
    install(fixture, "", "plugin_a");
    load(fixture, fixture->plugin);
    put_offset(fixture, offset + (uintptr_t)symbol(fixture, "plugin_value") - (uintptr_t)static_function);
    assert_fails(fixture, "the executable");
    put_offset(fixture, offset);
    assert_int_equal(resolve(fixture, &found), 0);
}

static void assert_malformed(struct fixture *fixture, const uint8_t *bytes, size_t size)
{
    callable_fn *found = NULL;
    uint8_t *exact = malloc(size + 1); /* on the heap, where a sanitizer sees a step too far */
    assert_non_null(exact);
    memcpy(exact + 1, bytes, size);
    assert_int_equal(callable_resolve(exact + 1, size, &found, fixture->message), POOL_EPROTO);
    assert_null(found);
    free(exact);
}

static void assert_malformed_when_cut_or_extended(struct fixture *fixture)
{
    for (size_t size = 0; size < fixture->size; size++)
        assert_malformed(fixture, fixture->bytes, size);
    fixture->bytes[fixture->size] = 'x';
    assert_malformed(fixture, fixture->bytes, fixture->size + 1);
}

static void truncated_and_overlong_bytes_are_malformed(void **state)
{
    struct fixture *fixture = *state;
    describe(fixture, static_function);
    assert_malformed_when_cut_or_extended(fixture);
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        describe_and_unload(fixture, variants[i]);
        assert_malformed_when_cut_or_extended(fixture);
    }
}

static void every_field_is_checked(void **state)
{
    struct fixture *fixture = *state;
    describe_and_unload(fixture, "");
    const struct {
        size_t at;
        uint8_t value;
    } changes[] = {
        {0, 0},                                 /* the executable, but with an id and a path */
        {0, 2},                                 /* no such kind of object */
        {9, 0},                                 /* no id */
        {9, 255},                               /* an id longer than the rest, or than any id */
        {10, 'x'},                              /* no such kind of id */
        {10, ELFID_FILE},                       /* facts about a file need 41 bytes */
        {10 + 21 + 2, 'x'},                     /* a relative path */
        {fixture->size - 1, 0},                 /* a path with a zero in it */
        {10 + 21, (uint8_t)(fixture->size + 1)} /* a path longer than the rest */
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        uint8_t before = fixture->bytes[changes[i].at];
        fixture->bytes[changes[i].at] = changes[i].value;
        assert_malformed(fixture, fixture->bytes, fixture->size);
        fixture->bytes[changes[i].at] = before;
    }
    callable_fn *found;
    assert_int_equal(resolve(fixture, &found), 0);
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static void random_bytes_never_crash(void **state)
{
    struct fixture *fixture = *state;
    uint32_t seed = 1;
    describe_and_unload(fixture, "");
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[300];
        size_t size = next_random(&seed) % sizeof bytes;
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)next_random(&seed);
        bytes[0] %= 2;
        callable_fn *found = NULL;
        assert_int_not_equal(callable_resolve(bytes, size, &found, fixture->message), 0);
    }
    for (int round = 0; round < 2000; round++) { /* one byte changed: perhaps another function, never a crash */
        uint8_t *byte = &fixture->bytes[next_random(&seed) % fixture->size], before = *byte;
        *byte = (uint8_t)next_random(&seed);
        callable_fn *found = NULL;
        (void)resolve(fixture, &found);
        *byte = before;
    }
}

/* ---- build-ids --------------------------------------------------------------------------------------------------- */

/* An object in memory that has nothing but notes. */
static void identify_notes(const void *notes, size_t size, size_t alignment, struct elfid *id_out)
{
    void *exact = malloc(size ? size : 1);
    assert_non_null(exact);
    memcpy(exact, notes, size);
    const ElfW(Phdr) headers[] = {{.p_type = PT_NOTE, .p_filesz = size, .p_memsz = size, .p_align = alignment},
                                  {.p_type = PT_LOAD, .p_flags = PF_R, .p_filesz = size, .p_memsz = size}};
    elfid_of_image(&(struct elfimage){.headers = headers, .header_count = 2, .base = (uintptr_t)exact}, id_out);
    free(exact);
}

struct note {
    uint32_t name_size, description_size, type;
    char name[4];
    uint8_t description[80];
};

static void build_ids_of_any_length_are_found(void **state)
{
    (void)state;
    struct elfid id;
    for (uint32_t size = 1; size < ELFID_BYTES; size++) {
        struct note note = {4, size, NT_GNU_BUILD_ID, "GNU", "0123456789"};
        identify_notes(&note, 16 + (size + 3) / 4 * 4, 4, &id);
        assert_int_equal(id.size, 1 + size);
        assert_int_equal(id.bytes[0], ELFID_BUILD);
        assert_memory_equal(id.bytes + 1, note.description, size);
    }
}

static void build_ids_are_found_behind_other_notes(void **state)
{
    (void)state;
    for (size_t alignment = 4; alignment <= 8; alignment += 4) {
        struct {
            struct note other, note;
        } notes = {{4, 80, NT_GNU_PROPERTY_TYPE_0, "GNU", ""}, {4, 20, NT_GNU_BUILD_ID, "GNU", "abc"}};
        struct elfid id;
        identify_notes(&notes, sizeof notes, alignment, &id);
        assert_int_equal(id.size, 21);
        assert_memory_equal(id.bytes, "babc", 5);
    }
}

static void malformed_notes_count_as_none(void **state)
{
    (void)state;
    const struct note notes[] = {{4, 0, NT_GNU_BUILD_ID, "GNU", ""},          /* empty */
                                 {4, 81, NT_GNU_BUILD_ID, "GNU", ""},         /* longer than the segment */
                                 {4, UINT32_MAX, NT_GNU_BUILD_ID, "GNU", ""}, /* wraps around */
                                 {UINT32_MAX, 20, NT_GNU_BUILD_ID, "GNU", ""},
                                 {4, 64, NT_GNU_BUILD_ID, "GNU", ""}, /* longer than our ids */
                                 {4, 20, NT_GNU_BUILD_ID, "XNU", ""}, /* someone else's */
                                 {4, 20, NT_GNU_ABI_TAG, "GNU", ""}};
    struct elfid id;
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) {
        identify_notes(&notes[i], sizeof notes[i], 4, &id);
        assert_int_equal(id.bytes[0], ELFID_FILE);
        assert_int_equal(id.size, ELFID_FILE_BYTES);
    }
    const struct note good = {4, 20, NT_GNU_BUILD_ID, "GNU", "abc"};
    for (size_t size = 0; size < 16 + 20; size++) {
        identify_notes(&good, size, 4, &id);
        assert_int_equal(id.bytes[0], ELFID_FILE);
    }
}

static void notes_outside_of_what_is_loaded_are_not_read(void **state)
{
    (void)state;
    const struct note note = {4, 20, NT_GNU_BUILD_ID, "GNU", "abc"};
    ElfW(Phdr) headers[] = {{.p_type = PT_NOTE, .p_vaddr = 4096, .p_filesz = sizeof note, .p_align = 4},
                            {.p_type = PT_LOAD, .p_flags = PF_R, .p_filesz = sizeof note}};
    const struct elfimage image = {.headers = headers, .header_count = 2, .base = (uintptr_t)&note};
    struct elfid id;
    elfid_of_image(&image, &id);
    assert_int_equal(id.bytes[0], ELFID_FILE);
    headers[0].p_vaddr = (ElfW(Addr)) - 8;
    elfid_of_image(&image, &id);
    assert_int_equal(id.bytes[0], ELFID_FILE);
    headers[0].p_vaddr = 0;
    headers[0].p_filesz = SIZE_MAX;
    elfid_of_image(&image, &id);
    assert_int_equal(id.bytes[0], ELFID_FILE);
    headers[0].p_filesz = sizeof note;
    elfid_of_image(&image, &id);
    assert_int_equal(id.bytes[0], ELFID_BUILD);
}

static void random_notes_never_crash(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        uint8_t notes[200];
        struct elfid id;
        size_t size = next_random(&seed) % sizeof notes;
        for (size_t i = 0; i < size; i++)
            notes[i] = next_random(&seed) % 4 ? 0 : (uint8_t)next_random(&seed) & 63;
        identify_notes(notes, size, round % 2 ? 4 : 8, &id);
        assert_in_range(id.size, 2, ELFID_BYTES);
    }
}

/* ---- the library, names, the loader ------------------------------------------------------------------------------ */

static void the_library_has_an_identity(void **state)
{
    (void)state;
    uint8_t id[CALLABLE_ID_BYTES], again[CALLABLE_ID_BYTES];
    size_t size = callable_library_id(id);
    assert_in_range(size, 2, CALLABLE_ID_BYTES);
    assert_int_equal(callable_library_id(again), size);
    assert_memory_equal(again, id, size);
}

static void names_tell_the_symbol_or_the_place(void **state)
{
    struct fixture *fixture = *state;
    char text[PATH_MAX + 64], expected[PATH_MAX + 64], exe[PATH_MAX] = "";
    install(fixture, "", "plugin_a");
    load(fixture, fixture->plugin);
    callable_name(symbol(fixture, "plugin_value"), text, sizeof text);
    snprintf(expected, sizeof expected, "plugin_value in %s", fixture->plugin);
    assert_string_equal(text, expected);
    value_fn *(*static_fn)(void) = (value_fn * (*)(void)) symbol(fixture, "plugin_static_function");
    callable_name((callable_fn *)static_fn(), text, sizeof text);
    snprintf(expected, sizeof expected, "%s+0x", fixture->plugin);
    assert_memory_equal(text, expected, strlen(expected));
    assert_true(readlink("/proc/self/exe", exe, sizeof exe - 1) > 0);
    callable_name(static_function, text, sizeof text);
    snprintf(expected, sizeof expected, "%s+0x", exe);
    assert_memory_equal(text, expected, strlen(expected));
    callable_name((callable_fn *)(uintptr_t)16, text, sizeof text);
    assert_string_equal(text, "0x10");
    callable_name(static_function, text, 5);
    assert_int_equal(strlen(text), 4);
}

static int find_loader(struct dl_phdr_info *info, size_t size, void *loader_out)
{
    (void)size;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_INTERP)
            *(const char **)loader_out = (const char *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    }
    return 1;
}

/* What a process that is started as `program exe REPORT_LOADER` (program NULL: directly) says. */
static const char REPORT_LOADER[] = "--report-whether-started-by-loader";

static int run_and_report(const char *program)
{
    char exe[PATH_MAX] = "";
    assert_true(readlink("/proc/self/exe", exe, sizeof exe - 1) > 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (program)
            execl(program, program, exe, REPORT_LOADER, (char *)NULL);
        else
            execl(exe, exe, REPORT_LOADER, (char *)NULL);
        _exit(127);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

enum { REPORTS_DIRECT = 10, REPORTS_LOADER = 11 };

static void a_program_started_through_its_loader_is_recognised(void **state)
{
    (void)state;
    const char *loader = NULL;
    assert_false(callable_started_by_loader());
    assert_int_equal(run_and_report(NULL), REPORTS_DIRECT);
    dl_iterate_phdr(find_loader, &loader);
    if (!loader) /* a static program */
        skip();
    assert_int_equal(run_and_report(loader), REPORTS_LOADER);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], REPORT_LOADER) == 0)
        return callable_started_by_loader() ? REPORTS_LOADER : REPORTS_DIRECT;
    const struct CMUnitTest tests[] = {
        TEST(functions_of_the_executable_come_back),
        TEST(functions_of_shared_libraries_come_back),
        TEST(functions_of_plugins_come_back),
        TEST(a_plugin_loaded_by_a_relative_path_is_found_after_chdir),
        TEST(paths_may_hold_any_character),
        TEST(code_in_no_loaded_object_cannot_be_described),
        TEST(the_vdso_cannot_be_described),
        TEST(data_cannot_be_described),
        TEST(a_plugin_that_is_not_loaded_is_loaded_for_good),
        TEST(a_plugin_is_found_after_its_file_was_removed_while_it_is_loaded),
        TEST(a_removed_file_without_build_id_cannot_be_described),
        TEST(a_plugin_described_after_it_was_replaced_is_another_build),
        TEST(a_replaced_plugin_is_never_loaded),
        TEST(the_same_code_with_and_without_build_id_differs),
        TEST(a_file_without_build_id_is_another_build_once_it_is_touched),
        TEST(both_builds_are_named_when_another_one_is_loaded),
        TEST(what_is_no_object_of_this_machine_is_not_loaded),
        TEST(offsets_outside_of_the_objects_code_are_refused),
        TEST(truncated_and_overlong_bytes_are_malformed),
        TEST(every_field_is_checked),
        TEST(random_bytes_never_crash),
        cmocka_unit_test(build_ids_of_any_length_are_found),
        cmocka_unit_test(build_ids_are_found_behind_other_notes),
        cmocka_unit_test(malformed_notes_count_as_none),
        cmocka_unit_test(notes_outside_of_what_is_loaded_are_not_read),
        cmocka_unit_test(random_notes_never_crash),
        cmocka_unit_test(the_library_has_an_identity),
        TEST(names_tell_the_symbol_or_the_place),
        cmocka_unit_test(a_program_started_through_its_loader_is_recognised),
    };
    return cmocka_run_group_tests_name("callable", tests, NULL, NULL);
}
