#include <math.h>

#include "common/train/cloob_step.h"
#include "common/train/loss.h"

static double mean_cosine(const float *x, const float *y, int64_t n, int64_t d)
{
    double sum = 0;
    for (int64_t i = 0; i < n * d; i++)
        sum += (double)x[i] * y[i];
    return sum / (double)n;
}

/* The fraction of rows i of x whose nearest row of y is row i. */
static double recall(const float *x, const float *y, int64_t n, int64_t d)
{
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++) {
        double own = NAN, most = -INFINITY;
        for (int64_t j = 0; j < n; j++) {
            double cosine = mean_cosine(x + i * d, y + j * d, 1, d);
            if (i == j)
                own = cosine;
            else
                most = fmax(most, cosine);
        }
        found += own > most;
    }
    return (double)found / (double)n;
}

struct cloob_scores cloob_step_score(struct cloob_step *s, const float *image_embeds,
                                     const float *text_embeds, int64_t n)
{
    const struct cloob_step_options *o = cloob_step_loss_options(s);
    struct device *device = cloob_step_updater(s)->parameters->device;
    int64_t d = cloob_step_sizes(s)->embed_width;
    struct tensor *image = tensor_from_f32(device, DIMS(n, d), image_embeds);
    struct tensor *text = tensor_from_f32(device, DIMS(n, d), text_embeds);
    struct cloob_loss loss;
    cloob_loss(&loss, image, text, o->inv_tau, o->scale_hopfield);
    tensor_release(image);
    tensor_release(text);
    tensor_release(loss.dimage);
    tensor_release(loss.dtext);
    return (struct cloob_scores){
        .loss = loss.total,
        .cosine = mean_cosine(image_embeds, text_embeds, n, d),
        .image_to_text = recall(image_embeds, text_embeds, n, d),
        .text_to_image = recall(text_embeds, image_embeds, n, d),
    };
}
