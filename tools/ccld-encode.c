/* Encodes images into a shard store: reads a list of paths, writes latents and embeddings. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/memory_limit.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/base/threads.h"
#include "common/encode/networks.h"
#include "common/encode/rejects.h"
#include "common/encode/summary.h"
#include "common/fit/ranks.h"
#include "common/nets/model.h"
#include "common/program/device.h"
#include "common/program/devices.h"
#include "common/program/stop.h"
#include "formats/images/image.h"

static const char *const embed_dtypes[] = {"f32", "f16", NULL};

static struct {
    const char *store, *rejects, *part, *devices;
    struct model_paths models;
    struct size2d size;
    int64_t batch_size, shard_size, max_pixels;
    double max_failures;
    int embed_dtype;
    bool pil_compat, nul, rejects_reasons, allow_truncated, unique;
} options = {
    .batch_size = 8,
    .shard_size = SHARD_SIZE_DEFAULT,
    .max_pixels = IMAGE_DEFAULT_MAX_PIXELS,
    .max_failures = 5,
};

static const struct option option_table[] = {
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_STRING,
     .value = &options.store,
     .argument = "STORE",
     .help = "shard store to create or add to"},
    MODEL_OPTION(options.models, "autoencoder.* and cloob.*"),
    MODEL_OPTION_AUTOENCODER(options.models),
    MODEL_OPTION_CLOOB(options.models),
    {.name = "size",
     .kind = OPTION_SIZE,
     .value = &options.size,
     .argument = "HxW",
     .help = "the autoencoder's input size in pixels, 0 for its training size, else 256",
     .max = 8192},
    {.name = "batch-size",
     .kind = OPTION_INT,
     .value = &options.batch_size,
     .argument = "N",
     .help = "images per batch; affects memory use, not results",
     .min = 1,
     .max = 4096},
    {.name = "null",
     .letter = '0',
     .kind = OPTION_FLAG,
     .value = &options.nul,
     .help = "separate paths in the list and in rejects by NUL, not line feed"},
    {.name = "part",
     .kind = OPTION_STRING,
     .value = &options.part,
     .argument = "I/N",
     .help = "encode only part I of the list divided into N by the paths' hashes"},
    {.name = "devices",
     .kind = OPTION_STRING,
     .value = &options.devices,
     .argument = "LIST",
     .help = "one process per device, each with a part of the store: all, N or GPUs 0,2,5"},
    {.name = "unique",
     .kind = OPTION_FLAG,
     .value = &options.unique,
     .help = "leave out images whose bytes are in the store, or came before"},
    {.name = "pil-compat",
     .kind = OPTION_FLAG,
     .value = &options.pil_compat,
     .help = "colors as Pillow's convert('RGB'): no orientation, profile or alpha"},
    {.name = "shard-size",
     .kind = OPTION_INT,
     .value = &options.shard_size,
     .argument = "N",
     .help = "records per shard",
     .min = 1,
     .max = 1e9},
    {.name = "embed-dtype",
     .kind = OPTION_CHOICE,
     .value = &options.embed_dtype,
     .argument = "TYPE",
     .help = "type of the stored embeddings",
     .choices = embed_dtypes},
    {.name = "rejects",
     .kind = OPTION_STRING,
     .value = &options.rejects,
     .argument = "FILE",
     .help = "write the paths of bad files to FILE (- is standard output)"},
    {.name = "rejects-reasons",
     .kind = OPTION_FLAG,
     .value = &options.rejects_reasons,
     .help = "in rejects, add a tab and the reason to each path"},
    {.name = "max-failures",
     .kind = OPTION_FLOAT,
     .value = &options.max_failures,
     .argument = "PERCENT",
     .help = "exit with status 1 if more of the files are bad",
     .max = 100},
    {.name = "allow-truncated",
     .kind = OPTION_FLAG,
     .value = &options.allow_truncated,
     .help = "encode what a truncated JPEG, PNG or WebP has, the rest gray"},
    {.name = "max-pixels",
     .kind = OPTION_INT,
     .value = &options.max_pixels,
     .argument = "N",
     .help = "reject images with more pixels",
     .min = 1,
     .max = 1e12},
    {0},
};

static const struct program program = {
    .name = "ccld-encode",
    .summary =
        "Encodes images into a shard store of latents and CLOOB embeddings.\n"
        "A PATH is an image, a folder or a tar or zip archive of images. Without PATH, or if\n"
        "PATH is -, reads a list of images and archives from standard input.",
    .usage = "[OPTION]... -o STORE [PATH]...",
    .options = option_table,
    .formats = image_formats,
};

/* Digits without a sign, 1 to INT_MAX; 0 if the text is anything else. */
static int parse_count(const char *text, size_t length)
{
    int64_t n = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        n = 10 * n + text[i] - '0';
        if (n > INT_MAX)
            return 0;
    }
    return (int)n;
}

/* What this process does of the whole list. */
static struct {
    int part, parts; /* --part: 0 <= part < parts */
    struct device_list devices;
    struct shard_parts layout;
    int stores; /* 1, or the number of parts of the store */
    int process, processes;
    struct ranks ranks; /* if the process is one that ranks_start has started */
    bool forked;
    struct encode_tally *tally;
    struct unique *unique;         /* NULL: not wanted */
    struct rejects *rejects;       /* NULL: not wanted */
    struct shard_writer **writers; /* [stores]; NULL: another process's */
    const volatile sig_atomic_t *stop;
} job = {.processes = 1};

static void parse_part(void)
{
    job.parts = 1;
    if (!options.part)
        return;
    size_t length = strcspn(options.part, "/");
    const char *rest = options.part + length;
    job.part = parse_count(options.part, length) - 1;
    job.parts = *rest ? parse_count(rest + 1, strlen(rest + 1)) : 0;
    if (job.part < 0 || job.part >= job.parts)
        die_usage("option '--part': '%s' is not a part (I/N, 1 <= I <= N)", options.part);
}

/* Chooses the devices and the parts of the store, and forks if there are several parts: process r
 * of n encodes parts r, r + n ..., so it needs a list that can be read again. */
static void divide(bool paths_from_stdin)
{
    struct error e;
    devices_parse(&job.devices, options.devices, common_options.device, DEVICES_ONE);
    int wanted = options.devices ? job.devices.count : 0;
    if (shard_parts_open(&job.layout, options.store, wanted, &e) != 0)
        die("cannot write to store '%s': %s", options.store, e.text);
    job.stores = job.layout.count > 0 ? job.layout.count : 1;
    job.processes = job.devices.count < job.stores ? job.devices.count : job.stores;
    if (job.processes < job.devices.count) {
        warn("store '%s' has %d part%s: only %d of %d devices are used", options.store, job.stores,
             plural(job.stores), job.processes, job.devices.count);
    }
    if (job.parts > INT_MAX / job.stores)
        die_usage("option '--part': '%s' has too many parts", options.part);
    job.tally = encode_tally_new(job.stores);
    job.stop = stop_caught();
    job.forked = job.stores > 1;
    job.unique = options.unique ? unique_new(job.processes > 1) : NULL;
    if (job.forked) {
        job.ranks.patient = true;
        ranks_start(&job.ranks, job.processes, paths_from_stdin);
        job.process = job.ranks.collective->rank;
        job.stop = job.ranks.stop;
    }
    devices_select(&job.devices, job.process);
}

static char *store_folder(int k)
{
    return job.layout.count > 0 ? shard_part_folder(options.store, k) : xstrdup(options.store);
}

static void compare_with(struct shard_writer *store, const char *folder)
{
    struct error e;
    int64_t unhashed;
    if (!job.unique)
        return;
    if (unique_add_store(job.unique, store, &unhashed, &e) != 0)
        die("cannot read store '%s': %s", folder, e.text);
    if (unhashed > 0)
        warn("store '%s': %" PRId64 " of %" PRId64
             " records have no hash, since an earlier version "
             "wrote them: images cannot be compared with them",
             folder, unhashed, shard_writer_count(store));
}

static void open_stores(const struct shard_info *info)
{
    struct shard_writer_options o = {.shard_size = options.shard_size};
    struct error e;
    job.writers = xcalloc((size_t)job.stores, sizeof(struct shard_writer *));
    for (int k = job.process; k < job.stores; k += job.processes) {
        char *folder = store_folder(k);
        if (shard_writer_open(&job.writers[k], folder, info, &o, &e) != 0)
            die("cannot write to store '%s': %s", folder, e.text);
        compare_with(job.writers[k], folder);
        free(folder);
    }
}

static struct encode_options encode_options(void)
{
    return (struct encode_options){
        .batch_size = (int)options.batch_size,
        .decode_threads = threads_count(),
        .stop = job.stop,
        .rejects = rejects_stream(job.rejects),
        .rejects_separator = options.nul ? '\0' : '\n',
        .rejects_reasons = options.rejects_reasons,
        .unique = job.unique,
        .tally = job.tally,
    };
}

/* Adds to e the largest batch that fits. */
static void add_remedy(struct error *e, const struct memory_limit *limit,
                       const struct encode_networks *n, const struct device *d)
{
    struct encode_options run = encode_options();
    struct error before = *e, why;
    char bytes[32];
    int64_t needed = INT64_MAX;
    while (needed > limit->bytes && run.batch_size > 1) {
        run.batch_size /= 2;
        if (encode_networks_memory(&needed, n, &run, d, &why) != 0)
            return;
    }
    if (needed <= limit->bytes)
        error_set(e, "%s; --batch-size %d needs %s", before.text, run.batch_size,
                  format_bytes(bytes, (double)needed));
    else
        error_set(e, "%s; no batch size fits", before.text);
}

/* Ends the program if the CPU's memory does not suffice, before weights are read. */
static void check_memory(const struct encode_networks *n, const struct device *d)
{
    struct error e;
    struct encode_options run = encode_options();
    int64_t needed;
    char bytes[32];
    if (!d->host_memory)
        return;
    if (encode_networks_memory(&needed, n, &run, d, &e) != 0)
        die("cannot encode with this model: %s", e.text);
    note("memory: %s", format_bytes(bytes, (double)needed));
    struct memory_limit limit = memory_limit_left(job.processes, "");
    if (memory_limit_check(&limit, "encoding", needed, &e) != 0) {
        add_remedy(&e, &limit, n, d);
        die("not enough memory: %s", e.text);
    }
    if (job.forked) /* before any process allocates what the others have seen as free */
        collective_barrier(job.ranks.collective);
}

static void open_networks(struct encode_networks *n, struct shard_info *info,
                          struct device **device)
{
    struct error e;
    *device = program_open_device();
    (*device)->advice = "a smaller --batch-size";
    *n = (struct encode_networks){
        .color = options.pil_compat ? PREPARE_PIL : PREPARE_DISPLAY,
        .max_pixels = options.max_pixels,
        .allow_truncated = options.allow_truncated,
        .embed_dtype = options.embed_dtype == 0 ? DTYPE_F32 : DTYPE_F16,
    };
    if (model_find(&n->model, &options.models, MODEL_AUTOENCODER | MODEL_CLOOB, &e) != 0)
        die("%s", e.text);
    struct size2d size = model_image_size(&n->model->autoencoder_part, options.size);
    n->height = size.height;
    n->width = size.width;
    check_memory(n, *device);
    if (model_load(n->model, *device, &e) != 0)
        die("%s", e.text);
    tape_init(&n->tape, *device);
    if (encode_networks_describe(info, n, &e) != 0)
        die("cannot encode with this model: %s", e.text);
}

static void open_paths(struct path_source *paths, int operands, char **argv)
{
    if (operands > 0) {
        path_source_arguments(paths, operands, argv + 1);
        return;
    }
    if (job.forked) /* each process has a copy of its own */
        lseek(STDIN_FILENO, 0, SEEK_SET);
    path_source_stream(paths, STDIN_FILENO, options.nul ? '\0' : '\n');
}

static void open_rejects(int operands, char **argv)
{
    struct error e;
    if (options.rejects && rejects_open(&job.rejects, options.rejects, operands,
                                        operands > 0 ? argv + 1 : NULL, &e) != 0)
        die("cannot write '%s': %s", options.rejects, e.text);
}

/* Returns when all processes have opened their stores. */
static void begin_together(void)
{
    if (!job.forked)
        return stop_catch();
    collective_barrier(job.ranks.collective);
    ranks_ready(&job.ranks, program.name);
}

/* Returns the exit status. */
static int finish_rejects(bool complete)
{
    struct error e;
    int status = 0;
    if (job.rejects && job.process == 0 && rejects_finish(job.rejects, complete, &e) != 0) {
        warn("cannot write '%s': %s", options.rejects, e.text);
        status = 1;
    }
    return status;
}

/* Encodes the part of the list that belongs to store k. */
static int encode_part(const struct encoder *encoder, int k, struct path_source *paths,
                       struct encode_counts *counts)
{
    struct encode_options run = encode_options();
    run.part = job.part + job.parts * k; /* modulo job.parts this is job.part */
    run.parts = job.parts * job.stores;
    run.tally_part = k;
    struct error e;
    int status = encode_run(encoder, paths, job.writers[k], &run, counts, &e);
    /* All processes read the same list, so the first one says what is wrong with it. */
    if (status != 0 && !(counts->list_failed && job.process > 0)) {
        char *folder = store_folder(k);
        warn("cannot continue with store '%s': %s", folder, e.text);
        free(folder);
    }
    return status;
}

/* Returns 0 if the process has done its work, -1 after an error. */
static int encode_parts(const struct encoder *encoder, int operands, char **argv)
{
    int status = 0;
    for (int k = job.process; k < job.stores; k += job.processes) {
        struct encode_state s = {.counts.interrupted = true, .ended = true};
        struct path_source paths;
        if (status == 0 && !*job.stop) {
            open_paths(&paths, operands, argv);
            status = encode_part(encoder, k, &paths, &s.counts);
            path_source_release(&paths);
        }
        s.records = shard_writer_count(job.writers[k]);
        s.statistics = shard_writer_statistics(job.writers[k]);
        shard_writer_close(job.writers[k]);
        if (status != 0 && job.process > 0 && !s.counts.list_failed)
            exit(1); /* which ends all processes */
        encode_tally_put(job.tally, k, &s);
    }
    return status;
}

/* What all processes did. Returns the exit status. */
static int report(int status, double begin)
{
    if (status == 0)
        encode_tally_wait(job.tally);
    double seconds = seconds_now() - begin;
    struct encode_state all = encode_tally_sum(job.tally);
    encode_tally_free(job.tally);
    bool read = status == 0 && !all.counts.list_failed;
    bool any = all.counts.listed + all.counts.other_part + all.counts.others + all.counts.links > 0;
    struct encode_summary summary = {.store = options.store,
                                     .part = options.part,
                                     .parts = job.layout.count,
                                     .unique = options.unique,
                                     .max_failures = options.max_failures};
    int code = read ? encode_summary_judge(&summary, &all.counts) : 1;
    if (any)
        encode_summary_print(&summary, &all, seconds);
    int written = finish_rejects(read && any && !all.counts.interrupted);
    return code ? code : written;
}

int main(int argc, char **argv)
{
    int operands = options_parse(&program, argc, argv);
    if (operands == 1 && strcmp(argv[1], "-") == 0)
        operands = 0;
    stop_not_by_writing();
    if (!options.store)
        die_usage("no store: name a folder with -o");
    parse_part();
    if (operands == 0 && isatty(STDIN_FILENO))
        die_usage("no paths: name files, or pipe a list of paths to standard input");
    open_rejects(operands, argv);
    divide(operands == 0);

    struct encode_networks networks;
    struct shard_info info;
    struct device *device;
    struct encoder encoder;
    open_networks(&networks, &info, &device);
    encode_networks_encoder(&encoder, &networks, &info);
    open_stores(&info);
    begin_together();
    encode_tally_show_progress(job.tally);
    double begin = seconds_now();
    int status = encode_parts(&encoder, operands, argv);
    int code = job.process == 0 ? report(status, begin) : 0;
    rejects_close(job.rejects);
    encode_networks_release(&networks);
    tape_release(&networks.tape);
    model_close(networks.model);
    device_close(device);
    shard_parts_close(&job.layout);
    unique_free(job.unique);
    free(job.writers);
    return code;
}
