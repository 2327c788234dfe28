/* Looks into weight files and converts them. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/nets/names.h"
#include "common/program/output.h"
#include "formats/weights/safetensors.h"
#include "formats/weights/torch_write.h"

enum { DTYPE_KEEP, DTYPE_TO_F32, DTYPE_TO_F16, DTYPE_TO_BF16 };
enum { WEIGHTS_ALL, WEIGHTS_EMA, WEIGHTS_RAW };
enum { AS_AUTO, AS_SAFETENSORS, AS_TORCH };
enum { NAMES_AUTO, NAMES_FILE, NAMES_OURS };

static struct {
    const char *input, *output;
    int dtype, weights, as, names;
} options;

static const struct option option_table[] = {
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_STRING,
     .value = &options.output,
     .argument = "FILE",
     .help = "write the tensors there (convert)"},
    {.name = "as",
     .kind = OPTION_CHOICE,
     .value = &options.as,
     .argument = "FORMAT",
     .help = "format to write; auto: torch for .ckpt, .pth and .pt",
     .choices = (const char *const[]){"auto", "safetensors", "torch", NULL}},
    {.name = "dtype",
     .kind = OPTION_CHOICE,
     .value = &options.dtype,
     .argument = "TYPE",
     .help = "element type to write; single numbers and Fourier weights keep theirs",
     .choices = (const char *const[]){"keep", "f32", "f16", "bf16", NULL}},
    {.name = "weights",
     .kind = OPTION_CHOICE,
     .value = &options.weights,
     .argument = "WHICH",
     .help = "averaged (ema) or raw weights only, under plain names",
     .choices = (const char *const[]){"all", "ema", "raw", NULL}},
    {.name = "names",
     .kind = OPTION_CHOICE,
     .value = &options.names,
     .argument = "WHOSE",
     .help = "the file's names or ours; auto: ours for haiku and diffusers",
     .choices = (const char *const[]){"auto", "file", "ours", NULL}},
    {0},
};

static const struct program program = {
    .name = "ccld-weights",
    .summary = "Lists the tensors of a weight file, or converts it.",
    .usage = "[OPTION]... ls FILE\n"
             "[OPTION]... convert FILE -o OUTPUT",
    .options = option_table,
};

/* Names come from strangers' files. */
static void print_name(const char *name)
{
    for (; *name; name++)
        putchar((unsigned char)*name < 0x20 || *name == 0x7f ? '?' : *name);
}

static void print_tensor(const struct weight *t)
{
    char shape[WEIGHT_MAX_DIMS * 24] = "-";
    size_t at = 0;
    for (int i = 0; i < t->ndim; i++)
        at += (size_t)snprintf(shape + at, sizeof shape - at, "%s%lld", i ? "x" : "",
                               (long long)t->shape[i]);
    printf("%-4s  %-15s  ", dtype_name(t->dtype), shape);
    print_name(t->name);
    putchar('\n');
}

static void print_network(const struct weights *w)
{
    enum net net;
    struct named_weights n;
    struct error e;
    char line[256];
    if (names_detect(&net, w, &e)) {
        puts("network   not recognised");
        return;
    }
    if (names_resolve(&n, w, net, PICK_EMA, &e)) {
        printf("network   %s\n", e.text);
        return;
    }
    printf("network   %s\n", names_describe(line, sizeof line, &n, &e) ? e.text : line);
    printf("names     %s\n", n.description);
    double scale;
    if (names_scalar(&n, "autoencoder_scale", &scale))
        printf("scale     %.6g (autoencoder_scale)\n", scale);
    if (names_scalar(&n, "norm_groups", &scale))
        printf("groups    %.6g (norm_groups)\n", scale);
    if (names_scalar(&n, "scale_factor", &scale))
        printf("scale     %.6g (scale_factor)\n", scale);
    names_release(&n);
}

static int do_ls(const struct weights *w)
{
    struct error e;
    printf("format    %s\n", weights_format(w));
    print_network(w);
    for (int i = 0; i < weights_metadata_count(w); i++) {
        const char *key, *value;
        weights_metadata_at(w, i, &key, &value);
        printf("metadata  ");
        print_name(key);
        printf(" = ");
        print_name(value);
        putchar('\n');
    }
    int64_t elements = 0;
    for (int i = 0; i < weights_count(w); i++) {
        print_tensor(weights_at(w, i));
        elements += weight_count(weights_at(w, i));
    }
    if (fflush(stdout) || ferror(stdout)) {
        error_set(&e, "%s", strerror(errno));
        output_failed(&e);
    }
    inform("%d tensors, %lld elements", weights_count(w), (long long)elements);
    if (weights_opaque_count(w))
        inform("%d pickled objects that are no tensors were left out", weights_opaque_count(w));
    return 0;
}

/* Either format's writer; the other is NULL. */
struct output {
    struct safetensors_writer *safetensors;
    struct torch_writer *torch;
};

static int append(struct output *o, const void *data, size_t size, struct error *e)
{
    return o->torch ? torch_append(o->torch, data, size, e)
                    : safetensors_append(o->safetensors, data, size, e);
}

static _Noreturn void fail(struct output *o, const struct error *e)
{
    safetensors_abandon(o->safetensors);
    torch_abandon(o->torch);
    die("cannot write '%s': %s", options.output, e->text);
}

static bool ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && strcmp(s + n - m, suffix) == 0;
}

static bool write_torch(void)
{
    if (options.as != AS_AUTO)
        return options.as == AS_TORCH;
    return ends_with(options.output, ".ckpt") || ends_with(options.output, ".pth") ||
           ends_with(options.output, ".pt");
}

static enum dtype output_dtype(const struct weight *t)
{
    static const enum dtype types[] = {
        [DTYPE_TO_F32] = DTYPE_F32, [DTYPE_TO_F16] = DTYPE_F16, [DTYPE_TO_BF16] = DTYPE_BF16};
    bool is_float = t->dtype == DTYPE_F32 || t->dtype == DTYPE_F64 || t->dtype == DTYPE_F16 ||
                    t->dtype == DTYPE_BF16;
    /* Rounding errors of Fourier weights become errors of phase, 2 pi times as big. */
    bool delicate = weight_count(t) <= 1 || ends_with(t->name, "timestep_embed.weight");
    return options.dtype == DTYPE_KEEP || !is_float || (delicate && options.dtype != DTYPE_TO_F32)
               ? t->dtype
               : types[options.dtype];
}

struct conversion {
    struct output *output;
    enum dtype from, to;
    float *floats;    /* room for `most` elements of a run */
    uint16_t *halves; /* the same, for F16 and BF16 */
    int64_t overflowed;
    struct error *e;
};

#define RUN_ELEMENTS ((size_t)1 << 16)

static int convert_run(void *arg, const void *data, size_t count)
{
    struct conversion *c = arg;
    if (c->from == c->to)
        return append(c->output, data, count * dtype_size(c->to), c->e);
    const uint8_t *p = data;
    for (size_t n; count > 0; count -= n, p += n * dtype_size(c->from)) {
        n = count < RUN_ELEMENTS ? count : RUN_ELEMENTS;
        dtype_to_f32(c->floats, c->from, p, n);
        const void *out = c->floats;
        if (c->to != DTYPE_F32) {
            dtype_from_f32(c->to, c->halves, c->floats, n);
            for (size_t i = 0; i < n && c->to == DTYPE_F16; i++)
                c->overflowed += isfinite(c->floats[i]) && isinf(f16_to_f32(c->halves[i]));
            out = c->halves;
        }
        if (append(c->output, out, n * dtype_size(c->to), c->e))
            return -1;
    }
    return 0;
}

/* The tensors to write: the file's, or a network's under our names. Returns their number. */
static int select_tensors(const struct weight **items, struct named_weights *named,
                          const struct weights *w, enum net *net, bool *recognised)
{
    struct error e;
    bool wanted = options.weights != WEIGHTS_ALL || options.names == NAMES_OURS;
    *items = weights_count(w) ? weights_at(w, 0) : NULL;
    *recognised = names_detect(net, w, &e) == 0;
    enum weights_pick pick = options.weights == WEIGHTS_RAW ? PICK_RAW : PICK_EMA;
    if (!*recognised || names_resolve(named, w, *net, pick, &e)) {
        if (wanted)
            die("cannot convert '%s' under our names: %s", options.input, e.text);
        return weights_count(w);
    }
    char line[256];
    if (names_describe(line, sizeof line, named, &e) == 0)
        note("%s", line);
    if (options.weights == WEIGHTS_EMA && *net == NET_UNET && !named->ema)
        warn("no averaged weights there: these may be raw");
    if (!wanted && !(options.names == NAMES_AUTO && named->foreign))
        return weights_count(w);
    note("%s; written under our names", named->description);
    *items = named->items;
    return named->count;
}

static void open_output(struct output *o, bool state_dict)
{
    struct error e;
    int rc = write_torch() ? torch_create(&o->torch, options.output, state_dict, &e)
                           : safetensors_create(&o->safetensors, options.output, &e);
    if (rc)
        die("cannot write '%s': %s", options.output, e.text);
}

static void declare(struct output *o, const struct weights *w, const struct weight *items,
                    int count)
{
    for (int i = 0; o->safetensors && i < weights_metadata_count(w); i++) {
        const char *key, *value;
        weights_metadata_at(w, i, &key, &value);
        safetensors_metadata(o->safetensors, key, value);
    }
    if (o->safetensors && !weights_metadata(w, "format"))
        safetensors_metadata(o->safetensors, "format", "pt"); /* as Python's loaders expect */
    for (int i = 0; i < count; i++) {
        const struct weight *t = &items[i];
        if (o->torch)
            torch_declare(o->torch, t->name, output_dtype(t), t->ndim, t->shape);
        else
            safetensors_declare(o->safetensors, t->name, output_dtype(t), t->ndim, t->shape);
    }
}

static int do_convert(const struct weights *w)
{
    struct error e;
    struct named_weights named = {0};
    const struct weight *items;
    enum net net;
    bool recognised;
    int count = select_tensors(&items, &named, w, &net, &recognised);
    /* The reference reads a U-Net's tensors at the top, all else under `state_dict`. */
    bool plain = (recognised && net == NET_CLOOB) || weights_find(w, "net.0.main.0.weight") ||
                 (items == named.items && net == NET_UNET);
    struct output o = {0};
    open_output(&o, recognised && !plain);
    declare(&o, w, items, count);
    struct conversion c = {.output = &o, .e = &e};
    c.floats = xmalloc(RUN_ELEMENTS * sizeof *c.floats);
    c.halves = xmalloc(RUN_ELEMENTS * sizeof *c.halves);
    struct progress *p = progress_start("writing", "tensors", count);
    double bytes = 0;
    for (int i = 0; i < count; i++) {
        const struct weight *t = &items[i];
        c.from = t->dtype;
        c.to = output_dtype(t);
        c.overflowed = 0;
        if (weight_stream(t, convert_run, &c))
            fail(&o, &e);
        if (c.overflowed)
            warn("%lld numbers of '%s' are too big for f16 and became infinite",
                 (long long)c.overflowed, t->name);
        weights_forget(w, t);
        bytes += (double)weight_count(t) * (double)dtype_size(c.to);
        progress_update(p, i + 1, NULL);
    }
    progress_finish(p);
    if (o.torch ? torch_commit(o.torch, &e) : safetensors_commit(o.safetensors, &e))
        die("cannot write '%s': %s", options.output, e.text);
    char size[32];
    inform("%d tensors, %s, written to '%s'", count, format_bytes(size, bytes), options.output);
    free(c.floats);
    free(c.halves);
    names_release(&named);
    return 0;
}

int main(int argc, char **argv)
{
    int operands = options_parse(&program, argc, argv);
    const char *command = operands > 0 ? argv[1] : "";
    bool ls = strcmp(command, "ls") == 0, convert = strcmp(command, "convert") == 0;
    if (!ls && !convert)
        die_usage(*command ? "'%s' is not one of ls, convert" : "what to do is missing", command);
    if (operands != 2)
        die_usage("'%s' wants one file", command);
    if (convert && !options.output)
        die_usage("'convert' wants -o and the file to write");
    if (ls && options.output)
        die_usage("'ls' writes no file: no -o");
    struct weights *w;
    struct error e;
    options.input = argv[2];
    if (weights_open(&w, options.input, &e))
        die("cannot read '%s': %s", options.input, e.text);
    int status = ls ? do_ls(w) : do_convert(w);
    weights_close(w);
    return status;
}
