#include "common/run/best.h"

#include <cjson/cJSON.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/run/checkpoint_internal.h"

#define SCORE_FILE  "score.json"
#define SCORE_LIMIT 65536 /* bytes: a larger file is refused */

static char *score_path(const char *folder, int64_t step)
{
    char name[CHECKPOINT_NAME_SIZE];
    checkpoint_name(name, step);
    return xasprintf("%s/%s/" SCORE_FILE, folder, name);
}

bool run_has_score(const struct run *r, int64_t step)
{
    char *path = score_path(run_folder(r), step);
    bool has = file_exists(path);
    free(path);
    return has;
}

int run_keep_score(struct run *r, int64_t step, const struct metric *scores, int count,
                   struct error *e)
{
    cJSON *object = xallocated(cJSON_CreateObject());
    for (int i = 0; i < count; i++)
        if (isfinite(scores[i].value))
            cJSON_AddNumberToObject(object, scores[i].name, scores[i].value);
        else
            cJSON_AddNullToObject(object, scores[i].name);
    char *text = xallocated(cJSON_PrintUnformatted(object));
    char *line = xasprintf("%s\n", text), *path = score_path(run_folder(r), step);
    int status = file_write(path, line, strlen(line), e);
    if (status != 0)
        error_prefix(e, "cannot write '%s'", path);
    free(path);
    free(line);
    cJSON_free(text);
    cJSON_Delete(object);
    return status;
}

/* NaN: the checkpoint has no score, or one that cannot be read. */
static double read_score(const char *folder, int64_t step)
{
    char *path = score_path(folder, step);
    uint8_t *text = NULL;
    size_t size;
    double value = NAN;
    if (file_exists(path) && file_read(&text, &size, path, SCORE_LIMIT, NULL) == 0) {
        cJSON *object = cJSON_Parse((const char *)text);
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, BEST_BY);
        if (cJSON_IsNumber(item))
            value = item->valuedouble;
        cJSON_Delete(object);
    }
    free(text);
    free(path);
    return value;
}

int64_t run_best(const char *folder)
{
    char target[PATH_MAX], *link = path_join(folder, BEST);
    ssize_t n = readlink(link, target, sizeof target - 1);
    free(link);
    if (n < 0)
        return -1;
    target[n] = 0;
    return checkpoint_step_of(target);
}

int run_choose_best(struct run *r, int64_t step, int64_t keep, int64_t *best, struct error *e)
{
    const char *folder = run_folder(r);
    struct step_list l;
    double lowest = INFINITY;
    int status = checkpoint_list(&l, folder, e);
    *best = -1;
    for (int i = l.count - 1; i >= 0 && status == 0; i--) {
        double score = l.steps[i] <= step ? read_score(folder, l.steps[i]) : NAN;
        if (score < lowest) {
            lowest = score;
            *best = l.steps[i];
        }
    }
    free(l.steps);
    if (status == 0 && *best >= 0 && *best != run_best(folder)) {
        char name[CHECKPOINT_NAME_SIZE];
        checkpoint_name(name, *best);
        status = run_move_link(folder, BEST, name, e);
    }
    if (status == 0)
        run_prune(r, step, keep);
    return status;
}
