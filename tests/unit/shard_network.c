/* A store on a network file system is read without LMDB's lock file. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/shards/shard_store.h"
#include "tests/support/shards.h"
#include "tests/support/tap.h"

static long type; /* of all file systems */

/* Replaces the C library's. */
int statfs(const char *file, struct statfs *st)
{
    *st = (struct statfs){.f_type = type};
    return access(file, F_OK);
}

/* Whether reading the store creates a lock file. */
static bool locks(const char *folder)
{
    struct shard_store *s;
    struct error e;
    char *lock = path_join(folder, "00000.mdb-lock");
    unlink(lock);
    if (shard_store_open(&s, folder, &e) != 0)
        die("%s", e.text);
    bool read = shards_record_is(s, 3, 3, 0), locked = file_exists(lock);
    shard_store_close(s);
    free(lock);
    tap_ok(read, "a record is read");
    return locked;
}

int main(void)
{
    CHECK(shards_write("store", 5, 5, 0, 0));
    type = 0xef53;
    tap_ok(locks(shards_folder("store")), "on ext4, LMDB uses its lock file");
    type = 0x6969;
    tap_ok(!locks(shards_folder("store")), "on NFS, it does not");
    type = 0x0bd00bd0;
    tap_ok(!locks(shards_folder("store")), "nor on Lustre");
    type = (int)0xff534d42; /* the kernel's long may be a sign-extended int */
    tap_ok(!locks(shards_folder("store")), "nor on CIFS");
    return tap_done();
}
