/* Archives: members are read in order; those of seekable ones again by their names and places,
 * which must give the same, unless names are repeated. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/message.h"
#include "formats/archives/archive_reader.h"
#include "tests/fuzz/support/fuzz.h"

#define LIMIT 65536 /* bytes of a member */
#define MOST  64    /* members */

static char *folder;

static void remove_folder(void)
{
    rmdir(folder);
}

/* Another name of the input, with an ending that its first bytes suggest. Unlinked by the caller.
 */
static char *name_of(const uint8_t *data, size_t size)
{
    if (!folder) {
        folder = xstrdup("/tmp/ccld-fuzz-XXXXXX");
        CHECK(mkdtemp(folder));
        atexit(remove_folder);
    }
    const char *ending = size > 2 && memcmp(data, "PK", 2) == 0         ? "zip"
                         : size > 2 && memcmp(data, "\x1f\x8b", 2) == 0 ? "tgz"
                                                                        : "tar";
    char *name = xasprintf("%s/input.%s", folder, ending);
    CHECK(symlink(fuzz_path(), name) == 0);
    return name;
}

struct member {
    char *name;
    int64_t at;
    uint8_t *data; /* NULL: could not be read */
    size_t size;
};

static void read_one(struct archive_reader *r, const struct archive_member *told, struct member *m)
{
    const uint8_t *start;
    size_t size;
    struct error e;
    *m = (struct member){.name = xstrdup(told->name), .at = told->at};
    if (archive_reader_peek(r, &start, &size, &e) != 0)
        return;
    uint8_t *copy = memcpy(xmalloc(size + 1), start, size);
    if (archive_reader_read(r, &m->data, &m->size, LIMIT, &e) == 0) {
        CHECK(m->size >= size && memcmp(m->data, copy, size) == 0 && m->data[m->size] == 0);
    } else {
        CHECK(*e.text);
        m->data = NULL;
    }
    free(copy);
}

static bool is_repeated(const struct member *members, int count, const char *name)
{
    int times = 0;
    for (int i = 0; i < count; i++)
        times += strcmp(members[i].name, name) == 0;
    return times > 1;
}

/* Damage may hide a member from a search, but what is found under its name is the member. */
static void read_again(const char *path, struct archive_reader *r, const struct member *members,
                       int count, int i)
{
    const struct member *m = &members[i];
    struct archive_member told;
    struct error e;
    uint8_t *data;
    size_t size;
    if (archive_is_seekable(path) && m->at >= 0 &&
        archive_member_read(&data, &size, path, m->name, m->at, LIMIT, &e) == 0)
        free(data);
    if (archive_reader_find(r, m->name, &told, &e) == 1) {
        CHECK(strcmp(told.name, m->name) == 0);
        if (archive_reader_read(r, &data, &size, LIMIT, &e) == 0) {
            bool known = m->data && count < MOST && !is_repeated(members, count, m->name);
            CHECK(!known || !archive_is_seekable(path) || strstr(path, ".zip") ||
                  (size == m->size && memcmp(data, m->data, size) == 0));
            free(data);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_file(data, size);
    char *path = name_of(data, size);
    struct archive_reader *r;
    struct archive_member told;
    struct member members[MOST];
    struct error e;
    int count = 0;
    if (archive_reader_open(&r, path, &e) == 0) {
        while (count < MOST && archive_reader_next(r, &told, &e) == 1)
            read_one(r, &told, &members[count++]);
        for (int i = count; i-- > 0;)
            read_again(path, r, members, count, i);
        archive_reader_close(r);
    }
    for (int i = 0; i < count; i++) {
        free(members[i].name);
        free(members[i].data);
    }
    unlink(path);
    free(path);
    return 0;
}
