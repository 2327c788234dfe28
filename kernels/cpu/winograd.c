#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/winograd.h"

/* 3x3 convolution by F(4x4, 3x3): the input becomes 36 matrices of [tiles, channels], each is
 * multiplied with a matrix of transformed weights, and 36 products become 4x4 output pixels.
 * Weights are transformed in the cache as needed, so that no second copy of a checkpoint is kept.
 */

#define BLOCK_CHANNELS 64
#define UNIT_TILES     256 /* tiles of one unit: its products stay in the cache */

struct job {
    const struct conv2d_args *a;
    const struct cpu_isa *isa;
    struct winograd_tiles tiles;
    int64_t in, out;
    int64_t first_tile, group_tiles; /* of the group being computed */
    int64_t blocks;                  /* of input channels */
    float *transformed;              /* [blocks][36][group_tiles][BLOCK_CHANNELS] */
    const float *zeros;
    struct panel *panels;
    int panel_count;
    int64_t unit_tiles, tile_units;
    float *scratch;
    size_t per_worker;
};

static void transform_input(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    const float *x = j->a->x->data;
    int64_t stride = j->group_tiles * BLOCK_CHANNELS;
    for (int64_t t = begin; t < end; t++) {
        struct winograd_place p = winograd_place(&j->tiles, j->first_tile + t);
        for (int64_t b = 0; b < j->blocks; b++) {
            int64_t c0 = b * BLOCK_CHANNELS;
            int64_t channels = j->in - c0 < BLOCK_CHANNELS ? j->in - c0 : BLOCK_CHANNELS;
            const float *pixels[WINOGRAD_POSITIONS];
            winograd_patch(&j->tiles, p, x + c0, j->in, j->zeros, pixels);
            j->isa->winograd_input(j->transformed + b * WINOGRAD_POSITIONS * stride +
                                       t * BLOCK_CHANNELS,
                                   stride, pixels, channels);
        }
    }
}

/* Packs by lanes and transforms the weights of one panel and block of channels. */
static void transform_weights(const struct job *j, const struct panel *p, int64_t c0,
                              int64_t channels, float *u, float *packed, float *converted)
{
    const struct tensor *w = j->a->weight;
    int lanes = j->isa->lanes, width = p->vectors * lanes;
    for (int v = 0; v < p->vectors; v++) {
        int rows = p->columns - v * lanes < lanes ? p->columns - v * lanes : lanes;
        int64_t ld;
        const float *g = weights_as_f32(w->dtype, w->data, p->column + v * lanes, rows, j->in * 9,
                                        c0 * 9, channels * 9, converted, &ld);
        j->isa->pack(packed, lanes, g, ld, rows, channels * 9, 1);
        j->isa->winograd_weight(u + v * lanes, (int64_t)BLOCK_CHANNELS * width, width, packed,
                                channels);
    }
}

static void write_output(const struct job *j, const struct panel *p, int64_t t0, int64_t tiles,
                         const float *products, int64_t stride, const float *bias)
{
    float *y = j->a->y->data;
    int width = p->vectors * j->isa->lanes;
    for (int64_t t = 0; t < tiles; t++) {
        struct winograd_place at = winograd_place(&j->tiles, j->first_tile + t0 + t);
        float *pixels[WINOGRAD_OUT * WINOGRAD_OUT];
        for (int i = 0; i < WINOGRAD_OUT * WINOGRAD_OUT; i++)
            pixels[i] = winograd_pixel(&j->tiles, at, i, y + p->column, j->out);
        j->isa->winograd_output(pixels, products + t * width, stride, p->columns, bias);
    }
}

static void run_unit(const struct job *j, int64_t unit, float *scratch)
{
    const struct panel *p = &j->panels[unit % j->panel_count];
    int64_t t0 = unit / j->panel_count * j->unit_tiles;
    int64_t tiles = j->group_tiles - t0 < j->unit_tiles ? j->group_tiles - t0 : j->unit_tiles;
    const struct cpu_isa *isa = j->isa;
    int width = p->vectors * isa->lanes;

    float *u = scratch;
    float *packed = u + WINOGRAD_POSITIONS * BLOCK_CHANNELS * ISA_MAX_COLUMNS;
    float *converted = packed + 9 * BLOCK_CHANNELS * ISA_MAX_LANES;
    float *products = converted + 9 * BLOCK_CHANNELS * ISA_MAX_LANES;
    int64_t product_stride = (j->unit_tiles + ISA_MAX_ROWS) * width;
    float none[ISA_MAX_COLUMNS] = {0};

    for (int64_t b = 0; b < j->blocks; b++) {
        int64_t c0 = b * BLOCK_CHANNELS;
        int64_t channels = j->in - c0 < BLOCK_CHANNELS ? j->in - c0 : BLOCK_CHANNELS;
        transform_weights(j, p, c0, channels, u, packed, converted);
        for (int position = 0; position < WINOGRAD_POSITIONS; position++) {
            const float *rows =
                j->transformed +
                ((b * WINOGRAD_POSITIONS + position) * j->group_tiles + t0) * BLOCK_CHANNELS;
            for (int64_t t = 0; t < tiles; t += isa->rows) {
                const float *a[ISA_MAX_ROWS];
                for (int i = 0; i < isa->rows; i++)
                    a[i] = rows + (t + i < tiles ? t + i : tiles - 1) * BLOCK_CHANNELS;
                isa->tile(
                    p->vectors, 1, a, channels, u + (int64_t)position * BLOCK_CHANNELS * width,
                    products + position * product_stride + t * width, width, b == 0 ? none : NULL);
            }
        }
    }
    const float *bias = j->a->bias ? (const float *)j->a->bias->data + p->column : NULL;
    write_output(j, p, t0, tiles, products, product_stride, bias);
}

static void run_units(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    for (int64_t unit = begin; unit < end; unit++)
        run_unit(j, unit, j->scratch + (size_t)worker * j->per_worker);
}

void cpu_conv2d_winograd(struct device *d, const struct conv2d_args *a)
{
    struct job j = {
        .a = a,
        .isa = cpu_isa(),
        .in = a->x->shape[3],
        .out = a->y->shape[3],
    };
    winograd_tiles_init(&j.tiles, a->x);
    j.blocks = divide_up(j.in, BLOCK_CHANNELS);
    int64_t tiles = j.tiles.count;
    if (tiles == 0)
        return;
    int64_t padded_channels = j.blocks * BLOCK_CHANNELS;
    int64_t tile_bytes = WINOGRAD_POSITIONS * padded_channels * (int64_t)sizeof(float);
    int64_t group = WINOGRAD_FORWARD_BYTES / tile_bytes;
    group = group < UNIT_TILES ? UNIT_TILES : group;
    group = group < tiles ? group : tiles;

    int max_panels = (int)divide_up(j.out, j.isa->lanes);
    j.panels = xmalloc((size_t)max_panels * sizeof *j.panels);
    j.panel_count = panels_cut(j.isa, 0, j.out, j.panels, max_panels);
    j.tile_units = divide_up(group, UNIT_TILES);
    int64_t wanted = divide_up(2 * threads_count(), j.panel_count);
    if (threads_count() > 1 && j.panel_count % threads_count() && j.tile_units < wanted)
        j.tile_units = wanted;
    j.unit_tiles = divide_up(divide_up(group, j.tile_units), j.isa->rows) * j.isa->rows;

    j.per_worker = WINOGRAD_POSITIONS * BLOCK_CHANNELS * ISA_MAX_COLUMNS +
                   2 * 9 * BLOCK_CHANNELS * ISA_MAX_LANES +
                   (size_t)(WINOGRAD_POSITIONS * (j.unit_tiles + ISA_MAX_ROWS)) * ISA_MAX_COLUMNS;
    size_t transformed = (size_t)(WINOGRAD_POSITIONS * group * padded_channels);
    size_t granted;
    float *memory = device_allocate(
        d, (transformed + j.per_worker * (size_t)threads_count() + BLOCK_CHANNELS) * sizeof(float),
        &granted);
    memset(memory, 0, BLOCK_CHANNELS * sizeof(float));
    j.zeros = memory;
    j.transformed = memory + BLOCK_CHANNELS;
    j.scratch = j.transformed + transformed;
    for (j.first_tile = 0; j.first_tile < tiles; j.first_tile += group) {
        j.group_tiles = tiles - j.first_tile < group ? tiles - j.first_tile : group;
        parallel_for(j.group_tiles, 8, transform_input, &j);
        int64_t units = divide_up(j.group_tiles, j.unit_tiles) * j.panel_count;
        parallel_for(units, 1, run_units, &j);
    }
    device_release(d, memory, granted);
    free(j.panels);
}
