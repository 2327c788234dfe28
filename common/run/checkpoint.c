#include "common/run/checkpoint.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/run/checkpoint_internal.h"

/* Folders that are not checkpoints: STEP.tmp-PID is on its way to become one, or was one that
 * another has replaced; STEP.old-PID is one that another is about to replace; STEP.gone-PID is on
 * its way out.
 */
#define LATEST         "latest"
#define STEP_PREFIX    "step-"
#define SUFFIX_TMP     ".tmp-"
#define SUFFIX_OLD     ".old-"
#define SUFFIX_GONE    ".gone-"
#define STATE_LIMIT    (1 << 24) /* bytes of a state.json that is read */
#define SPACE_TO_SPARE (1 << 20)

struct run {
    char *folder;
    int fd; /* of the folder, locked */
};

void checkpoint_name(char name[CHECKPOINT_NAME_SIZE], int64_t step)
{
    snprintf(name, CHECKPOINT_NAME_SIZE, STEP_PREFIX "%08lld", (long long)step);
}

/* The step in STEP_PREFIX and digits, *end behind them; -1: something else. */
static int64_t parse_step(const char *name, const char **end)
{
    size_t n = strlen(STEP_PREFIX);
    if (strncmp(name, STEP_PREFIX, n) != 0 || !isdigit((unsigned char)name[n]))
        return -1;
    char *behind;
    errno = 0;
    int64_t step = strtoll(name + n, &behind, 10);
    *end = behind;
    return errno ? -1 : step;
}

/* Of a checkpoint's folder; -1: it is none. */
static int64_t checkpoint_step_of(const char *name)
{
    const char *end;
    char proper[CHECKPOINT_NAME_SIZE];
    int64_t step = parse_step(name, &end);
    if (step < 0)
        return -1;
    checkpoint_name(proper, step);
    return strcmp(name, proper) == 0 ? step : -1;
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return !slash ? xstrdup(".") : xasprintf("%.*s", slash == path ? 1 : (int)(slash - path), path);
}

static int sync_folder(const char *folder, struct error *e)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || (fsync(fd) && errno != EINVAL && errno != EROFS);
    int number = errno;
    if (fd >= 0)
        close(fd);
    errno = number;
    return failed ? error_errno(e, "cannot sync '%s'", folder) : 0;
}

/* A folder of files, or a link or file; never what a link points to. Fine when there is none. */
static int remove_folder(const char *folder, struct error *e)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        if (fd >= 0)
            close(fd);
        return unlink(folder) ? error_errno(e, "cannot remove '%s'", folder) : 0;
    }
    int result = 0;
    for (struct dirent *entry; !result && (entry = readdir(d));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(dirfd(d), entry->d_name, 0))
            result = error_errno(e, "cannot remove '%s/%s'", folder, entry->d_name);
    }
    closedir(d);
    if (!result && rmdir(folder))
        result = error_errno(e, "cannot remove '%s'", folder);
    return result;
}

/* Calls f for each entry until it fails. */
static int each_entry(const char *folder, int (*f)(void *arg, const char *name, struct error *e),
                      void *arg, struct error *e)
{
    DIR *d = opendir(folder);
    if (!d)
        return error_errno(e, "cannot read the folder '%s'", folder);
    int result = 0;
    for (struct dirent *entry; !result && (entry = readdir(d));)
        result = f(arg, entry->d_name, e);
    closedir(d);
    return result;
}

/* What a killed run left: an old checkpoint comes back where its successor did not arrive. */
static int clean_entry(void *arg, const char *name, struct error *e)
{
    const struct run *r = arg;
    const char *end = name;
    int64_t step = parse_step(name, &end);
    if (step < 0 && strncmp(name, LATEST, strlen(LATEST)) == 0)
        end = name + strlen(LATEST);
    char *path = path_join(r->folder, name);
    int result = 0;
    if (step >= 0 && strncmp(end, SUFFIX_OLD, strlen(SUFFIX_OLD)) == 0) {
        char *proper = xasprintf("%s/%.*s", r->folder, (int)(end - name), name);
        if (file_exists(proper))
            result = remove_folder(path, e);
        else if (rename(path, proper))
            result = error_errno(e, "cannot rename '%s'", path);
        free(proper);
    } else if (strncmp(end, SUFFIX_TMP, strlen(SUFFIX_TMP)) == 0 ||
               strncmp(end, SUFFIX_GONE, strlen(SUFFIX_GONE)) == 0) {
        result = remove_folder(path, e);
    }
    free(path);
    return result;
}

int run_open(struct run **out, const char *folder, struct error *e)
{
    if (make_directories(folder, e))
        return error_prefix(e, "cannot create '%s'", folder);
    char *parent = folder_of(folder);
    sync_folder(parent, NULL); /* that of a folder which was there need not be ours */
    free(parent);
    struct run *r = xcalloc(1, sizeof *r);
    r->folder = xstrdup(folder);
    r->fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = 0;
    if (r->fd < 0)
        result = error_errno(e, "cannot open '%s'", folder);
    else if (flock(r->fd, LOCK_EX | LOCK_NB))
        result = errno == EWOULDBLOCK ? error_set(e, "'%s' is in use by another process", folder)
                                      : error_errno(e, "cannot lock '%s'", folder);
    else
        result = each_entry(folder, clean_entry, r, e);
    if (result) {
        run_close(r);
        return -1;
    }
    *out = r;
    return 0;
}

void run_close(struct run *r)
{
    if (!r)
        return;
    if (r->fd >= 0)
        close(r->fd);
    free(r->folder);
    free(r);
}

const char *run_folder(const struct run *r)
{
    return r->folder;
}

struct step_list {
    const char *folder;
    int64_t *steps;
    int count;
};

static int list_entry(void *arg, const char *name, struct error *e)
{
    (void)e;
    struct step_list *l = arg;
    int64_t step = checkpoint_step_of(name);
    if (step < 0)
        return 0;
    char *state = xasprintf("%s/%s/" STATE_FILE, l->folder, name);
    if (file_exists(state)) {
        l->steps = xrealloc(l->steps, (size_t)(l->count + 1) * sizeof *l->steps);
        l->steps[l->count++] = step;
    }
    free(state);
    return 0;
}

static int descending(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a < b) - (a > b);
}

/* The checkpoints of a run, last first. Free l->steps afterwards, whatever happens. */
static int list_steps(struct step_list *l, const char *folder, struct error *e)
{
    *l = (struct step_list){.folder = folder};
    int result = each_entry(folder, list_entry, l, e);
    if (l->count > 0)
        qsort(l->steps, (size_t)l->count, sizeof *l->steps, descending);
    return result;
}

int run_checkpoints(const struct run *r)
{
    struct step_list l;
    list_steps(&l, r->folder, NULL);
    free(l.steps);
    return l.count;
}

int checkpoint_check_space(const char *folder, int64_t bytes, struct error *e)
{
    struct statvfs fs;
    char need[32], have[32];
    if (statvfs(folder, &fs))
        return error_errno(e, "cannot get the free space of '%s'", folder);
    double available = (double)fs.f_bavail * (double)fs.f_frsize;
    if (!(available >= (double)bytes + SPACE_TO_SPARE))
        return error_set(e, "a checkpoint needs %s, but '%s' has only %s free",
                         format_bytes(need, (double)bytes), folder, format_bytes(have, available));
    return 0;
}

static int write_state(const char *folder, const struct training_state *s, struct error *e)
{
    char *path = path_join(folder, STATE_FILE), *text;
    struct atomic_file f;
    training_state_print(&text, s);
    int result = atomic_file_open(&f, path, e);
    if (!result && (write_all(f.fd, text, strlen(text), e) || write_all(f.fd, "\n", 1, e))) {
        atomic_file_abandon(&f);
        result = -1;
    } else if (!result) {
        result = atomic_file_commit(&f, e);
    }
    free(text);
    free(path);
    return result ? error_prefix(e, STATE_FILE) : 0;
}

static int write_aside(const char *folder, const struct parameters *p, struct training_state *s,
                       struct error *e)
{
    if (remove_folder(folder, e))
        return -1;
    if (mkdir(folder, 0777))
        return error_errno(e, "cannot create '%s'", folder);
    if (checkpoint_write_tensors(folder, p, s, e) || write_state(folder, s, e) ||
        sync_folder(folder, e)) {
        remove_folder(folder, NULL);
        return -1;
    }
    return 0;
}

static void remove_or_warn(const char *folder)
{
    struct error e;
    if (remove_folder(folder, &e))
        warn("%s", e.text);
}

/* Two renames, for file systems that cannot exchange: killed in between, clean_entry repairs it. */
static int replace_in_two_steps(const char *new, const char *path, struct error *e)
{
    char *old = xasprintf("%s" SUFFIX_OLD "%ld", path, (long)getpid());
    int result = remove_folder(old, e);
    if (!result && rename(path, old))
        result = error_errno(e, "cannot rename '%s'", path);
    if (!result && rename(new, path)) {
        result = error_errno(e, "cannot rename '%s'", new);
        if (rename(old, path))
            error_prefix(e, "the checkpoint is now at '%s'", old);
    }
    if (!result)
        remove_or_warn(old);
    free(old);
    return result;
}

/* Gives the folder `new` the name `path`, in the place of what has it. */
static int put_in_place(const char *new, const char *path, struct error *e)
{
    if (rename(new, path) == 0)
        return 0;
    if (errno != EEXIST && errno != ENOTEMPTY)
        return error_errno(e, "cannot rename '%s'", new);
    if (renameat2(AT_FDCWD, new, AT_FDCWD, path, RENAME_EXCHANGE) == 0) {
        remove_or_warn(new);
        return 0;
    }
    return replace_in_two_steps(new, path, e);
}

/* Moves RUN/latest to a checkpoint's name. */
static int move_latest(const char *run, const char *name, struct error *e)
{
    char *link = path_join(run, LATEST),
         *new = xasprintf("%s" SUFFIX_TMP "%ld", link, (long)getpid());
    unlink(new);
    int result = 0;
    if (symlink(name, new) || rename(new, link)) {
        result = error_errno(e, "cannot create '%s'", link);
        unlink(new);
    }
    free(new);
    free(link);
    return result;
}

void run_prune(const struct run *r, int64_t step, int64_t keep)
{
    if (keep == 0)
        return;
    struct step_list l;
    struct error e;
    int result = list_steps(&l, r->folder, &e);
    int64_t kept = 0;
    for (int i = 0; i < l.count && !result; i++) {
        if (l.steps[i] > step || ++kept <= keep)
            continue;
        char name[CHECKPOINT_NAME_SIZE];
        checkpoint_name(name, l.steps[i]);
        char *path = path_join(r->folder, name),
             *gone = xasprintf("%s" SUFFIX_GONE "%ld", path, (long)getpid());
        if (remove_folder(gone, &e)) /* of a run with the same process number */
            result = -1;
        else if (rename(path, gone))
            result = error_errno(&e, "cannot rename '%s'", path);
        else
            result = remove_folder(gone, &e);
        free(gone);
        free(path);
    }
    if (result)
        warn("cannot remove old checkpoints: %s", e.text);
    free(l.steps);
}

int checkpoint_save(struct run *r, const struct parameters *p, struct training_state *s,
                    int64_t keep, struct error *e)
{
    CHECK(s->step >= 0 && keep >= 0);
    char name[CHECKPOINT_NAME_SIZE];
    checkpoint_name(name, s->step);
    snprintf(s->version, sizeof s->version, "%s", CCLD_VERSION);
    s->updates = p->updates;
    char *path = path_join(r->folder, name),
         *new = xasprintf("%s" SUFFIX_TMP "%ld", path, (long)getpid());
    int result = checkpoint_check_space(r->folder, checkpoint_bytes(p), e);
    if (!result)
        result = write_aside(new, p, s, e);
    if (!result && put_in_place(new, path, e)) {
        remove_folder(new, NULL);
        result = -1;
    }
    if (!result &&
        (sync_folder(r->folder, e) || move_latest(r->folder, name, e) || sync_folder(r->folder, e)))
        result = -1;
    if (result)
        error_prefix(e, "cannot write the checkpoint '%s'", path);
    else
        run_prune(r, s->step, keep);
    free(new);
    free(path);
    return result;
}

static bool is_checkpoint(const char *folder)
{
    char *state = path_join(folder, STATE_FILE);
    bool is = file_exists(state);
    free(state);
    return is;
}

/* What a symbolic link points to, from where the caller is; a copy of anything else that has a
 * name.
 */
static char *follow(const char *path)
{
    char target[PATH_MAX];
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if ((strcmp(name, ".") == 0 || strcmp(name, "..") == 0) && realpath(path, target))
        return xstrdup(target);
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n < 0)
        return xstrdup(path);
    target[n] = 0;
    if (target[0] == '/')
        return xstrdup(target);
    char *folder = folder_of(path), *result = path_join(folder, target);
    free(folder);
    return result;
}

/* malloc'ed; NULL when the run has none. */
static char *last_checkpoint(const char *run, struct error *e)
{
    char *latest = path_join(run, LATEST), *found = follow(latest);
    free(latest);
    if (is_checkpoint(found))
        return found;
    free(found);
    struct step_list l;
    found = NULL;
    if (list_steps(&l, run, e) == 0 && l.count == 0) {
        error_set(e, "'%s' is neither a checkpoint nor a run with a checkpoint", run);
    } else if (l.count > 0) {
        char name[CHECKPOINT_NAME_SIZE];
        checkpoint_name(name, l.steps[0]);
        found = path_join(run, name);
    }
    free(l.steps);
    return found;
}

int checkpoint_find(const char *path, char **checkpoint, char **run, struct error *e)
{
    char *trimmed = xstrdup(path);
    for (size_t n = strlen(trimmed); n > 1 && trimmed[n - 1] == '/'; n--)
        trimmed[n - 1] = 0;
    char *found = is_checkpoint(trimmed) ? follow(trimmed) : last_checkpoint(trimmed, e);
    free(trimmed);
    if (!found)
        return -1;
    if (run)
        *run = folder_of(found);
    *checkpoint = found;
    return 0;
}

int checkpoint_read_state(struct training_state *s, const char *checkpoint, struct error *e)
{
    char *path = path_join(checkpoint, STATE_FILE);
    uint8_t *text = NULL;
    size_t size;
    int result = file_read(&text, &size, path, STATE_LIMIT, e);
    if (!result)
        result = training_state_parse(s, (const char *)text, e);
    if (result)
        error_prefix(e, "'%s'", path);
    free(text);
    free(path);
    return result;
}
