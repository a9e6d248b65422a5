/* fuzz_replay: what stands in for libFuzzer in a build without it: every file of the given folders goes through
 * the target once. So the corpus, and every input that was once a finding, is run by each compiler and each
 * sanitizer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_INPUT_BYTES = 1 << 20 };

/* 1: it was run. 0: it is no readable file. */
static int run_file(const char *path, uint8_t *bytes)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    size_t size = fread(bytes, 1, MAX_INPUT_BYTES, file);
    int failed = ferror(file);
    fclose(file);
    if (failed)
        return 0;
    /* In memory of its own size, so that a sanitizer or valgrind sees the first byte read beyond it. */
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact)
        abort();
    for (size_t i = 0; i < size; i++)
        exact[i] = bytes[i];
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 1;
}

static unsigned run_folder(const char *folder, uint8_t *bytes)
{
    unsigned count = 0;
    DIR *entries = opendir(folder);
    if (!entries)
        return 0;
    for (struct dirent *entry; (entry = readdir(entries));) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] != '.')
            count += (unsigned)run_file(path, bytes);
    }
    closedir(entries);
    return count;
}

int main(int argc, char **argv)
{
    uint8_t *bytes = malloc(MAX_INPUT_BYTES);
    if (!bytes)
        return 1;
    int failed = argc < 2;
    for (int i = 1; i < argc; i++) {
        unsigned count = run_folder(argv[i], bytes);
        printf("%s: %u inputs\n", argv[i], count);
        failed |= count == 0;
    }
    free(bytes);
    return failed;
}
