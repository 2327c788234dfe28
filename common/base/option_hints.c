#include "common/base/option_hints.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

#define NAME_LIMIT 40 /* longer names are not searched for */

#define CONFIGURATION "config cfg-file config-file autoencoder-config vae-config base"
#define NOT_NEEDED    "configuration files are not needed"

/* Names that other projects have for our options. The first row whose option the program has is the
 * hint, or the first whose option begins with the name. Underscores count as dashes, and capitals
 * as small letters. */
static const struct foreign {
    const char *names;  /* separated by blanks */
    const char *ours;   /* an option; the row is for programs that have it */
    const char *advice; /* instead of the option; NULL: did you mean the option? */
} foreign[] = {
    {"cfg cfg-scale guidance-scale scale cond-scale g", "guidance", NULL},
    {"sampler sampling-method sampler-name scheduler plms ddim", "method", NULL},
    {"scheduler lr-scheduler lr-scheduler-type", "lr-schedule", NULL},
    {"beta-schedule noise-schedule", "schedule", NULL},
    {"learning-rate base-lr base-learning-rate", "lr", NULL},
    {"gpus num-gpus n-gpus ngpus gpu-ids nproc nproc-per-node num-processes world-size", "devices",
     NULL},
    {"gpu gpus gpu-id cuda cpu num-gpus", "device", NULL},
    {"bs batch b train-batch-size per-device-train-batch-size", "batch-size", NULL},
    {"width height w h resolution res image-size img-size", "size", NULL},
    {"size resolution res img-size", "image-size", NULL},
    {"prompts prompt sample-prompts", "demo-prompts", NULL},
    {"grad-accum gradient-accumulation gradient-accumulation-steps accumulate-grad-batches "
     "accum-iter",
     "accumulate", NULL},
    {"ddim-steps num-steps n-steps num-inference-steps inference-steps sampling-steps timesteps "
     "max-steps max-train-steps iterations iters max-iters",
     "steps", NULL},
    {"num-epochs max-epochs num-train-epochs", "epochs", NULL},
    {"n-samples num-samples num-images num-images-per-prompt n-iter count samples n", "number",
     NULL},
    {"from-file prompt-file prompts-file", "prompts", NULL},
    {"prompt text caption", "prompts", "a prompt is an argument without an option"},
    {"negative-prompt neg-prompt uncond-prompt", "prompts",
     "a prompt with a negative weight is one: 'TEXT:-1'"},
    {"init-image init-img input-image image", "init", NULL},
    {"strength denoising-strength skip-timesteps", "starting-timestep", NULL},
    {"image-prompt image-prompts image", "images", NULL},
    {"resume-from resume-from-checkpoint resume-ckpt restore", "resume", NULL},
    {"ckpt checkpoint ckpt-path pretrained pretrained-model finetune finetune-from init load",
     "init-from", NULL},
    {"ckpt ckpt-path unet diffusion diffusion-model", "checkpoint", NULL},
    {"model-path model-dir model-name pretrained-model-name-or-path", "model", NULL},
    {"vae vae-path ae autoencoder-path first-stage", "autoencoder", NULL},
    {"clip clip-model clip-path", "cloob", NULL},
    {CONFIGURATION, "model", NOT_NEEDED},
    {CONFIGURATION, "init-from", NOT_NEEDED},
    {"out out-dir outdir output-dir output-path output-file save save-dir results logdir", "output",
     NULL},
    {"seed random-seed manual-seed rng-seed", "seed", NULL},
    {"fp16 bf16 half mixed-precision amp dtype autocast", "precision", NULL},
    {"workers num-workers jobs j nthreads num-threads", "threads", NULL},
    {"wd", "weight-decay", NULL},
    {"warmup-steps lr-warmup lr-warmup-steps num-warmup-steps", "warmup", NULL},
    {"max-grad-norm grad-clip gradient-clip-val clip-grad-norm", "clip-grad", NULL},
    {"ema ema-decay", "ema-decay-at", NULL},
    {"gradient-checkpointing grad-checkpointing use-checkpoint", "recompute", NULL},
    {"save-every checkpointing-steps save-steps save-interval", "checkpoint-every", NULL},
    {"log-steps logging-steps log-interval print-every", "log-every", NULL},
    {"sample-every validation-steps", "demo-every", NULL},
    {"val-size eval-size validation", "holdout", NULL},
    {"eval-every eval-steps val-every val-interval", "holdout-every", NULL},
    {"hflip horizontal-flip random-flip", "flip", NULL},
    {"cond-drop cond-drop-prob dropout unconditional-prob", "uncond-prob", NULL},
    {"cols ncols nrow per-row", "columns", NULL},
    {"pad margin border", "padding", NULL},
    {"print0 zero null-data", "null", NULL},
    {"use-ema ema", "weights", NULL},
    {"lowvram medvram lowmem", "low-memory", NULL},
    {"silent", "quiet", NULL},
    {"debug", "verbose", NULL},
    {"usage", "help", NULL},
    {"format to", "as", NULL},
};

static bool has_word(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = words; *at;) {
        size_t length = strcspn(at, " ");
        if (length == n && strncmp(at, word, n) == 0)
            return true;
        at += length + (at[length] == ' ');
    }
    return false;
}

static char *did_you_mean(const char *name)
{
    return xasprintf(": did you mean '--%s'?", name);
}

static bool begins(const char *option, const char *name)
{
    return strncmp(option, name, strlen(name)) == 0;
}

static const struct foreign *find_foreign(const struct program *p, const char *name)
{
    const struct foreign *found = NULL;
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        const struct foreign *f = &foreign[i];
        if (!has_word(f->names, name) || !option_find(p, f->ours))
            continue;
        if (f->advice || begins(f->ours, name))
            return f;
        if (!found)
            found = f;
    }
    return found;
}

/* The program's first own option that begins with this name of at least three letters, or NULL. */
static const char *find_beginning(const struct program *p, const char *name)
{
    for (const struct option *o = p->options; o && o->name && strlen(name) >= 3; o++)
        if (begins(o->name, name))
            return o->name;
    return NULL;
}

static char *foreign_hint(const struct program *p, const char *name)
{
    const struct foreign *f = find_foreign(p, name);
    const char *own = find_beginning(p, name);
    if (!f)
        return NULL;
    if (f->advice)
        return xasprintf(": %s", f->advice);
    return own && !begins(f->ours, name)
               ? xasprintf(": did you mean '--%s' or '--%s'?", own, f->ours)
               : did_you_mean(f->ours);
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Insertions, deletions, replacements and exchanges of neighbors that turn one name into the other
 * (the optimal string alignment distance). Both are shorter than NAME_LIMIT. */
static int distance(const char *a, const char *b)
{
    int rows[3][NAME_LIMIT + 1], n = (int)strlen(a), m = (int)strlen(b);
    int *before = rows[0], *last = rows[1], *now = rows[2];
    for (int j = 0; j <= m; j++)
        before[j] = last[j] = j;
    for (int i = 1; i <= n; i++) {
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int change = last[j - 1] + (a[i - 1] != b[j - 1]);
            now[j] = least(change, 1 + least(last[j], now[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], before[j - 2] + 1);
        }
        int *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[m];
}

/* The options of which name is the beginning, else those with the fewest changes. */
struct nearest {
    const char *name;
    int distance, count;
};

static void consider(struct nearest *best, const char *candidate, const char *name)
{
    size_t n = strlen(name), m = strlen(candidate);
    if (m >= NAME_LIMIT)
        return;
    bool is_start = n >= 3 && begins(candidate, name);
    int d = is_start ? 0 : distance(name, candidate), limit = n <= 3 ? 1 : n <= 7 ? 2 : 3;
    if (d > limit || (size_t)d >= n || (size_t)d >= m || d > best->distance)
        return;
    best->count = d < best->distance ? 1 : best->count + 1;
    best->distance = d;
    if (best->count == 1)
        best->name = candidate;
}

static char *near_hint(const struct program *p, const char *name)
{
    struct nearest best = {.distance = NAME_LIMIT};
    for (const struct option *o = p->options; o && o->name; o++)
        consider(&best, o->name, name);
    for (const struct option *o = options_common(); o->name; o++)
        consider(&best, o->name, name);
    return best.name ? did_you_mean(best.name) : NULL;
}

char *option_hint(const struct program *program, const char *name, size_t n)
{
    char plain[NAME_LIMIT];
    if (n == 0 || n >= sizeof plain)
        return xstrdup("");
    for (size_t i = 0; i < n; i++)
        plain[i] = name[i] == '_' ? '-' : (char)tolower((unsigned char)name[i]);
    plain[n] = '\0';
    char *hint = option_find(program, plain) ? did_you_mean(plain) : NULL;
    if (!hint)
        hint = foreign_hint(program, plain);
    if (!hint)
        hint = near_hint(program, plain);
    return hint ? hint : xstrdup("");
}
