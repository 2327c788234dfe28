/* Stores on machines whose pages are of 64 KiB, as of many ARM servers, where LMDB's are of 32 KiB.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/message.h"
#include "tests/support/shards.h"
#include "tests/support/tap.h"

/* Takes the place of the C library's, also for LMDB. */
long sysconf(int name)
{
    if (name == _SC_PAGESIZE)
        return 65536;
    long (*real)(int);
    *(void **)&real = dlsym(RTLD_NEXT, "sysconf");
    return real(name);
}

static uint16_t page_size(const char *store)
{
    uint32_t size = 0;
    char *path = xasprintf("%s/00000.mdb", shards_folder(store));
    FILE *f = fopen(path, "rb");
    CHECK(f && fseek(f, 40, SEEK_SET) == 0 && fread(&size, sizeof size, 1, f) == 1);
    fclose(f);
    free(path);
    return (uint16_t)size;
}

int main(void)
{
    struct error e = {""};
    message_set_verbosity(VERBOSITY_QUIET);
    tap_ok(shards_write("few", 3, 3, 0, 1), "a small store is written");
    tap_ok(page_size("few") == 32768, "its pages have 32 KiB: %d", page_size("few"));
    tap_ok(shards_write("many", 700, 9, 300, 1), "a store grows, with a map as small as can be");
    tap_ok(shards_read_all("many", &e) == 0, "all its records are read: %s", e.text);
    struct shard_writer *w = shards_open("many", 300, 0);
    tap_ok(w && shards_put(w, 5, 40, 1, &e) == 0, "records are replaced: %s", e.text);
    shard_writer_close(w);
    shards_ok_clean("many", "with all of that");
    return tap_done();
}
