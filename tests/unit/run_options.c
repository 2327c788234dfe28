/* A resumed run gets its options from the checkpoint, unless the command line overrides them. */
#include "common/run/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/threads.h"
#include "tests/support/tap.h"

static const char *const colors[] = {"red", "green", NULL};
static struct {
    bool force, dry;
    int64_t count, length;
    uint64_t seed;
    double scale, third, tiny;
    const char *output, *prompts, *note;
    int color;
    struct size2d size;
} v = {.count = 3, .length = 5, .scale = 2, .note = "a \"quoted\" note,\nand a line"};

static const struct option table[] = {
    {.name = "force", .letter = 'f', .kind = OPTION_FLAG, .value = &v.force, .help = "overwrite"},
    {.name = "dry", .kind = OPTION_FLAG, .value = &v.dry, .help = "write nothing"},
    {.name = "count",
     .letter = 'n',
     .kind = OPTION_INT,
     .value = &v.count,
     .argument = "N",
     .help = "images",
     .min = 1,
     .max = 1e6},
    {.name = "length",
     .kind = OPTION_INT,
     .value = &v.length,
     .argument = "N",
     .help = "seconds",
     .max = 1e18},
    {.name = "seed",
     .kind = OPTION_SEED,
     .value = &v.seed,
     .argument = "S",
     .help = "seed of the noise"},
    {.name = "scale",
     .kind = OPTION_FLOAT,
     .value = &v.scale,
     .argument = "X",
     .help = "guidance",
     .min = -10,
     .max = 10},
    {.name = "third",
     .kind = OPTION_FLOAT,
     .value = &v.third,
     .argument = "X",
     .help = "a number without end"},
    {.name = "tiny",
     .kind = OPTION_FLOAT,
     .value = &v.tiny,
     .argument = "X",
     .help = "a number near 0"},
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_STRING,
     .value = &v.output,
     .argument = "FILE",
     .help = "where to"},
    {.name = "prompts",
     .kind = OPTION_STRING,
     .value = &v.prompts,
     .argument = "FILE",
     .help = "from where"},
    {.name = "note",
     .kind = OPTION_STRING,
     .value = &v.note,
     .argument = "TEXT",
     .help = "any text"},
    {.name = "color",
     .kind = OPTION_CHOICE,
     .value = &v.color,
     .argument = "NAME",
     .help = "paint",
     .choices = colors},
    {.name = "size",
     .letter = 's',
     .kind = OPTION_SIZE,
     .value = &v.size,
     .argument = "HxW",
     .help = "of the image",
     .min = 8,
     .max = 4096},
    {0},
};
static const struct program program = {
    .name = "tool", .summary = "does nothing", .usage = "[OPTION]...", .options = table};
static const char *const not_saved[] = {"output", NULL};

static void parse(int count, const char *const *words)
{
    char *argv[24] = {"tool"};
    for (int i = 0; i < count; i++)
        argv[i + 1] = (char *)words[i];
    options_parse(&program, count + 1, argv);
}

/* Releases s and returns it as saved to a checkpoint and read back. */
static struct training_state through_file(const char *folder, struct training_state s)
{
    struct error e;
    struct device *d;
    struct run *r;
    struct training_state read;
    struct architecture architecture = {0};
    struct unet_config sizes = {.latent_channels = 4,
                                .embed_width = 4,
                                .base_channels = 16,
                                .multipliers = {4, 4, 4, 4},
                                .cond_width = 8};
    char *path = path_join(folder, "run"), *checkpoint;
    if (device_open(&d, "cpu", &e) != 0)
        die("%s", e.text);
    unet_architecture(&architecture, &sizes);
    struct parameters *p = parameters_empty(&architecture, NET_UNET, d);
    if (run_open(&r, path, &e) != 0 || checkpoint_save(r, p, &s, 0, &e) != 0 ||
        checkpoint_find(path, &checkpoint, NULL, &e) != 0 ||
        checkpoint_read_state(&read, checkpoint, &e) != 0)
        die("%s", e.text);
    free(checkpoint);
    free(path);
    run_close(r);
    parameters_free(p);
    architecture_release(&architecture);
    device_close(d);
    training_state_release(&s);
    return read;
}

static void test_restore(const char *folder)
{
    struct training_state s;
    char *file = path_join(folder, "prompts.txt");
    fclose(fopen(file, "w"));
    v.force = true;
    v.seed = UINT64_MAX;
    v.length = (INT64_C(1) << 53) + 1;
    v.third = 1.0 / 3;
    v.tiny = -4.9406564584124654e-324;
    v.color = 1;
    v.size = (struct size2d){64, 128};
    v.output = "left out";
    v.prompts = file;
    training_state_init(&s);
    run_options_store(&s, &program, not_saved);
    const char *stores[] = {folder, "nowhere"}, **found;
    run_paths_store(&s, "store", 2, stores);
    tap_ok(!training_state_option(&s, "output") && !training_state_option(&s, "dry"),
           "excepted options and those without a value are not saved");
    s = through_file(folder, s);

    memset(&v, 0, sizeof v);
    v.count = 3;
    v.output = "as it is";
    const char *words[] = {"--scale", "2.5", "-n3", "--dry", "--threads=1", "--note", "new"};
    parse(7, words);
    char *changes = run_options_restore(&s, &program, not_saved);
    tap_ok(v.force && v.seed == UINT64_MAX && v.length == (INT64_C(1) << 53) + 1 && v.color == 1 &&
               v.size.height == 64 && v.size.width == 128,
           "flags, integers, choices and sizes are restored");
    tap_ok(v.third == 1.0 / 3 && v.tiny == -4.9406564584124654e-324, "and floats, to the last bit");
    tap_ok(strcmp(v.prompts, file) == 0 && strcmp(v.output, "as it is") == 0,
           "and strings, but not excepted options");
    tap_ok(v.scale == 2.5 && v.dry && strcmp(v.note, "new") == 0 && threads_count() == 1,
           "the command line takes precedence");
    tap_ok(changes &&
               strcmp(changes, "--dry, --scale 2.5 instead of 2, --note new instead of "
                               "a \"quoted\" note,\nand a line, --threads 1 instead of 0") == 0,
           "and the changes are listed");
    free(changes);

    int count = run_paths_find(&s, "store", &found);
    char *full = realpath(folder, NULL);
    tap_ok(count == 2 && strcmp(found[0], full) == 0 && strcmp(found[1], "nowhere") == 0,
           "paths that exist become absolute");
    free(full);
    free(found);
    tap_ok(run_paths_find(&s, "stor", &found) == 0 && !found, "a shorter name finds none");
    training_state_release(&s);
    free(file);
}

static void test_given(void)
{
    tap_ok(option_given("scale") && option_given("count") && option_given("threads"),
           "options given are known, short ones by their long name");
    tap_ok(!option_given("seed") && !option_given("precision"),
           "restored options do not count as given");
    tap_ok(option_find(&program, "scale") == &table[5] && option_find(&program, "threads") &&
               !option_find(&program, "scal"),
           "options are found by their full name");
}

int main(void)
{
    test_restore(test_folder());
    test_given();
    return tap_done();
}
