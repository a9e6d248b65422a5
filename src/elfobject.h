/* elfobject: the ELF objects that this process has loaded.
 *
 * Two sources are put together: dl_iterate_phdr knows where objects lie and how they are laid out, /proc/self/maps
 * knows the absolute path of their files (the loader's own names are relative after a relative dlopen, and empty for
 * the executable).
 *
 * Nothing is kept between calls but where the program itself lies: another thread may load and unload objects
 * meanwhile, and only what a call has copied is valid after it. Functions return 0, one of the outcomes below, or a
 * negative errno (/proc/self/maps could not be read).
 * Must not know: functions, the wire, this library's error codes. */
#ifndef PROCPOOL_ELFOBJECT_H
#define PROCPOOL_ELFOBJECT_H

#include "elfid.h"

enum {
    ELFOBJECT_NONE = 1,        /* nothing there: no object at the address, none loaded from the path */
    ELFOBJECT_OTHER_BUILD = 2, /* loaded from the path, but another build */
};

enum { ELFOBJECT_PATH_BYTES = 4096 };

struct elfobject {
    uintptr_t base;     /* what is added to the addresses in the file; 0 for an executable that is not PIE */
    bool is_executable; /* the program itself */
    bool is_code;       /* the address asked for lies in an executable segment */
    struct elfid id;    /* from elfid_of_image: perhaps to be completed by elfid_add_file */
};

/* The loaded object that has address in one of its segments. 0 or ELFOBJECT_NONE. */
int elfobject_at(uintptr_t address, struct elfobject *object_out);

/* The absolute path of the file mapped at address, in path_out (ELFOBJECT_PATH_BYTES). *gone_out: the file has been
 * replaced or removed since, and the path is what it was. 0; ELFOBJECT_NONE: no file is mapped there; a negative
 * errno. */
int elfobject_path(uintptr_t address, char *path_out, bool *gone_out);

/* The loaded object with this path and this id, whatever name it was loaded by. 0; ELFOBJECT_NONE;
 * ELFOBJECT_OTHER_BUILD, with the other one in *object_out; a negative errno. */
int elfobject_find(const char *path, const struct elfid *id, struct elfobject *object_out);

/* The base of the program itself, and whether address lies in its code (in the first executable segment: others are
 * found by elfobject_at). Looked up once in a process and its copies. */
uintptr_t elfobject_executable_base(void);
bool elfobject_executable_has(uintptr_t address);

/* Whether /proc/self/exe is the program: not so when it was started through its dynamic loader. True when unknown. */
bool elfobject_executable_is_exe(void);

#endif
