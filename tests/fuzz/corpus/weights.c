#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/weights/safetensors.h"
#include "formats/weights/torch_write.h"
#include "tests/fuzz/corpus/corpus.h"
#include "tests/support/pickles.h"

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
enum { NAMES = sizeof names / sizeof *names };

static const int64_t shape[] = {2, 3, 1, 1};
static const uint8_t zeros[64];

static void write_safetensors(size_t first)
{
    struct safetensors_writer *s = safetensors_create_memory();
    struct error e;
    char file[32];
    uint8_t *data;
    size_t size;
    for (size_t i = 0; i < 3; i++)
        safetensors_declare(s, names[(first + i) % NAMES], i ? DTYPE_F32 : DTYPE_F16, i ? 4 : 1,
                            shape);
    safetensors_metadata(s, "key", "value \\\"\n");
    CHECK(safetensors_append(s, zeros, 2 * 6 * 4 + 4, &e) == 0);
    CHECK(safetensors_take(s, &data, &size, &e) == 0);
    snprintf(file, sizeof file, "%zu.safetensors", first);
    corpus_write("weights", file, data, size);
    free(data);
}

static void write_torch(size_t first)
{
    struct torch_writer *t;
    struct error e;
    char file[32];
    snprintf(file, sizeof file, "%zu.pt", first);
    char *path = path_join(corpus_folder("weights"), file);
    CHECK(torch_create(&t, path, first % 2, &e) == 0);
    for (size_t i = 0; i < 3; i++)
        torch_declare(t, names[(first + i) % NAMES], i ? DTYPE_F32 : DTYPE_BF16, i ? 4 : 0, shape);
    CHECK(torch_append(t, zeros, 2 * 6 * 4 + 2, &e) == 0 && torch_commit(t, &e) == 0);
    free(path);
}

static uint8_t *put(uint8_t *p, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        *p++ = (uint8_t)(value >> 8 * i);
    return p;
}

/* A zip of one deflated member (APPNOTE.TXT 4.3). */
static void write_zip(const char *file, const char *member, const char *source)
{
    uint8_t *data, packed[4096], zip[4096 + 256], *p = zip;
    size_t size, length = strlen(member);
    struct error e;
    char *path = path_join(corpus_folder("weights"), source);
    CHECK(file_read(&data, &size, path, sizeof packed, &e) == 0);
    z_stream stream = {.next_in = data, .avail_in = (uInt)size};
    stream.next_out = packed;
    stream.avail_out = sizeof packed;
    CHECK(deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    uLong crc = crc32_z(0, data, size);
    p = put(put(put(put(p, 0x04034b50, 4), 20, 2), 0, 2), 8, 2);
    p = put(put(put(put(p, 0, 4), crc, 4), stream.total_out, 4), size, 4);
    p = put(put(p, length, 2), 0, 2);
    p = (uint8_t *)memcpy(p, member, length) + length;
    p = (uint8_t *)memcpy(p, packed, stream.total_out) + stream.total_out;
    size_t directory = (size_t)(p - zip);
    p = put(put(put(put(put(p, 0x02014b50, 4), 20, 2), 20, 2), 0, 2), 8, 2);
    p = put(put(put(put(p, 0, 4), crc, 4), stream.total_out, 4), size, 4);
    p = put(put(put(p, length, 2), 0, 8), 0, 8);
    p = (uint8_t *)memcpy(p, member, length) + length;
    size_t end = (size_t)(p - zip);
    p = put(put(put(p, 0x06054b50, 4), 0, 4), 1, 2);
    p = put(put(put(put(p, 1, 2), end - directory, 4), directory, 4), 0, 2);
    corpus_write("weights", file, zip, (size_t)(p - zip));
    deflateEnd(&stream);
    free(data);
    free(path);
}

/* Damage to what was never readable would find little. */
static void check_readable(const char *file)
{
    struct weights *w;
    struct error e;
    char *path = path_join(corpus_folder("weights"), file);
    if (weights_open(&w, path, &e) != 0)
        die("'%s' cannot be read: %s", path, e.text);
    weights_close(w);
    free(path);
}

void corpus_weights(void)
{
    for (size_t i = 0; i < NAMES; i += 2)
        write_safetensors(i);
    for (size_t i = 0; i < NAMES; i += 4)
        write_torch(i);
    write_torch(1);
    for (int i = 0; i < PICKLES; i++) {
        char file[32];
        snprintf(file, sizeof file, "%d.pkl", i);
        corpus_write("weights", file, pickles[i].bytes, pickles[i].size);
        check_readable(file);
    }
    write_zip("safetensors.zip", "model.safetensors", "0.safetensors");
    write_zip("torch.zip", "model.ckpt", "0.pt");
    check_readable("safetensors.zip");
    check_readable("torch.zip");
    corpus_copy("weights", "tests/golden/data/checkpoints/hostile.*", 1 << 16);
    corpus_copy("weights", "tests/golden/data/types/*.*", 1 << 14);
}
