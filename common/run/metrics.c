#include "common/run/metrics.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/text/json.h"
#include "formats/tfevents.h"

#define FILE_NAME "metrics.jsonl"

struct metrics {
    char *path;
    int fd;
    off_t size; /* of the complete lines */
    struct tfevents *events;
};

/* Whether a line stays: it is one of metrics, of a step that is not repeated. */
static bool keeps(const char *line, size_t size, int64_t resumed_step)
{
    cJSON *root = cJSON_ParseWithLength(line, size);
    const cJSON *step = cJSON_GetObjectItemCaseSensitive(root, "step");
    bool keep = cJSON_IsNumber(step) && step->valuedouble <= (double)resumed_step;
    cJSON_Delete(root);
    return keep;
}

/* Rewrites the file without the lines that go, if there are any. */
static int drop_lines(const char *path, int64_t resumed_step, struct error *e)
{
    struct mapped_file old;
    if (file_map(&old, path, e) != 0)
        return -1;
    const char *data = (const char *)old.data;
    char *kept = xmalloc(old.size + 1);
    size_t size = 0;
    for (size_t at = 0, end; at < old.size; at = end) {
        const char *newline = memchr(data + at, '\n', old.size - at);
        end = newline ? (size_t)(newline - data) + 1 : old.size;
        if (newline && keeps(data + at, end - 1 - at, resumed_step)) {
            memcpy(kept + size, data + at, end - at);
            size += end - at;
        }
    }
    int status = size < old.size ? file_write(path, kept, size, e) : 0;
    free(kept);
    file_unmap(&old);
    return status;
}

static int open_file(struct metrics *m, int64_t resumed_step, struct error *e)
{
    if (file_exists(m->path) && drop_lines(m->path, resumed_step, e) != 0)
        return error_prefix(e, "cannot rewrite '%s'", m->path);
    m->fd = open(m->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    struct stat st;
    if (m->fd < 0 || fstat(m->fd, &st) != 0)
        return error_errno(e, "cannot open '%s'", m->path);
    m->size = st.st_size;
    return 0;
}

int metrics_open(struct metrics **out, const char *run, int64_t resumed_step, struct error *e)
{
    struct metrics *m = xcalloc(1, sizeof *m);
    m->fd = -1;
    m->path = path_join(run, FILE_NAME);
    if (open_file(m, resumed_step, e) != 0 ||
        tfevents_open(&m->events, run, resumed_step + 1, e) != 0) {
        metrics_close(m);
        return -1;
    }
    *out = m;
    return 0;
}

void metrics_close(struct metrics *m)
{
    if (!m)
        return;
    tfevents_close(m->events);
    if (m->fd >= 0)
        close(m->fd);
    free(m->path);
    free(m);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static cJSON *begin_line(int64_t step, double time)
{
    cJSON *line = cJSON_CreateObject();
    CHECK(line);
    cJSON_AddNumberToObject(line, "step", (double)step);
    cJSON_AddNumberToObject(line, "time", floor(time * 1000) / 1000);
    return line;
}

/* Frees the line. */
static int write_line(struct metrics *m, cJSON *line, struct error *e)
{
    char *text = cJSON_PrintUnformatted(line);
    CHECK(text);
    size_t size = strlen(text);
    text[size] = '\n'; /* replaces the final zero: one write for all of it */
    ssize_t written;
    do
        written = write(m->fd, text, size + 1);
    while (written < 0 && errno == EINTR);
    free(text);
    cJSON_Delete(line);
    if (written == (ssize_t)size + 1) {
        m->size += written;
        return 0;
    }
    error_set(e, "cannot write '%s': %s", m->path,
              written < 0 ? strerror(errno) : "no space left for a whole line");
    if (written > 0 && ftruncate(m->fd, m->size) != 0)
        error_prefix(e, "an incomplete line is left");
    return -1;
}

int metrics_scalars(struct metrics *m, int64_t step, const struct metric *metrics, int count,
                    struct error *e)
{
    double time = now();
    cJSON *line = begin_line(step, time);
    struct tfevents_scalar *scalars = xcalloc((size_t)count + 1, sizeof *scalars);
    for (int i = 0; i < count; i++) {
        cJSON_AddNumberToObject(line, metrics[i].name, metrics[i].value);
        scalars[i] = (struct tfevents_scalar){metrics[i].name, (float)metrics[i].value};
    }
    int status = write_line(m, line, e);
    if (status == 0)
        status = tfevents_scalars(m->events, time, step, scalars, count, e);
    free(scalars);
    return status;
}

int metrics_text(struct metrics *m, int64_t step, const char *tag, const char *text,
                 struct error *e)
{
    double time = now();
    cJSON *line = begin_line(step, time);
    cJSON_AddItemToObject(line, "event", json_string(tag));
    cJSON_AddItemToObject(line, "text", json_string(text));
    if (write_line(m, line, e) != 0)
        return -1;
    return tfevents_text(m->events, time, step, tag, text, e);
}

int metrics_image(struct metrics *m, int64_t step, const char *tag, const char *path,
                  const void *png, size_t size, struct error *e)
{
    double time = now();
    cJSON *line = begin_line(step, time);
    cJSON_AddItemToObject(line, "event", json_string(tag));
    if (path)
        cJSON_AddItemToObject(line, "image", json_string(path));
    if (write_line(m, line, e) != 0)
        return -1;
    return tfevents_image(m->events, time, step, tag, png, size, e);
}

int metrics_paths(struct metrics *m, int64_t step, const char *tag, const char *text,
                  const char *const *paths, int count, struct error *e)
{
    cJSON *line = begin_line(step, now()), *list;
    cJSON_AddItemToObject(line, "event", json_string(tag));
    cJSON_AddItemToObject(line, "text", json_string(text));
    list = cJSON_AddArrayToObject(line, "paths");
    for (int i = 0; i < count; i++)
        cJSON_AddItemToArray(list, json_string(paths[i]));
    return write_line(m, line, e);
}
