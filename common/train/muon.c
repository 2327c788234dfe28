#include "common/train/muon.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "kernels/backward.h"
#include "kernels/training.h"

#define MOMENTUM   0.95
#define STEP       0.5
#define ITERATIONS 5

/* x' = a x + (b g + c g^2) x, where g = x x': Jordan's, which grow small singular values fastest.
 */
static const float a = 3.4445F, b = -4.7750F, c = 2.0315F;

struct kernel {
    int64_t first, rows, columns; /* first: element of the whole array */
    int64_t squares;              /* its first segment in muon.squares */
};

struct muon {
    struct parameters *parameters;
    struct collective *collective;
    struct kernel *kernels; /* in the order of the array */
    int count;
    int *ends;       /* [shards]: shard s orthogonalizes kernels ends[s - 1] .. ends[s] */
    int64_t *bounds; /* [shards + 1] */
    struct tensor *squares;
    double *host_squares;
    int64_t segments; /* of all kernels */
};

/* Multiply-adds of a kernel's step. */
static double cost(const struct kernel *k)
{
    double small = (double)(k->rows < k->columns ? k->rows : k->columns);
    double large = (double)(k->rows < k->columns ? k->columns : k->rows);
    return 2 * small * small * large + (4 * ITERATIONS - 4) * small * small * small;
}

/* Shares of about the same cost. */
static void divide(struct muon *m, int shards)
{
    double all = 0, done = 0;
    for (int i = 0; i < m->count; i++)
        all += cost(&m->kernels[i]);
    m->ends = xcalloc((size_t)shards, sizeof *m->ends);
    for (int i = 0, s = 0; s < shards; s++) {
        for (; i < m->count &&
               (s == shards - 1 || done + cost(&m->kernels[i]) / 2 < all * (s + 1) / shards);
             i++)
            done += cost(&m->kernels[i]);
        m->ends[s] = i;
    }
}

static int by_first(const void *left, const void *right)
{
    const struct kernel *x = left, *y = right;
    return (x->first > y->first) - (x->first < y->first);
}

struct muon *muon_new(struct parameters *p, struct collective *collective)
{
    CHECK(p->slices.shards == collective->shards && p->slices.shard == collective->shard);
    struct muon *m = xcalloc(1, sizeof *m);
    m->parameters = p;
    m->collective = collective;
    m->kernels = xcalloc((size_t)p->trained_count + 1, sizeof *m->kernels);
    for (int i = 0; i < p->trained_count; i++) {
        const struct parameter *t = &p->tensors[i];
        if (t->offset >= p->kernel_elements)
            continue;
        int64_t rows = t->shape[0];
        m->kernels[m->count++] = (struct kernel){t->offset, rows, t->count / rows, m->segments};
        m->segments += squares_segments(t->count);
    }
    qsort(m->kernels, (size_t)m->count, sizeof *m->kernels, by_first);
    divide(m, collective->shards);
    m->bounds = xcalloc((size_t)collective->shards + 1, sizeof *m->bounds);
    m->squares = parameters_doubles(p, m->segments);
    m->host_squares = xcalloc((size_t)m->segments + 1, sizeof *m->host_squares);
    return m;
}

void muon_free(struct muon *m)
{
    if (!m)
        return;
    tensor_release(m->squares);
    free(m->host_squares);
    free(m->kernels);
    free(m->ends);
    free(m->bounds);
    free(m);
}

/* y = sum of coefficients[i] * x[i]; y may be x[0]. */
static void combine(struct tensor *y, int count, const struct tensor *const *x,
                    const float *coefficients)
{
    struct linear_combination_args args = {.count = count, .y = y};
    for (int i = 0; i < count; i++) {
        args.x[i] = x[i];
        args.coefficients[i] = coefficients[i];
    }
    y->device->backend->linear_combination(y->device, &args);
}
#define COMBINE(y, count, tensors, ...)                                                            \
    combine(y, count, (const struct tensor *const[]){TENSORS tensors}, (const float[]){__VA_ARGS__})
#define TENSORS(...) __VA_ARGS__

/* Momentum of a slice's gradient, and in `directions` what Nesterov's momentum moves by. */
static void gather_momentum(struct muon *m, struct tensor *directions, struct slice s,
                            double gradient_scale)
{
    struct parameters *p = m->parameters;
    if (s.count == 0)
        return;
    struct tensor *gradient = tensor_slice(p->arrays[ARRAY_GRADIENTS], s.local, s.count);
    struct tensor *momentum = tensor_slice(p->arrays[ARRAY_M], s.local, s.count);
    struct tensor *direction = tensor_slice(directions, s.first, s.count);
    float fresh = (float)((1 - MOMENTUM) * gradient_scale), kept = (float)MOMENTUM;
    COMBINE(momentum, 2, (momentum, gradient), kept, fresh);
    COMBINE(direction, 2, (gradient, momentum), fresh, kept);
    tensor_release(gradient);
    tensor_release(momentum);
    tensor_release(direction);
}

/* Slice by slice; then every rank has all directions. */
static void gather_directions(struct muon *m, struct tensor *directions, double gradient_scale)
{
    const struct parameters *p = m->parameters;
    const struct slices *s = &p->slices;
    if (m->collective->size == 1) {
        gather_momentum(m, directions, (struct slice){0, p->kernel_elements, 0}, gradient_scale);
        return;
    }
    int buckets = p->kernel_elements > 0 ? slices_bucket_of(s, p->kernel_elements - 1) + 1 : 0;
    for (int bucket = 0; bucket < buckets; bucket++) {
        struct slice own = slice_part(slices_at(s, bucket, s->shard), 0, p->kernel_elements);
        gather_momentum(m, directions, own, gradient_scale);
        slices_bounds(s, bucket, m->bounds);
        float *first = (float *)directions->data + slices_bucket(s, bucket);
        struct share_slices_args share = {first, m->bounds, sizeof *first};
        collective_share_slices(m->collective, p->device, &share);
    }
    collective_join(m->collective, p->device);
}

/* y [rows(x), rows(w)] = x w'. x: [1, any, k], so that it is multiplied as a matrix. */
static void by_transpose(struct tensor *y, const struct tensor *x, const struct tensor *w)
{
    struct linear_args args = {.x = x, .weight = w, .y = y};
    y->device->backend->linear(y->device, &args);
}

struct square {
    struct tensor *rows;   /* [1, n, n], for the left side of products */
    struct tensor *matrix; /* the same memory as [n, n] */
};

static struct square square_new(struct device *d, int64_t n)
{
    struct tensor *matrix = tensor_new(d, DTYPE_F32, DIMS(n, n));
    return (struct square){tensor_reshape(matrix, DIMS(1, n, n)), matrix};
}

static void square_release(struct square *s)
{
    tensor_release(s->rows);
    tensor_release(s->matrix);
}

struct factor {
    float of_x; /* orthogonal(x) = of_x * x + n x, or + x n */
    struct square n;
};

/* From g = x x' / |x|^2, all of whose powers are symmetric and commute. With s = b g + c g^2, an
 * iteration multiplies x from the left by a + s, and g by (a + s)^2. */
static struct factor iterate(struct device *d, struct square g, int64_t size)
{
    struct square s = square_new(d, size), t = square_new(d, size), n = square_new(d, size);
    float of_x = 1;
    for (int i = 0; i < ITERATIONS; i++) {
        by_transpose(s.rows, g.rows, g.matrix);
        COMBINE(s.rows, 2, (s.rows, g.rows), c, b);
        if (i == 0) {
            COMBINE(n.rows, 1, (s.rows), of_x);
        } else {
            by_transpose(t.rows, s.rows, n.matrix);
            COMBINE(n.rows, 3, (n.rows, s.rows, t.rows), a, of_x, 1);
        }
        of_x *= a;
        if (i == ITERATIONS - 1)
            break;
        by_transpose(t.rows, s.rows, g.matrix);
        COMBINE(t.rows, 2, (t.rows, g.rows), 1, a);
        by_transpose(g.rows, t.rows, s.matrix);
        COMBINE(g.rows, 2, (g.rows, t.rows), 1, a);
    }
    square_release(&s);
    square_release(&t);
    return (struct factor){of_x, n};
}

/* x [1, rows, columns] becomes its step. sum: of its squares. */
static void orthogonalize(struct tensor *x, const struct kernel *k, double sum)
{
    struct device *d = x->device;
    const struct backend *backend = d->backend;
    bool wide = k->rows <= k->columns;
    int64_t size = wide ? k->rows : k->columns;
    double length = sqrt(sum);
    struct tensor *matrix = tensor_reshape(x, DIMS(k->rows, k->columns));
    struct tensor *y = tensor_new(d, DTYPE_F32, DIMS(1, k->rows, k->columns));
    struct square g = square_new(d, size);
    if (wide) {
        by_transpose(g.rows, x, matrix);
    } else { /* as the gradient of weights */
        struct linear_backward_args product = {
            .forward = {.x = x, .weight = g.matrix}, .dy = x, .dweight = g.matrix, .fresh = true};
        backend->linear_backward(d, &product);
    }
    COMBINE(g.rows, 1, (g.rows), length > 0 ? (float)(1 / sum) : 0);
    struct factor f = iterate(d, g, size);
    if (wide) { /* as the gradient of inputs */
        struct linear_backward_args product = {
            .forward = {.x = x, .weight = matrix}, .dy = f.n.rows, .dx = y};
        backend->linear_backward(d, &product);
    } else {
        by_transpose(y, x, f.n.matrix);
    }
    double longest = (double)(wide ? k->columns : k->rows);
    float factor = length > 0 ? (float)(STEP * sqrt(longest) / length) : 0;
    COMBINE(x, 2, (x, y), f.of_x * factor, factor);
    square_release(&f.n);
    square_release(&g);
    tensor_release(matrix);
    tensor_release(y);
}

static struct tensor *kernel_of(struct tensor *directions, const struct kernel *k)
{
    struct tensor *flat = tensor_slice(directions, k->first, k->rows * k->columns);
    struct tensor *x = tensor_reshape(flat, DIMS(1, k->rows, k->columns));
    tensor_release(flat);
    return x;
}

/* The sums of the squares of this shard's kernels. The host waits for them. */
static void find_squares(struct muon *m, struct tensor *directions, int begin, int end)
{
    struct device *d = m->parameters->device;
    for (int i = begin; i < end; i++) {
        const struct kernel *k = &m->kernels[i];
        struct square_sums_args args = {
            .count = k->rows * k->columns,
            .x = (const float *)directions->data + k->first,
            .sums = (double *)m->squares->data + k->squares,
        };
        d->backend->square_sums(d, &args);
    }
    d->backend->download(d, m->host_squares, m->squares->data,
                         (size_t)m->segments * sizeof *m->host_squares);
}

const float *muon_steps(struct muon *m, double gradient_scale)
{
    struct parameters *p = m->parameters;
    struct collective *together = m->collective;
    struct tensor *directions =
        p->micro_gradients ? p->micro_gradients : p->arrays[ARRAY_GRADIENTS];
    gather_directions(m, directions, gradient_scale);
    int begin = together->shard > 0 ? m->ends[together->shard - 1] : 0;
    int end = m->ends[together->shard];
    find_squares(m, directions, begin, end);
    for (int i = begin; i < end; i++) {
        const struct kernel *k = &m->kernels[i];
        double sum = 0;
        for (int64_t j = 0; j < squares_segments(k->rows * k->columns); j++)
            sum += m->host_squares[k->squares + j];
        struct tensor *x = kernel_of(directions, k);
        orthogonalize(x, k, sum);
        tensor_release(x);
    }
    if (together->size > 1) {
        for (int s = 0; s < together->shards; s++)
            m->bounds[s + 1] =
                m->ends[s] < m->count ? m->kernels[m->ends[s]].first : p->kernel_elements;
        m->bounds[0] = 0;
        struct share_slices_args share = {directions->data, m->bounds, sizeof(float)};
        collective_share_slices(together, p->device, &share);
        collective_join(together, p->device);
    }
    return directions->data;
}
