#include <stdlib.h>
#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/winograd.h"

/* Gradients of 3x3 weights by the transpose of F(4x4, 3x3): input patches and output gradients each
 * become 36 matrices over tiles, in the order in which products read them, whose 36 outer products
 * [co, ci] are the gradients of the transformed weights. A unit keeps its part of all 36 in the
 * cache and adds it to dweight. */

#define UNIT_OUT   64
#define AHEAD      2   /* tiles */
#define UNIT_BLOCK 128 /* tiles multiplied at a time */
/* Where the sums of all units are few, they wait while one part of a group of tiles after the other
 * is transformed and multiplied in a cache that cores share. */
#define KEPT_SUMS  ((int64_t)16 << 20)
#define PART_BYTES ((int64_t)4 << 20)

struct job {
    const struct conv2d_backward_args *a;
    const struct cpu_isa *isa;
    struct winograd_tiles tiles;
    int64_t in, out;
    int64_t group; /* tiles whose products are added up before they are transformed, at most */
    int64_t part;  /* tiles that are transformed together, at most */
    int64_t first_tile, part_tiles;          /* of the part being computed */
    bool starts, ends;                       /* a group */
    int64_t left;                            /* UNIT_OUT in whole tiles */
    float *inputs;                           /* [36][panel], each [part][its width] */
    float *gradients;                        /* [36][unit of co], each [part][left] */
    int64_t inputs_stride, gradients_stride; /* between the 36 */
    const float *zeros;
    struct panel *panels; /* of ci */
    int panel_count;
    float *sums; /* of a unit, [36] each: of all units, or of each worker's */
    bool keeps_sums;
    int64_t units, unit_sums;
    size_t bytes;
};

/* Zeros for channels `count` to `padded` at all positions. */
static void pad(float *dst, int64_t stride, int64_t count, int64_t padded)
{
    for (int i = 0; i < WINOGRAD_POSITIONS && count < padded; i++)
        memset(dst + i * stride + count, 0, (size_t)(padded - count) * sizeof *dst);
}

static void transform_inputs(const struct job *j, int64_t t, struct winograd_place p)
{
    const struct tensor *x = j->a->forward.x;
    for (int i = 0; i < j->panel_count; i++) {
        const struct panel *panel = &j->panels[i];
        const void *patch[WINOGRAD_POSITIONS];
        int64_t width = panel->vectors * j->isa->lanes;
        float *dst = j->inputs + panel->column * j->part + t * width;
        winograd_patch(&j->tiles, p, x, panel->column, j->zeros, patch);
        j->isa->winograd_input(dst, j->inputs_stride, x->dtype, patch, panel->columns);
        pad(dst, j->inputs_stride, panel->columns, width);
    }
}

static void transform_gradients(const struct job *j, int64_t t, struct winograd_place p)
{
    const struct tensor *dy = j->a->dy;
    for (int64_t c = 0; c < j->out; c += UNIT_OUT) {
        const void *pixels[WINOGRAD_OUT * WINOGRAD_OUT];
        int64_t count = least(j->out - c, UNIT_OUT);
        float *dst = j->gradients + c / UNIT_OUT * j->part * j->left + t * j->left;
        for (int i = 0; i < WINOGRAD_OUT * WINOGRAD_OUT; i++) {
            int64_t at = winograd_pixel(&j->tiles, p, i, j->out);
            pixels[i] = at < 0 ? NULL : element_of(dy, at + c);
        }
        j->isa->winograd_output_backward(dst, j->gradients_stride, dy->dtype, pixels, count);
        pad(dst, j->gradients_stride, count, divide_up(count, j->isa->rows) * j->isa->rows);
    }
}

static void transform_tiles(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    for (int64_t t = begin; t < end; t++) {
        struct winograd_place p = winograd_place(&j->tiles, j->first_tile + t);
        if (t + AHEAD < end) {
            struct winograd_place next = winograd_place(&j->tiles, j->first_tile + t + AHEAD);
            winograd_prefetch(&j->tiles, next, j->a->forward.x, false);
            winograd_prefetch(&j->tiles, next, j->a->dy, true);
        }
        transform_inputs(j, t, p);
        transform_gradients(j, t, p);
    }
}

/* dweight[o][i][tap] += for the lanes of one vector of input channels. */
static void add_weights(const struct job *j, int64_t o, int64_t i0, int count, const float *g)
{
    float *dweight = (float *)j->a->dweight->data + (o * j->in + i0) * 9;
    for (int i = 0; i < count; i++)
        for (int tap = 0; tap < 9; tap++)
            dweight[i * 9 + tap] += g[tap * j->isa->lanes + i];
}

static void run_unit(const struct job *j, int64_t unit, float *sums)
{
    const struct cpu_isa *isa = j->isa;
    const struct panel *p = &j->panels[unit % j->panel_count];
    int64_t o0 = unit / j->panel_count * UNIT_OUT;
    int rows = (int)(j->out - o0 < UNIT_OUT ? j->out - o0 : UNIT_OUT);
    int width = p->vectors * isa->lanes;
    int64_t position_sums =
        winograd_stride((UNIT_OUT + ISA_MAX_ROWS) * (int64_t)width, sizeof(float));
    for (int position = 0; position < WINOGRAD_POSITIONS; position++)
        for (int64_t t0 = 0; t0 < j->part_tiles; t0 += UNIT_BLOCK) {
            int64_t k = least(j->part_tiles - t0, UNIT_BLOCK);
            const float *left = j->gradients + position * j->gradients_stride +
                                o0 / UNIT_OUT * j->part * j->left + t0 * j->left;
            const float *right =
                j->inputs + position * j->inputs_stride + p->column * j->part + t0 * width;
            for (int i = 0; i < rows; i += isa->rows)
                isa->tile_strided(p->vectors, left + i, 1, j->left, k, right,
                                  sums + position * position_sums + (int64_t)i * width, width,
                                  t0 > 0 || !j->starts);
        }
    if (!j->ends)
        return;
    float g[9 * ISA_MAX_LANES];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < p->vectors; v++) {
            int count =
                p->columns - v * isa->lanes < isa->lanes ? p->columns - v * isa->lanes : isa->lanes;
            isa->winograd_weight_backward(g, sums + (int64_t)i * width + v * isa->lanes,
                                          position_sums);
            add_weights(j, o0 + i, p->column + v * isa->lanes, count, g);
        }
}

static void run_units(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    for (int64_t unit = begin; unit < end; unit++)
        run_unit(j, unit, j->sums + (j->keeps_sums ? unit : worker) * j->unit_sums);
}

/* Sizes of what is allocated, and how tiles are divided. */
static void plan(struct job *j, const struct conv2d_backward_args *a)
{
    const struct conv2d_args *f = &a->forward;
    *j = (struct job){.a = a, .isa = cpu_isa(), .in = f->x->shape[3], .out = a->dy->shape[3]};
    winograd_tiles_init(&j->tiles, f->x, WINOGRAD_OUT);
    int64_t tiles = j->tiles.count;
    int64_t tile_bytes = WINOGRAD_POSITIONS * (j->in + j->out) * (int64_t)sizeof(float);
    int64_t group = WINOGRAD_BY_WEIGHTS_BYTES / tile_bytes;
    group = group < UNIT_BLOCK ? UNIT_BLOCK : group;
    j->group = least(group, tiles);
    j->panel_count = panels_count(j->isa, j->in);
    j->units = j->panel_count * divide_up(j->out, UNIT_OUT);
    int64_t sums = winograd_stride((UNIT_OUT + ISA_MAX_ROWS) * ISA_MAX_COLUMNS, sizeof(float));
    j->unit_sums = WINOGRAD_POSITIONS * sums;
    int64_t part = PART_BYTES / tile_bytes;
    part = part < UNIT_BLOCK ? UNIT_BLOCK : part;
    j->keeps_sums =
        part < j->group && j->units * j->unit_sums * (int64_t)sizeof(float) <= KEPT_SUMS;
    j->part = j->keeps_sums ? part : j->group;
    j->left = divide_up(UNIT_OUT, j->isa->rows) * j->isa->rows;
    int64_t in = divide_up(j->in, ISA_MAX_LANES) * ISA_MAX_LANES;
    j->inputs_stride = winograd_stride(j->part * in, sizeof(float));
    j->gradients_stride =
        winograd_stride(j->part * divide_up(j->out, UNIT_OUT) * j->left, sizeof(float));
    int64_t all_sums = (j->keeps_sums ? j->units : threads_count()) * j->unit_sums;
    j->bytes =
        (size_t)(WINOGRAD_POSITIONS * (j->inputs_stride + j->gradients_stride) + j->in + all_sums) *
        sizeof(float);
}

size_t cpu_conv2d_winograd_by_weights_bytes(const struct conv2d_backward_args *a)
{
    struct job j;
    plan(&j, a);
    return j.bytes;
}

static void run_group(struct job *j, int64_t first, int64_t end)
{
    for (j->first_tile = first; j->first_tile < end; j->first_tile += j->part) {
        j->part_tiles = least(end - j->first_tile, j->part);
        j->starts = j->first_tile == first;
        j->ends = j->first_tile + j->part_tiles == end;
        parallel_for(j->part_tiles, 4, transform_tiles, j);
        parallel_for(j->units, 1, run_units, j);
    }
}

void cpu_conv2d_winograd_by_weights(struct device *d, const struct conv2d_backward_args *a)
{
    struct job j;
    plan(&j, a);
    int64_t tiles = j.tiles.count;
    if (tiles == 0)
        return;
    j.panels = xmalloc((size_t)j.panel_count * sizeof *j.panels);
    panels_cut(j.isa, 0, j.in, j.panels, j.panel_count);
    size_t granted;
    float *memory = device_allocate(d, j.bytes, &granted);
    memset(memory, 0, (size_t)j.in * sizeof(float));
    j.zeros = memory;
    j.inputs = memory + j.in;
    j.gradients = j.inputs + WINOGRAD_POSITIONS * j.inputs_stride;
    j.sums = j.gradients + WINOGRAD_POSITIONS * j.gradients_stride;
    for (int64_t first = 0; first < tiles; first += j.group)
        run_group(&j, first, least(first + j.group, tiles));
    device_release(d, memory, granted);
    free(j.panels);
}
