#include "kernels/host_product.h"
#include "kernels/ref/ref.h"
#include "kernels/training.h"

#define ROWS_AT_ONCE 16 /* of an [n, n] matrix in a unit of work for a thread */

/* Matrices of doubles with n rows and d or n columns. */

static double *matrix(int64_t rows, int64_t columns)
{
    return xcalloc((size_t)(rows * columns) + 1, sizeof(double));
}

/* c = scale * x y^T; c: [n, n]; x, y: [n, d]. */
static void similarities(double *c, double scale, const double *x, const double *y, int64_t n,
                         int64_t d)
{
    host_product(&(struct host_product){
        .m = n, .n = n, .k = d, .a = x, .b = y, .b_transposed = true, .scale = scale, .c = c});
}

/* y += w x, or w^T x if transposed; w: [n, n]; x, y: [n, d]. */
static void add_mixed(double *y, const double *w, bool transposed, const double *x, int64_t n,
                      int64_t d)
{
    host_product(&(struct host_product){.m = n,
                                        .n = d,
                                        .k = n,
                                        .a = w,
                                        .a_transposed = transposed,
                                        .b = x,
                                        .add = true,
                                        .scale = 1,
                                        .c = y});
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Row j is the pattern that state pattern j retrieves from the stored ones, scaled to length 1. */
struct retrieval {
    int64_t n, d;
    double scale;
    const double *stored, *state;
    double *shares; /* [n, n]; row j: state j's softmax over the stored patterns */
    double *found;  /* [n, d], rows of length 1 */
    double *length; /* [n] of the rows before scaling */
};

static void softmax_row(double *x, int64_t n)
{
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, x[i]);
    for (int64_t i = 0; i < n; i++)
        sum += x[i] = exp(x[i] - most);
    for (int64_t i = 0; i < n; i++)
        x[i] /= sum;
}

static void softmax_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    struct retrieval *r = arg;
    for (int64_t j = begin; j < end; j++)
        softmax_row(r->shares + j * r->n, r->n);
}

static struct retrieval retrieve(const double *stored, const double *state, int64_t n, int64_t d,
                                 double scale)
{
    struct retrieval r = {.n = n,
                          .d = d,
                          .scale = scale,
                          .stored = stored,
                          .state = state,
                          .shares = matrix(n, n),
                          .found = matrix(n, d),
                          .length = matrix(n, 1)};
    similarities(r.shares, scale, state, stored, n, d);
    parallel_for(n, ROWS_AT_ONCE, softmax_rows, &r);
    add_mixed(r.found, r.shares, false, stored, n, d);
    for (int64_t j = 0; j < n; j++) {
        double *found = r.found + j * d;
        r.length[j] = sqrt(dot(found, found, d));
        for (int64_t k = 0; k < d; k++)
            found[k] /= r.length[j];
    }
    return r;
}

/* Adds to the gradients by stored and state. Frees dfound and what r holds. */
static void retrieve_backward(struct retrieval *r, double *dfound, double *dstored, double *dstate)
{
    int64_t n = r->n, d = r->d;
    double *dscores = matrix(n, n);
    for (int64_t j = 0; j < n; j++) {
        const double *found = r->found + j * d;
        double *dr = dfound + j * d, along = dot(found, dr, d);
        for (int64_t k = 0; k < d; k++)
            dr[k] = (dr[k] - along * found[k]) / r->length[j];
    }
    similarities(dscores, 1, dfound, r->stored, n, d); /* by the shares */
    for (int64_t j = 0; j < n; j++) {
        const double *share = r->shares + j * n;
        double *dscore = dscores + j * n, mean = dot(share, dscore, n);
        for (int64_t i = 0; i < n; i++)
            dscore[i] = r->scale * share[i] * (dscore[i] - mean);
    }
    add_mixed(dstored, r->shares, true, dfound, n, d);
    add_mixed(dstored, dscores, true, r->state, n, d);
    add_mixed(dstate, dscores, false, r->stored, n, d);
    free(dscores);
    free(dfound);
    free(r->shares);
    free(r->found);
    free(r->length);
}

struct loob {
    int64_t n;
    double *k;       /* [n, n]; overwritten with the loss's gradient by it, times `weight` */
    double *of_rows; /* [n] losses */
    double weight;
};

static void loob_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct loob *l = arg;
    for (int64_t i = begin; i < end; i++) {
        double *k = l->k + i * l->n, own = k[i], most = -INFINITY, others = 0;
        k[i] = -INFINITY;
        for (int64_t j = 0; j < l->n; j++)
            most = fmax(most, k[j]);
        for (int64_t j = 0; j < l->n; j++)
            others += exp(k[j] - most);
        l->of_rows[i] = most + log(others) - own;
        softmax_row(k, l->n);
        k[i] = -1;
        for (int64_t j = 0; j < l->n; j++)
            k[j] *= l->weight / (double)l->n;
    }
}

/* Returns the mean over rows i of log(sum over j != i of exp(k_ij)) - k_ii, k = x y^T * inv_tau.
 * *dx and *dy, new matrices, are the gradients by x and y, times `weight`. */
static double info_loob(const double *x, const double *y, int64_t n, int64_t d, double inv_tau,
                        double weight, double **dx, double **dy)
{
    struct loob l = {
        .n = n, .k = matrix(n, n), .of_rows = matrix(n, 1), .weight = weight * inv_tau};
    double sum = 0;
    *dx = matrix(n, d);
    *dy = matrix(n, d);
    similarities(l.k, inv_tau, x, y, n, d);
    parallel_for(n, ROWS_AT_ONCE, loob_rows, &l);
    add_mixed(*dx, l.k, false, y, n, d);
    add_mixed(*dy, l.k, true, x, n, d);
    for (int64_t i = 0; i < n; i++)
        sum += l.of_rows[i];
    free(l.k);
    free(l.of_rows);
    return sum / (double)n;
}

static double *as_double(const struct tensor *t)
{
    int64_t count = tensor_count(t);
    double *x = matrix(count, 1);
    for (int64_t i = 0; i < count; i++)
        x[i] = ref_f32(t)[i];
    return x;
}

static void write_scaled(struct tensor *to, const double *x, float scale)
{
    for (int64_t i = 0; i < tensor_count(to); i++)
        ref_f32(to)[i] = scale * (float)x[i];
}

/* One half of the loss: patterns retrieved from `stored` by themselves and by `other`. */
static double loob_half(const double *stored, const double *other, int64_t n, int64_t d,
                        double inv_tau, double scale, double *dstored, double *dother)
{
    struct retrieval own = retrieve(stored, stored, n, d, scale);
    struct retrieval cross = retrieve(stored, other, n, d, scale);
    double *down, *dcross;
    double loss = info_loob(own.found, cross.found, n, d, inv_tau, 0.5, &down, &dcross);
    retrieve_backward(&own, down, dstored, dstored);
    retrieve_backward(&cross, dcross, dstored, dother);
    return loss;
}

void ref_cloob_loss(struct device *device, const struct cloob_loss_args *a)
{
    int64_t n = a->image->shape[0], d = a->image->shape[1];
    double *x = as_double(a->image), *y = as_double(a->text), *dx = matrix(n, d),
           *dy = matrix(n, d), *numbers = ref_f64(a->numbers);
    float scale = (float)ref_f64(a->weight)[0];
    numbers[0] = (loob_half(x, y, n, d, a->inv_tau, a->scale_hopfield, dx, dy) +
                  loob_half(y, x, n, d, a->inv_tau, a->scale_hopfield, dy, dx)) /
                 2;
    numbers[1] = dot(x, y, n * d) / (double)n;
    write_scaled(a->dimage, dx, scale);
    write_scaled(a->dtext, dy, scale);
    free(x);
    free(y);
    free(dx);
    free(dy);
}
