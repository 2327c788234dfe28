#include <glob.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/nets/network.h"
#include "formats/weights/safetensors.h"
#include "formats/weights/torch_write.h"
#include "tests/support/pickles.h"
#include "tests/support/tap.h"

/* Reads all tensors and names of damaged weight files. Each must be read, or refused with a reason,
 * without an access out of bounds (build with sanitizers). Usage: fuzz-weights [ROUNDS [SEED
 * [FILE]...]]. It mutates small files of every format and small golden checkpoints, or the given
 * files; with 0 ROUNDS it reads them as they are. For libFuzzer, build with -DLIBFUZZER. */

#define READ_MAX ((int64_t)1 << 20) /* elements; larger tensors are not converted */

static int touch(void *arg, const void *data, size_t count)
{
    const uint8_t *p = data;
    unsigned *sum = arg;
    for (size_t i = 0; i < count; i++)
        *sum += p[i];
    return 0;
}

static void read_tensors(const struct weights *w)
{
    unsigned sum = 0;
    for (int i = 0; i < weights_count(w); i++) {
        const struct weight *t = weights_at(w, i);
        CHECK(weights_find(w, t->name) == t);
        CHECK(weight_count(t) >= 0 && t->ndim >= 0 && t->ndim <= WEIGHT_MAX_DIMS);
        CHECK(weight_type(t)[0] || t->unreadable);
        if (t->unreadable)
            continue;
        weight_stream(t, touch, &sum);
        if (weight_is_real(t) && weight_count(t) <= READ_MAX) {
            float *values = xmalloc((size_t)weight_count(t) * sizeof *values + 1);
            weight_to_f32(t, values);
            free(values);
        }
    }
    for (int i = 0; i < weights_metadata_count(w); i++) {
        const char *key, *value;
        weights_metadata_at(w, i, &key, &value);
        CHECK(strlen(key) + strlen(value) < SIZE_MAX && weights_metadata(w, key));
    }
}

static void read_names(const struct weights *w)
{
    for (int net = 0; net < 3; net++) {
        struct named_weights n;
        struct error e = {""};
        char line[100], hex[33];
        double scale;
        if (names_resolve(&n, w, (enum net)net, PICK_EMA, &e) == 0) {
            for (int i = 0; i < n.count; i++)
                CHECK(names_find(&n, n.items[i].name) == &n.items[i]);
            if (network_describe(line, sizeof line, &n, &e) == 0)
                CHECK(line[0]);
            names_hash(hex, &n);
            names_scalar(&n, "autoencoder_scale", &scale);
            names_release(&n);
        } else {
            CHECK(e.text[0]);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct weights *w;
    struct error e = {""};
    if (weights_open_memory(&w, data, size, &e) != 0) {
        CHECK(e.text[0]);
        return 0;
    }
    read_tensors(w);
    read_names(w);
    weights_close(w);
    return 0;
}

#ifndef LIBFUZZER
struct input {
    uint8_t *data;
    size_t size;
};

#define INPUTS_MAX 64
#define GOLDEN_MAX ((size_t)64 << 10) /* larger golden files are read, but not mutated */

static uint32_t draw(uint64_t seed, uint64_t round, uint32_t i)
{
    uint32_t out[4];
    philox4x32_10(out, (uint32_t[4]){i, (uint32_t)round, (uint32_t)(round >> 32), 13},
                  (uint32_t[2]){(uint32_t)seed, (uint32_t)(seed >> 32)});
    return out[0];
}

/* Flips bits, puts special bytes (opcodes, sizes, brackets) and extreme numbers, moves pieces. */
static size_t mutate(uint8_t *data, size_t size, size_t room, uint64_t seed, uint64_t round)
{
    static const uint8_t special[] =
        "\0\1\x7f\x80\xff(t)]}edusabRQhjqr.0129NKMJX\x8c\x94\x93\"{[,:";
    static const uint64_t limits[] = {0,          1,         UINT32_MAX,        INT32_MAX,
                                      UINT64_MAX, INT64_MAX, (uint64_t)1 << 62, 0x10000};
    uint32_t changes = 1 + draw(seed, round, 1) % 6;
    for (uint32_t i = 0; i < changes; i++) {
        uint32_t r = draw(seed, round, 10 + 4 * i), s = draw(seed, round, 11 + 4 * i);
        uint32_t t = draw(seed, round, 12 + 4 * i);
        size_t at = r % size, length = 1 + (s >> 8) % 16;
        switch (s % 6) {
        case 0:
            data[at] ^= (uint8_t)(1u << (s >> 4 & 7));
            break;
        case 1:
            data[at] = special[t % (sizeof special - 1)];
            break;
        case 2:
            data[at] = (uint8_t)t;
            break;
        case 3:
            length = (size_t)1 << t % 4;
            if (length <= size - at)
                memcpy(data + at, &limits[(t >> 4) % 8], length);
            break;
        case 4: /* copies a piece from elsewhere */
            if (length <= size - at)
                memmove(data + at, data + t % (size - length + 1), length);
            break;
        default: /* inserts or removes a piece */
            if (t & 1 && length <= room - size) {
                memmove(data + at + length, data + at, size - at);
                memmove(data + at, data + (t >> 1) % (size - at), length);
                size += length;
            } else if (length < size - at) {
                memmove(data + at, data + at + length, size - at - length);
                size -= length;
            }
        }
    }
    return draw(seed, round, 2) % 8 ? size : 1 + draw(seed, round, 3) % size;
}

static void run(const struct input *in, uint64_t seed, uint64_t round)
{
    size_t room = in->size + 128;
    uint8_t *copy = xmalloc(room);
    memcpy(copy, in->data, in->size);
    size_t left = mutate(copy, in->size, room, seed, round);
    uint8_t *exact = xmalloc(left); /* so that overreads are detected */
    memcpy(exact, copy, left);
    LLVMFuzzerTestOneInput(exact, left);
    free(exact);
    free(copy);
}

static const char *const names[] = {
    "model_ema.net.0.main.0.weight",
    "model.net.0.main.0.weight",
    "autoencoder_scale",
    "net.4.main.1.main.0.weight",
    "encoder.down.0.block.0.conv1.weight",
    "quant_conv.weight",
    "encoder.conv_in.weight",
    "scale_factor",
    "decoder.up_blocks.0.resnets.0.conv1.weight",
    "decoder.mid_block.attentions.0.to_q.weight",
    "image_encoder.embed.weight",
    "params.0.vi_t_image_encoder/layer_0/self_attention/multi_head_attention/query.w",
    "params.0.vi_t_image_encoder/embed.w",
    "params.1.text_encoder/layer_0/ff/linear_0.w",
};

/* Makes a file with three small tensors, as safetensors or torch. */
static void make(struct input *in, size_t first, bool torch)
{
    static const int64_t shape[] = {2, 3, 1, 1};
    static const uint8_t zeros[64];
    char *path = path_join(test_folder(), "seed");
    struct safetensors_writer *s = torch ? NULL : safetensors_create_memory();
    struct torch_writer *t = NULL;
    struct error e;
    CHECK(!torch || torch_create(&t, path, first % 2, &e) == 0);
    for (size_t i = 0; i < 3; i++) {
        const char *name = names[(first + i) % (sizeof names / sizeof *names)];
        if (torch)
            torch_declare(t, name, i ? DTYPE_F32 : DTYPE_BF16, i ? 4 : 0, shape);
        else
            safetensors_declare(s, name, i ? DTYPE_F32 : DTYPE_F16, i ? 4 : 1, shape);
    }
    size_t bytes = 2 * 6 * 4 + (torch ? 2 : 4);
    if (torch) {
        CHECK(torch_append(t, zeros, bytes, &e) == 0 && torch_commit(t, &e) == 0);
        CHECK(file_read(&in->data, &in->size, path, GOLDEN_MAX, &e) == 0);
    } else {
        safetensors_metadata(s, "key", "value \\\"\n");
        CHECK(safetensors_append(s, zeros, bytes, &e) == 0);
        CHECK(safetensors_take(s, &in->data, &in->size, &e) == 0);
    }
    free(path);
}

static int make_inputs(struct input *inputs)
{
    int n = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i += 2) {
        make(&inputs[n++], i, false);
        if (i % 4 == 0)
            make(&inputs[n++], i, true);
    }
    for (size_t i = 0; i < PICKLES; i++, n++) {
        inputs[n].size = pickles[i].size;
        inputs[n].data = xmalloc(inputs[n].size);
        memcpy(inputs[n].data, pickles[i].bytes, inputs[n].size);
    }
    for (int i = 0; i < n; i++) { /* damage to what was never readable would find little */
        struct weights *w;
        struct error e;
        if (weights_open_memory(&w, inputs[i].data, inputs[i].size, &e) != 0)
            die("made input %d cannot be read: %s", i, e.text);
        weights_close(w);
    }
    return n;
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 5000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    struct input inputs[INPUTS_MAX] = {0};
    int n = argc > 3 ? 0 : make_inputs(inputs), whole = 0;
    glob_t found = {0};
    char **paths = argv + 3;
    int count = argc > 3 ? argc - 3 : 0;
    if (count == 0 && glob("tests/golden/data/checkpoints/*.*", 0, NULL, &found) == 0) {
        glob("tests/golden/data/types/*.*", GLOB_APPEND, NULL, &found);
        paths = found.gl_pathv;
        count = (int)found.gl_pathc;
    }
    for (int i = 0; i < count; i++) {
        struct input in;
        struct error e;
        if (file_read(&in.data, &in.size, paths[i], SIZE_MAX / 2, &e) != 0)
            die("cannot read '%s': %s", paths[i], e.text);
        LLVMFuzzerTestOneInput(in.data, in.size);
        whole++;
        if (n < INPUTS_MAX && in.size > 0 && (argc > 3 || in.size <= GOLDEN_MAX))
            inputs[n++] = in;
        else
            free(in.data);
    }
    for (int i = 0; i < n; i++)
        LLVMFuzzerTestOneInput(inputs[i].data, inputs[i].size);
    for (uint64_t round = 0; n > 0 && round < rounds; round++)
        run(&inputs[round % (uint64_t)n], seed, round);
    for (int i = 0; i < n; i++)
        free(inputs[i].data);
    globfree(&found);
    tap_ok(n > 0, "%d files intact, %d small ones damaged %" PRIu64 " times in all", whole, n,
           rounds);
    return tap_done();
}
#endif
