#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/mapping_faults.h"
#include "common/base/message.h"
#include "formats/shards/shard_internal.h"
#include "formats/shards/shard_pages.h"

#define SHARD_DATABASES 3
/* Two meta pages: the smallest LMDB file, and what opening one touches. */
#define SMALLEST_FILE 8192

/* A writer in another program can make a healthy file look damaged: a meta page may be read half
 * old and half new, and readers without a lock file do not keep pages from being reused. So a file
 * is damaged if it is so again after a pause. */
static void pause_for_writer(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* Begins a transaction on a snapshot whose pages LMDB can trust. */
static int begin_checked(struct shard *s, MDB_txn **txn, enum shard_pages_scope scope,
                         struct error *e)
{
    int fd, code = mdb_env_get_fd(s->env, &fd);
    for (int tries = 0; code == 0; tries++) {
        code = shard_txn_begin(s, false, txn);
        if (code != 0)
            break;
        if (shard_pages_check(fd, mdb_txn_id(*txn), scope, e) == 0)
            return 0;
        mdb_txn_abort(*txn);
        if (tries == 1)
            return error_prefix(e, "%s", s->name);
        pause_for_writer();
    }
    return shard_error(e, s, "cannot read", code);
}

int shard_begin_checked(struct shard *s, MDB_txn **txn, struct error *e)
{
    return begin_checked(s, txn, SHARD_PAGES_ALL, e);
}

/* Opens the databases and reads the meta record in one transaction. */
static int open_databases(struct shard *s, enum shard_pages_scope scope, struct error *e)
{
    MDB_txn *txn;
    int code;
    if (begin_checked(s, &txn, scope, e) != 0)
        return -1;
    if ((code = mdb_dbi_open(txn, "samples", 0, &s->samples)) != 0 ||
        (code = mdb_dbi_open(txn, "paths", 0, &s->paths)) != 0 ||
        (code = mdb_dbi_open(txn, "meta", 0, &s->meta)) != 0) {
        mdb_txn_abort(txn);
        return code == MDB_NOTFOUND
                   ? error_set(e, "%s: an LMDB file, but not a shard: databases are missing",
                               s->name)
                   : shard_error(e, s, "cannot read", code);
    }
    if (shard_read_state(s, txn, e) != 0) {
        mdb_txn_abort(txn);
        return -1;
    }
    code = mdb_txn_commit(txn); /* keeps the database handles open */
    return code != 0 ? shard_error(e, s, "cannot read", code) : 0;
}

/* LMDB calls this when it finds its file damaged and can neither go on nor report it. */
static void end_program(MDB_env *env, const char *what)
{
    const char *file = "";
    mdb_env_get_path(env, &file);
    die("'%s': damaged LMDB file: %s", file, what);
}

static int open_env(MDB_env **env, const char *file, unsigned flags)
{
    *env = NULL;
    int code = mdb_env_create(env);
    if (code != 0)
        return code;
    mapping_faults_handle();
    if ((code = mdb_env_set_assert(*env, end_program)) != 0 ||
        (code = mdb_env_set_maxdbs(*env, SHARD_DATABASES)) != 0 ||
        (code = mdb_env_open(*env, file, flags | MDB_NOSUBDIR | MDB_NOTLS, 0666)) != 0) {
        mdb_env_close(*env);
        *env = NULL;
    }
    return code;
}

/* File systems that several hosts share. LMDB's lock file is a mapping with mutexes, which works
 * within a host at most, and creating it fails or is slow when many hosts open a store. */
static bool is_network_file(const char *file)
{
    static const uint32_t types[] = {
        0x6969,     /* NFS */
        0x0bd00bd0, /* Lustre */
        0x47504653, /* GPFS */
        0x19830326, /* BeeGFS */
        0x00c36400, /* Ceph */
        0xff534d42, /* CIFS */
        0xfe534d42, /* SMB2 */
        0x5346414f, /* AFS */
        0x6b414653, /* kAFS */
        0x01021997, /* 9P */
    };
    struct statfs st;
    if (statfs(file, &st) != 0)
        return false;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if ((uint32_t)st.f_type == types[i])
            return true;
    return false;
}

static int open_shard_env(struct shard *s, bool write)
{
    unsigned flags = write ? 0 : is_network_file(s->file) ? MDB_RDONLY | MDB_NOLOCK : MDB_RDONLY;
    int code = open_env(&s->env, s->file, flags);
    if (code == EMFILE && shard_raise_file_limit())
        code = open_env(&s->env, s->file, flags);
    if ((code == EACCES || code == EROFS) && !write && access(s->file, R_OK) == 0)
        code = open_env(&s->env, s->file,
                        flags | MDB_NOLOCK); /* another user's store: read it without a lock file */
    return code;
}

/* Before LMDB reads the file. */
static int check_meta(const struct shard *s, struct error *e)
{
    int fd = open(s->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == EMFILE && shard_raise_file_limit())
        fd = open(s->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return shard_error(e, s, "cannot open", errno);
    int status = shard_pages_check_meta(fd, e);
    if (status != 0) {
        pause_for_writer();
        status = shard_pages_check_meta(fd, e);
    }
    close(fd);
    return status != 0 ? error_prefix(e, "%s", s->name) : 0;
}

static int open_file(struct shard *s, bool write, struct error *e)
{
    struct stat st;
    if (stat(s->file, &st) != 0)
        return shard_error(e, s, "cannot open", errno);
    if (!S_ISREG(st.st_mode))
        return error_set(e, "%s: not a regular file", s->name);
    if (st.st_size < SMALLEST_FILE)
        return error_set(e, "%s: not an LMDB file (%" PRId64 " bytes)", s->name,
                         (int64_t)st.st_size);
    if (shard_claim(s, &st, e) != 0 || check_meta(s, e) != 0)
        return -1;
    int code = open_shard_env(s, write);
    return code != 0 ? shard_error(e, s, "cannot open", code) : 0;
}

int shard_open(struct shard *s, const char *folder, int number, enum shard_use use, struct error *e)
{
    bool write = use == SHARD_WRITE;
    *s = (struct shard){0};
    shard_name(s->name, number);
    s->file = path_join(folder, s->name);
    int status = open_file(s, write, e);
    int dead, code = status == 0 && write ? mdb_reader_check(s->env, &dead) : 0;
    if (code != 0)
        status = shard_error(e, s, "cannot clear its reader table", code);
    if (status == 0)
        status = open_databases(s, use == SHARD_READ ? SHARD_PAGES_OF_RECORDS : SHARD_PAGES_ALL, e);
    if (status != 0)
        shard_close(s);
    return status;
}

void shard_close(struct shard *s)
{
    if (s->env)
        mdb_env_close(s->env);
    shard_unclaim(s);
    free(s->file);
    s->env = NULL;
    s->file = NULL;
}

static int fill_new_env(struct shard *s, size_t map_size)
{
    int code = mdb_env_set_mapsize(s->env, map_size);
    MDB_txn *txn;
    if (code != 0 || (code = mdb_txn_begin(s->env, NULL, 0, &txn)) != 0)
        return code;
    if ((code = mdb_dbi_open(txn, "samples", MDB_CREATE, &s->samples)) != 0 ||
        (code = mdb_dbi_open(txn, "paths", MDB_CREATE, &s->paths)) != 0 ||
        (code = mdb_dbi_open(txn, "meta", MDB_CREATE, &s->meta)) != 0 ||
        (code = shard_put_meta(s, txn, &(struct latent_statistics){0}, false)) != 0) {
        mdb_txn_abort(txn);
        return code;
    }
    return mdb_txn_commit(txn);
}

int shard_create_env(struct shard *s, const char *file, unsigned flags, size_t map_size)
{
    unlink(file); /* left by a killed program */
    int code = open_env(&s->env, file, MDB_NOLOCK | flags);
    if (code == EMFILE && shard_raise_file_limit())
        code = open_env(&s->env, file, MDB_NOLOCK | flags);
    if (code == 0 && (code = fill_new_env(s, map_size)) != 0) {
        mdb_env_close(s->env);
        s->env = NULL;
    }
    return code;
}

int shard_create(const char *folder, int number, const struct shard_info *info, size_t map_size,
                 struct error *e)
{
    if (number >= SHARDS_MAX)
        return error_set(e, "more than %d shards", SHARDS_MAX);
    struct shard s = {.version = SHARD_VERSION, .info = *info};
    shard_name(s.name, number);
    char *name = xasprintf(".%s" SHARD_NEW, s.name), *temporary = path_join(folder, name);
    s.file = path_join(folder, s.name);
    int code = shard_create_env(&s, temporary, 0, map_size);
    if (code == 0)
        mdb_env_close(s.env);
    int folder_fd = -1;
    if (code == 0 && (rename(temporary, s.file) != 0 ||
                      (folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
                      fsync(folder_fd) != 0))
        code = errno;
    if (folder_fd >= 0)
        close(folder_fd);
    if (code != 0) {
        shard_error(e, &s, "cannot create", code);
        unlink(temporary);
    }
    free(s.file);
    free(temporary);
    free(name);
    return code != 0 ? -1 : 0;
}
