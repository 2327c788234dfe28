/* Encodes images into a shard store: reads a list of paths, writes latents and embeddings. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/base/threads.h"
#include "common/encode/networks.h"
#include "common/program/device.h"

static const char *const embed_dtypes[] = {"f32", "f16", NULL};

static struct {
    const char *store, *rejects, *part;
    struct model_paths models;
    struct size2d size;
    int64_t batch_size, shard_size, max_pixels;
    double max_failures;
    int embed_dtype;
    bool pil_compat, nul;
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
    {.name = "model",
     .letter = 'm',
     .kind = OPTION_STRING,
     .value = &options.models.model,
     .argument = "DIR",
     .help = "folder with autoencoder.* and cloob.* (else $CCLD_MODEL)"},
    {.name = "autoencoder",
     .kind = OPTION_STRING,
     .value = &options.models.autoencoder,
     .argument = "FILE",
     .help = "load the autoencoder from FILE"},
    {.name = "cloob",
     .kind = OPTION_STRING,
     .value = &options.models.cloob,
     .argument = "FILE",
     .help = "load CLOOB from FILE"},
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
     .help = "write the paths of bad files to FILE"},
    {.name = "max-failures",
     .kind = OPTION_FLOAT,
     .value = &options.max_failures,
     .argument = "PERCENT",
     .help = "exit with status 1 if more of the files are bad",
     .max = 100},
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
    .summary = "Encodes images into a shard store of latents and CLOOB embeddings.\n"
               "Without PATH, reads a list of paths from standard input.",
    .usage = "[OPTION]... -o STORE [PATH]...",
    .options = option_table,
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

static void parse_part(int *part, int *parts)
{
    *part = 0;
    *parts = 1;
    if (!options.part)
        return;
    size_t length = strcspn(options.part, "/");
    const char *rest = options.part + length;
    *part = parse_count(options.part, length) - 1;
    *parts = *rest ? parse_count(rest + 1, strlen(rest + 1)) : 0;
    if (*part < 0 || *part >= *parts)
        die_usage("option '--part': '%s' is not a part (I/N, 1 <= I <= N)", options.part);
}

static int stop_pipe[2];

/* The first signal lets the pipeline finish its batches; the second ends the program at once. */
static void on_signal(int signal)
{
    static volatile sig_atomic_t again;
    if (again)
        _exit(128 + signal);
    again = 1;
    int saved = errno;
    if (write(stop_pipe[1], "", 1) < 0)
        _exit(128 + signal);
    errno = saved;
}

static void catch_signals(void)
{
    if (pipe2(stop_pipe, O_CLOEXEC) != 0)
        die("cannot make a pipe: %s", strerror(errno));
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
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
        .embed_dtype = options.embed_dtype == 0 ? DTYPE_F32 : DTYPE_F16,
    };
    if (model_open(&n->model, &options.models, MODEL_AUTOENCODER | MODEL_CLOOB, *device, &e) != 0)
        die("%s", e.text);
    struct size2d size = model_image_size(&n->model->autoencoder_part, options.size);
    n->height = size.height;
    n->width = size.width;
    tape_init(&n->tape, *device);
    if (encode_networks_describe(info, n, &e) != 0)
        die("cannot encode with this model: %s", e.text);
}

static void open_paths(struct path_source *paths, int operands, char **argv)
{
    if (operands > 0)
        path_source_arguments(paths, operands, argv + 1);
    else if (isatty(STDIN_FILENO))
        die_usage("no paths: name files, or pipe a list of paths to standard input");
    else
        path_source_stream(paths, STDIN_FILENO, options.nul ? '\0' : '\n');
}

static FILE *open_rejects(void)
{
    if (!options.rejects)
        return NULL;
    FILE *f = fopen(options.rejects, "we");
    if (!f)
        die("cannot write '%s': %s", options.rejects, strerror(errno));
    return f;
}

static void summarize(const struct encode_counts *c, struct shard_writer *store, double seconds)
{
    char duration[32], scale[48] = "", part[80] = "";
    struct latent_statistics statistics = shard_writer_statistics(store);
    if (statistics.count > 0)
        snprintf(scale, sizeof scale, ", scale factor %.4f", latent_statistics_scale(&statistics));
    if (options.part)
        snprintf(part, sizeof part, "part %.60s: ", options.part);
    int64_t records = shard_writer_count(store);
    inform("%s%s%" PRId64 " encoded, %" PRId64 " skipped, %" PRId64
           " failed in %s (%.2f images/s); "
           "'%s' has %" PRId64 " record%s%s",
           c->interrupted ? "interrupted: " : "", part, c->encoded, c->skipped + c->duplicates,
           c->failed, format_duration(duration, seconds),
           seconds > 0 ? (double)c->encoded / seconds : 0.0, options.store, records,
           records == 1 ? "" : "s", scale);
}

/* The exit status: 0, or 1 after printing the reason. */
static int exit_status(const struct encode_counts *c)
{
    double percent = 100.0 * (double)c->failed / (double)c->listed;
    if (c->interrupted)
        return 1;
    if (c->listed == 0)
        return 0; /* all paths are of other parts */
    if (c->encoded == 0 && c->skipped == 0) {
        warn("none of the files could be encoded");
        return 1;
    }
    if (c->bad_latents > 0) {
        warn("%" PRId64 " files have latents that cannot be stored: the model may be damaged",
             c->bad_latents);
        return 1;
    }
    if (percent > options.max_failures) {
        warn("%" PRId64 " of %" PRId64 " files failed, more than %g%%", c->failed, c->listed,
             options.max_failures);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    int operands = options_parse(&program, argc, argv);
    if (!options.store)
        die_usage("no store: name a folder with -o");
    int part, parts;
    parse_part(&part, &parts);
    struct path_source paths;
    open_paths(&paths, operands, argv);

    struct error e;
    struct encode_networks networks;
    struct shard_info info;
    struct device *device;
    open_networks(&networks, &info, &device);
    struct encoder encoder;
    encode_networks_encoder(&encoder, &networks, &info);

    struct shard_writer *store;
    struct shard_writer_options store_options = {.shard_size = options.shard_size};
    if (shard_writer_open(&store, options.store, &info, &store_options, &e) != 0)
        die("cannot write to store '%s': %s", options.store, e.text);
    FILE *rejects = open_rejects();
    catch_signals();
    struct encode_options run = {
        .batch_size = (int)options.batch_size,
        .decode_threads = threads_count(),
        .stop_fd = stop_pipe[0],
        .rejects = rejects,
        .rejects_separator = options.nul ? '\0' : '\n',
        .part = part,
        .parts = parts,
    };
    struct encode_counts counts;
    double begin = seconds_now();
    int status = encode_run(&encoder, &paths, store, &run, &counts, &e);
    double seconds = seconds_now() - begin;
    int code = 1;
    if (status != 0)
        warn("cannot continue with store '%s': %s", options.store, e.text);
    else if (counts.listed + counts.other_part == 0 && !counts.interrupted)
        warn("the list of paths is empty");
    else
        code = exit_status(&counts);
    if (counts.listed + counts.other_part > 0)
        summarize(&counts, store, seconds);
    if (rejects && fclose(rejects) != 0) {
        warn("cannot write '%s': %s", options.rejects, strerror(errno));
        code = 1;
    }
    shard_writer_close(store);
    path_source_release(&paths);
    encode_networks_release(&networks);
    tape_release(&networks.tape);
    model_close(networks.model);
    device_close(device);
    return code;
}
