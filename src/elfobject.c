/* elfobject: the loaded objects. See elfobject.h. */
#include "elfobject.h"
#include "once.h"
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- where objects lie ------------------------------------------------------------------------------------------- */

struct search {
    uintptr_t first, last; /* any address of this range */
    size_t visited_count;
    bool found;
    struct elfobject object;
};

static bool overlaps(const struct dl_phdr_info *info, const ElfW(Phdr) * load, const struct search *search)
{
    uintptr_t start = info->dlpi_addr + load->p_vaddr;
    return load->p_type == PT_LOAD && load->p_memsz > 0 && search->last >= start &&
           (search->first < start || search->first - start < load->p_memsz);
}

static int visit_object(struct dl_phdr_info *info, size_t info_size, void *arg)
{
    (void)info_size;
    struct search *search = arg;
    bool is_first = search->visited_count++ == 0; /* the executable always is, with every libc */
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        if (!overlaps(info, &info->dlpi_phdr[i], search))
            continue;
        search->found = true;
        search->object.base = info->dlpi_addr;
        search->object.is_executable = is_first;
        search->object.is_code |= (info->dlpi_phdr[i].p_flags & PF_X) != 0;
    }
    if (search->found)
        elfid_of_image(
            &(struct elfimage){.headers = info->dlpi_phdr, .header_count = info->dlpi_phnum, .base = info->dlpi_addr},
            &search->object.id);
    return search->found;
}

static int find_in_range(uintptr_t first, uintptr_t last, struct elfobject *object_out)
{
    struct search search = {.first = first, .last = last};
    dl_iterate_phdr(visit_object, &search);
    if (!search.found)
        return ELFOBJECT_NONE;
    *object_out = search.object;
    return 0;
}

int elfobject_at(uintptr_t address, struct elfobject *object_out)
{
    return find_in_range(address, address, object_out);
}

/* ---- /proc/self/maps --------------------------------------------------------------------------------------------- */

struct mapping {
    uintptr_t first, last;
    bool is_code;
    char *path; /* the kernel's name, DELETED included; "" or "[name]" where no file is mapped */
};

static const char DELETED[] = " (deleted)";

/* In maps the kernel writes a newline in a path as \012 and everything else, backslashes too, as it is. */
static void undo_escapes(char *path)
{
    char *to = path;
    for (const char *from = path; *from; to++) {
        bool is_newline = strncmp(from, "\\012", 4) == 0;
        *to = is_newline ? '\n' : *from;
        from += is_newline ? 4 : 1;
    }
    *to = '\0';
}

/* "55e0c8a00000-55e0c8a21000 r-xp 00001000 fd:00 1234       /usr/bin/program\n" */
static bool parse_mapping(char *line, struct mapping *mapping_out)
{
    unsigned long start, end;
    char permissions[5];
    int path_at = 0;
    if (sscanf(line, "%lx-%lx %4s %*x %*x:%*x %*u %n", &start, &end, permissions, &path_at) != 3 || path_at == 0 ||
        end <= start)
        return false;
    line[strcspn(line, "\n")] = '\0';
    undo_escapes(line + path_at);
    *mapping_out = (struct mapping){
        .first = start, .last = end - 1, .is_code = strchr(permissions, 'x') != NULL, .path = line + path_at};
    return true;
}

/* Cut DELETED off; false when it is not there, or belongs to the name of a file that exists. */
static bool cut_deleted(char *path)
{
    size_t length = strlen(path), suffix_length = sizeof DELETED - 1;
    if (length <= suffix_length || strcmp(path + length - suffix_length, DELETED) != 0 || access(path, F_OK) == 0)
        return false;
    path[length - suffix_length] = '\0';
    return true;
}

/* Something other than ELFOBJECT_NONE ends the walk and is its result. */
typedef int mapping_fn(void *arg, const struct mapping *mapping);

/* "c": glibc lets no thread be cancelled in it (musl never does), whoever asks may hold a lock. */
static int visit_mappings(mapping_fn *visit, void *arg)
{
    FILE *maps = fopen("/proc/thread-self/maps", "rce");
    if (!maps)
        return -errno;
    char *line = NULL;
    size_t line_room = 0;
    int result = ELFOBJECT_NONE;
    struct mapping mapping;
    while (result == ELFOBJECT_NONE && getline(&line, &line_room, maps) > 0) {
        if (parse_mapping(line, &mapping) && mapping.path[0] == '/')
            result = visit(arg, &mapping);
    }
    if (result == ELFOBJECT_NONE && !feof(maps))
        result = -ENOMEM;
    free(line);
    fclose(maps);
    return result;
}

struct path_query {
    uintptr_t address;
    char *path_out;
};

static int path_visit(void *arg, const struct mapping *mapping)
{
    const struct path_query *query = arg;
    if (query->address < mapping->first || query->address > mapping->last)
        return ELFOBJECT_NONE;
    size_t length = strlen(mapping->path);
    if (length >= ELFOBJECT_PATH_BYTES)
        return -ENAMETOOLONG;
    memcpy(query->path_out, mapping->path, length + 1);
    return 0;
}

int elfobject_path(uintptr_t address, char *path_out, bool *gone_out)
{
    int result = visit_mappings(path_visit, &(struct path_query){address, path_out});
    if (result == 0)
        *gone_out = cut_deleted(path_out);
    return result;
}

struct build_query {
    const char *path;
    const struct elfid *id;
    struct elfobject found, other;
    bool has_other;
};

static int build_visit(void *arg, const struct mapping *mapping)
{
    struct build_query *query = arg;
    struct elfobject object;
    bool is_gone = cut_deleted(mapping->path);
    if (!mapping->is_code || strcmp(mapping->path, query->path) != 0 ||
        find_in_range(mapping->first, mapping->last, &object) != 0)
        return ELFOBJECT_NONE;
    if (!is_gone) /* a file that cannot be examined leaves zeros, which no id has */
        (void)elfid_add_file(&object.id, query->path);
    if (elfid_same(&object.id, query->id)) {
        query->found = object;
        return 0;
    }
    query->other = object;
    query->has_other = true;
    return ELFOBJECT_NONE;
}

int elfobject_find(const char *path, const struct elfid *id, struct elfobject *object_out)
{
    struct build_query query = {.path = path, .id = id};
    int result = visit_mappings(build_visit, &query);
    if (result == ELFOBJECT_NONE && query.has_other)
        result = ELFOBJECT_OTHER_BUILD;
    if (result == 0 || result == ELFOBJECT_OTHER_BUILD)
        *object_out = result ? query.other : query.found;
    return result;
}

/* ---- the executable ---------------------------------------------------------------------------------------------- */

struct executable {
    uintptr_t base, first, last; /* first..last: its first executable segment */
};

static int visit_executable(struct dl_phdr_info *info, size_t info_size, void *executable_out)
{
    (void)info_size;
    struct executable *executable = executable_out;
    executable->base = info->dlpi_addr;
    for (size_t i = 0; i < info->dlpi_phnum && !executable->last; i++) {
        const ElfW(Phdr) *load = &info->dlpi_phdr[i];
        if (load->p_type != PT_LOAD || !(load->p_flags & PF_X) || !load->p_memsz)
            continue;
        executable->first = info->dlpi_addr + load->p_vaddr;
        executable->last = executable->first + load->p_memsz - 1;
    }
    return 1; /* the first entry is the executable */
}

static struct executable executable;

static void find_executable(void)
{
    dl_iterate_phdr(visit_executable, &executable);
}

static const struct executable *get_executable(void)
{
    static struct once once = ONCE_INIT;
    once_call(&once, find_executable);
    return &executable;
}

uintptr_t elfobject_executable_base(void)
{
    return get_executable()->base;
}

bool elfobject_executable_has(uintptr_t address)
{
    const struct executable *known = get_executable();
    return known->last && address >= known->first && address <= known->last;
}

/* Both texts are the kernel's name for a file, DELETED included; under valgrind the link is the program's too. */
bool elfobject_executable_is_exe(void)
{
    char exe[ELFOBJECT_PATH_BYTES + sizeof DELETED] = "", code[ELFOBJECT_PATH_BYTES];
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (length <= 0 || visit_mappings(path_visit, &(struct path_query){get_executable()->first, code}) != 0)
        return true;
    return strcmp(exe, code) == 0;
}
