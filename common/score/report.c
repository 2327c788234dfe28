#include "common/score/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/escape.h"
#include "common/base/message.h"
#include "formats/text/json.h"

#define PAIRS_SHOWN 10

/* A number, or null if it is not finite. */
static void add_number(cJSON *object, const char *key, int digits, double value)
{
    char text[40];
    snprintf(text, sizeof text, "%.*f", digits, value);
    cJSON_AddRawToObject(object, key, isfinite(value) ? text : "null");
}

static void add_text(cJSON *object, const char *key, const char *text)
{
    if (text)
        cJSON_AddItemToObject(object, key, json_string(text));
    else
        cJSON_AddNullToObject(object, key);
}

static void print_object(cJSON *object)
{
    char *text = xallocated(cJSON_PrintUnformatted(object));
    puts(text);
    cJSON_free(text);
    cJSON_Delete(object);
}

static bool is_number(const char *text)
{
    return text && *text && strspn(text, "0123456789") == strlen(text) && strlen(text) < 21;
}

static void print_json(const struct report_row *r)
{
    cJSON *object = xallocated(cJSON_CreateObject());
    add_number(object, "number", 0, (double)r->number);
    add_text(object, "path", r->path);
    if (is_number(r->seed))
        cJSON_AddRawToObject(object, "seed", r->seed);
    else
        add_text(object, "seed", r->seed);
    add_number(object, "cosine", 6, r->cosine);
    add_number(object, "margin", 6, r->margin);
    add_text(object, "prompt", r->prompt);
    print_object(object);
}

void report_header(bool json)
{
    if (!json)
        printf("number\tpath\tseed\tcosine\tmargin\tprompt\n");
}

void report_row(const struct report_row *r, bool json)
{
    char margin[40] = "-";
    if (json) {
        print_json(r);
        return;
    }
    if (isfinite(r->margin))
        snprintf(margin, sizeof margin, "%.6f", r->margin);
    printf("%" PRId64 "\t", r->number);
    escape_print(stdout, r->path ? r->path : "-");
    putchar('\t');
    escape_print(stdout, r->seed ? r->seed : "-");
    printf("\t%.6f\t%s\t", r->cosine, margin);
    escape_print(stdout, r->prompt);
    putchar('\n');
}

static void print_path(const char *path, enum report_form form)
{
    if (form == REPORT_NULL)
        fputs(path, stdout);
    else
        escape_print(stdout, path);
}

static void hit_json(const struct report_hit *h)
{
    cJSON *object = xallocated(cJSON_CreateObject());
    if (h->store)
        add_text(object, "store", h->store);
    if (h->group)
        add_number(object, "group", 0, (double)h->group);
    add_number(object, h->group ? "distance" : "score", 6, h->value);
    if (h->mirrored)
        cJSON_AddTrueToObject(object, "mirrored");
    add_number(object, "index", 0, (double)h->index);
    add_text(object, "path", h->path);
    print_object(object);
}

void report_hit(const struct report_hit *h, enum report_form form)
{
    if (form == REPORT_JSON) {
        hit_json(h);
        return;
    }
    if (h->store) {
        print_path(h->store, form);
        putchar('\t');
    }
    if (h->group)
        printf("%" PRId64 "\t", h->group);
    printf("%.6f\t", h->value);
    print_path(h->path, form);
    putchar(form == REPORT_NULL ? '\0' : '\n');
}

void report_removable(int64_t index, const char *path, enum report_form form)
{
    printf("%" PRId64 "\t", index);
    print_path(path, form);
    putchar(form == REPORT_NULL ? '\0' : '\n');
}

void report_distances(const struct distances *d, bool json)
{
    const struct {
        const char *key;
        int digits;
        double value;
    } columns[] = {
        {"samples", 0, (double)d->samples},
        {"reference", 0, (double)d->reference},
        {"frechet", 8, d->frechet.distance},
        {"frechet_infinite", 8, d->frechet.infinite},
        {"kernel", 8, d->kernel.mean},
        {"kernel_deviation", 8, d->kernel.deviation},
        {"precision", 6, d->neighbours.precision},
        {"recall", 6, d->neighbours.recall},
        {"density", 6, d->neighbours.density},
        {"coverage", 6, d->neighbours.coverage},
        {"memorised", 6, d->neighbours.memorised},
    };
    enum { COUNT = sizeof columns / sizeof *columns };
    cJSON *object = json ? xallocated(cJSON_CreateObject()) : NULL;
    for (int i = 0; i < COUNT; i++)
        if (json)
            add_number(object, columns[i].key, columns[i].digits, columns[i].value);
        else
            printf("%s%s", columns[i].key, i + 1 < COUNT ? "\t" : "\n");
    if (json) {
        print_object(object);
        return;
    }
    for (int i = 0; i < COUNT; i++)
        printf("%.*f%s", columns[i].digits, columns[i].value, i + 1 < COUNT ? "\t" : "\n");
}

struct closest {
    double distance2;
    int64_t sample;
};

static int nearer_first(const void *a, const void *b)
{
    const struct closest *x = a, *y = b;
    if (x->distance2 != y->distance2)
        return x->distance2 > y->distance2 ? 1 : -1;
    return (x->sample > y->sample) - (x->sample < y->sample);
}

void report_closest(const struct distances *d, const struct embeddings *samples,
                    const struct embeddings *reference)
{
    struct closest *all = xmalloc((size_t)d->samples * sizeof *all);
    for (int64_t i = 0; i < d->samples; i++)
        all[i] = (struct closest){d->neighbours.distance2[i], i};
    qsort(all, (size_t)d->samples, sizeof *all, nearer_first);
    for (int64_t i = 0; i < d->samples && i < PAIRS_SHOWN; i++) {
        int64_t sample = all[i].sample;
        note("distance %.6f: '%s' and '%s'", sqrt(all[i].distance2), samples->paths[sample],
             reference->paths[d->neighbours.nearest[sample]]);
    }
    free(all);
}
