#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/message.h"
#include "tests/fuzz/support/fuzz.h"

char *fuzz_text(const uint8_t *data, size_t size)
{
    char *text = xmalloc(size + 1);
    memcpy(text, data, size);
    text[size] = 0;
    return text;
}

static int file = -1;

int fuzz_file(const uint8_t *data, size_t size)
{
    if (file < 0)
        file = memfd_create("input", MFD_CLOEXEC);
    CHECK(file >= 0 && ftruncate(file, (off_t)size) == 0);
    CHECK(pwrite(file, data, size, 0) == (ssize_t)size && lseek(file, 0, SEEK_SET) == 0);
    return file;
}

const char *fuzz_path(void)
{
    static char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    return path;
}
