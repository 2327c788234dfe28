/* Lists the tensors of weight files and converts them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/escape.h"
#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/nets/model.h"
#include "common/nets/network.h"
#include "common/program/output.h"
#include "common/program/stop.h"
#include "formats/weights/weights_write.h"

enum { DTYPE_KEEP, DTYPE_TO_F32, DTYPE_TO_F16, DTYPE_TO_BF16 };
enum { WEIGHTS_ALL, WEIGHTS_EMA, WEIGHTS_RAW };
enum { AS_AUTO, AS_SAFETENSORS, AS_TORCH };
enum { NAMES_AUTO, NAMES_FILE, NAMES_OURS };

#define TYPE_WIDTH_MAX 24 /* of ls's column; types beyond it shift their line */

static struct {
    const char *input, *output;
    int dtype, weights, as, names;
    struct string_list metadata;
} options;

static const struct option option_table[] = {
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_STRING,
     .value = &options.output,
     .argument = "FILE",
     .help = "output file of convert"},
    {.name = "as",
     .kind = OPTION_CHOICE,
     .value = &options.as,
     .argument = "FORMAT",
     .help = "output format; auto: torch for .ckpt, .pth and .pt",
     .choices = (const char *const[]){"auto", "safetensors", "torch", NULL}},
    {.name = "dtype",
     .kind = OPTION_CHOICE,
     .value = &options.dtype,
     .argument = "TYPE",
     .help = "element type to write; f16 and bf16 exclude scalars and Fourier weights",
     .choices = (const char *const[]){"keep", "f32", "f16", "bf16", NULL}},
    {.name = "weights",
     .kind = OPTION_CHOICE,
     .value = &options.weights,
     .argument = "WHICH",
     .help = "write only the EMA or only the raw weights, under plain names",
     .choices = (const char *const[]){"all", "ema", "raw", NULL}},
    {.name = "names",
     .kind = OPTION_CHOICE,
     .value = &options.names,
     .argument = "WHOSE",
     .help = "tensor names: the file's or ours; auto: ours for haiku and diffusers",
     .choices = (const char *const[]){"auto", "file", "ours", NULL}},
    {.name = "metadata",
     .kind = OPTION_LIST,
     .value = &options.metadata,
     .argument = "KEY=VALUE",
     .help = "set an entry of the metadata, or remove it if VALUE is empty; may be repeated"},
    {0},
};

static const struct program program = {
    .name = "ccld-weights",
    .summary = "Lists the tensors of a weight file or converts it.",
    .usage = "[OPTION]... ls FILE\n"
             "[OPTION]... convert FILE -o OUTPUT",
    .options = option_table,
    .computes_nothing = true,
};

static void print_tensor(const struct weight *t, int type_width)
{
    char shape[WEIGHT_MAX_DIMS * 24] = "-";
    size_t at = 0;
    for (int i = 0; i < t->ndim; i++)
        at += (size_t)snprintf(shape + at, sizeof shape - at, "%s%" PRId64, i > 0 ? "x" : "",
                               t->shape[i]);
    const int padding = type_width - (int)strnlen(weight_type(t), (size_t)type_width);
    escape_print(stdout, weight_type(t));
    printf("%*s  %-15s  ", padding, "", shape);
    escape_print(stdout, t->name);
    putchar('\n');
}

static int widest_type(const struct weights *w)
{
    size_t widest = 4;
    for (int i = 0; i < weights_count(w); i++) {
        size_t n = strlen(weight_type(weights_at(w, i)));
        widest = n > widest ? n : widest;
    }
    return (int)(widest < TYPE_WIDTH_MAX ? widest : TYPE_WIDTH_MAX);
}

static void print_field(const char *name, const char *value)
{
    printf("%-10s", name);
    escape_print(stdout, value);
    putchar('\n');
}

static void print_network(const struct weights *w)
{
    enum net net;
    struct named_weights n;
    struct error e;
    char line[256];
    if (names_detect(&net, w, &e) != 0) {
        puts("network   not recognized");
        return;
    }
    if (names_resolve(&n, w, net, PICK_EMA, &e) != 0) {
        print_field("network", e.text);
        return;
    }
    print_field("network", network_describe(line, sizeof line, &n, &e) != 0 ? e.text : line);
    print_field("names", n.description);
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
    print_field("format", weights_format(w));
    print_network(w);
    for (int i = 0; i < weights_metadata_count(w); i++) {
        const char *key, *value;
        weights_metadata_at(w, i, &key, &value);
        printf("metadata  ");
        escape_print(stdout, key);
        printf(" = ");
        escape_print(stdout, value);
        putchar('\n');
    }
    int64_t elements = 0;
    int type_width = widest_type(w), unreadable = 0;
    for (int i = 0; i < weights_count(w); i++) {
        const struct weight *t = weights_at(w, i);
        print_tensor(t, type_width);
        elements += t->unreadable ? 0 : weight_count(t);
        unreadable += t->unreadable != NULL;
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        error_set(&e, "%s", strerror(errno));
        output_failed(&e);
    }
    inform("%d tensor%s, %" PRId64 " element%s", weights_count(w), plural(weights_count(w)),
           elements, plural(elements));
    if (unreadable > 0)
        inform("%d tensor%s", unreadable,
               unreadable == 1 ? " is of a type that cannot be read"
                               : "s are of types that cannot be read");
    if (weights_opaque_count(w) > 0)
        inform("left out %d pickled object%s", weights_opaque_count(w),
               weights_opaque_count(w) == 1 ? " that is not a tensor" : "s that are not tensors");
    return 0;
}

static bool write_torch(void)
{
    if (options.as != AS_AUTO)
        return options.as == AS_TORCH;
    return has_suffix(options.output, ".ckpt") || has_suffix(options.output, ".pth") ||
           has_suffix(options.output, ".pt");
}

static enum dtype output_dtype(const struct weight *t)
{
    static const enum dtype types[] = {
        [DTYPE_TO_F32] = DTYPE_F32, [DTYPE_TO_F16] = DTYPE_F16, [DTYPE_TO_BF16] = DTYPE_BF16};
    /* Rounding errors of Fourier weights become phase errors 2 pi times as large. */
    bool sensitive = weight_count(t) <= 1 || has_suffix(t->name, "timestep_embed.weight");
    return options.dtype == DTYPE_KEEP || !dtype_is_float(t->dtype) ||
                   (sensitive && options.dtype != DTYPE_TO_F32)
               ? t->dtype
               : types[options.dtype];
}

/* Selects the tensors to write: the file's own, or a network's under our names. Returns their
 * number. */
static int select_tensors(const struct weight **items, struct named_weights *named,
                          const struct weights *w, enum net *net, bool *recognized)
{
    struct error e;
    bool needed = options.weights != WEIGHTS_ALL || options.names == NAMES_OURS;
    *items = weights_count(w) > 0 ? weights_at(w, 0) : NULL;
    *recognized = names_detect(net, w, &e) == 0;
    enum weights_pick pick = options.weights == WEIGHTS_RAW ? PICK_RAW : PICK_EMA;
    if (!*recognized || names_resolve(named, w, *net, pick, &e) != 0) {
        if (needed)
            die("cannot convert '%s' to our names: %s", options.input, e.text);
        return weights_count(w);
    }
    char line[256];
    if (network_describe(line, sizeof line, named, &e) == 0)
        note("%s", line);
    if (options.weights == WEIGHTS_EMA && *net == NET_UNET && !named->ema)
        warn("'%s' has no separate EMA weights: these may be raw", options.input);
    if (!needed && !(options.names == NAMES_AUTO && named->foreign))
        return weights_count(w);
    note("%s; writing our names", named->description);
    if (!needed && named->count < weights_count(w))
        inform("left out %d tensor%s not part of the network", weights_count(w) - named->count,
               weights_count(w) - named->count == 1 ? " that is" : "s that are");
    *items = named->items;
    return named->count;
}

/* Ends the program, with each named, if some of the tensors to write cannot be read. */
static void check_types(const struct weight *items, int count)
{
    int unreadable = 0;
    for (int i = 0; i < count; i++)
        if (items[i].unreadable) {
            warn("cannot convert tensor '%.1000s': it is of type %.100s", items[i].name,
                 items[i].unreadable);
            unreadable++;
        }
    if (unreadable > 0)
        die("cannot convert '%s': %d of %d tensor%s cannot be read", options.input, unreadable,
            count, plural(count));
}

/* What --metadata says about this key at last, "" to remove it; NULL: nothing. */
static const char *changed_value(const char *key, size_t length)
{
    for (int i = options.metadata.count - 1; i >= 0; i--) {
        const char *item = options.metadata.items[i];
        if (strcspn(item, "=") == length && strncmp(item, key, length) == 0)
            return item + length + 1;
    }
    return NULL;
}

static void write_metadata(struct weights_writer *out, const struct weights *w)
{
    for (int i = 0; i < weights_metadata_count(w); i++) {
        const char *key, *value;
        weights_metadata_at(w, i, &key, &value);
        if (!changed_value(key, strlen(key)))
            weights_writer_metadata(out, key, value);
    }
    for (int i = 0; i < options.metadata.count; i++) {
        const char *item = options.metadata.items[i];
        size_t length = strcspn(item, "=");
        const char *value = changed_value(item, length);
        if (value != item + length + 1 || !*value) /* a later one replaces it */
            continue;
        char *key = xasprintf("%.*s", (int)length, item);
        weights_writer_metadata(out, key, value);
        free(key);
    }
}

static void check_metadata(void)
{
    for (int i = 0; i < options.metadata.count; i++) {
        const char *item = options.metadata.items[i];
        if (*item == '=' || !strchr(item, '='))
            die_usage("option '--metadata': '%s' is not KEY=VALUE", item);
    }
    if (options.metadata.count > 0 && write_torch())
        die_usage("--metadata needs safetensors: a torch checkpoint has no metadata");
}

/* Of these keys, samplers and trainers take defaults, and check what fits. */
static void warn_of_metadata(const struct weights *w)
{
    static const char *const used[] = {"pixels", "embed_noise", "guidance_start",
                                       "autoencoder_encoder", "cloob_encoder"};
    char list[128] = "";
    for (size_t i = 0; i < sizeof used / sizeof *used; i++) {
        size_t length = strlen(list);
        if (weights_metadata(w, used[i]))
            snprintf(list + length, sizeof list - length, "%s%s", length ? ", " : "", used[i]);
    }
    if (*list)
        warn("'%s' loses the metadata of '%s' (%s): only safetensors holds any", options.output,
             options.input, list);
}

static void declare(struct weights_writer *out, const struct weights *w, const struct weight *items,
                    int count)
{
    write_metadata(out, w);
    if (!weights_metadata(w, "format") && !changed_value("format", strlen("format")))
        weights_writer_metadata(out, "format", "pt"); /* Python's loaders expect it */
    for (int i = 0; i < count; i++)
        weights_writer_declare(out, &items[i], output_dtype(&items[i]));
}

/* Returns the bytes written. */
static double write_tensors(struct weights_writer *out, const struct weights *w,
                            const struct weight *items, int count)
{
    struct error e;
    double bytes = 0;
    struct progress *p = progress_start("writing", "tensors", count);
    for (int i = 0; i < count; i++) {
        const struct weight *t = &items[i];
        enum dtype dtype = output_dtype(t);
        int64_t overflowed = 0;
        if (weights_writer_put(out, t, dtype, &overflowed, &e) != 0) {
            weights_writer_abandon(out);
            die("cannot write '%s': %s", options.output, e.text);
        }
        if (overflowed > 0)
            warn("'%s': %" PRId64 " element%s overflowed f16 and became infinite", t->name,
                 overflowed, plural(overflowed));
        weights_forget(w, t);
        bytes += (double)weight_count(t) * (double)dtype_size(dtype);
        progress_update(p, i + 1, NULL);
    }
    progress_finish(p);
    return bytes;
}

static int do_convert(const struct weights *w)
{
    struct error e;
    struct named_weights named = {0};
    const struct weight *items;
    enum net net;
    bool recognized;
    stop_not_by_writing();
    if (files_are_same(options.output, options.input))
        die("cannot write '%s': it is the file to convert", options.output);
    int count = select_tensors(&items, &named, w, &net, &recognized);
    check_types(items, count);
    if (write_torch())
        warn_of_metadata(w);
    /* The reference reads U-Net tensors at the top level, all others under `state_dict`. */
    bool plain = (recognized && net == NET_CLOOB) || weights_find(w, "net.0.main.0.weight") ||
                 (items == named.items && net == NET_UNET);
    struct weights_writer *out;
    if (weights_writer_open(&out, options.output,
                            write_torch() ? WEIGHTS_TORCH : WEIGHTS_SAFETENSORS,
                            recognized && !plain, &e) != 0)
        die("cannot write '%s': %s", options.output, e.text);
    declare(out, w, items, count);
    double bytes = write_tensors(out, w, items, count);
    if (weights_writer_commit(out, &e) != 0)
        die("cannot write '%s': %s", options.output, e.text);
    char size[32];
    inform("%d tensor%s, %s, written to '%s'", count, plural(count), format_bytes(size, bytes),
           options.output);
    names_release(&named);
    return 0;
}

int main(int argc, char **argv)
{
    int operands = options_parse(&program, argc, argv);
    const char *command = operands > 0 ? argv[1] : "";
    bool ls = strcmp(command, "ls") == 0, convert = strcmp(command, "convert") == 0;
    if (!ls && !convert)
        die_usage(*command ? "unknown command '%s': use ls or convert"
                           : "no command given: use ls or convert",
                  command);
    if (operands != 2)
        die_usage("'%s' needs one file%s", command,
                  convert && operands > 2 ? "; -o names the file to write" : "");
    if (convert && !options.output)
        die_usage("'convert' needs an output file: -o OUTPUT");
    if (convert && strcmp(options.output, "-") == 0)
        die_usage("'convert' cannot write to standard output: name a file with -o");
    if (convert)
        check_metadata();
    if (ls && options.output)
        die_usage("'ls' does not write a file: omit -o");
    struct weights *w;
    struct error e;
    char *input = model_only_file(argv[2], &e);
    if (!input)
        die("cannot read weights: %s", e.text);
    options.input = input;
    if (weights_open(&w, input, &e) != 0)
        die("cannot read '%s': %s", input, e.text);
    int status = ls ? do_ls(w) : do_convert(w);
    weights_close(w);
    free(input);
    return status;
}
