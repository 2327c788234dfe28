/* Finds records of shard stores: those whose CLOOB embeddings fit a prompt best, and copies. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/text.h"
#include "common/nets/model.h"
#include "common/program/device.h"
#include "common/program/output.h"
#include "common/score/duplicates.h"
#include "common/score/report.h"
#include "common/score/search.h"
#include "common/score/signature.h"
#include "common/score/targets.h"

static struct {
    struct model_paths model;
    struct string_list prompts, images;
    int64_t top;
    double above, duplicates;
    int by;
    bool no_mirrored, to_remove, null, json, no_cache;
} options = {.top = 20, .above = NAN, .duplicates = NAN};

enum { BY_IMAGES, BY_EMBEDDINGS };
static const char *const by_names[] = {"images", "embeddings", NULL};

static const struct option option_table[] = {
    MODEL_OPTION(options.model, "cloob.*"),
    MODEL_OPTION_CLOOB(options.model),
    {.name = "prompt",
     .kind = OPTION_LIST,
     .value = &options.prompts,
     .argument = "TEXT[:WEIGHT]",
     .help = "prompt, also one that is the name of a folder; may be repeated"},
    {.name = "image",
     .kind = OPTION_LIST,
     .value = &options.images,
     .argument = "FILE[:WEIGHT]",
     .help = "image prompt, combined with the other prompts; may be repeated"},
    {.name = "top",
     .letter = 'k',
     .kind = OPTION_INT,
     .value = &options.top,
     .argument = "K",
     .help = "list the K records that fit best; with --above, only if given",
     .min = 1,
     .max = 1e9},
    {.name = "above",
     .kind = OPTION_FLOAT,
     .value = &options.above,
     .argument = "X",
     .help = "list records with a score of at least X",
     .min = -1,
     .max = 1},
    {.name = "duplicates",
     .kind = OPTION_FLOAT,
     .value = &options.duplicates,
     .argument = "T",
     .help = "list groups of records whose images differ by at most T levels of 255",
     .max = 255},
    {.name = "by",
     .kind = OPTION_CHOICE,
     .value = &options.by,
     .argument = "WHAT",
     .help = "compare duplicates by images, or by embeddings within a cosine distance of T",
     .choices = by_names},
    {.name = "no-mirrored",
     .kind = OPTION_FLAG,
     .value = &options.no_mirrored,
     .help = "do not take mirrored copies for duplicates"},
    {.name = "to-remove",
     .kind = OPTION_FLAG,
     .value = &options.to_remove,
     .help = "print what ccld-shards remove reads; of duplicates, all but the first"},
    {.name = "null",
     .letter = '0',
     .kind = OPTION_FLAG,
     .value = &options.null,
     .help = "end records with NUL and print paths as they are"},
    {.name = "json",
     .kind = OPTION_FLAG,
     .value = &options.json,
     .help = "print a JSON object per record"},
    {.name = "no-cache",
     .kind = OPTION_FLAG,
     .value = &options.no_cache,
     .help = "neither use nor make caches in the store's folder"},
    {0},
};

static const struct program program = {
    .name = "ccld-find",
    .summary = "Lists the records of shard stores that fit a prompt best: score and path.\n"
               "Operands that name folders are stores, the others prompts, TEXT[:WEIGHT] or\n"
               "@FILE[:WEIGHT] for an image. All prompts are combined into one.\n"
               "With --duplicates, lists copies: re-encoded, resized or mirrored images.",
    .usage = "[OPTION]... STORE... PROMPT...\n"
             "[OPTION]... --duplicates T STORE...",
    .options = option_table,
};

static bool lists_duplicates(void)
{
    return !isnan(options.duplicates);
}

/* The operands: stores, and prompts added to those of the options. */
static struct string_list take_operands(int n, char **operands)
{
    struct string_list stores = {.items = xcalloc((size_t)n + 1, sizeof *stores.items)};
    struct string_list *p = &options.prompts;
    for (int i = 0; i < n; i++) {
        /* The first one is a store: a wrong name must not become a prompt. */
        if (i == 0 || has_suffix(operands[i], "/") || folder_exists(operands[i])) {
            stores.items[stores.count++] = operands[i];
            continue;
        }
        p->items = xrealloc(p->items, (size_t)(p->count + 1) * sizeof *p->items);
        p->items[p->count++] = operands[i];
    }
    return stores;
}

/* Which operand may have been meant as the prompt. */
static _Noreturn void refuse_without_prompt(const struct string_list *stores)
{
    const char *first = stores->items[0], *last = stores->items[stores->count - 1];
    if (!has_suffix(first, "/") && !folder_exists(first))
        die_usage("no prompt: '%s' is not a store, and stores come first", first);
    if (stores->count > 1)
        die_usage("no prompt: '%s' is a folder, hence a store; pass a prompt after the stores, or "
                  "with --prompt or --image",
                  last);
    die_usage("no prompt: pass one after the stores, or with --prompt or --image");
}

static void check_options(const struct string_list *stores)
{
    if (stores->count == 0)
        die_usage("no store given");
    if (options.to_remove && options.json)
        die_usage("--to-remove prints what ccld-shards remove reads, which is not JSON");
    if (options.null && options.json)
        die_usage("--null and --json cannot be combined");
    bool prompts = options.prompts.count + options.images.count > 0;
    if (lists_duplicates() && prompts)
        die_usage("--duplicates compares records with each other: prompts have no effect");
    if (!lists_duplicates() && (option_given("by") || options.no_mirrored))
        die_usage("--by and --no-mirrored have no effect without --duplicates");
    if (options.by == BY_EMBEDDINGS && options.no_mirrored)
        die_usage("--no-mirrored has no effect on --by embeddings");
    if (options.by == BY_EMBEDDINGS && options.duplicates > 2)
        die_usage("a cosine distance is at most 2, not %g", options.duplicates);
    if (lists_duplicates() && (option_given("top") || option_given("above")))
        die_usage("--duplicates lists all: --top and --above have no effect");
    if (!lists_duplicates() && !prompts)
        refuse_without_prompt(stores);
}

static void open_stores(struct embed_stores *s, const struct string_list *names)
{
    bool images = lists_duplicates() && options.by == BY_IMAGES;
    struct error e;
    if (embed_stores_open(s, images ? EMBED_CACHE_THUMBNAILS : EMBED_CACHE_EMBEDDINGS, names->items,
                          names->count, &e) != 0)
        die("%s", e.text);
    s->use_cache = !options.no_cache;
}

/* The direction [width] that the prompts have in CLOOB's space; malloc'ed. */
static float *embed_prompts(const struct embed_stores *stores)
{
    const struct image_remarks none = {0};
    struct targets targets = {.prompts = options.prompts, .images = options.images};
    struct device *device = program_open_device();
    struct model *model;
    struct tape tape;
    struct error e;
    tape_init(&tape, device);
    if (model_find(&model, &options.model, MODEL_CLOOB, &e) != 0)
        die("%s", e.text);
    if (embed_stores_check(stores, &model->cloob_part, &e) != 0)
        die("%s", e.text);
    if (model_load(model, device, &e) != 0)
        die("%s", e.text);
    if (targets_find(&targets, &none, &tape, model->cloob, model->cloob_part.path, &e) < 0)
        die("cannot search for the prompt: %s", e.text);
    if (targets.directions.width != stores->width)
        die("cannot search store '%s': its embeddings have %" PRId64 " numbers, not %" PRId64,
            stores->folders.items[0], stores->width, targets.directions.width);
    size_t bytes = (size_t)stores->width * sizeof(float);
    float *direction = memcpy(xmalloc(bytes), targets.directions.values, bytes);
    targets_release(&targets);
    model_close(model);
    tape_release(&tape);
    device_close(device);
    return direction;
}

static enum report_form form(void)
{
    return options.json ? REPORT_JSON : options.null ? REPORT_NULL : REPORT_TABLE;
}

/* h: what is known besides the record. */
static void print_record(struct embed_stores *s, int64_t record, struct report_hit h)
{
    struct error e;
    char *path;
    if (embed_stores_path(s, record, &path, &e) != 0)
        die("%s", e.text);
    h.path = path;
    h.store = embed_stores_locate(s, record, &h.index);
    if (s->folders.count == 1)
        h.store = NULL;
    if (options.to_remove)
        report_removable(record, path, form());
    else
        report_hit(&h, form());
    free(path);
}

static void search(struct embed_stores *s)
{
    bool all = !isnan(options.above) && !option_given("top");
    struct hits hits = {.most = all ? INT64_MAX : options.top};
    float *direction = embed_prompts(s);
    search_stores(&hits, s, direction, isnan(options.above) ? -INFINITY : options.above);
    for (int64_t i = 0; i < hits.count; i++)
        print_record(s, hits.items[i].at, (struct report_hit){.value = hits.items[i].score});
    output_finish();
    inform("%" PRId64 " of %" PRId64 " record%s", hits.count, s->count, plural(s->count));
    hits_release(&hits);
    free(direction);
}

/* The first record of a group before its duplicates, unless they are to be removed. */
static void print_groups(struct embed_stores *s, const struct duplicates *d)
{
    int64_t group = 0;
    bool by_images = options.by == BY_IMAGES;
    for (int64_t i = 0; i < d->count; i++) {
        const struct duplicate *x = &d->items[i];
        bool begins = i == 0 || x->first != x[-1].first;
        group += begins;
        if (begins && !options.to_remove)
            print_record(s, x->first, (struct report_hit){.group = group});
        double distance = by_images ? signature_levels(x->distance) : x->distance;
        print_record(
            s, x->at,
            (struct report_hit){.group = group, .value = distance, .mirrored = x->mirrored});
    }
}

static void list_duplicates(struct embed_stores *s)
{
    struct device *device = program_open_device();
    struct duplicates d;
    struct tape tape;
    tape_init(&tape, device);
    if (options.by == BY_EMBEDDINGS) {
        duplicates_find(&d, s, &tape, options.duplicates, NULL);
    } else {
        int mirror[SIGNATURE_WIDTH];
        signature_mirror(mirror);
        duplicates_find(&d, s, &tape, signature_distance(options.duplicates),
                        options.no_mirrored ? NULL : mirror);
    }
    print_groups(s, &d);
    output_finish();
    inform("%" PRId64 " of %" PRId64 " record%s repeat %" PRId64 " other%s", d.count, s->count,
           plural(s->count), d.groups, plural(d.groups));
    duplicates_release(&d);
    tape_release(&tape);
    device_close(device);
}

int main(int argc, char **argv)
{
    int operands = options_parse(&program, argc, argv);
    struct string_list names = take_operands(operands, argv + 1);
    struct embed_stores stores;
    check_options(&names);
    open_stores(&stores, &names);
    if (lists_duplicates())
        list_duplicates(&stores);
    else
        search(&stores);
    bool damaged = stores.damaged > 0;
    embed_stores_close(&stores);
    free(names.items);
    return damaged;
}
