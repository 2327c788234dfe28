#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/winograd.h"

/* 3x3 convolution by F(4x4, 3x3) in F32, or by F(2x2, 3x3) in BF16 where the processor multiplies
 * that: the input becomes matrices of [tiles, channels], one for each position of a patch, each is
 * multiplied with a matrix of transformed weights, and the products become a tile of output pixels.
 * A batch of few tiles has more weights than pixels: they are transformed in the cache as needed,
 * and all tiles are multiplied with them. For one of many, the weights are transformed first, and
 * its tiles stay in the cache, a few at a time. No transformed weights are kept. */

#define BLOCK_CHANNELS 128 /* BLOCK_BF16 in BF16 */
#define BLOCK_BF16     768
#define UNIT_TILES     96 /* tiles of one unit, UNIT_BF16 in BF16 */
#define UNIT_BF16      256
#define LARGE_TILES    256 /* a batch of more has many */
#define TILES_AHEAD    8
#define SHARED_TILES   ((int64_t)512 << 10) /* bytes of transformed tiles that stay in the cache */
#define SHARED_WEIGHTS ((int64_t)12 << 20)  /* and of weights, in one that cores share */

struct job {
    const struct conv2d_args *a;
    const struct cpu_isa *isa;
    const struct cpu_bf16 *bf16; /* NULL: F32 */
    bool pairs;                  /* weights are packed in pairs, as they lie */
    bool shares_weights;         /* they are transformed first */
    struct winograd_tiles tiles;
    int64_t in, out;
    int64_t group;                    /* tiles that are transformed together, at most */
    int64_t first_tile, group_tiles;  /* of the group being computed */
    int64_t positions, block, blocks; /* of input channels */
    size_t size;                      /* of a transformed number */
    int64_t stride;                   /* of positions in transformed */
    char *transformed;                /* [blocks][positions], each [group][block] */
    char *weights;                    /* of all panels, if shared */
    const void *zeros;
    struct panel *panels;
    int panel_count;
    int64_t unit_tiles, tile_units;
    char *scratch;
    size_t weight_bytes, product_bytes, packed_bytes; /* of a panel; of floats before they are
                                                         transformed */
    size_t per_worker, transformed_bytes, shared_bytes, zero_bytes, bytes;
};

static void transform_patch(const struct job *j, struct winograd_place p, int64_t c0,
                            int64_t channels, void *dst)
{
    const struct tensor *x = j->a->x;
    if (!j->bf16) {
        const void *pixels[WINOGRAD_POSITIONS];
        winograd_patch(&j->tiles, p, x, c0, j->zeros, pixels);
        j->isa->winograd_input(dst, j->stride, x->dtype, pixels, channels);
        return;
    }
    const uint16_t *pixels[WINOGRAD_BF16_POSITIONS];
    for (int i = 0; i < WINOGRAD_BF16_POSITIONS; i++) {
        int64_t at = winograd_from(&j->tiles, p, i, j->in);
        pixels[i] = at < 0 ? j->zeros : (const uint16_t *)x->data + at + c0;
    }
    j->bf16->winograd_input(dst, j->stride, pixels, channels);
}

/* dst: the tile's row in the first matrix. Pixels of BF16 arrive in time without being asked for.
 */
static void transform_tile(const struct job *j, int64_t tile, char *dst)
{
    struct winograd_place p = winograd_place(&j->tiles, tile);
    if (j->a->x->dtype == DTYPE_F32 && tile + 1 < j->tiles.count)
        winograd_prefetch(&j->tiles, winograd_place(&j->tiles, tile + 1), j->a->x, false);
    for (int64_t b = 0; b < j->blocks; b++) {
        int64_t c0 = b * j->block;
        transform_patch(j, p, c0, least(j->in - c0, j->block), dst);
        dst += (size_t)(j->positions * j->stride) * j->size;
    }
}

static void transform_input(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    for (int64_t t = begin; t < end; t++)
        transform_tile(j, j->first_tile + t, j->transformed + (size_t)(t * j->block) * j->size);
}

/* Packs by lanes and transforms the weights of one panel and block of channels. */
static void transform_weights(const struct job *j, const struct panel *p, int64_t c0,
                              int64_t channels, void *u, char *scratch)
{
    float *packed = (float *)scratch, *converted = (float *)(scratch + j->packed_bytes);
    const struct tensor *w = j->a->weight;
    int lanes = j->isa->lanes, width = p->vectors * lanes;
    int64_t stride = winograd_stride(j->block * width, j->size);
    for (int v = 0; v < p->vectors; v++) {
        int rows = p->columns - v * lanes < lanes ? p->columns - v * lanes : lanes;
        int64_t ld;
        if (j->pairs) {
            const uint16_t *pairs =
                (const uint16_t *)w->data + ((p->column + v * lanes) * j->in + c0) * 9;
            j->isa->pack(packed, lanes, (const float *)pairs, j->in * 9 / 2, rows, channels * 9 / 2,
                         1);
            j->bf16->winograd_weight_pairs((uint16_t *)u + 2 * v * lanes, stride, width, packed,
                                           channels);
            continue;
        }
        const float *g = weights_as_f32(w->dtype, w->data, p->column + v * lanes, rows, j->in * 9,
                                        c0 * 9, channels * 9, converted, &ld);
        j->isa->pack(packed, lanes, g, ld, rows, channels * 9, 1);
        if (j->bf16)
            j->bf16->winograd_weight((uint16_t *)u + 2 * v * lanes, stride, width, packed,
                                     channels);
        else
            j->isa->winograd_weight((float *)u + v * lanes, stride, width, packed, channels);
    }
}

/* One tile of products: `rows` rows of which those from `last` on repeat it. */
static void multiply(const struct job *j, const struct panel *p, const char *rows, int64_t last,
                     int64_t channels, const void *u, float *products, const float *init)
{
    int width = p->vectors * j->isa->lanes;
    if (j->bf16) {
        const uint16_t *a[ISA_MAX_ROWS];
        for (int i = 0; i < j->isa->rows; i++)
            a[i] = (const uint16_t *)rows + (i < last ? i : last) * j->block;
        j->bf16->tile(p->vectors, 1, a, (channels + 1) / 2 * 2, u, products, width, init);
    } else {
        const float *a[ISA_MAX_ROWS];
        for (int i = 0; i < j->isa->rows; i++)
            a[i] = (const float *)rows + (i < last ? i : last) * j->block;
        if (last < j->isa->rows / 2)
            j->isa->half_tile(p->vectors, 1, a, channels, u, products, width, init);
        else
            j->isa->tile(p->vectors, 1, a, channels, u, products, width, init);
    }
}

static void write_tile(const struct job *j, const struct panel *p, struct winograd_place place,
                       const float *products, int64_t stride, const float *bias)
{
    const struct tensor *y = j->a->y, *residual = j->a->residual;
    if (j->bf16) {
        enum { COUNT = WINOGRAD_BF16_OUT * WINOGRAD_BF16_OUT };
        uint16_t *pixels[COUNT];
        const uint16_t *added[COUNT];
        for (int i = 0; i < COUNT; i++) {
            int64_t at = winograd_pixel(&j->tiles, place, i, j->out) + p->column;
            pixels[i] = at < p->column ? NULL : (uint16_t *)y->data + at;
            added[i] = residual && pixels[i] ? (const uint16_t *)residual->data + at : NULL;
        }
        j->bf16->winograd_output(pixels, products, stride, p->columns, bias,
                                 residual ? added : NULL);
        return;
    }
    enum { COUNT = WINOGRAD_OUT * WINOGRAD_OUT };
    float *pixels[COUNT], wide[COUNT][ISA_MAX_COLUMNS];
    for (int i = 0; i < COUNT; i++) {
        int64_t at = winograd_pixel(&j->tiles, place, i, j->out);
        pixels[i] = at < 0 ? NULL : row_begin(y, at + p->column, wide[i]);
    }
    j->isa->winograd_output(pixels, products, stride, p->columns, bias);
    for (int i = 0; i < COUNT; i++) {
        if (!pixels[i])
            continue;
        int64_t at = winograd_pixel(&j->tiles, place, i, j->out) + p->column;
        float before[ISA_MAX_COLUMNS];
        if (residual)
            j->isa->add(pixels[i], pixels[i], row_read(residual, at, p->columns, before),
                        p->columns);
        row_written(y, at, p->columns, pixels[i]);
    }
}

/* The products of `tiles` tiles at all positions; rows: the first tile's. */
static void multiply_block(const struct job *j, const struct panel *p, const char *rows,
                           int64_t tiles, int64_t channels, const char *u, float *products,
                           const float *init)
{
    int width = p->vectors * j->isa->lanes;
    int64_t weight_stride = winograd_stride(j->block * width, j->size);
    int64_t product_stride = winograd_stride((j->unit_tiles + ISA_MAX_ROWS) * width, sizeof(float));
    for (int64_t i = 0; i < j->positions; i++) {
        const char *left = rows + (size_t)(i * j->stride) * j->size;
        const char *right = u + (size_t)(i * weight_stride) * j->size;
        for (int64_t t = 0; t < tiles; t += j->isa->rows)
            multiply(j, p, left + (size_t)(t * j->block) * j->size, tiles - 1 - t, channels, right,
                     products + i * product_stride + t * width, init);
    }
}

/* Asks for what write_tile reads and writes. */
static void prefetch_tile(const struct job *j, const struct panel *p, int64_t tile)
{
    const struct tensor *y = j->a->y, *residual = j->a->residual;
    struct winograd_place place = winograd_place(&j->tiles, tile);
    int64_t size = (int64_t)dtype_size(y->dtype);
    for (int i = 0; i < j->tiles.out * j->tiles.out; i++) {
        int64_t at = winograd_pixel(&j->tiles, place, i, j->out);
        if (at < 0)
            continue;
        int64_t begin = (at + p->column) * size, end = begin + p->columns * size;
        for (int64_t byte = begin; byte < end; byte += 64) {
            __builtin_prefetch((const char *)y->data + byte, 1);
            if (residual)
                __builtin_prefetch((const char *)residual->data + byte);
        }
    }
}

static void write_tiles(const struct job *j, const struct panel *p, int64_t first, int64_t tiles,
                        const float *products)
{
    int width = p->vectors * j->isa->lanes;
    int64_t stride = winograd_stride((j->unit_tiles + ISA_MAX_ROWS) * width, sizeof(float));
    const float *bias = j->a->bias ? (const float *)j->a->bias->data + p->column : NULL;
    for (int64_t t = 0; t < tiles; t++) {
        if (t + TILES_AHEAD < tiles)
            prefetch_tile(j, p, first + t + TILES_AHEAD);
        write_tile(j, p, winograd_place(&j->tiles, first + t), products + t * width, stride, bias);
    }
}

static void run_unit(const struct job *j, int64_t unit, char *scratch)
{
    const struct panel *p = &j->panels[unit % j->panel_count];
    int64_t t0 = unit / j->panel_count * j->unit_tiles;
    int64_t tiles = least(j->group_tiles - t0, j->unit_tiles);
    char *u = scratch;
    float *products = (float *)(u + j->weight_bytes);
    char *packed = (char *)products + j->product_bytes;
    float none[ISA_MAX_COLUMNS] = {0};
    for (int64_t b = 0; b < j->blocks; b++) {
        int64_t c0 = b * j->block, channels = least(j->in - c0, j->block);
        int64_t first = b * j->positions * j->stride + t0 * j->block;
        transform_weights(j, p, c0, channels, u, packed);
        multiply_block(j, p, j->transformed + (size_t)first * j->size, tiles, channels, u, products,
                       b == 0 ? none : NULL);
    }
    write_tiles(j, p, j->first_tile + t0, tiles, products);
}

static void run_units(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    for (int64_t unit = begin; unit < end; unit++)
        run_unit(j, unit, j->scratch + (size_t)worker * j->per_worker);
}

static void share_weights(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    for (int64_t i = begin; i < end; i++)
        transform_weights(j, &j->panels[i], 0, j->in, j->weights + (size_t)i * j->weight_bytes,
                          j->scratch + (size_t)worker * j->per_worker);
}

/* Units of a few tiles, with shared weights. */
static void run_tiles(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    char *rows = j->scratch + (size_t)worker * j->per_worker;
    float *products = (float *)(rows + j->transformed_bytes);
    float none[ISA_MAX_COLUMNS] = {0};
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t first = unit * j->unit_tiles;
        int64_t tiles = least(j->tiles.count - first, j->unit_tiles);
        for (int64_t t = 0; t < tiles; t++)
            transform_tile(j, first + t, rows + (size_t)(t * j->block) * j->size);
        for (int i = 0; i < j->panel_count; i++) {
            for (int64_t t = 0; t < least(tiles, TILES_AHEAD); t++)
                prefetch_tile(j, &j->panels[i], first + t);
            multiply_block(j, &j->panels[i], rows, tiles, j->in,
                           j->weights + (size_t)i * j->weight_bytes, products, none);
            write_tiles(j, &j->panels[i], first, tiles, products);
        }
    }
}

/* How tiles are divided: groups that are transformed together, and units of work. */
static void divide_tiles(struct job *j)
{
    int64_t tiles = j->tiles.count;
    int64_t tile_bytes = j->positions * j->blocks * j->block * (int64_t)j->size;
    int64_t group = WINOGRAD_FORWARD_BYTES / tile_bytes;
    int64_t unit = j->bf16 ? UNIT_BF16 : UNIT_TILES;
    group = group < unit ? unit : group;
    j->group = least(group, tiles);
    j->tile_units = j->group ? divide_up(j->group, unit) : 1;
    int64_t wanted = divide_up(2 * threads_count(), j->panel_count);
    if (threads_count() > 1 && j->panel_count % threads_count() && j->tile_units < wanted)
        j->tile_units = wanted;
    j->unit_tiles = divide_up(divide_up(j->group, j->tile_units), j->isa->rows) * j->isa->rows;
}

static void divide_few_tiles(struct job *j)
{
    int64_t tiles = SHARED_TILES / (j->positions * j->block * (int64_t)j->size);
    tiles = tiles / j->isa->rows * j->isa->rows;
    j->group = j->unit_tiles = tiles < j->isa->rows ? j->isa->rows : tiles;
}

static size_t stride_bytes(const struct job *j, int64_t elements, size_t size)
{
    return (size_t)(j->positions * winograd_stride(elements, size)) * size;
}

/* Sizes of what is allocated, and how work is divided. */
static void plan(struct job *j, const struct conv2d_args *a)
{
    *j = (struct job){.a = a, .isa = cpu_isa(), .in = a->x->shape[3], .out = a->y->shape[3]};
    j->bf16 = cpu_conv2d_winograd_is_bf16(a) ? cpu_bf16() : NULL;
    j->pairs = j->bf16 && a->weight->dtype == DTYPE_BF16 && j->in % 2 == 0;
    j->positions = j->bf16 ? WINOGRAD_BF16_POSITIONS : WINOGRAD_POSITIONS;
    j->size = j->bf16 ? sizeof(uint16_t) : sizeof(float);
    j->panel_count = panels_count(j->isa, j->out);
    winograd_tiles_init(&j->tiles, a->x, j->bf16 ? WINOGRAD_BF16_OUT : WINOGRAD_OUT);
    int64_t in = divide_up(j->in, ISA_MAX_LANES) * ISA_MAX_LANES;
    size_t weights = (size_t)j->panel_count * stride_bytes(j, in * ISA_MAX_COLUMNS, j->size);
    j->shares_weights = j->tiles.count > LARGE_TILES && weights <= SHARED_WEIGHTS;
    j->block = j->shares_weights ? in : least(in, j->bf16 ? BLOCK_BF16 : BLOCK_CHANNELS);
    j->blocks = divide_up(j->in, j->block);
    if (j->shares_weights)
        divide_few_tiles(j);
    else
        divide_tiles(j);
    j->stride = winograd_stride(j->group * j->block, j->size);
    j->weight_bytes = stride_bytes(j, j->block * ISA_MAX_COLUMNS, j->size);
    j->product_bytes =
        stride_bytes(j, (j->unit_tiles + ISA_MAX_ROWS) * ISA_MAX_COLUMNS, sizeof(float));
    j->packed_bytes = (size_t)(9 * j->block) * ISA_MAX_LANES * sizeof(float);
    j->transformed_bytes = (size_t)(j->blocks * j->positions * j->stride) * j->size;
    j->zero_bytes = (size_t)j->block * sizeof(float);
    j->per_worker = j->product_bytes + 2 * j->packed_bytes +
                    (j->shares_weights ? j->transformed_bytes : j->weight_bytes);
    j->shared_bytes = j->shares_weights ? weights : j->transformed_bytes;
    j->bytes = j->zero_bytes + j->shared_bytes + j->per_worker * (size_t)threads_count();
}

size_t cpu_conv2d_winograd_bytes(const struct conv2d_args *a)
{
    struct job j;
    plan(&j, a);
    return j.bytes;
}

static void run_groups(struct job *j)
{
    for (j->first_tile = 0; j->first_tile < j->tiles.count; j->first_tile += j->group) {
        j->group_tiles = least(j->tiles.count - j->first_tile, j->group);
        parallel_for(j->group_tiles, 8, transform_input, j);
        int64_t units = divide_up(j->group_tiles, j->unit_tiles) * j->panel_count;
        parallel_for(units, 1, run_units, j);
    }
}

void cpu_conv2d_winograd(struct device *d, const struct conv2d_args *a)
{
    struct job j;
    plan(&j, a);
    if (j.tiles.count == 0)
        return;
    j.panels = xmalloc((size_t)j.panel_count * sizeof *j.panels);
    panels_cut(j.isa, 0, j.out, j.panels, j.panel_count);
    size_t granted;
    char *memory = device_allocate(d, j.bytes, &granted);
    memset(memory, 0, j.zero_bytes);
    j.zeros = memory;
    j.transformed = j.weights = memory + j.zero_bytes;
    j.scratch = memory + j.zero_bytes + j.shared_bytes;
    if (j.shares_weights) {
        parallel_for(j.panel_count, 1, share_weights, &j);
        parallel_for(divide_up(j.tiles.count, j.unit_tiles), 1, run_tiles, &j);
    } else {
        run_groups(&j);
    }
    device_release(d, memory, granted);
    free(j.panels);
}
