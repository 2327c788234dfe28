/* Distances between sets of embeddings against plain loops in double precision: sets of more rows
 * than a block, random subsets, and what is refused. tests/golden/scores.c compares with numpy. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/base/threads.h"
#include "common/data/order.h"
#include "common/score/distances.h"
#include "common/score/symmetric.h"
#include "tests/support/subject.h"
#include "tests/support/tap.h"

enum { WIDTH = 12, SEED = 4 };

static struct embeddings random_set(int64_t count, uint64_t id, float shift)
{
    struct embeddings x = {.width = WIDTH};
    float row[WIDTH];
    for (int64_t i = 0; i < count; i++) {
        rng_normal(row, WIDTH, SEED, RNG_POSTERIOR, (uint32_t)id, (uint64_t)i, 0);
        row[i % 3] += 2 + shift;
        embeddings_add(&x, row, NULL);
    }
    return x;
}

static const float *row_of(const struct embeddings *x, int64_t i)
{
    return x->values + i * x->width;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* out: [count], the square of the distance to the k-th nearest other row. */
static double *radii(const struct embeddings *x, int k)
{
    double *out = xmalloc((size_t)x->count * sizeof *out);
    double *all = xmalloc((size_t)x->count * sizeof *all);
    for (int64_t i = 0; i < x->count; i++) {
        for (int64_t j = 0; j < x->count; j++)
            all[j] = embeddings_distance2(row_of(x, i), row_of(x, j), WIDTH);
        qsort(all, (size_t)x->count, sizeof *all, ascending);
        out[i] = all[k];
    }
    free(all);
    return out;
}

static void test_neighbours(struct tape *t)
{
    struct embeddings x = random_set(1100, 1, 0.1f), y = random_set(2100, 2, 0);
    memcpy(x.values + 7 * WIDTH, row_of(&y, 2050), WIDTH * sizeof(float));
    double *x3 = radii(&x, 3), *y3 = radii(&y, 3), *y5 = radii(&y, 5), *y1 = radii(&y, 1);
    bool *recalled = xcalloc((size_t)y.count, 1), *covered = xcalloc((size_t)y.count, 1);
    double precise = 0, dense = 0, recall = 0, coverage = 0, memorised = 0;
    struct neighbours n;
    neighbours_measure(&n, t, &x, &y);
    bool nearest = n.nearest[7] == 2050 && n.distance2[7] == 0;
    for (int64_t i = 0; i < x.count; i++) {
        double least = INFINITY;
        int64_t at = 0;
        bool hit = false;
        for (int64_t j = 0; j < y.count; j++) {
            double d = embeddings_distance2(row_of(&x, i), row_of(&y, j), WIDTH);
            hit |= d <= y3[j];
            dense += d <= y5[j];
            recalled[j] |= d <= x3[i];
            covered[j] |= d <= y5[j];
            at = d < least ? j : at;
            least = fmin(least, d);
        }
        precise += hit;
        memorised += least < y1[at];
        nearest &= n.nearest[i] == at && n.distance2[i] == least;
    }
    for (int64_t j = 0; j < y.count; j++) {
        recall += recalled[j];
        coverage += covered[j];
    }
    tap_ok(n.precision * 1100 == precise && fabs(n.recall * 2100 - recall) < 1e-9 &&
               fabs(n.coverage * 2100 - coverage) < 1e-9,
           "precision, recall and coverage of several blocks: %g %g %g", n.precision, n.recall,
           n.coverage);
    tap_ok(fabs(n.density * 5 * 1100 - dense) < 1e-9 && n.memorised * 1100 == memorised,
           "density and memorised: %g %g", n.density, n.memorised);
    tap_ok(nearest, "nearest rows and their distances are exact");
    free(n.nearest);
    free(n.distance2);
    free(x3);
    free(y3);
    free(y5);
    free(y1);
    free(recalled);
    free(covered);
    embeddings_release(&x);
    embeddings_release(&y);
}

static double kernel(const float *a, const float *b)
{
    return pow(embeddings_cosine(a, b, WIDTH) + 1, 3);
}

/* Sums of k between each row of y and the others of y, and all of x. */
struct kernel_sums {
    double of_x, *of_y, *across;
};

static void sum_kernels(struct kernel_sums *k, const struct embeddings *x,
                        const struct embeddings *y)
{
    k->of_y = xcalloc((size_t)y->count, sizeof *k->of_y);
    k->across = xcalloc((size_t)y->count, sizeof *k->across);
    k->of_x = 0;
    for (int64_t i = 0; i < x->count; i++)
        for (int64_t j = 0; j < x->count; j++)
            k->of_x += i == j ? 0 : kernel(row_of(x, i), row_of(x, j));
    for (int64_t j = 0; j < y->count; j++) {
        for (int64_t i = 0; i < y->count; i++)
            k->of_y[j] += i == j ? 0 : kernel(row_of(y, i), row_of(y, j));
        for (int64_t i = 0; i < x->count; i++)
            k->across[j] += kernel(row_of(x, i), row_of(y, j));
    }
}

/* The estimate with all of x and those rows of y that subset s of KERNEL_SUBSET_SIZE has, from the
 * few that it does not have. */
static double subset_by_hand(const struct kernel_sums *k, const struct embeddings *x,
                             const struct embeddings *y, int s)
{
    double m = (double)x->count, n = KERNEL_SUBSET_SIZE, of_y = 0, across = 0;
    struct order order;
    order_init(&order, y->count, 0);
    for (int64_t j = 0; j < y->count; j++) {
        int64_t row = order_record_at(&order, SEED, 2 * s + 1, j);
        bool out = j >= KERNEL_SUBSET_SIZE;
        of_y += out ? -k->of_y[row] : k->of_y[row];
        across += out ? 0 : k->across[row];
        for (int64_t i = KERNEL_SUBSET_SIZE; i < y->count && out; i++) {
            int64_t other = order_record_at(&order, SEED, 2 * s + 1, i);
            of_y += i == j ? 0 : kernel(row_of(y, row), row_of(y, other));
        }
    }
    order_release(&order);
    return k->of_x / (m * (m - 1)) + of_y / (n * (n - 1)) - 2 * across / (m * n);
}

static void test_kernel(struct tape *t)
{
    struct embeddings x = random_set(40, 1, 0.3f), y = random_set(1010, 2, 0);
    struct kernel_distance all, none;
    struct kernel_sums sums;
    double values[KERNEL_SUBSETS], mean = 0, square = 0;
    sum_kernels(&sums, &x, &y);
    for (int s = 0; s < KERNEL_SUBSETS; s++) {
        values[s] = subset_by_hand(&sums, &x, &y, s);
        mean += values[s] / KERNEL_SUBSETS;
    }
    for (int s = 0; s < KERNEL_SUBSETS; s++)
        square += (values[s] - mean) * (values[s] - mean) / KERNEL_SUBSETS;
    kernel_distance_measure(&all, t, &x, &y, SEED);
    kernel_distance_measure(&none, t, &x, &x, SEED);
    tap_ok(fabs(all.mean / mean - 1) < 1e-8 && fabs(all.deviation / sqrt(square) - 1) < 1e-6,
           "kernel distance over subsets: %.9g for %.9g, deviation %.6g for %.6g", all.mean, mean,
           all.deviation, sqrt(square));
    tap_ok(none.mean < 0 && none.deviation < 1e-12, "of a set and itself it is negative: %g",
           none.mean);
    free(sums.of_y);
    free(sums.across);
    embeddings_release(&x);
    embeddings_release(&y);
}

static void test_symmetric(void)
{
    enum { N = 60, RANK = 9 };
    double b[N][RANK], a[N * N], copy[N * N], l[N * N], values[N], sum = 0, squares = 0, zero = 0;
    float normals[N * RANK];
    rng_normal(normals, N * RANK, SEED, RNG_POSTERIOR, 9, 0, 0);
    for (int i = 0; i < N * RANK; i++)
        b[i / RANK][i % RANK] = normals[i];
    double trace = 0, norm = 0, worst = 0;
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            double v = 0;
            for (int k = 0; k < RANK; k++)
                v += b[i][k] * b[j][k];
            a[i * N + j] = v;
            norm += v * v;
        }
        trace += a[i * N + i];
    }
    memcpy(copy, a, sizeof a);
    symmetric_eigenvalues(values, copy, N);
    qsort(values, N, sizeof *values, ascending);
    for (int i = 0; i < N; i++) {
        sum += values[i];
        squares += values[i] * values[i];
        zero = fmax(zero, i < N - RANK ? fabs(values[i]) : 0);
    }
    tap_ok(fabs(sum / trace - 1) < 1e-13 && fabs(squares / norm - 1) < 1e-13 &&
               zero < 1e-12 * trace,
           "eigenvalues of a matrix of low rank: %.1e", zero / trace);
    memcpy(copy, a, sizeof a);
    int64_t rank = symmetric_factor(l, copy, N);
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            double v = -a[i * N + j];
            for (int k = 0; k < N; k++)
                v += l[i * N + k] * l[j * N + k];
            worst = fmax(worst, fabs(v));
        }
    }
    tap_ok(rank == RANK && worst < 1e-12 * trace, "its factor has rank %d: %.1e", (int)rank,
           worst / trace);
}

static void refused(struct tape *t, const struct embeddings *x, const struct embeddings *y,
                    const char *expected)
{
    struct distances d;
    struct error e = {""};
    bool failed = distances_measure(&d, t, x, y, 0, &e) != 0;
    tap_ok(failed && strcmp(e.text, expected) == 0, "refused: %s", e.text);
}

static void test_refused(struct tape *t)
{
    struct embeddings x = random_set(20, 1, 0), one = random_set(1, 1, 0),
                      five = random_set(5, 1, 0);
    struct embeddings narrow = {.width = 3};
    float row[WIDTH] = {0};
    for (int i = 0; i < 9; i++)
        embeddings_add(&narrow, (float[]){1, 2, (float)i}, NULL);
    refused(t, &one, &x, "1 sample: at least 6 are needed");
    refused(t, &x, &five, "5 images of the reference: at least 6 are needed");
    refused(t, &x, &narrow, "embeddings of samples have 12 numbers, those of the reference 3");
    embeddings_add(&x, row, "zero.png");
    refused(t, &x, &x, "the embedding of 'zero.png' is zero");
    x.values[3 * WIDTH + 2] = NAN;
    refused(t, &x, &x, "the embedding of sample 4 is not finite");
    embeddings_release(&x);
    embeddings_release(&one);
    embeddings_release(&five);
    embeddings_release(&narrow);
}

static void test_threads(struct tape *t)
{
    struct embeddings x = random_set(1030, 1, 0.1f), y = random_set(1100, 2, 0);
    struct distances a, b;
    struct error e;
    CHECK(distances_measure(&a, t, &x, &y, SEED, &e) == 0);
    threads_init(3);
    CHECK(distances_measure(&b, t, &x, &y, SEED, &e) == 0);
    tap_ok(memcmp(&a.frechet, &b.frechet, sizeof a.frechet) == 0 &&
               memcmp(&a.kernel, &b.kernel, sizeof a.kernel) == 0 &&
               a.neighbours.density == b.neighbours.density &&
               a.neighbours.precision == b.neighbours.precision,
           "another number of threads changes nothing");
    distances_release(&a);
    distances_release(&b);
    embeddings_release(&x);
    embeddings_release(&y);
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    struct device *device = subject_open(subject_devices()[0]);
    struct tape tape;
    tape_init(&tape, device);
    test_symmetric();
    test_neighbours(&tape);
    test_kernel(&tape);
    test_refused(&tape);
    test_threads(&tape);
    tape_release(&tape);
    device_close(device);
    return tap_done();
}
