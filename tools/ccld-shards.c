/* Inspects and joins shard stores. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/escape.h"
#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/nets/model.h"
#include "common/program/device.h"
#include "common/program/output.h"
#include "common/program/stop.h"
#include "common/stores/decode.h"
#include "common/stores/export.h"
#include "common/stores/listing.h"
#include "common/stores/removal.h"
#include "formats/shards/shard_store.h"

static struct {
    bool json, null;
    int64_t per_tar;
    struct model_paths model;
} options = {.per_tar = 10000};

static const struct option option_table[] = {
    {.name = "json",
     .kind = OPTION_FLAG,
     .value = &options.json,
     .help = "ls prints a JSON object per record"},
    {.name = "null",
     .letter = '0',
     .kind = OPTION_FLAG,
     .value = &options.null,
     .help = "ls ends records, and remove entries, with NUL; ls prints paths as they are"},
    MODEL_OPTION(options.model, "autoencoder.* for decode"),
    MODEL_OPTION_AUTOENCODER(options.model),
    {.name = "per-tar",
     .kind = OPTION_INT,
     .value = &options.per_tar,
     .argument = "N",
     .help = "records in each tar of export",
     .min = 1,
     .max = 1e9},
    {0},
};

static const struct program program = {
    .name = "ccld-shards",
    .summary = "Inspects shard stores: shows their statistics, verifies them, lists their records "
               "or extracts one.\n"
               "Joins several stores into one, which empties them; removes records that standard "
               "input lists, or those that are damaged; exports records to tars for Python; "
               "decodes them to images.",
    .usage = "[OPTION]... stat STORE...\n"
             "verify STORE...\n"
             "ls STORE...\n"
             "cat STORE... INDEX\n"
             "join OUT STORE...\n"
             "remove STORE... < LIST\n"
             "repair STORE...\n"
             "export OUT STORE...\n"
             "decode STORE INDEX...",
    .options = option_table,
};

/* The only store must open. One of several is reported and left out: returns NULL. */
static struct shard_store *open_store(const char *folder, int n)
{
    struct shard_store *s;
    struct error e;
    if (shard_store_open(&s, folder, &e) == 0)
        return s;
    if (n == 1)
        die("cannot read store '%s': %s", folder, e.text);
    warn("cannot read store '%s': %s", folder, e.text);
    return NULL;
}

static uint64_t store_bytes(const struct shard_store *s)
{
    uint64_t bytes = 0;
    for (int k = 0; k < shard_store_shards(s); k++)
        bytes += shard_store_shard(s, k).bytes;
    return bytes;
}

static void print_counts(int64_t records, int shards, uint64_t bytes, bool finished)
{
    char size[32];
    printf("records        %" PRId64 "\n", records);
    printf("shards         %d\n", shards);
    printf("bytes          %" PRIu64 " (%s)\n", bytes, format_bytes(size, (double)bytes));
    printf("finished       %s\n", finished ? "yes" : "no");
}

static void print_field(const char *name, const char *value)
{
    printf("%-15s", name);
    escape_print(stdout, value);
    putchar('\n');
}

static void print_network(const char *name, const struct shard_model *m)
{
    printf("%-15s", name);
    escape_print(stdout, m->hash);
    putchar(' ');
    escape_print(stdout, m->name);
    putchar('\n');
}

/* "2", or "1, 2" if shards differ. */
static void print_versions(const struct shard_store *s)
{
    int least = SHARD_VERSION, most = 1;
    for (int k = 0; k < shard_store_shards(s); k++) {
        int version = shard_store_shard(s, k).version;
        least = version < least ? version : least;
        most = version > most ? version : most;
    }
    printf("format         %d", least);
    if (most != least)
        printf(", %d", most);
    putchar('\n');
}

static void print_latent_statistics(const struct latent_statistics *statistics)
{
    printf("latent mean    %.6g\n", statistics->mean);
    printf("scale factor   %.6g\n", latent_statistics_scale(statistics));
}

static void print_store(const struct shard_store *s)
{
    const struct shard_info *i = shard_store_info(s);
    struct latent_statistics statistics = shard_store_statistics(s);
    char size[32];
    print_counts(shard_store_count(s), shard_store_shards(s), store_bytes(s),
                 shard_store_finished(s));
    print_versions(s);
    printf("latents        %dx%dx%d\n", i->latent_channels, i->latent_height, i->latent_width);
    printf("embeds         %d %s\n", i->embed_size, dtype_name(i->embed_dtype));
    printf("images         %dx%d\n", i->image_height, i->image_width);
    print_field("preprocessing", i->preprocessing);
    print_network("autoencoder", &i->autoencoder);
    print_network("cloob", &i->cloob);
    print_latent_statistics(&statistics);
    for (int k = 0; k < shard_store_shards(s); k++) {
        struct shard_summary x = shard_store_shard(s, k);
        printf("%s      %" PRId64 " records, %s\n", x.name, x.count,
               format_bytes(size, (double)x.bytes));
    }
}

struct total {
    int stores, shards;
    int64_t records;
    uint64_t bytes;
    bool unfinished, mixed;
    struct latent_statistics statistics;
    struct shard_info info; /* of the first store */
    const char *first;
};

static void add_to_total(struct total *t, const struct shard_store *s, const char *folder)
{
    struct latent_statistics statistics = shard_store_statistics(s);
    struct error e;
    if (!t->first) {
        t->first = folder;
        t->info = *shard_store_info(s);
    } else if (shard_info_check(shard_store_info(s), &t->info, &e) != 0) {
        warn("store '%s' does not match '%s': %s", folder, t->first, e.text);
        t->mixed = true;
    }
    t->stores++;
    t->shards += shard_store_shards(s);
    t->records += shard_store_count(s);
    t->bytes += store_bytes(s);
    t->unfinished |= !shard_store_finished(s);
    latent_statistics_merge(&t->statistics, &statistics);
}

/* Several stores make paragraphs, separated by an empty line. The last one is the total. */
static int do_stat(const struct shard_folders *stores, int count, char *const *operands)
{
    int n = stores->count;
    char *const *folders = stores->items;
    struct total total = {0};
    int status = 0;
    for (int i = 0; i < n; i++) {
        struct shard_store *s = open_store(folders[i], n);
        if (!s) {
            status = 1;
            continue;
        }
        if (n > 1)
            print_field("store", folders[i]);
        print_store(s);
        if (n > 1) {
            printf("\n");
            add_to_total(&total, s, folders[i]);
        }
        shard_store_close(s);
    }
    if (n > 1) {
        printf("total          %d\n", total.stores);
        print_counts(total.records, total.shards, total.bytes, !total.unfinished && status == 0);
        if (total.stores > 0 && !total.mixed)
            print_latent_statistics(&total.statistics);
    }
    output_finish();
    return status;
}

struct verification {
    const char *folder;
    struct progress *progress;
};

static void print_problem(void *arg, const char *text)
{
    const struct verification *v = arg;
    warn("store '%s': %s", v->folder, text);
}

static void print_progress(void *arg, int64_t done, int64_t total)
{
    struct verification *v = arg;
    if (!v->progress)
        v->progress = progress_start("verifying", "records", total);
    progress_update(v->progress, done, NULL);
}

static int64_t verify_one(const char *folder, int64_t *records)
{
    struct verification v = {.folder = folder};
    int64_t problems = shard_store_verify(folder, print_problem, print_progress, &v, records);
    progress_finish(v.progress);
    if (problems > 0) {
        warn("store '%s': %" PRId64 " problem%s in %" PRId64 " record%s", folder, problems,
             plural(problems), *records, plural(*records));
    } else {
        inform("store '%s': %" PRId64 " record%s, no problems", folder, *records, plural(*records));
    }
    return problems;
}

static int do_verify(const struct shard_folders *stores, int count, char *const *operands)
{
    int n = stores->count;
    int64_t problems = 0, records = 0;
    int damaged = 0;
    for (int i = 0; i < n; i++) {
        int64_t of_store;
        int64_t found = verify_one(stores->items[i], &of_store);
        records += of_store;
        problems += found;
        damaged += found > 0;
    }
    if (n > 1 && problems > 0) {
        warn("%d stores, %d of them damaged: %" PRId64 " problem%s in %" PRId64 " record%s", n,
             damaged, problems, plural(problems), records, plural(records));
    } else if (n > 1) {
        inform("%d stores: %" PRId64 " record%s, no problems", n, records, plural(records));
    }
    return problems > 0;
}

static int do_ls(const struct shard_folders *stores, int count, char *const *operands)
{
    int n = stores->count;
    char *const *folders = stores->items;
    struct listing_options o = {.store = n > 1, .json = options.json, .null = options.null};
    int status = 0;
    for (int i = 0; i < n && !ferror(stdout); i++) {
        struct shard_store *s = open_store(folders[i], n);
        if (!s || listing_print(s, folders[i], &o) != 0)
            status = 1;
        shard_store_close(s);
    }
    output_finish();
    return status;
}

static void write_record(struct shard_store *s, const char *folder, int64_t index)
{
    struct shard_record r;
    struct error e;
    shard_record_init(&r);
    if (shard_store_read(s, index, &r, &e) != 0)
        die("cannot read record %" PRId64 " of store '%s': %s", index, folder, e.text);
    if (write_all(STDOUT_FILENO, r.blob, r.blob_size, &e) != 0)
        output_failed(&e);
    shard_record_release(&r);
}

static int64_t parse_index(const char *text)
{
    char *end;
    int64_t index = strtoll(text, &end, 10);
    if (end == text || *end || index < 0)
        die_usage("'%s' is not a record index", text);
    return index;
}

/* Counts records through all stores, so each of them must be readable. */
static int do_cat(const struct shard_folders *stores, int count, char *const *operands)
{
    int n = stores->count;
    char *const *folders = stores->items;
    int64_t index = parse_index(operands[count - 1]), before = 0, within = 0;
    struct shard_store *here = NULL;
    const char *folder = NULL;
    output_begin_binary("redirect it to a file");
    for (int i = 0; i < n; i++) { /* all: one that does not exist is an error */
        struct shard_store *s = open_store(folders[i], 1);
        int64_t first = before;
        before += shard_store_count(s);
        if (here || index >= before) {
            shard_store_close(s);
            continue;
        }
        here = s;
        folder = folders[i];
        within = index - first;
    }
    if (here) {
        write_record(here, folder, within);
        shard_store_close(here);
        return 0;
    }
    if (n == 1) {
        die("store '%s' has no record %" PRId64 ": it has %" PRId64 " record%s", folders[0], index,
            before, plural(before));
    }
    die("the %d stores have no record %" PRId64 ": they have %" PRId64 " record%s", n, index,
        before, plural(before));
}

static int do_join(const struct shard_folders *stores, int count, char *const *operands)
{
    const char *out = operands[0];
    struct shard_join_summary j;
    struct error e;
    stop_not_by_writing();
    if (shard_stores_join(out, stores->items, stores->count, &j, &e) != 0)
        die("cannot join stores into '%s': %s", out, e.text);
    inform("%d shard%s moved; '%s' has %" PRId64 " record%s in %d shard%s", j.moved,
           plural(j.moved), out, j.records, plural(j.records), j.shards, plural(j.shards));
    return 0;
}

static int report_removal(const struct removal_summary *s, int status, const struct error *e)
{
    if (s->completed)
        inform("an interrupted removal has been completed");
    if (status != 0)
        die("cannot remove records: %s", e->text);
    inform("%" PRId64 " record%s removed, %" PRId64 " left", s->removed, plural(s->removed),
           s->records);
    return s->missing > 0;
}

static int do_remove(const struct shard_folders *stores, int count, char *const *operands)
{
    struct removal_summary s;
    struct error e;
    stop_not_by_writing();
    if (isatty(STDIN_FILENO))
        die_usage("no records given: list paths or indices on standard input");
    int status = removal_of_list(&s, stores, options.null ? '\0' : '\n', &e);
    return report_removal(&s, status, &e);
}

static int do_repair(const struct shard_folders *stores, int count, char *const *operands)
{
    struct removal_summary s;
    struct error e;
    stop_not_by_writing();
    int status = removal_of_damaged(&s, stores, &e);
    return report_removal(&s, status, &e);
}

static int do_export(const struct shard_folders *stores, int count, char *const *operands)
{
    const char *out = operands[0];
    struct export_summary s;
    struct error e;
    stop_not_by_writing();
    if (stores_export(out, stores, options.per_tar, &s, &e) != 0)
        die("cannot export to '%s': %s", out, e.text);
    inform("%" PRId64 " record%s in %d tar%s", s.records, plural(s.records), s.tars,
           plural(s.tars));
    return s.damaged > 0;
}

static int do_decode(const struct shard_folders *stores, int count, char *const *operands)
{
    struct error e;
    struct model *m;
    struct tape tape;
    int64_t *indices = xcalloc((size_t)count, sizeof *indices);
    for (int i = 1; i < count; i++)
        indices[i - 1] = parse_index(operands[i]);
    output_begin_binary("pipe it into ccld-grid, or redirect it to a file");
    struct device *device = program_open_device();
    tape_init(&tape, device);
    if (model_open(&m, &options.model, MODEL_AUTOENCODER, device, &e) != 0)
        die("%s", e.text);
    int status = stores_decode(stdout, stores, indices, count - 1, m, &tape, &e);
    if (ferror(stdout))
        output_failed(&e);
    if (status != 0)
        die("cannot decode: %s", e.text);
    output_finish();
    model_close(m);
    tape_release(&tape);
    device_close(device);
    free(indices);
    return 0;
}

static const struct command {
    const char *name, *needs;
    int least;          /* operands */
    int before, behind; /* operands other than stores; behind ALL_BUT_ONE: all but the first */
    enum shard_parts_which which;
    int (*run)(const struct shard_folders *stores, int count, char *const *operands);
} commands[] = {
#define ALL_BUT_ONE (-1)
    {"stat", "a store", 1, 0, 0, SHARD_PARTS_FILLED, do_stat},
    {"verify", "a store", 1, 0, 0, SHARD_PARTS_FILLED, do_verify},
    {"ls", "a store", 1, 0, 0, SHARD_PARTS_FILLED, do_ls},
    {"cat", "a store and an index", 2, 0, 1, SHARD_PARTS_FILLED, do_cat},
    {"join", "a folder and the stores to join", 2, 1, 0, SHARD_PARTS_ALL, do_join},
    {"remove", "a store", 1, 0, 0, SHARD_PARTS_FILLED, do_remove},
    {"repair", "a store", 1, 0, 0, SHARD_PARTS_FILLED, do_repair},
    {"export", "a folder and the stores to export", 2, 1, 0, SHARD_PARTS_FILLED, do_export},
    {"decode", "a store and an index", 2, 0, ALL_BUT_ONE, SHARD_PARTS_FILLED, do_decode},
};
#define COMMANDS "stat, verify, ls, cat, join, remove, repair, export or decode"

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    die_usage(*name ? "unknown command '%s': use " COMMANDS : "no command given: use " COMMANDS,
              name);
}

/* Puts parts in the place of the stores that have them. */
static struct shard_folders expand(int n, char *const *folders, enum shard_parts_which which)
{
    struct shard_folders f;
    struct error e;
    if (shard_folders_expand(&f, (const char *const *)folders, n, which, &e) != 0)
        die("cannot read store %s", e.text);
    if (which == SHARD_PARTS_FILLED && shard_folders_check_distinct(&f, &e) != 0)
        die("cannot read the stores: %s", e.text);
    return f;
}

int main(int argc, char **argv)
{
    int operands = options_parse(&program, argc, argv);
    const struct command *c = find_command(operands > 0 ? argv[1] : "");
    int count = operands - 1; /* behind the command */
    char **rest = argv + 2;
    if (count < c->least)
        die_usage("'%s' needs %s", c->name, c->needs);
    int behind = c->behind == ALL_BUT_ONE ? count - 1 : c->behind;
    struct shard_folders stores = expand(count - c->before - behind, rest + c->before, c->which);
    int status = c->run(&stores, count, rest);
    shard_folders_release(&stores);
    return status;
}
