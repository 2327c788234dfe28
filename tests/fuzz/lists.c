/* Lists of paths, separated by line feeds or (the first bit) by zeros. All paths must come out,
 * unchanged but for what Windows adds, and as many as were counted. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/images/path_source.h"
#include "formats/shards/path_set.h"
#include "tests/fuzz/support/fuzz.h"

/* The next path of the list by itself, or NULL. Carriage returns at the end of a line are left out.
 */
static const uint8_t *expected(const uint8_t **at, const uint8_t *end, char separator, size_t *size)
{
    while (*at < end) {
        const uint8_t *begin = *at;
        while (*at < end && **at != (uint8_t)separator)
            ++*at;
        const uint8_t *stop = *at;
        *at += *at < end;
        while (separator && stop > begin && stop[-1] == '\r')
            stop--;
        *size = (size_t)(stop - begin);
        if (*size > 0)
            return begin;
    }
    return NULL;
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
    bool marked = separator && size > 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0;
    struct path_source s;
    struct error e = {""};
    const char *path;
    path_source_stream(&s, fuzz_file(at, size - 1), separator);
    int64_t count = path_source_count(&s), got = 0;
    int status;
    at += marked ? 3 : 0;
    while ((status = path_source_next(&s, -1, &path, &e)) == 1) {
        size_t n;
        const uint8_t *own = expected(&at, end, separator, &n);
        CHECK(own && strlen(path) == n && memcmp(path, own, n) == 0);
        check_part(path);
        got++;
    }
    if (status == 0) /* a line with nothing but a mark has been counted */
        CHECK(got == count || (marked && got == count - 1));
    else
        CHECK(e.text[0] && got < count);
    path_source_release(&s);
    return 0;
}
