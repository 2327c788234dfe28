/* Encodes images into a shard store: the list of paths goes in, latents and embeds come out. */
#include <errno.h>
#include <fcntl.h>
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
    const char *store, *rejects;
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
    {"output", 'o', OPTION_STRING, &options.store, "STORE", "folder of shards to write or add to",
     0, 0, NULL},
    {"model", 'm', OPTION_STRING, &options.models.model, "DIR",
     "folder with autoencoder.* and cloob.*", 0, 0, NULL},
    {"autoencoder", 0, OPTION_STRING, &options.models.autoencoder, "FILE",
     "take the autoencoder from FILE", 0, 0, NULL},
    {"cloob", 0, OPTION_STRING, &options.models.cloob, "FILE", "take CLOOB from FILE", 0, 0, NULL},
    {"size", 0, OPTION_SIZE, &options.size, "HxW",
     "pixels of what the autoencoder sees, 0 for what it was trained on, else 256", 0, 8192, NULL},
    {"batch-size", 0, OPTION_INT, &options.batch_size, "N", "images encoded and stored at a time",
     1, 4096, NULL},
    {"null", '0', OPTION_FLAG, &options.nul, NULL,
     "paths on standard input and in rejects end with NUL, not a line end", 0, 0, NULL},
    {"pil-compat", 0, OPTION_FLAG, &options.pil_compat, NULL,
     "colours as Pillow's convert('RGB'): no orientation, profile or alpha", 0, 0, NULL},
    {"shard-size", 0, OPTION_INT, &options.shard_size, "N", "records of a shard", 1, 1e9, NULL},
    {"embed-dtype", 0, OPTION_CHOICE, &options.embed_dtype, "TYPE", "type of the stored embeds", 0,
     0, embed_dtypes},
    {"rejects", 0, OPTION_STRING, &options.rejects, "FILE", "write paths of bad files to FILE", 0,
     0, NULL},
    {"max-failures", 0, OPTION_FLOAT, &options.max_failures, "PERCENT",
     "exit with status 1 when more of the files were bad", 0, 100, NULL},
    {"max-pixels", 0, OPTION_INT, &options.max_pixels, "N", "refuse an image of more pixels", 1,
     1e12, NULL},
    {0},
};

static const struct program program = {
    .name = "ccld-encode",
    .summary = "Encodes images into a shard store of latents and CLOOB embeds.\n"
               "Without PATH, reads a list of paths from standard input.",
    .usage = "[OPTION]... -o STORE [PATH]...",
    .options = option_table,
};

static int stop_pipe[2];

/* The first signal asks the pipeline to finish its batch; the second does not wait. */
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
    if (pipe2(stop_pipe, O_CLOEXEC))
        die("cannot make a pipe: %s", strerror(errno));
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void open_models(struct encode_networks *m, struct shard_info *info, struct device **device)
{
    struct error e;
    *device = program_open_device();
    (*device)->advice = "a smaller --batch-size";
    *m = (struct encode_networks){
        .color = options.pil_compat ? PREPARE_PIL : PREPARE_DISPLAY,
        .max_pixels = options.max_pixels,
        .embed_dtype = options.embed_dtype == 0 ? DTYPE_F32 : DTYPE_F16,
    };
    if (model_open(&m->model, &options.models, MODEL_AUTOENCODER | MODEL_CLOOB, *device, &e))
        die("%s", e.text);
    struct size2d size = model_picture_size(&m->model->autoencoder_part, options.size);
    m->height = size.height;
    m->width = size.width;
    tape_init(&m->tape, *device);
    if (encode_networks_describe(info, m, &e))
        die("cannot encode with this model: %s", e.text);
}

static void open_paths(struct path_source *paths, int operands, char **argv)
{
    if (operands > 0)
        path_source_arguments(paths, operands, argv + 1);
    else if (isatty(STDIN_FILENO))
        die_usage("no paths: name files, or give a list of paths on standard input");
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
    char duration[32], scale[48] = "";
    struct latent_statistics statistics = shard_writer_statistics(store);
    if (statistics.count > 0)
        snprintf(scale, sizeof scale, ", scale factor %.4f", latent_statistics_scale(&statistics));
    long long records = shard_writer_count(store);
    inform("%s%lld encoded, %lld skipped, %lld failed in %s (%.2f images/s); '%s' has %lld "
           "record%s%s",
           c->interrupted ? "interrupted: " : "", (long long)c->encoded,
           (long long)(c->skipped + c->duplicates), (long long)c->failed,
           format_duration(duration, seconds), seconds > 0 ? (double)c->encoded / seconds : 0.0,
           options.store, records, records == 1 ? "" : "s", scale);
}

/* 0, or 1 with the reason printed. */
static int judge(const struct encode_counts *c)
{
    double percent = 100.0 * (double)c->failed / (double)c->listed;
    if (c->interrupted)
        return 1;
    if (c->encoded == 0 && c->skipped == 0) {
        warn("none of the files could be encoded");
        return 1;
    }
    if (c->bad_latents > 0) {
        warn("%lld files gave latents that cannot be stored: is the model sound?",
             (long long)c->bad_latents);
        return 1;
    }
    if (percent > options.max_failures) {
        warn("%lld of %lld files failed, more than %g%%", (long long)c->failed,
             (long long)c->listed, options.max_failures);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    int operands = options_parse(&program, argc, argv);
    if (!options.store)
        die_usage("no store: name a folder with -o");
    struct path_source paths;
    open_paths(&paths, operands, argv);

    struct error e;
    struct encode_networks models;
    struct shard_info info;
    struct device *device;
    open_models(&models, &info, &device);
    struct encoder encoder;
    encode_networks_encoder(&encoder, &models, &info);

    struct shard_writer *store;
    struct shard_writer_options store_options = {.shard_size = options.shard_size};
    if (shard_writer_open(&store, options.store, &info, &store_options, &e))
        die("cannot write to store '%s': %s", options.store, e.text);
    FILE *rejects = open_rejects();
    catch_signals();
    struct encode_options run = {
        .batch_size = (int)options.batch_size,
        .decode_threads = threads_count(),
        .stop_fd = stop_pipe[0],
        .rejects = rejects,
        .rejects_separator = options.nul ? '\0' : '\n',
    };
    struct encode_counts counts;
    double begin = seconds_now();
    int rc = encode_run(&encoder, &paths, store, &run, &counts, &e);
    double seconds = seconds_now() - begin;
    int status = 1;
    if (rc)
        warn("cannot go on with store '%s': %s", options.store, e.text);
    else if (counts.listed == 0 && !counts.interrupted)
        warn("the list of paths is empty");
    else
        status = judge(&counts);
    if (counts.listed > 0)
        summarize(&counts, store, seconds);
    if (rejects && fclose(rejects)) {
        warn("cannot write '%s': %s", options.rejects, strerror(errno));
        status = 1;
    }
    shard_writer_close(store);
    path_source_release(&paths);
    encode_networks_release(&models); /* what it recorded is of the tape's device */
    tape_release(&models.tape);
    model_close(models.model);
    device_close(device);
    return status;
}
