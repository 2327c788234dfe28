#include "common/encode/rejects.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/images/image.h"

struct rejects {
    int fd;   /* of the file */
    int kept; /* file in memory with what will replace it; -1: paths go into the file itself */
    FILE *stream;
};

static bool is_list(const uint8_t *data, size_t size)
{
    size_t length = 0;
    if (image_is_known(data, size))
        return false;
    for (size_t i = 0; i < size; i++) {
        if (data[i] == '\0' && (i == 0 || data[i - 1] == '\0'))
            return false;
        length = data[i] == '\n' || data[i] == '\0' ? 0 : length + 1;
        if (length > PATH_MAX)
            return false;
    }
    return true;
}

static int check_content(const char *path, struct error *e)
{
    uint8_t start[16384];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, start, sizeof start);
    if (n < 0)
        error_set(e, "%s", strerror(errno));
    if (fd >= 0)
        close(fd);
    if (n >= 0 && !is_list(start, (size_t)n))
        return error_set(e, "the file exists and is not a list of paths");
    return n < 0 ? -1 : 0;
}

static int check_inputs(const char *path, int count, char *const *inputs, struct error *e)
{
    if (!inputs && files_are_same(path, STANDARD_INPUT))
        return error_set(e, "it is the list of paths to encode");
    for (int i = 0; inputs && i < count; i++)
        if (files_are_same(path, inputs[i]))
            return error_set(e, "it is one of the files to encode");
    return 0;
}

/* Whether the file has something to lose. One that receives standard output or error as well is
 * not written over, but appended to. */
static bool must_keep(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
           !files_are_same(path, STANDARD_OUTPUT) && !files_are_same(path, STANDARD_ERROR);
}

static int open_files(struct rejects *r, const char *path, struct error *e)
{
    if (strcmp(path, "-") == 0) { /* not opened again: it has a position that others share */
        r->fd = dup(STDOUT_FILENO);
        return r->fd < 0 ? error_set(e, "%s", strerror(errno)) : 0;
    }
    bool keep = must_keep(path);
    if (keep && check_content(path, e) != 0)
        return -1;
    r->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (keep ? 0 : O_APPEND), 0666);
    if (r->fd >= 0 && keep)
        r->kept = memfd_create("rejects", MFD_CLOEXEC);
    if (r->fd < 0 || (keep && r->kept < 0))
        return error_set(e, "%s", strerror(errno));
    return 0;
}

int rejects_open(struct rejects **out, const char *path, int input_count, char *const *inputs,
                 struct error *e)
{
    struct rejects *r = xcalloc(1, sizeof *r);
    *r = (struct rejects){.fd = -1, .kept = -1};
    *out = NULL;
    if (check_inputs(path, input_count, inputs, e) == 0 && open_files(r, path, e) == 0) {
        int fd = dup(r->kept >= 0 ? r->kept : r->fd);
        r->stream = fd < 0 ? NULL : fdopen(fd, "a");
        if (r->stream) {
            setvbuf(r->stream, NULL, _IOFBF, 1 << 17); /* a path is one write */
            *out = r;
            return 0;
        }
        error_set(e, "%s", strerror(errno));
    }
    rejects_close(r);
    return -1;
}

FILE *rejects_stream(const struct rejects *r)
{
    return r ? r->stream : NULL;
}

static int replace(const struct rejects *r, struct error *e)
{
    char part[65536];
    ssize_t n;
    if (ftruncate(r->fd, 0) != 0)
        return error_set(e, "%s", strerror(errno));
    for (off_t at = 0; (n = pread(r->kept, part, sizeof part, at)) > 0; at += n)
        if (write_all(r->fd, part, (size_t)n, e) != 0)
            return -1;
    return n < 0 ? error_set(e, "%s", strerror(errno)) : 0;
}

int rejects_finish(struct rejects *r, bool complete, struct error *e)
{
    int status = 0;
    if (r->kept >= 0 && complete)
        status = replace(r, e);
    if (close(r->fd) != 0 && status == 0)
        status = error_set(e, "%s", strerror(errno));
    r->fd = -1;
    return status;
}

void rejects_close(struct rejects *r)
{
    if (!r)
        return;
    if (r->stream)
        fclose(r->stream);
    if (r->fd >= 0)
        close(r->fd);
    if (r->kept >= 0)
        close(r->kept);
    free(r);
}
