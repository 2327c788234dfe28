#include "common/images/image_source.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/archives/archive_reader.h"
#include "tests/support/tap.h"

/* Members of the archives: the images begin as PGM files, of very different sizes. */
static const struct member {
    const char *name;
    size_t size;
    bool image;
} members[] = {
    {"a/one.pgm", 40, true},       {"a/one.txt", 12, false},    {"a/.hidden/x.pgm", 50, true},
    {"two two.pgm", 9000, true},   {"a/b/three", 200000, true}, {"a/b/empty", 0, false},
    {"a/\303\274.pgm", 700, true}, {"z/last.pgm", 1000, true},
};
#define MEMBERS (sizeof members / sizeof *members)

static uint8_t *content_of(const struct member *m, int version)
{
    uint8_t *data = xmalloc(m->size + 1);
    for (size_t i = 0; i < m->size; i++)
        data[i] = (uint8_t)(i * i * 31 + i / 7 + m->size + (size_t)version);
    if (m->image)
        memcpy(data, "P5 1 1 255 ", 11);
    return data;
}

static void write_member(struct archive *a, const struct member *m, int version)
{
    struct archive_entry *entry = archive_entry_new();
    uint8_t *data = content_of(m, version);
    archive_entry_set_pathname(entry, m->name);
    archive_entry_set_size(entry, (int64_t)m->size);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    CHECK(archive_write_header(a, entry) >= ARCHIVE_WARN);
    CHECK(archive_write_data(a, data, m->size) == (ssize_t)m->size);
    archive_entry_free(entry);
    free(data);
}

static void write_link(struct archive *a, const char *name, unsigned type)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, type);
    archive_entry_set_perm(entry, 0755);
    if (type == AE_IFLNK)
        archive_entry_set_symlink(entry, "one.pgm");
    CHECK(archive_write_header(a, entry) >= ARCHIVE_WARN);
    archive_entry_free(entry);
}

static void write_archive(const char *path, int (*format)(struct archive *),
                          int (*filter)(struct archive *), const char *options, int version)
{
    struct archive *a = archive_write_new();
    CHECK(format(a) >= ARCHIVE_WARN && filter(a) >= ARCHIVE_WARN);
    CHECK(archive_write_set_options(a, options) >= ARCHIVE_WARN);
    CHECK(archive_write_open_filename(a, path) == ARCHIVE_OK);
    write_link(a, "a/", AE_IFDIR);
    for (size_t i = 0; i < MEMBERS; i++)
        write_member(a, &members[i], version);
    write_link(a, "a/link.pgm", AE_IFLNK);
    CHECK(archive_write_close(a) == ARCHIVE_OK);
    archive_write_free(a);
}

static const struct kind {
    const char *path;
    int (*format)(struct archive *);
    int (*filter)(struct archive *);
    const char *options;
} kinds[] = {
    {"ustar.tar", archive_write_set_format_ustar, archive_write_add_filter_none, ""},
    {"pax.TAR", archive_write_set_format_pax, archive_write_add_filter_none, ""},
    {"gnu.tar", archive_write_set_format_gnutar, archive_write_add_filter_none, ""},
    {"gzip.tgz", archive_write_set_format_pax, archive_write_add_filter_gzip, ""},
    {"zstd.tar.zst", archive_write_set_format_pax, archive_write_add_filter_zstd, ""},
    {"xz.tar.xz", archive_write_set_format_pax, archive_write_add_filter_xz, ""},
    {"bzip2.tbz2", archive_write_set_format_pax, archive_write_add_filter_bzip2, ""},
    {"deflated.zip", archive_write_set_format_zip, archive_write_add_filter_none, ""},
    {"stored.zip", archive_write_set_format_zip, archive_write_add_filter_none,
     "zip:compression=store"},
};
#define KINDS (sizeof kinds / sizeof *kinds)

static void write_kind(const struct kind *k, const char *path, int version)
{
    write_archive(path, k->format, k->filter, k->options, version);
}

static struct image_source *source_of(struct path_source *list, int count, char *const *paths)
{
    path_source_arguments(list, count, paths);
    return image_source_new(list, true);
}

static bool has_suffix_member(const char *path, const struct member *m)
{
    size_t length;
    const char *name = image_member_of(path, &length);
    return name && strcmp(name, m->name) == 0;
}

/* image_source_next without links, which are counted. */
static int next_file(struct image_source *s, struct image_entry *told, int *links, struct error *e)
{
    int got;
    while ((got = image_source_next(s, -1, told, e)) == 1 && told->link)
        (*links)++;
    return got;
}

/* What the source tells of an archive: the images in order with their contents, the other members
 * without, and a link. */
static bool tells_all(const char *path, struct image_entry *told, int64_t *at)
{
    struct path_source list;
    struct error e;
    struct image_source *s = source_of(&list, 1, (char *const[]){(char *)path});
    int links = 0;
    bool good = image_source_count(s) == -1;
    for (size_t i = 0; i < MEMBERS; i++) {
        uint8_t *data, *expected = content_of(&members[i], 0);
        size_t size;
        if (!strstr(members[i].name, "/.")) {
            good = good && next_file(s, told, &links, &e) == 1 && told->status == 0 &&
                   told->found && told->member && has_suffix_member(told->path, &members[i]);
            bool is_image = false;
            good = good && image_source_is_image(s, told, &is_image, &e) == 0 &&
                   is_image == members[i].image &&
                   image_source_read(s, &data, &size, 1 << 20, &e) == 0;
            if (good) {
                good = size == members[i].size && memcmp(data, expected, size) == 0;
                free(data);
            }
            at[i] = good ? told->at : 0;
        }
        free(expected);
    }
    good = good && next_file(s, told, &links, &e) == 0 && links == 1;
    image_source_free(s);
    path_source_release(&list);
    return good;
}

static bool reads_in_any_order(const char *path, const int64_t *at)
{
    struct error e;
    uint8_t *data;
    size_t size;
    for (size_t i = MEMBERS; i-- > 0;) {
        uint8_t *expected = content_of(&members[i], 0);
        bool good =
            strstr(members[i].name, "/.") ||
            (archive_member_read(&data, &size, path, members[i].name, at[i], 1 << 20, &e) == 0 &&
             size == members[i].size && memcmp(data, expected, size) == 0);
        if (good && !strstr(members[i].name, "/."))
            free(data);
        free(expected);
        if (!good)
            return false;
    }
    return archive_member_read(&data, &size, path, "other", at[0], 1 << 20, &e) == -1 &&
           archive_member_read(&data, &size, path, members[3].name, at[3], 8999, &e) == -1;
}

/* Members of an archive that is cut off are whole or cannot be read, and the end says that
 * something is missing, also if nobody reads them. */
static bool tells_truncated(const char *path, bool read)
{
    struct path_source list;
    struct error e;
    struct image_entry told;
    struct image_source *s = source_of(&list, 1, (char *const[]){(char *)path});
    bool good = true, complained = false;
    for (int got; good && (got = image_source_next(s, -1, &told, &e)) != 0;) {
        uint8_t *data = NULL;
        size_t size, i = 0;
        good = got == 1 && !complained;
        complained = told.status != 0;
        if (complained || told.link || !read ||
            image_source_read(s, &data, &size, 1 << 20, &e) != 0)
            continue;
        while (i < MEMBERS && !has_suffix_member(told.path, &members[i]))
            i++;
        /* Without its directory, a zip does not tell links from files. */
        uint8_t *expected = i < MEMBERS ? content_of(&members[i], 0) : NULL;
        good = expected ? size == members[i].size && memcmp(data, expected, size) == 0
                        : strstr(told.path, "zip!/a/link.pgm") != NULL;
        free(expected);
        free(data);
    }
    good = good && complained && told.status == 0;
    image_source_free(s);
    path_source_release(&list);
    return good;
}

static void test_truncated(const struct kind *k)
{
    uint8_t *whole;
    size_t size;
    struct error e;
    int bad = 0, tried = 0;
    CHECK(file_read(&whole, &size, k->path, 1 << 20, &e) == 0);
    char *path = xasprintf("short-%s", k->path);
    /* The blocks of zeros at the end of a tar say nothing. */
    size_t end = strstr(k->path, "zip") ? size : size - size / 8;
    for (size_t n = 0; n < end; n += n < 600 ? 37 : size / 61) {
        CHECK(file_write(path, whole, n, &e) == 0);
        tried++;
        bad += !tells_truncated(path, true) + !tells_truncated(path, false);
    }
    tap_ok(tried > 60 && bad == 0,
           "%s cut off at any byte gives what is whole (%d of %d are wrong)", k->path, bad, tried);
    free(path);
    free(whole);
}

/* One member of a zip that cannot be decompressed; the others can. */
static void test_damaged_zip(void)
{
    struct path_source list;
    struct image_entry told;
    struct error e;
    uint8_t *zip;
    size_t size;
    int read = 0, failed = 0, complaints = 0, links = 0;
    CHECK(file_read(&zip, &size, "deflated.zip", 1 << 20, &e) == 0);
    uint8_t *name = memmem(zip, size, members[4].name, strlen(members[4].name));
    CHECK(name);
    memset(name + strlen(members[4].name) + name[-2] + 256 * name[-1], 0xff, 64);
    CHECK(file_write("damaged.zip", zip, size, &e) == 0);
    struct image_source *s = source_of(&list, 1, (char *const[]){"damaged.zip"});
    while (next_file(s, &told, &links, &e) == 1) {
        uint8_t *data;
        complaints += told.status != 0;
        if (told.status != 0)
            continue;
        bool good = image_source_read(s, &data, &size, 1 << 20, &e) == 0;
        read += good;
        failed += !good;
        if (good)
            free(data);
    }
    tap_ok(failed == 1 && read == MEMBERS - 2 && complaints == 0,
           "%d members of a damaged zip are read, and 1 fails", read);
    image_source_free(s);
    path_source_release(&list);
    free(zip);
}

static void test_archives(void)
{
    struct image_entry told;
    for (size_t i = 0; i < KINDS; i++) {
        int64_t at[MEMBERS] = {0};
        const char *path = kinds[i].path;
        write_kind(&kinds[i], path, 0);
        tap_ok(archive_has_name(path) && tells_all(path, &told, at), "%s is read in order", path);
        if (archive_is_seekable(path))
            tap_ok(reads_in_any_order(path, at), "%s is read in any order", path);
        test_truncated(&kinds[i]);
    }
    tap_ok(!archive_has_name("a.jpg") && !archive_has_name(".tar") && !archive_has_name("tar") &&
               !archive_has_name("a.gz"),
           "other names are not those of archives");
    test_damaged_zip();
}

/* Returns the paths that the source tells, joined by line feeds; a "!" stands before those that
 * cannot be read, a "@" before links. */
static char *list_all(int count, char *const *paths)
{
    struct path_source list;
    struct error e;
    struct image_entry told;
    char *text;
    size_t size;
    FILE *memory = open_memstream(&text, &size);
    struct image_source *s = source_of(&list, count, paths);
    while (image_source_next(s, -1, &told, &e) == 1)
        fprintf(memory, "%s%s\n", told.status != 0 ? "!" : told.link ? "@" : "", told.path);
    image_source_free(s);
    path_source_release(&list);
    fclose(memory);
    return text;
}

static void ok_list(const char *expected, const char *title, int count, char *const *paths)
{
    char *text = list_all(count, paths);
    if (!tap_ok(strcmp(text, expected) == 0, "%s", title))
        tap_diag("%s", text);
    free(text);
}

static void touch(const char *path)
{
    struct error e;
    CHECK(file_write(path, "P5 1 1 255 x", 12, &e) == 0);
}

static void test_folders(void)
{
    struct error e;
    CHECK(make_directories("photos/b/deep/er", &e) == 0 && make_directories("photos/a", &e) == 0);
    CHECK(make_directories("photos/.cache", &e) == 0 && make_directories("photos/none", &e) == 0);
    touch("photos/b/deep/er/1.jpg");
    touch("photos/b/2.jpg");
    touch("photos/b/10.jpg");
    touch("photos/a/3.jpg");
    touch("photos/c.jpg");
    touch("photos/.cache/4.jpg");
    touch("photos/.5.jpg");
    CHECK(symlink("..", "photos/b/loop") == 0 && symlink("3.jpg", "photos/a/6.jpg") == 0);
    CHECK(symlink("photos", "album") == 0);
    CHECK(rename("stored.zip", "photos/b/all.zip") == 0);
#define BELOW(folder)                                                                              \
    folder "/a/3.jpg\n@" folder "/a/6.jpg\n" folder "/b/10.jpg\n" folder "/b/2.jpg\n" folder       \
           "/b/all.zip!/a/one.pgm\n" folder "/b/all.zip!/a/one.txt\n" folder                       \
           "/b/all.zip!/two two.pgm\n" folder "/b/all.zip!/a/b/three\n" folder                     \
           "/b/all.zip!/a/b/empty\n" folder "/b/all.zip!/a/\303\274.pgm\n" folder                  \
           "/b/all.zip!/z/last.pgm\n@" folder "/b/all.zip!/a/link.pgm\n" folder                    \
           "/b/deep/er/1.jpg\n@" folder "/b/loop\n" folder "/c.jpg\n"
    ok_list(BELOW("photos"), "a folder's files are told in the order of their names", 1,
            (char *[]){"photos"});
    ok_list("photos/c.jpg\n" BELOW("photos") "!x\n" BELOW("album"),
            "among other arguments, also as a link", 4,
            (char *[]){"photos//c.jpg", "./photos/", "x", "album"});
    ok_list("photos/a/3.jpg\n@photos/a/6.jpg\n", "by any spelling", 1,
            (char *[]){".//photos/./a/."});
    ok_list("!none.tar\nphotos/c.jpg\n", "an archive that is missing is told", 2,
            (char *[]){"none.tar", "photos/c.jpg"});
    ok_list("photos/b/all.zip!/z/last.pgm\nphotos/b/all.zip!/a/one.pgm\n!photos/b/all.zip!/none\n"
            "gnu.tar!/a/b/three\n",
            "members can be named, in any order", 4,
            (char *[]){"photos/b/all.zip!/z/last.pgm", "photos/b/all.zip!/a/one.pgm",
                       "./photos/b/all.zip!/none", "gnu.tar!/a/b/three"});
}

/* Members whose names have components "." or begin with a slash. */
static void test_spellings(const char *path, int (*format)(struct archive *))
{
    static const struct member spelled[] = {{"./a//one.pgm", 40, true}, {"/b/./two.pgm", 50, true}};
    struct archive *a = archive_write_new();
    CHECK(format(a) >= ARCHIVE_WARN && archive_write_open_filename(a, path) == ARCHIVE_OK);
    write_member(a, &spelled[0], 0);
    write_member(a, &spelled[1], 0);
    CHECK(archive_write_close(a) == ARCHIVE_OK);
    archive_write_free(a);
    char *one = xasprintf("%s!/a/one.pgm", path), *two = xasprintf("%s!/b/two.pgm", path);
    char *dotted = xasprintf("%s!/./a/one.pgm", path), *text = xasprintf("%s\n%s\n", one, two);
    ok_list(text, "members are told by normalized names", 1, (char *[]){(char *)path});
    free(text);
    text = xasprintf("%s\n%s\n%s\n", two, one, one);
    ok_list(text, "and found by any", 3, (char *[]){two, one, dotted});
    uint8_t *data;
    size_t size;
    struct error e;
    bool read = archive_member_read(&data, &size, path, "./a/one.pgm", 0, 1 << 20, &e) == 0;
    tap_ok(read && size == 40, "and read");
    if (read)
        free(data);
    free(one);
    free(two);
    free(dotted);
    free(text);
}

int main(void)
{
    CHECK(chdir(test_folder()) == 0);
    test_archives();
    test_folders();
    test_spellings("spelled.tar", archive_write_set_format_pax);
    test_spellings("spelled.zip", archive_write_set_format_zip);
    return tap_done();
}
