#include "common/fit/compare.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/base/message.h"

#define COMPARED_MAX 8
#define PART         ((int64_t)1 << 20) /* floats hashed at a time */

struct shown {
    char host[64];
    char values[COMPARED_MAX][COMPARED_VALUE];
};

static int refuse(struct error *e, int rank, const char *host, const char *what, const char *value,
                  const char *right)
{
    return error_set(e, "rank %d%s%s%s has other %s: %s instead of %s", rank, *host ? " (" : "",
                     host, *host ? ")" : "", what, value, right);
}

int compare_ranks(struct collective *c, const char *host, const struct compared *items, int count,
                  struct error *e)
{
    struct shown own = {0}, *all = xcalloc((size_t)c->size, sizeof *all);
    CHECK(count <= COMPARED_MAX);
    snprintf(own.host, sizeof own.host, "%s", host);
    for (int i = 0; i < count; i++)
        memcpy(own.values[i], items[i].value, sizeof own.values[i]);
    collective_gather(c, &own, all, sizeof own);
    int status = 0;
    for (int i = 0; i < count * c->size && status == 0; i++) {
        int r = i / count, item = i % count;
        const char *value = all[r].values[item], *right = all[0].values[item];
        if (strcmp(value, right) != 0)
            status = refuse(e, r, all[r].host, items[item].what, value, right);
    }
    free(all);
    return status;
}

/* Ends *line, and returns the next one. */
static char *split_line(char *line)
{
    char *end = strchrnul(line, '\n'), *next = *end ? end + 1 : end;
    *end = '\0';
    return next;
}

static int compare_texts(const char *texts, size_t width, int rank, const char *host,
                         const char *what, struct error *e)
{
    char *a = xstrdup(texts + (size_t)rank * width), *b = xstrdup(texts);
    int status = 0;
    for (char *x = a, *y = b; (*x || *y) && status == 0;) {
        char *next_x = split_line(x), *next_y = split_line(y);
        if (strcmp(x, y) != 0)
            status = refuse(e, rank, host, what, *x ? x : "none", *y ? y : "none");
        x = next_x;
        y = next_y;
    }
    free(a);
    free(b);
    return status;
}

int compare_lines(struct collective *c, const char *host, const char *what, const char *text,
                  struct error *e)
{
    size_t ranks = (size_t)c->size, width = 0, own_length = strlen(text);
    size_t *lengths = xcalloc(ranks, sizeof *lengths);
    collective_gather(c, &own_length, lengths, sizeof own_length);
    for (size_t r = 0; r < ranks; r++)
        width = lengths[r] >= width ? lengths[r] + 1 : width;
    char *own = xcalloc(1, width), *texts = xcalloc(ranks, width), *hosts = xcalloc(ranks, 64);
    char own_host[64] = "";
    memcpy(own, text, own_length);
    snprintf(own_host, sizeof own_host, "%s", host);
    collective_gather(c, own, texts, width);
    collective_gather(c, own_host, hosts, sizeof own_host);
    int status = 0;
    for (int r = 1; r < c->size && status == 0; r++)
        status = compare_texts(texts, width, r, hosts + r * 64, what, e);
    free(lengths);
    free(own);
    free(texts);
    free(hosts);
    return status;
}

/* A line for each option of the program, set or not. Files and folders may have other names on
 * another host: what is in them counts. */
static char *options_text(const struct program *p, const struct training_state *s)
{
    char *text = xstrdup("");
    for (const struct option *o = p->options; o->name; o++) {
        const char *value = training_state_option(s, o->name);
        bool is_path =
            o->argument && (strcmp(o->argument, "FILE") == 0 || strcmp(o->argument, "DIR") == 0);
        if (is_path)
            continue;
        if (value)
            xappend(&text, "--%s %s\n", o->name, value);
        else
            xappend(&text, "no --%s\n", o->name);
    }
    return text;
}

static void hash_weights(XXH3_state_t *state, const struct parameters *p)
{
    float *scratch = p->device->host_memory ? NULL : xmalloc((size_t)PART * sizeof *scratch);
    for (int64_t at = 0; at < p->elements; at += PART) {
        int64_t n = p->elements - at < PART ? p->elements - at : PART;
        XXH3_128bits_update(state, parameters_read(p, ARRAY_WEIGHTS, at, n, scratch),
                            (size_t)n * sizeof *scratch);
    }
    free(scratch);
    for (int i = 0; i < p->scalar_count; i++)
        XXH3_128bits_update(state, &p->scalars[i].value, sizeof p->scalars[i].value);
    if (p->companion)
        hash_weights(state, p->companion);
}

static void print_weights_hash(char *text, const struct parameters *p)
{
    XXH3_state_t *state = xallocated(XXH3_createState());
    XXH3_128bits_reset(state);
    hash_weights(state, p);
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    snprintf(text, COMPARED_VALUE, "hash %016" PRIx64 "%016" PRIx64, hash.high64, hash.low64);
}

int compare_training(const struct fit_loop *f, const struct program *p, const char *host,
                     struct error *e)
{
    struct device *d = f->parameters->device;
    struct compared items[] = {{"programs", "version " CCLD_VERSION},
                               {"data", ""},
                               {"weights", ""},
                               {"precision", ""},
                               {d->host_memory ? "instruction sets" : "GPUs", ""}};
    if (f->collective->size == 1)
        return 0;
    snprintf(items[1].value, COMPARED_VALUE, "hash %s", f->state->dataset_hash);
    print_weights_hash(items[2].value, f->parameters);
    snprintf(items[3].value, COMPARED_VALUE, "%s%s", device_precision(d),
             d->tf32 ? " with TF32" : "");
    snprintf(items[4].value, COMPARED_VALUE, "%s", device_model(d));
    char *options = options_text(p, f->state);
    int status = compare_ranks(f->collective, host, items, 1, e);
    if (status == 0)
        status = compare_lines(f->collective, host, "options", options, e);
    if (status == 0)
        status = compare_ranks(f->collective, host, items + 1, 4, e);
    free(options);
    return status;
}
