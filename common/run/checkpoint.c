#include "common/run/checkpoint.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/run/best.h"
#include "common/run/checkpoint_internal.h"

/* Folders that are not checkpoints, each named after a checkpoint's folder and a process:
 * NAME.tmp-PID is a new checkpoint that is not complete yet, or one that a new one has replaced;
 * NAME.old-PID is a checkpoint that a new one is about to replace; NAME.gone-PID is being removed.
 */
#define STEP_PREFIX    "step-"
#define SUFFIX_TMP     ".tmp-"
#define SUFFIX_OLD     ".old-"
#define SUFFIX_GONE    ".gone-"
#define STATE_LIMIT    (1 << 24) /* bytes: a larger state.json is refused */
#define SPACE_TO_SPARE (1 << 20) /* bytes left free besides a new checkpoint */

struct run {
    char *folder;
    int fd; /* of the folder, with a lock */
};

void checkpoint_name(char name[CHECKPOINT_NAME_SIZE], int64_t step)
{
    snprintf(name, CHECKPOINT_NAME_SIZE, STEP_PREFIX "%08" PRId64, step);
}

/* The step of a name that starts with STEP_PREFIX and digits, *end behind them; -1 for others. */
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

int64_t checkpoint_step_of(const char *name)
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
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), status = 0;
    if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL && errno != EROFS))
        status = error_errno(e, "cannot sync '%s'", folder);
    if (fd >= 0)
        close(fd);
    return status;
}

/* Removes a folder of files, a file or a link, but not a link's target. Succeeds if there is
 * nothing to remove. */
static int remove_folder(const char *folder, struct error *e)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        if (fd >= 0)
            close(fd);
        return unlink(folder) != 0 ? error_errno(e, "cannot remove '%s'", folder) : 0;
    }
    int status = 0;
    for (struct dirent *entry; status == 0 && (entry = readdir(d));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(dirfd(d), entry->d_name, 0) != 0)
            status = error_errno(e, "cannot remove '%s/%s'", folder, entry->d_name);
    }
    closedir(d);
    if (status == 0 && rmdir(folder) != 0)
        status = error_errno(e, "cannot remove '%s'", folder);
    return status;
}

/* Calls f for each entry until it fails. */
static int each_entry(const char *folder, int (*f)(void *arg, const char *name, struct error *e),
                      void *arg, struct error *e)
{
    DIR *d = opendir(folder);
    if (!d)
        return error_errno(e, "cannot read the folder '%s'", folder);
    int status = 0;
    for (struct dirent *entry; status == 0 && (entry = readdir(d));)
        status = f(arg, entry->d_name, e);
    closedir(d);
    return status;
}

/* Cleans up after a killed run: an old checkpoint gets its name back if the new one never got it.
 */
static int clean_entry(void *arg, const char *name, struct error *e)
{
    const struct run *r = arg;
    const char *end = name;
    int64_t step = parse_step(name, &end);
    static const char *const links[] = {LATEST, BEST};
    for (int i = 0; i < 2 && step < 0; i++)
        if (strncmp(name, links[i], strlen(links[i])) == 0)
            end = name + strlen(links[i]);
    char *path = path_join(r->folder, name);
    int status = 0;
    if (step >= 0 && strncmp(end, SUFFIX_OLD, strlen(SUFFIX_OLD)) == 0) {
        char *proper = xasprintf("%s/%.*s", r->folder, (int)(end - name), name);
        if (file_exists(proper))
            status = remove_folder(path, e);
        else if (rename(path, proper) != 0)
            status = error_errno(e, "cannot rename '%s'", path);
        free(proper);
    } else if (strncmp(end, SUFFIX_TMP, strlen(SUFFIX_TMP)) == 0 ||
               strncmp(end, SUFFIX_GONE, strlen(SUFFIX_GONE)) == 0) {
        status = remove_folder(path, e);
    }
    free(path);
    return status;
}

int run_open(struct run **out, const char *folder, struct error *e)
{
    if (make_directories(folder, e) != 0)
        return error_prefix(e, "cannot create '%s'", folder);
    char *parent = folder_of(folder);
    sync_folder(parent, NULL); /* may fail: an existing folder's parent need not be ours */
    free(parent);
    struct run *r = xcalloc(1, sizeof *r);
    r->folder = xstrdup(folder);
    r->fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int status = 0;
    if (r->fd < 0)
        status = error_errno(e, "cannot open '%s'", folder);
    else if (folder_lock(r->fd) != 0)
        status = errno == EWOULDBLOCK ? error_set(e, "'%s' is in use by another process", folder)
                                      : error_errno(e, "cannot lock '%s'", folder);
    else
        status = each_entry(folder, clean_entry, r, e);
    if (status != 0) {
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

static int list_entry(void *arg, const char *name, struct error *e)
{
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

int checkpoint_list(struct step_list *l, const char *folder, struct error *e)
{
    *l = (struct step_list){.folder = folder};
    int status = each_entry(folder, list_entry, l, e);
    if (l->count > 0)
        qsort(l->steps, (size_t)l->count, sizeof *l->steps, descending);
    return status;
}

int run_checkpoints(const struct run *r)
{
    struct step_list l;
    checkpoint_list(&l, r->folder, NULL);
    free(l.steps);
    return l.count;
}

int checkpoint_check_space(const char *folder, int64_t bytes, struct error *e)
{
    struct statvfs fs;
    char need[32], have[32];
    if (statvfs(folder, &fs) != 0)
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
    training_state_print(&text, s);
    char *line = xasprintf("%s\n", text);
    int status = file_write(path, line, strlen(line), e);
    free(line);
    free(text);
    free(path);
    return status != 0 ? error_prefix(e, STATE_FILE) : 0;
}

static int write_aside(const char *folder, const struct parameters *p, struct training_state *s,
                       struct error *e)
{
    if (remove_folder(folder, e) != 0)
        return -1;
    if (mkdir(folder, 0777) != 0)
        return error_errno(e, "cannot create '%s'", folder);
    if (checkpoint_write_tensors(folder, p, s, e) != 0 || write_state(folder, s, e) != 0 ||
        sync_folder(folder, e) != 0) {
        remove_folder(folder, NULL);
        return -1;
    }
    return 0;
}

static void remove_or_warn(const char *folder)
{
    struct error e;
    if (remove_folder(folder, &e) != 0)
        warn("%s", e.text);
}

/* Two renames, for file systems that cannot exchange folders. clean_entry repairs what a kill
 * between them leaves. */
static int replace_in_two_steps(const char *new, const char *path, struct error *e)
{
    char *old = xasprintf("%s" SUFFIX_OLD "%ld", path, (long)getpid());
    int status = remove_folder(old, e);
    if (status == 0 && rename(path, old) != 0)
        status = error_errno(e, "cannot rename '%s'", path);
    if (status == 0 && rename(new, path) != 0) {
        status = error_errno(e, "cannot rename '%s'", new);
        if (rename(old, path) != 0)
            error_prefix(e, "the checkpoint is now at '%s'", old);
    }
    if (status == 0)
        remove_or_warn(old);
    free(old);
    return status;
}

/* Exchanges two folders. */
static int exchange(const char *a, const char *b)
{
#ifdef RENAME_EXCHANGE
    return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
#else /* musl 1.2.3 */
    return (int)syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2 /* RENAME_EXCHANGE */);
#endif
}

/* Renames the folder `new` to `path` and removes the folder that had that name, if any. */
static int put_in_place(const char *new, const char *path, struct error *e)
{
    if (rename(new, path) == 0)
        return 0;
    if (errno != EEXIST && errno != ENOTEMPTY)
        return error_errno(e, "cannot rename '%s'", new);
    if (exchange(new, path) == 0) {
        remove_or_warn(new);
        return 0;
    }
    return replace_in_two_steps(new, path, e);
}

int run_move_link(const char *run, const char *link_name, const char *name, struct error *e)
{
    char *link = path_join(run, link_name),
         *new = xasprintf("%s" SUFFIX_TMP "%ld", link, (long)getpid());
    unlink(new);
    int status = 0;
    if (symlink(name, new) != 0 || rename(new, link) != 0) {
        status = error_errno(e, "cannot create '%s'", link);
        unlink(new);
    }
    free(new);
    free(link);
    return status;
}

void run_prune(const struct run *r, int64_t step, int64_t keep)
{
    if (keep == 0)
        return;
    struct step_list l;
    struct error e;
    int status = checkpoint_list(&l, r->folder, &e);
    int64_t kept = 0, best = run_best(r->folder);
    for (int i = 0; i < l.count && status == 0; i++) {
        if (l.steps[i] > step || ++kept <= keep || l.steps[i] == best)
            continue;
        char name[CHECKPOINT_NAME_SIZE];
        checkpoint_name(name, l.steps[i]);
        char *path = path_join(r->folder, name),
             *gone = xasprintf("%s" SUFFIX_GONE "%ld", path, (long)getpid());
        if (remove_folder(gone, &e) != 0) /* left by a process with the same number */
            status = -1;
        else if (rename(path, gone) != 0)
            status = error_errno(&e, "cannot rename '%s'", path);
        else
            status = remove_folder(gone, &e);
        free(gone);
        free(path);
    }
    if (status != 0)
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
    int status = checkpoint_check_space(r->folder, checkpoint_bytes(p), e);
    if (status == 0)
        status = write_aside(new, p, s, e);
    if (status == 0 && put_in_place(new, path, e) != 0) {
        remove_folder(new, NULL);
        status = -1;
    }
    if (status == 0 &&
        (sync_folder(r->folder, e) != 0 || run_move_link(r->folder, LATEST, name, e) != 0 ||
         sync_folder(r->folder, e) != 0))
        status = -1;
    if (status != 0)
        error_prefix(e, "cannot write the checkpoint '%s'", path);
    else
        run_prune(r, s->step, keep);
    free(new);
    free(path);
    return status;
}

static bool is_checkpoint(const char *folder)
{
    char *state = path_join(folder, STATE_FILE);
    bool is = file_exists(state);
    free(state);
    return is;
}

/* The target of a symbolic link, relative to the working directory; a copy of any other path, but
 * "." and ".." become absolute so that they end with a name. */
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
    char *folder = folder_of(path), *followed = path_join(folder, target);
    free(folder);
    return followed;
}

/* malloc'ed; NULL if the run has none. */
static char *last_checkpoint(const char *run, struct error *e)
{
    char *latest = path_join(run, LATEST), *found = follow(latest);
    free(latest);
    if (is_checkpoint(found))
        return found;
    free(found);
    struct step_list l;
    found = NULL;
    if (checkpoint_list(&l, run, e) == 0 && l.count == 0) {
        error_set(e, "'%s' is neither a checkpoint nor a run with a checkpoint", run);
    } else if (l.count > 0) {
        char name[CHECKPOINT_NAME_SIZE];
        checkpoint_name(name, l.steps[0]);
        found = path_join(run, name);
    }
    free(l.steps);
    return found;
}

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

int checkpoint_find(const char *path, char **checkpoint, char **run, struct error *e)
{
    if (is_file(path))
        return error_set(e, "it is a file, not the folder of a run or checkpoint; --init-from "
                            "starts a new run from a file's weights");
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
    int status = file_read(&text, &size, path, STATE_LIMIT, e);
    if (status == 0)
        status = training_state_parse(s, (const char *)text, e);
    if (status != 0)
        error_prefix(e, "'%s'", path);
    free(text);
    free(path);
    return status;
}
