#include "common/images/grid_parameters.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/text.h"

/* A growing string. */
struct text {
    char *data;
    size_t size;
};

static void append(struct text *t, const char *s, size_t n)
{
    t->data = xrealloc(t->data, t->size + n + 1);
    memcpy(t->data + t->size, s, n);
    t->size += n;
    t->data[t->size] = 0;
}

static void append_string(struct text *t, const char *s)
{
    append(t, s, strlen(s));
}

/* Appends s as it is if that is unambiguous, else as a JSON string. */
static void append_value(struct text *t, const char *s)
{
    if (!strpbrk(s, ",:\n\r\"")) {
        append_string(t, s);
        return;
    }
    append(t, "\"", 1);
    for (; *s; s++) {
        char escape[8];
        if (*s == '"' || *s == '\\')
            append(t, "\\", 1);
        if ((unsigned char)*s < 0x20) {
            snprintf(escape, sizeof escape, "\\u%04x", *s);
            append_string(t, escape);
        } else {
            append(t, s, 1);
        }
    }
    append(t, "\"", 1);
}

/* The different values of a key, in order of appearance. A hash table with open addressing keeps
 * streams with a different prompt for every image fast. */
struct distinct {
    const char **items; /* in order; borrowed */
    int *table;         /* index + 1, or 0; a power of two of slots */
    int count;
    size_t slots;
};

static uint64_t string_hash(const char *s)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    return h;
}

static void distinct_values(struct distinct *d, const struct grid *g, const char *key)
{
    size_t slots = 16;
    while (slots < 2 * (size_t)g->count)
        slots *= 2;
    *d = (struct distinct){.items = xcalloc((size_t)g->count, sizeof *d->items),
                           .table = xcalloc(slots, sizeof *d->table),
                           .slots = slots};
    for (int i = 0; i < g->count; i++) {
        const char *value = image_remarks_find(&g->remarks[i], key);
        if (!value || !*value)
            continue;
        size_t at = string_hash(value) & (slots - 1);
        while (d->table[at] && strcmp(d->items[d->table[at] - 1], value) != 0)
            at = (at + 1) & (slots - 1);
        if (!d->table[at]) {
            d->items[d->count++] = value;
            d->table[at] = d->count;
        }
    }
}

static void distinct_release(struct distinct *d)
{
    free(d->items);
    free(d->table);
}

#define FIRST_FIELDS 4 /* before the size */
static const struct field {
    const char *name, *key;
    bool of_single; /* not of a grid of several images */
} fields[] = {{"Steps", "steps", false},
              {"Sampler", "method", false},
              {"CFG scale", "guidance", false},
              {"Seed", "seed", false},
              {"Model", "model", false},
              {"Schedule", "schedule", false},
              {"Eta", "eta", false},
              {"Guidance start", "guidance_start", false},
              {"Embed noise", "embed_noise", false},
              {"Init image", "init", false},
              {"Starting timestep", "starting_timestep", false},
              {"Prompts", "prompts", true},
              {"Index", "index", true}};

#define FIELDS (sizeof fields / sizeof *fields)

/* The sampler names that web UIs use: DPM++ 2M, or the name in capitals. */
static void append_sampler(struct text *t, const char *method)
{
    if (strcmp(method, "dpm2m") == 0) {
        append_string(t, "DPM++ 2M");
        return;
    }
    for (; *method; method++)
        append(t, (char[]){(char)toupper((unsigned char)*method)}, 1);
}

/* Appends "Name: value" for one key, preceded by ", " unless it is the first on the line. */
static void append_field(struct text *line, const struct grid *g, const char *name, const char *key)
{
    struct distinct d;
    distinct_values(&d, g, key);
    if (d.count > 0) {
        struct text value = {0};
        for (int i = 0; i < d.count; i++) {
            if (i > 0)
                append_string(&value, ", ");
            if (strcmp(key, "method") == 0)
                append_sampler(&value, d.items[i]);
            else
                append_string(&value, d.items[i]);
        }
        if (line->size > 0)
            append_string(line, ", ");
        append_string(line, name);
        append_string(line, ": ");
        append_value(line, value.data);
        free(value.data);
    }
    distinct_release(&d);
}

char *grid_parameters(const struct grid *g)
{
    if (g->count == 0)
        return NULL;
    struct text text = {0}, line = {0};
    struct distinct prompts;
    distinct_values(&prompts, g, "prompt");
    for (int i = 0; i < prompts.count; i++) {
        if (i > 0)
            append_string(&text, "\n");
        append_string(&text, prompts.items[i]);
    }
    distinct_release(&prompts);
    for (int i = 0; i < FIRST_FIELDS; i++)
        append_field(&line, g, fields[i].name, fields[i].key);
    if (line.size + text.size > 0) {
        char size[64];
        snprintf(size, sizeof size, "%sSize: %dx%d", line.size ? ", " : "", g->images[0].width,
                 g->images[0].height);
        append_string(&line, size);
    }
    for (size_t i = FIRST_FIELDS; i < FIELDS; i++)
        if (g->count == 1 || !fields[i].of_single)
            append_field(&line, g, fields[i].name, fields[i].key);
    if (line.size > 0) {
        if (text.size > 0)
            append_string(&text, "\n");
        append(&text, line.data, line.size);
    }
    free(line.data);
    return text.data;
}

/* Reads a JSON string from *at on, in place, and moves *at behind it; NULL if it is none. */
static char *take_quoted(char **at)
{
    char *begin = *at, *out = begin, *s = begin + 1;
    for (; *s && *s != '"'; s++) {
        if (*s != '\\') {
            *out++ = *s;
        } else if (s[1] == '"' || s[1] == '\\') {
            *out++ = *++s;
        } else if (strncmp(s, "\\u00", 4) == 0 && hex_digit(s[4]) >= 0 && hex_digit(s[5]) >= 0) {
            *out++ = (char)(hex_digit(s[4]) * 16 + hex_digit(s[5]));
            s += 5;
        } else {
            return NULL;
        }
    }
    if (!*s)
        return NULL;
    *at = s + 1;
    *out = 0;
    return begin;
}

/* The value from *at on, up to the next field, at which *at then is, or at the end. */
static char *take_value(char **at)
{
    char *value = *at;
    if (*value == '"')
        value = take_quoted(at);
    else
        *at += strcspn(*at, ",");
    if (!value || (**at && strncmp(*at, ", ", 2) != 0))
        return NULL;
    if (**at) {
        **at = 0;
        *at += 2;
    }
    return value;
}

/* From the web UIs' name of a sampler to ours, in place. */
static void restore_sampler(char *name)
{
    if (strcmp(name, "DPM++ 2M") == 0)
        strcpy(name, "dpm2m");
    for (; *name; name++)
        *name = (char)tolower((unsigned char)*name);
}

/* Splits a line into the values of fields; false if it has others than these. */
static bool split_fields(char *line, const char *values[])
{
    for (char *at = line; *at;) {
        char *colon = strstr(at, ": ");
        if (!colon)
            return false;
        *colon = 0;
        const char *name = at;
        at = colon + 2;
        char *value = take_value(&at);
        size_t i = 0;
        while (i < FIELDS && strcmp(fields[i].name, name) != 0)
            i++;
        if (!value || (i == FIELDS && strcmp(name, "Size") != 0))
            return false;
        if (i < FIELDS)
            values[i] = value;
        if (i < FIELDS && strcmp(fields[i].key, "method") == 0)
            restore_sampler(value);
    }
    return true;
}

/* In the order in which ccld-plms has them in a stream. */
static void set_remarks(struct image_remarks *r, const char *prompt, const char *const values[])
{
    static const char *const order[] = {
        "prompts",        "seed",        "index",    "steps", "method", "guidance",
        "guidance_start", "embed_noise", "schedule", "eta",   "init",   "starting_timestep",
        "model"};
    image_remarks_set(r, "prompt", prompt);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        for (size_t j = 0; j < FIELDS; j++)
            if (strcmp(fields[j].key, order[i]) == 0 && values[j])
                image_remarks_set(r, order[i], values[j]);
}

/* Only ccld-plms writes all of these. */
static bool has_all(const struct image_remarks *r)
{
    static const char *const keys[] = {"steps", "method",   "guidance", "seed",
                                       "model", "schedule", "index"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!image_remarks_find(r, keys[i]))
            return false;
    return true;
}

bool grid_parameters_read(struct image_remarks *remarks, const char *text,
                          const struct image *image)
{
    const char *values[FIELDS] = {NULL};
    char *copy = xstrdup(text), *line = strrchr(copy, '\n'), *again = NULL;
    struct image same_size = {.width = image->width, .height = image->height};
    struct grid one = {.images = &same_size, .remarks = remarks, .count = 1};
    *remarks = (struct image_remarks){0};
    if (line) {
        *line++ = 0;
        if (split_fields(line, values))
            set_remarks(remarks, copy, values);
    }
    /* Whatever another program wrote differs in some detail. */
    if (has_all(remarks))
        again = grid_parameters(&one);
    bool ours = again && strcmp(again, text) == 0;
    if (!ours)
        image_remarks_release(remarks);
    free(again);
    free(copy);
    return ours;
}
