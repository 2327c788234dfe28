/* Lists of paths, separated by line feeds or (the first bit) by zeros. All paths must come out,
 * unchanged, and as many as were counted. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/images/path_source.h"
#include "formats/shards/path_set.h"
#include "tests/fuzz/support/fuzz.h"

/* The next path of the list by itself, or NULL. */
static const uint8_t *expected(const uint8_t **at, const uint8_t *end, char separator, size_t *size)
{
    while (*at < end && **at == (uint8_t)separator)
        ++*at;
    const uint8_t *begin = *at;
    while (*at < end && **at != (uint8_t)separator)
        ++*at;
    *size = (size_t)(*at - begin);
    return *size > 0 ? begin : NULL;
}

static void check_part(const char *path)
{
    uint8_t key[PATH_KEY_SIZE];
    path_key(key, path);
    int part = path_part(key, 7);
    CHECK(part >= 0 && part < 7);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char separator = data[0] & 1 ? 0 : '\n';
    const uint8_t *at = data + 1, *end = data + size;
    struct path_source s;
    struct error e = {""};
    const char *path;
    path_source_stream(&s, fuzz_file(at, size - 1), separator);
    int64_t count = path_source_count(&s), got = 0;
    int status;
    while ((status = path_source_next(&s, -1, &path, &e)) == 1) {
        size_t n;
        const uint8_t *own = expected(&at, end, separator, &n);
        CHECK(own && strlen(path) == n && memcmp(path, own, n) == 0);
        check_part(path);
        got++;
    }
    if (status == 0)
        CHECK(got == count);
    else
        CHECK(e.text[0] && got < count);
    path_source_release(&s);
    return 0;
}
