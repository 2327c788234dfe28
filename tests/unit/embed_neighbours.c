/* Embeddings mixed with their neighbors, compared with an exhaustive search in double precision. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/data/embed_neighbours.h"
#include "tests/support/shards.h"
#include "tests/support/tap.h"

enum { RECORDS = 60, HOLDOUT = 9, SEED = 5, WIDTH = SHARDS_EMBED };

static struct latent_set *open_store(const char *name, int64_t holdout)
{
    const char *folder = shards_folder(name);
    struct latent_set *d;
    struct error e;
    if (latent_set_open(&d, &folder, 1, &(struct latent_set_options){.holdout = holdout}, &e) != 0)
        die("%s", e.text);
    return d;
}

static struct embed_neighbours *open_neighbours(struct latent_set *d, int64_t most)
{
    struct embed_neighbours *n;
    struct error e;
    if (embed_neighbours_open(&n, d, most, SEED, &e) != 0)
        die("%s", e.text);
    return n;
}

static void embed_of(float embed[WIDTH], int64_t record)
{
    struct shards_sample s;
    shards_sample(&s, (int)record, 0);
    memcpy(embed, s.embed, sizeof s.embed);
}

/* The number of neighbors that the mix draws. */
static int64_t drawn(int64_t most, int64_t step, uint64_t sample)
{
    float u;
    rng_uniform(&u, 1, SEED, RNG_EMBED_NEIGHBOURS, (uint32_t)step, sample, 0);
    return (int64_t)floor((double)u * (double)(most + 1));
}

static double cosine(const float *a, const float *b)
{
    double ab = 0, aa = 0, bb = 0;
    for (int i = 0; i < WIDTH; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

struct candidate {
    double cosine;
    int64_t record;
};

static int larger_first(const void *a, const void *b)
{
    double x = ((const struct candidate *)a)->cosine, y = ((const struct candidate *)b)->cosine;
    return (x < y) - (x > y);
}

/* The mean, scaled to length 1, of a record's embedding and its m nearest among the first
 * `candidates` training records. */
static void mean_by_hand(double mean[WIDTH], const struct latent_set *d, int64_t candidates,
                         int64_t record, int64_t m)
{
    struct candidate *all = xcalloc((size_t)candidates, sizeof *all);
    float self[WIDTH], other[WIDTH];
    int64_t count = 0;
    embed_of(self, record);
    for (int64_t i = 0; i < candidates; i++) {
        int64_t other_record = latent_set_record_at(d, SEED, 0, i);
        if (other_record == record)
            continue;
        embed_of(other, other_record);
        all[count++] = (struct candidate){cosine(self, other), other_record};
    }
    qsort(all, (size_t)count, sizeof *all, larger_first);
    double square = 0;
    for (int i = 0; i < WIDTH; i++)
        mean[i] = self[i];
    for (int64_t k = 0; k < m && k < count; k++) {
        embed_of(other, all[k].record);
        for (int i = 0; i < WIDTH; i++)
            mean[i] += other[i];
    }
    for (int i = 0; i < WIDTH; i++)
        square += mean[i] * mean[i];
    for (int i = 0; i < WIDTH; i++)
        mean[i] /= sqrt(square);
    free(all);
}

static double apart(const float *x, const double *y, double scale)
{
    double most = 0;
    for (int i = 0; i < WIDTH; i++)
        most = fmax(most, fabs(x[i] - scale * y[i]));
    return most;
}

static void means(struct latent_set *d, int64_t most, const char *what)
{
    struct embed_neighbours *n = open_neighbours(d, most);
    int64_t training = latent_set_training_count(d);
    double worst = 0;
    bool alone = true, mixed = false;
    for (int64_t step = 0; step < 4; step++) {
        float embeds[RECORDS][WIDTH], one[WIDTH];
        uint64_t samples[RECORDS];
        for (int64_t i = 0; i < training; i++) {
            samples[i] = (uint64_t)latent_set_record_at(d, SEED, 7, i);
            embed_of(embeds[i], (int64_t)samples[i]);
            for (int j = 0; j < WIDTH; j++)
                embeds[i][j] *= 3; /* the mix keeps lengths */
        }
        embed_neighbours_mix(n, embeds[0], training, samples, step);
        for (int64_t i = 0; i < training; i++) {
            double mean[WIDTH];
            int64_t m = drawn(most, step, samples[i]);
            mean_by_hand(mean, d, training, (int64_t)samples[i], m);
            worst = fmax(worst, apart(embeds[i], mean, 3));
            embed_of(one, (int64_t)samples[i]);
            mixed |= m > 0 && cosine(one, embeds[i]) < 0.99;
            for (int j = 0; j < WIDTH; j++)
                one[j] *= 3;
            embed_neighbours_mix(n, one, 1, samples + i, step);
            alone &= !memcmp(one, embeds[i], sizeof one);
        }
    }
    tap_ok(worst <= 1e-5 && mixed, "%s (%.1e)", what, worst);
    tap_ok(alone, "the rest of the batch makes no difference");
    embed_neighbours_close(n);
}

/* Pearson's test of the number of neighbors: with 4 degrees of freedom, chance exceeds 25 once in
 * 20000 times. */
static void counts(void)
{
    enum { MOST = 4, DRAWS = 5000 };
    int times[MOST + 1] = {0};
    double sum = 0;
    for (int i = 0; i < DRAWS; i++)
        times[drawn(MOST, i % 100, (uint64_t)(i / 100))]++;
    for (int m = 0; m <= MOST; m++) {
        double p = times[m] - DRAWS / (MOST + 1.0);
        sum += p * p / (DRAWS / (MOST + 1.0));
    }
    tap_ok(sum <= 25,
           "every number of neighbors from none to the most is equally likely: chi-square %.1f",
           sum);
}

/* A store with more records than there are candidates. */
static void large_store(void)
{
    enum { MANY = EMBED_NEIGHBOURS_CANDIDATES + 200 };
    CHECK(shards_write("many", MANY, 500, 4096, 0));
    struct latent_set *d = open_store("many", 0);
    struct embed_neighbours *n = open_neighbours(d, 40);
    double worst = 0, of_all = 0;
    for (int64_t place = EMBED_NEIGHBOURS_CANDIDATES - 3; place < EMBED_NEIGHBOURS_CANDIDATES + 3;
         place++) {
        uint64_t sample = (uint64_t)latent_set_record_at(d, SEED, 0, place);
        int64_t step = 0;
        while (drawn(40, step, sample) < 30)
            step++;
        float embed[WIDTH];
        double mean[WIDTH];
        embed_of(embed, (int64_t)sample);
        embed_neighbours_mix(n, embed, 1, &sample, step);
        mean_by_hand(mean, d, EMBED_NEIGHBOURS_CANDIDATES, (int64_t)sample,
                     drawn(40, step, sample));
        worst = fmax(worst, apart(embed, mean, 1));
        mean_by_hand(mean, d, MANY, (int64_t)sample, drawn(40, step, sample));
        of_all = fmax(of_all, apart(embed, mean, 1));
    }
    tap_ok(worst <= 1e-5 && of_all > 1e-4, "of %d records, %d are candidates (%.1e; with all %.1e)",
           MANY, EMBED_NEIGHBOURS_CANDIDATES, worst, of_all);
    embed_neighbours_close(n);
    latent_set_close(d);
}

/* Batches that are read have mixed embeddings and are otherwise unchanged. */
static void batches(struct latent_set *d)
{
    struct embed_neighbours *n = open_neighbours(d, 6);
    struct batch_reader_options o = {.seed = SEED, .batch = 5, .accumulate = 2, .ranks = 1};
    struct latent_reader *plain, *mixed;
    struct error e;
    bool same = true, rest = true, changed = false;
    CHECK(!latent_reader_open(&plain, d, NULL, &o, &e) &&
          !latent_reader_open(&mixed, d, n, &o, &e));
    for (int i = 0; i < 12; i++) {
        const struct latent_batch *a, *b;
        float embeds[5][WIDTH];
        CHECK(!latent_reader_next(plain, &a, &e) && !latent_reader_next(mixed, &b, &e));
        memcpy(embeds, a->data.embeds, sizeof embeds);
        changed |= memcmp(embeds, b->data.embeds, sizeof embeds) != 0;
        embed_neighbours_mix(n, embeds[0], 5, a->data.samples, a->step);
        same &= !memcmp(embeds, b->data.embeds, sizeof embeds);
        rest &= !memcmp(a->data.samples, b->data.samples, 5 * sizeof *a->data.samples) &&
                !memcmp(a->data.moments, b->data.moments,
                        5 * 2 * SHARDS_LATENT * sizeof *a->data.moments);
    }
    tap_ok(same && rest && changed, "batches that are read have mixed embeddings");
    latent_reader_close(plain);
    latent_reader_close(mixed);
    embed_neighbours_close(n);
}

static void zero_embed(struct latent_set *d)
{
    struct embed_neighbours *n = open_neighbours(d, 1000);
    float embed[WIDTH] = {0};
    uint64_t sample = (uint64_t)latent_set_record_at(d, SEED, 0, 0);
    bool zero = true;
    embed_neighbours_mix(n, embed, 1, &sample, 3);
    for (int i = 0; i < WIDTH; i++)
        zero &= embed[i] == 0;
    tap_ok(zero, "an embedding of zeros stays zero");
    embed_neighbours_close(n);
}

int main(void)
{
    CHECK(shards_write("plain", RECORDS, 20, 64, 0));
    struct latent_set *d = open_store("plain", HOLDOUT);
    means(d, 6, "embeddings become means with their nearest training neighbors");
    means(d, 1000, "means with all training records if there are no more");
    counts();
    batches(d);
    zero_embed(d);
    latent_set_close(d);
    large_store();
    return tap_done();
}
