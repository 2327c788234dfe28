/* What killed programs leave in a store's folder goes the next time that a program writes there. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "formats/shards/embed_cache.h"
#include "tests/support/disk_calls.h"
#include "tests/support/shards.h"
#include "tests/support/tap.h"

enum { RECORDS = 10 };
static const struct embed_cache_rows cache_rows = {EMBED_CACHE_EMBEDDINGS, SHARDS_EMBED};

static int hidden(const struct dirent *entry)
{
    return entry->d_name[0] == '.' && strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
}

/* The names of the folder that begin with a dot, separated by blanks; valid until the next call. */
static const char *hidden_files(const char *store)
{
    static char text[1024];
    struct dirent **list;
    int n = scandir(shards_folder(store), &list, hidden, alphasort);
    text[0] = '\0';
    for (int i = 0; i < n; i++) {
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " " : "",
                 list[i]->d_name);
        free(list[i]);
    }
    free(list);
    return text;
}

static void make_file(const char *store, const char *name)
{
    char *path = path_join(shards_folder(store), name);
    FILE *f = fopen(path, "w");
    CHECK(f && fclose(f) == 0);
    free(path);
}

static int use_writer(const char *store)
{
    struct shard_writer *w = shards_open(store, 4, 0);
    shard_writer_close(w);
    return w ? 0 : -1;
}

static int use_remover(const char *store)
{
    struct shard_remover *r;
    bool completed;
    if (shard_remover_open(&r, shards_folder(store), &completed, NULL) != 0)
        return -1;
    shard_remover_close(r);
    return 0;
}

static int use_join(const char *store)
{
    struct shard_join_summary j;
    char *folder = xstrdup(shards_folder(store));
    int status = shard_stores_join(folder, &folder, 1, &j, NULL);
    free(folder);
    return status;
}

/* Writes the cache; abandons it if `abandon`. */
static int write_cache(const char *store, bool abandon)
{
    struct shard_store *s;
    struct embed_cache_writer w;
    float rows[RECORDS * SHARDS_EMBED] = {0};
    CHECK(shard_store_open(&s, shards_folder(store), NULL) == 0);
    int status = embed_cache_create(&w, shards_folder(store), s, &cache_rows, NULL);
    if (status == 0 && abandon)
        embed_cache_abandon(&w);
    else if (status == 0 && (status = embed_cache_append(&w, rows, RECORDS, NULL)) == 0)
        status = embed_cache_finish(&w, s, NULL);
    shard_store_close(s);
    return status;
}

static int use_cache(const char *store)
{
    return write_cache(store, true);
}

static int finish_cache(const void *store)
{
    return write_cache(store, false);
}

static const struct {
    int (*use)(const char *store);
    const char *what;
} users[] = {{use_writer, "an encoder"},
             {use_remover, "a removal"},
             {use_join, "a join"},
             {use_cache, "another search"}};
enum { USERS = sizeof users / sizeof *users };

static void test_cache(int user)
{
    bool killed = true, good = true, tidy = true;
    int left = 0;
    CHECK(shards_write("cache", RECORDS, 5, 4, 0));
    for (long n = 1; killed && good && tidy; n++) {
        killed = disk_killed(finish_cache, "cache", n, 0, &good);
        left += strstr(hidden_files("cache"), EMBED_CACHE_NAME ".") != NULL;
        good &= users[user].use("cache") == 0;
        tidy = !strstr(hidden_files("cache"), EMBED_CACHE_NAME ".");
    }
    tap_ok(good && tidy && left > 3, "%s removes what searches killed in %d ways have left",
           users[user].what, left);
}

/* A search goes on while other programs clean up. */
static void test_alive(void)
{
    struct shard_store *s;
    struct embed_cache_writer w;
    struct error e = {""};
    float rows[RECORDS * SHARDS_EMBED] = {0};
    bool good = true;
    CHECK(shards_write("alive", RECORDS, 5, 4, 0));
    CHECK(shard_store_open(&s, shards_folder("alive"), &e) == 0);
    CHECK(embed_cache_create(&w, shards_folder("alive"), s, &cache_rows, &e) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(w.file.fd); /* its lock is the parent's as well */
        _exit(use_writer("alive") == 0 && use_cache("alive") == 0 ? 0 : 1);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    good &= status == 0 && strstr(hidden_files("alive"), EMBED_CACHE_NAME ".");
    good &= embed_cache_append(&w, rows, RECORDS, &e) == 0 && embed_cache_finish(&w, s, &e) == 0;
    shard_store_close(s);
    tap_ok(good && strcmp(hidden_files("alive"), EMBED_CACHE_NAME) == 0,
           "the file of a search that is running stays: %s", e.text);
}

static void test_others(int user)
{
    static const char *const leftovers[] = {
        ".00000.mdb.kept", ".00003.mdb.kept", ".00003.mdb.new",     ".remove.x1Y2z3",
        ".join.new",       ".join.probe",     ".embeddings.a1B2c3", ".thumbnails.a1B2c3"};
    static const char *const foreign[] = {".00000.mdb", ".00000.mdb.kept~", ".0000.mdb.kept",
                                          ".embeddings.old", ".notes.txt"};
    CHECK(shards_write("others", RECORDS, 5, 4, 0));
    for (size_t i = 0; i < sizeof leftovers / sizeof *leftovers; i++)
        make_file("others", leftovers[i]);
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        make_file("others", foreign[i]);
    bool good = users[user].use("others") == 0;
    if (!tap_ok(good && strcmp(hidden_files("others"), ".0000.mdb.kept .00000.mdb .00000.mdb.kept~ "
                                                       ".embeddings.old .notes.txt") == 0,
                "%s removes what other programs have left, and nothing else", users[user].what))
        tap_diag("%s", hidden_files("others"));
}

int main(void)
{
    for (int user = 0; user < USERS; user++)
        test_cache(user);
    test_alive();
    for (int user = 0; user < USERS - 1; user++)
        test_others(user);
    return tap_done();
}
