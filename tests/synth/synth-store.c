/* Writes a store of random records as ccld-encode would with a model: with its sizes and hashes, so
 * that ccld-find, ccld-encode and the others take it for one of theirs. For stores that are too
 * large to be encoded by a test or a measurement. Record i is a pure function of the seed and i. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/base/rng.h"
#include "common/base/threads.h"
#include "common/encode/networks.h"
#include "common/program/device.h"

#define BATCH 4096

static struct {
    const char *store;
    struct model_paths models;
    int64_t count, first, shard_size;
    struct size2d size;
    uint64_t seed;
} options = {.count = 1000, .shard_size = SHARD_SIZE_DEFAULT};

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
    {.name = "number",
     .letter = 'n',
     .kind = OPTION_INT,
     .value = &options.count,
     .argument = "N",
     .help = "number of records",
     .min = 1,
     .max = 1e9},
    {.name = "first",
     .kind = OPTION_INT,
     .value = &options.first,
     .argument = "I",
     .help = "write records I to I+N-1 of the seed's sequence",
     .max = 1e9},
    {.name = "size",
     .kind = OPTION_SIZE,
     .value = &options.size,
     .argument = "HxW",
     .help = "the autoencoder's input size in pixels, 0 for its training size, else 256",
     .max = 8192},
    {.name = "shard-size",
     .kind = OPTION_INT,
     .value = &options.shard_size,
     .argument = "N",
     .help = "records per shard",
     .min = 1,
     .max = 1e9},
    {.name = "seed",
     .kind = OPTION_SEED,
     .value = &options.seed,
     .argument = "N",
     .help = "seed of the values"},
    {0},
};

static const struct program program = {.name = "synth-store",
                                       .summary = "Writes a shard store of random records.",
                                       .usage = "[OPTION]... -o STORE",
                                       .options = option_table};

struct batch {
    const struct shard_info *info;
    int64_t first; /* number of the first record */
    size_t moments_size, embed_size;
    float *moments, *embeds; /* [BATCH, ...] */
    char (*paths)[40];
    uint8_t (*hashes)[CONTENT_HASH_SIZE];
    struct shard_item *items;
};

/* Latents have the standard deviations of a normal distribution, embeddings random directions. */
static void fill(void *arg, int64_t begin, int64_t end, int worker)
{
    struct batch *b = arg;
    for (int64_t i = begin; i < end; i++) {
        uint64_t number = (uint64_t)(b->first + i);
        float *moments = b->moments + (size_t)i * b->moments_size;
        float *embed = b->embeds + (size_t)i * b->embed_size;
        double square = 0;
        rng_normal(moments, b->moments_size, options.seed, RNG_POSTERIOR, 0, number, 0);
        rng_normal(embed, b->embed_size, options.seed, RNG_EMBED_NOISE, 0, number, 0);
        for (size_t k = 0; k < b->embed_size; k++)
            square += embed[k] * embed[k];
        for (size_t k = 0; k < b->embed_size; k++)
            embed[k] /= (float)sqrt(square);
        int length = snprintf(b->paths[i], sizeof *b->paths, "synthetic/%09" PRIu64 ".jpg", number);
        content_hash(b->hashes[i], b->paths[i], (size_t)length);
        b->items[i] = (struct shard_item){.path = b->paths[i],
                                          .size = 1000 + (int64_t)number,
                                          .mtime_ns = 1700000000000000000 + (int64_t)number,
                                          .hash = b->hashes[i],
                                          .width = b->info->image_width,
                                          .height = b->info->image_height,
                                          .moments = moments,
                                          .embed = embed};
    }
}

static void write_records(struct shard_writer *w, const struct shard_info *info)
{
    struct batch b = {.info = info,
                      .moments_size = 2 * shard_latent_count(info),
                      .embed_size = (size_t)info->embed_size};
    struct error e;
    b.moments = xmalloc(BATCH * b.moments_size * sizeof *b.moments);
    b.embeds = xmalloc(BATCH * b.embed_size * sizeof *b.embeds);
    b.paths = xcalloc(BATCH, sizeof *b.paths);
    b.hashes = xcalloc(BATCH, sizeof *b.hashes);
    b.items = xcalloc(BATCH, sizeof *b.items);
    struct progress *progress = progress_start("writing", "records", options.count);
    for (int64_t done = 0; done < options.count;) {
        int64_t left = options.count - done, n = left < BATCH ? left : BATCH;
        b.first = options.first + done;
        parallel_for(n, 64, fill, &b);
        if (shard_writer_put(w, b.items, (int)n, &e) != 0)
            die("cannot write to store '%s': %s", options.store, e.text);
        done += n;
        progress_update(progress, done, NULL);
    }
    progress_finish(progress);
    free(b.moments);
    free(b.embeds);
    free(b.paths);
    free(b.hashes);
    free(b.items);
}

static void describe(struct shard_info *info)
{
    struct encode_networks n = {.embed_dtype = DTYPE_F32};
    struct device *device = program_open_device();
    struct error e;
    if (model_find(&n.model, &options.models, MODEL_AUTOENCODER | MODEL_CLOOB, &e) != 0 ||
        model_load(n.model, device, &e) != 0)
        die("%s", e.text);
    struct size2d size = model_image_size(&n.model->autoencoder_part, options.size);
    n.height = size.height;
    n.width = size.width;
    if (encode_networks_describe(info, &n, &e) != 0)
        die("%s", e.text);
    model_close(n.model);
    device_close(device);
}

int main(int argc, char **argv)
{
    struct shard_info info;
    struct shard_writer *w;
    struct error e;
    if (options_parse(&program, argc, argv) > 0)
        die_usage("unexpected operand '%s'", argv[1]);
    if (!options.store)
        die_usage("no store: name a folder with -o");
    describe(&info);
    struct shard_writer_options o = {.shard_size = options.shard_size};
    if (shard_writer_open(&w, options.store, &info, &o, &e) != 0)
        die("cannot write to store '%s': %s", options.store, e.text);
    write_records(w, &info);
    if (shard_writer_finish(w, &e) != 0)
        die("cannot write to store '%s': %s", options.store, e.text);
    shard_writer_close(w);
    return 0;
}
