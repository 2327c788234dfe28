/* Checkpoints are restored bit for bit, or an error names what is wrong. */
#include <cjson/cJSON.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "common/nets/patch_discriminator.h"
#include "common/run/checkpoint_internal.h"
#include "tests/support/checkpoints.h"
#include "tests/support/tap.h"

static void ok_entries(const char *folder, const char *expected, const char *what)
{
    if (!tap_ok(strcmp(checkpoints_entries(folder), expected) == 0, "%s", what))
        tap_diag("got %s", checkpoints_entries(folder));
}

static void fill_state(struct training_state *s)
{
    training_state_init(s);
    s->step = 50000;
    s->images = 3200000;
    s->at = (struct data_position){3, 41234};
    s->seed = UINT64_MAX - 1;
    s->seconds = 12345.678901234;
    s->bad_steps = 4;
    s->bad_steps_in_a_row = 2;
    s->learning_rate = 3e-5;
    s->ema_decay = 0.999;
    s->loss = 1.0 / 3;
    s->smoothed_loss = nextafter(0.5, 1); /* one unit in the last place from fewer digits */
    s->gradient_norm = INFINITY;          /* restored as NaN */
    s->autoencoder_scale = 8.0779;
    strcpy(s->precision, "bf16");
    s->loss_scale = 65536;
    s->loss_scale_steps = 17;
    s->store = (struct shard_info){.latent_channels = 4,
                                   .latent_height = 32,
                                   .latent_width = 24,
                                   .embed_size = 512,
                                   .embed_dtype = DTYPE_F16,
                                   .image_height = 256,
                                   .image_width = 192,
                                   .preprocessing = "pil",
                                   .autoencoder = {.name = "kl \"f8\".ckpt", .hash = "0123"},
                                   .cloob = {.name = "cloob.pkl", .hash = "fedc"}};
    strcpy(s->dataset_hash, "00112233445566778899aabbccddeeff");
    s->dataset_count = 100000;
    s->holdout_count = 100;
    const char *options[][2] = {{"lr", "3e-05"},
                                {"batch-size", "64"},
                                {"lr-schedule", "cosine"},
                                {"betas", "0.9,0.999"},
                                {"seed", "18446744073709551615"},
                                {"weird", "1e-5"},
                                {"empty", ""},
                                {"prompts", "a \"b\"\n\\.txt"},
                                {"zero", "-0"},
                                {"hex", "0x10"},
                                {"many", "0.1234567890123456789"}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        training_state_set_option(s, options[i][0], "overwritten");
        training_state_set_option(s, options[i][0], options[i][1]);
    }
}

static bool same_number(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

static bool states_are_equal(const struct training_state *a, const struct training_state *b)
{
    bool same =
        strcmp(a->version, b->version) == 0 && a->step == b->step && a->updates == b->updates &&
        a->images == b->images && a->at.epoch == b->at.epoch && a->at.place == b->at.place &&
        a->seed == b->seed && a->seconds == b->seconds && a->bad_steps == b->bad_steps &&
        a->bad_steps_in_a_row == b->bad_steps_in_a_row && a->learning_rate == b->learning_rate &&
        a->ema_decay == b->ema_decay && same_number(a->loss, b->loss) &&
        same_number(a->smoothed_loss, b->smoothed_loss) &&
        same_number(a->holdout_loss, b->holdout_loss) &&
        a->autoencoder_scale == b->autoencoder_scale && strcmp(a->precision, b->precision) == 0 &&
        a->loss_scale == b->loss_scale && a->loss_scale_steps == b->loss_scale_steps &&
        strcmp(a->dataset_hash, b->dataset_hash) == 0 && a->dataset_count == b->dataset_count &&
        a->holdout_count == b->holdout_count && a->options.count == b->options.count;
    same &= shard_info_check(&a->store, &b->store, NULL) == 0 &&
            strcmp(a->store.autoencoder.name, b->store.autoencoder.name) == 0 &&
            strcmp(a->store.cloob.name, b->store.cloob.name) == 0;
    for (int i = 0; i < a->options.count; i++) {
        const char *value = training_state_option(b, a->options.items[i].name);
        same &= value && strcmp(value, a->options.items[i].value) == 0;
    }
    for (int i = 0; i < CHECKPOINT_FILES; i++) {
        same &= strcmp(a->files[i].name, b->files[i].name) == 0 &&
                a->files[i].bytes == b->files[i].bytes &&
                strcmp(a->files[i].hash, b->files[i].hash) == 0;
    }
    return same;
}

static void ok_sampled_from(const char *run, struct parameters *p)
{
    char *path = xasprintf("%s/step-00050000/diffusion.safetensors", run);
    struct weights *w = NULL;
    struct named_weights names;
    struct error e = {""};
    double scale = 0;
    const struct weight *t = NULL;
    bool opened =
        weights_open(&w, path, &e) == 0 && names_resolve(&names, w, NET_UNET, PICK_EMA, &e) == 0;
    if (opened) {
        const struct parameter *expected = parameters_find(p, "mapping.0.main.0.weight");
        t = names_find(&names, "mapping.0.main.0.weight");
        opened =
            t && t->dtype == DTYPE_F32 &&
            memcmp(t->data, parameters_read(p, ARRAY_EMA, expected->offset, expected->count, NULL),
                   (size_t)expected->count * sizeof(float)) == 0 &&
            names_scalar(&names, "autoencoder_scale", &scale) && scale == 8.5;
        names_release(&names);
    }
    tap_ok(opened, "diffusion.safetensors holds the EMA weights and the scale %s", e.text);
    weights_close(w);
    free(path);
}

static void test_round_trip(void)
{
    char run[4200];
    snprintf(run, sizeof run, "%s", checkpoints_folder("deep/round"));
    uint64_t seed = 1;
    struct parameters *p = checkpoints_parameters(16), *back = NULL;
    checkpoints_each(p, checkpoints_draw, &seed);
    p->updates = 49990;
    struct run *r = checkpoints_run(run);
    struct training_state s, read;
    struct error e = {""};
    fill_state(&s);
    tap_ok(run_checkpoints(r) == 0 && checkpoint_save(r, p, &s, 0, &e) == 0 &&
               run_checkpoints(r) == 1,
           "a checkpoint is written %s", e.text);
    tap_ok(strcmp(s.version, CCLD_VERSION) == 0 && s.updates == 49990,
           "its state has the version and the number of updates");
    ok_entries(run, "latest step-00050000 ", "its folder and latest exist");
    char *folder = path_join(run, "step-00050000"), *found = NULL, *of_run = NULL;
    ok_entries(folder, "diffusion.safetensors optimizer.safetensors raw.safetensors state.json ",
               "it has four files");
    int status = checkpoint_find(run, &found, &of_run, &e);
    tap_ok(status == 0 && strcmp(found, folder) == 0 && strcmp(of_run, run) == 0, "it is found: %s",
           status != 0 ? e.text : found);
    bool read_back = checkpoint_read_state(&read, folder, &e) == 0;
    tap_ok(read_back && isnan(read.gradient_norm) && isnan(read.holdout_loss) &&
               states_are_equal(&s, &read),
           "the state is restored %s", read_back ? "" : e.text);
    status = checkpoint_load_parameters(&back, &read, folder, checkpoints_device, NULL, NULL, &e);
    tap_ok(status == 0 && checkpoints_equal(p, back), "weights, EMA and moments are restored %s",
           status != 0 ? e.text : "");
    ok_sampled_from(run, p);
    parameters_free(back);

    seed = 2; /* the same step, other values */
    checkpoints_each(p, checkpoints_draw, &seed);
    int64_t step = 0;
    tap_ok(checkpoint_save(r, p, &s, 1, &e) == 0 && checkpoints_load(&back, &step, run, &e) == 0 &&
               step == 50000 && checkpoints_equal(p, back),
           "a checkpoint of the same step replaces it %s", e.text);
    ok_entries(run, "latest step-00050000 ", "and nothing else remains");
    tap_ok(checkpoint_bytes(p) > s.files[0].bytes + s.files[1].bytes + s.files[2].bytes &&
               checkpoint_bytes(p) < 4 * (s.files[0].bytes + s.files[1].bytes + s.files[2].bytes),
           "its size is estimated");
    parameters_free(back);
    parameters_free(p);
    training_state_release(&s);
    training_state_release(&read);
    run_close(r);
    free(found);
    free(of_run);
    free(folder);
}

static void ok_found(const char *path, const char *checkpoint, const char *of_run)
{
    char *found = NULL, *run = NULL;
    struct error e = {""};
    int status = checkpoint_find(path, &found, &run, &e);
    if (!tap_ok(status == 0 && strcmp(found, checkpoint) == 0 && strcmp(run, of_run) == 0,
                "'%s' is '%s'", path, checkpoint))
        tap_diag("%s, %s, %s", found, run, e.text);
    free(found);
    free(run);
}

static void test_find(void)
{
    struct parameters *p = checkpoints_parameters(4);
    int here = open(".", O_RDONLY | O_DIRECTORY);
    CHECK(here >= 0 && chdir(test_folder()) == 0);
    struct run *r = checkpoints_run("find");
    CHECK(checkpoints_save(r, p, 9, 0) && checkpoints_save(r, p, 123456789, 0) &&
          checkpoints_save(r, p, 10, 0));
    ok_found("find", "find/step-00000010", "find");
    ok_found("find//", "find/step-00000010", "find");
    ok_found("find/latest", "find/step-00000010", "find");
    ok_found("find/latest/", "find/step-00000010", "find");
    ok_found("find/step-00000009/", "find/step-00000009", "find");
    CHECK(unlink("find/latest") == 0);
    ok_found("find", "find/step-123456789", "find");
    CHECK(symlink("step-00000011", "find/latest") == 0);
    ok_found("find", "find/step-123456789", "find");
    char *real = realpath("find", NULL), *checkpoint = path_join(real, "step-00000009");
    CHECK(chdir("find/step-00000009") == 0);
    ok_found(".", checkpoint, real);
    CHECK(chdir(test_folder()) == 0 && mkdir("empty", 0777) == 0);
    struct error e = {""};
    char *found;
    tap_ok(checkpoint_find("empty", &found, NULL, &e) != 0 &&
               strstr(e.text, "neither a checkpoint"),
           "an empty folder is refused: %s", e.text);
    tap_ok(checkpoint_find("nowhere", &found, NULL, &e) != 0 && strstr(e.text, "No such file"),
           "a missing folder is refused: %s", e.text);
    struct run *other;
    tap_ok(run_open(&other, "find", &e) != 0 && strstr(e.text, "another process"),
           "a second process is refused: %s", e.text);
    run_close(r);
    r = checkpoints_run("find");
    run_close(r);
    parameters_free(p);
    free(real);
    free(checkpoint);
    CHECK(fchdir(here) == 0);
    close(here);
}

static void make_folder(const char *run, const char *name, const char *file)
{
    char *folder = path_join(run, name), *path = path_join(folder, file);
    CHECK(mkdir(folder, 0777) == 0);
    int fd = open(path, O_CREAT | O_WRONLY, 0666);
    CHECK(fd >= 0 && close(fd) == 0);
    free(folder);
    free(path);
}

static void test_keep_and_clean(void)
{
    char run[4200];
    snprintf(run, sizeof run, "%s", checkpoints_folder("keep"));
    struct parameters *p = checkpoints_parameters(4);
    struct run *r = checkpoints_run(run);
    make_folder(run, "step-00000001-mine", "state.json");
    make_folder(run, "step-1", "state.json");
    make_folder(run, "demo", "00000000.png");
    for (int64_t step = 10; step <= 50; step += 10)
        CHECK(checkpoints_save(r, p, step, 3));
    ok_entries(run,
               "demo latest step-00000001-mine step-00000030 step-00000040 step-00000050 step-1 ",
               "the last three are kept, as is everything that is not a checkpoint");
    CHECK(checkpoints_save(r, p, 35, 1));
    ok_entries(run,
               "demo latest step-00000001-mine step-00000035 step-00000040 step-00000050 step-1 ",
               "a run resumed from an earlier step leaves later ones alone");
    run_close(r);
    make_folder(run, "step-00000060.tmp-123", "raw.safetensors");
    make_folder(run, "step-00000030.gone-7", "raw.safetensors");
    make_folder(run, "step-00000040.old-7", "state.json");
    make_folder(run, "step-00000020.old-7", "state.json");
    char *dangling = path_join(run, "latest.tmp-9"), *good = path_join(run, "latest.tmp-10");
    CHECK(symlink("step-00000060", dangling) == 0 && symlink("step-00000035", good) == 0);
    free(dangling);
    free(good);
    r = checkpoints_run(run);
    ok_entries(run,
               "demo latest step-00000001-mine step-00000020 step-00000035 step-00000040 "
               "step-00000050 step-1 ",
               "leftovers of killed runs go; a checkpoint that was not replaced is restored");
    struct parameters *back = NULL;
    struct error e = {""};
    int64_t step = 0;
    tap_ok(checkpoints_load(&back, &step, run, &e) == 0 && step == 35,
           "targets of links are not removed %s", e.text);
    parameters_free(back);
    run_close(r);
    parameters_free(p);
}

static int64_t file_size(const char *path)
{
    struct stat st;
    CHECK(stat(path, &st) == 0);
    return st.st_size;
}

/* Adds a small discriminator. */
static void add_companion(struct parameters *p, uint64_t seed)
{
    struct architecture architecture = {0};
    patch_discriminator_architecture(&architecture, 3, 4, 2);
    p->companion = parameters_new(&architecture, NET_DISCRIMINATOR, seed, checkpoints_device);
    checkpoints_each(p->companion, checkpoints_draw, &seed);
    parameters_restart_ema(p->companion);
    p->companion->updates = 123;
    architecture_release(&architecture);
}

static void test_companion(void)
{
    char run[4200];
    snprintf(run, sizeof run, "%s", checkpoints_folder("beside"));
    uint64_t seed = 4;
    struct parameters *p = checkpoints_parameters(16), *back = NULL;
    checkpoints_each(p, checkpoints_draw, &seed);
    int64_t alone = checkpoint_bytes(p), step;
    add_companion(p, 5);
    struct run *r = checkpoints_run(run);
    struct error e = {""};
    bool saved = checkpoints_save(r, p, 7, 0);
    char *folder = path_join(run, "step-00000007");
    ok_entries(folder,
               "diffusion.safetensors discriminator-optimizer.safetensors "
               "discriminator.safetensors optimizer.safetensors raw.safetensors state.json ",
               "a discriminator is saved with its network");
    bool loaded = saved && checkpoints_load(&back, &step, run, &e) == 0;
    struct checkpoints_comparison same = {.same = true};
    if (loaded && back->companion) {
        same.other = p->companion;
        checkpoints_each(back->companion, checkpoints_compare, &same);
    }
    tap_ok(loaded && checkpoints_equal(p, back) && back->companion &&
               back->companion->net == NET_DISCRIMINATOR && back->companion->updates == 123 &&
               same.same,
           "and restored with it %s", e.text);
    tap_ok(checkpoint_bytes(p) > alone + 4 * 3 * p->companion->parameter_count,
           "and counts in the estimated size");
    if (loaded)
        parameters_free(back);
    parameters_free(p);
    run_close(r);
    free(folder);
}

static void change_byte(const char *path, int64_t at)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;
    CHECK(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 1;
    CHECK(pwrite(fd, &byte, 1, at) == 1 && close(fd) == 0);
}

static void replace_text(const char *path, const char *from, const char *to)
{
    uint8_t *data;
    size_t size;
    struct error e;
    CHECK(file_read(&data, &size, path, 1 << 20, &e) == 0);
    uint8_t *at = memmem(data, size, from, strlen(from));
    CHECK(at && strlen(from) == strlen(to));
    memcpy(at, to, strlen(to));
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
    free(data);
}

/* Sets the value of a key in state.json to a JSON text, with or without the document's hash. */
static void change_value(const char *path, const char *key, const char *value, bool hashed)
{
    uint8_t *data;
    size_t size;
    struct error e;
    CHECK(file_read(&data, &size, path, 1 << 20, &e) == 0);
    cJSON *root = cJSON_Parse((const char *)data), *new = cJSON_Parse(value);
    cJSON *data_object = cJSON_GetObjectItem(root, "data");
    CHECK(root && new &&data_object);
    CHECK(cJSON_GetObjectItem(root, "hash"));
    cJSON *object = cJSON_GetObjectItem(data_object, key) ? data_object : root;
    CHECK(cJSON_ReplaceItemInObjectCaseSensitive(object, key, new));
    if (!hashed)
        cJSON_DeleteItemFromObject(root, "hash");
    char *text = cJSON_Print(root);
    CHECK(file_write(path, text, strlen(text), &e) == 0);
    cJSON_free(text);
    cJSON_Delete(root);
    free(data);
}

/* Damages a file of a new checkpoint; the error must name it. expected: text that the error must
 * contain, or NULL if the checkpoint must load. */
static void ok_refused(const char *file, const char *what, const char *expected)
{
    char run[4200];
    snprintf(run, sizeof run, "%s", checkpoints_folder("damaged"));
    uint64_t seed = 3;
    struct parameters *p = checkpoints_parameters(16), *back = NULL;
    checkpoints_each(p, checkpoints_draw, &seed);
    if (strstr(file, "discriminator") || strstr(what, "discriminator"))
        add_companion(p, 6);
    struct run *r = checkpoints_run(run);
    CHECK(checkpoints_save(r, p, 1, 0));
    run_close(r);
    char *path = xasprintf("%s/step-00000001/%s", run, file);
    if (strcmp(what, "missing") == 0) {
        CHECK(unlink(path) == 0);
    } else if (strcmp(what, "cut off") == 0) {
        CHECK(truncate(path, file_size(path) - 4) == 0);
    } else if (strcmp(what, "longer") == 0) {
        CHECK(truncate(path, file_size(path) + 4) == 0);
    } else if (strcmp(what, "one bit") == 0) {
        change_byte(path, file_size(path) - 200);
    } else if (strcmp(what, "not a number") == 0) {
        int fd = open(path, O_WRONLY);
        CHECK(fd >= 0 && pwrite(fd, &(float){NAN}, 4, file_size(path) - 400) == 4);
        close(fd);
    } else if (strcmp(what, "another shape") == 0) {
        replace_text(path, "[33,7]", "[7,33]");
    } else if (strcmp(what, "another type") == 0) {
        replace_text(path, "\"dtype\":\"F32\"", "\"dtype\":\"F92\"");
    } else if (strcmp(what, "another type of a scalar") == 0) {
        replace_text(path, "scale\":{\"dtype\":\"F32\"", "scale\":{\"dtype\":\"F92\"");
    } else if (strcmp(what, "another tensor") == 0) {
        replace_text(path, "net.0.main.0.bias", "net.0.main.1.bias");
    } else if (strcmp(what, "empty") == 0) {
        CHECK(truncate(path, 0) == 0);
    } else if (strcmp(what, "a step that is text") == 0) {
        replace_text(path, "\"step\":\t1", "\"step\":\t\"");
    } else if (strcmp(what, "no seed") == 0) {
        replace_text(path, "\"seed\"", "\"deed\"");
    } else if (strcmp(what, "a negative count") == 0) {
        replace_text(path, "\"records\":\t0,", "\"records\":-1,");
    } else if (strcmp(what, "no updates of a discriminator") == 0) {
        replace_text(path, "\"updates\":\t123", "\"updates\":\t\"1\"");
    } else if (strncmp(what, "hashed: ", 8) == 0) {
        char from[64], to[64];
        CHECK(sscanf(what, "hashed: %63s -> %63s", from, to) == 2);
        change_value(path, from, to, true);
    } else if (strchr(what, '>')) {
        char from[64], to[64];
        CHECK(sscanf(what, "%63s -> %63s", from, to) == 2);
        change_value(path, from, to, false);
    } else if (strcmp(what, "a file elsewhere") == 0) {
        replace_text(path, "raw.safetensors", "../.safetensors");
    } else {
        CHECK(strcmp(what, "nothing") == 0);
    }
    struct error e = {""};
    int64_t step;
    int status = checkpoints_load(&back, &step, run, &e);
    if (expected) {
        tap_ok(status != 0 && strstr(e.text, file) && strstr(e.text, expected), "%s: %s: %s", file,
               what, status != 0 ? e.text : "loaded");
    } else {
        tap_ok(status == 0, "%s: %s: loads %s", file, what, status != 0 ? e.text : "");
    }
    if (status == 0)
        parameters_free(back);
    free(path);
    parameters_free(p);
}

static void test_damage(void)
{
    ok_refused("state.json", "nothing", NULL);
    const char *files[] = {"raw.safetensors", "diffusion.safetensors", "optimizer.safetensors"};
    for (int i = 0; i < 3; i++) {
        ok_refused(files[i], "missing", "No such file");
        ok_refused(files[i], "cut off", "");
        ok_refused(files[i], "longer", "");
        ok_refused(files[i], "empty", "");
        ok_refused(files[i], "one bit", "hash");
        ok_refused(files[i], "not a number", "non-finite");
        ok_refused(files[i], "another shape", i ? "shape" : "hash");
        ok_refused(files[i], "another type", "is not F32");
        if (i < 2)
            ok_refused(files[i], "another type of a scalar", "'autoencoder_scale' is not F32");
        ok_refused(files[i], "another tensor", i ? "net.0.main.1.bias" : "hash");
    }
    const char *companions[] = {"discriminator.safetensors", "discriminator-optimizer.safetensors"};
    for (int i = 0; i < 2; i++) {
        ok_refused(companions[i], "missing", "No such file");
        ok_refused(companions[i], "cut off", "");
        ok_refused(companions[i], "empty", "");
        ok_refused(companions[i], "one bit", "hash");
        ok_refused(companions[i], "not a number", "non-finite");
    }
    ok_refused("state.json", "no updates of a discriminator", "discriminator");
    ok_refused("state.json", "cut off", "JSON");
    ok_refused("state.json", "empty", "JSON");
    ok_refused("state.json", "a step that is text", "");
    ok_refused("state.json", "no seed", "seed");
    ok_refused("state.json", "a negative count", "records");
    ok_refused("state.json", "a file elsewhere", "files");
}

/* What the parser of JSON accepts but the program did not write. */
static void test_changed_state(void)
{
    const char *hashed[] = {"seed -> \"1\"",        "step -> 2",    "place -> 0.0001",
                            "epoch -> 1",           "seconds -> 1", "loss_scale -> 2",
                            "options -> {\"lr\":1}"};
    for (size_t i = 0; i < sizeof hashed / sizeof *hashed; i++) {
        char what[80];
        snprintf(what, sizeof what, "hashed: %s", hashed[i]);
        ok_refused("state.json", what, i == 2 ? "place" : "damaged or modified");
    }
    const char *invalid[] = {
        "loss_scale -> 0",
        "loss_scale -> -1",
        "loss_scale -> 9007199254740992",
        "loss_scale -> null",
        "loss_scale -> 1e400",
        "autoencoder_scale -> 0",
        "autoencoder_scale -> -1",
        "ema_decay -> 2",
        "learning_rate -> -1",
        "seconds -> -1",
        "seconds -> null",
        "updates -> 2",
        "bad_steps -> 2",
        "bad_steps_in_a_row -> 1",
        "held_out -> 1",
        "place -> 1",
        "latent_width -> 1e10",
        "loss_scale_steps -> 1.5",
    };
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++) {
        char key[64];
        CHECK(sscanf(invalid[i], "%63s", key) == 1);
        ok_refused("state.json", invalid[i], key);
    }
    ok_refused("state.json", "epoch -> 7", NULL); /* without a hash, as older programs write it */
}

/* A name that fills its buffer, cut inside a character or not UTF-8 at all, can be read again. */
static void test_long_names(void)
{
    struct training_state s, back;
    struct error e = {""};
    char *text;
    training_state_init(&s);
    memset(s.store.autoencoder.name, 'a', sizeof s.store.autoencoder.name - 2);
    s.store.autoencoder.name[sizeof s.store.autoencoder.name - 2] = '\xc3';
    memset(s.store.cloob.name, '\xe4', sizeof s.store.cloob.name - 1);
    for (int i = 0; i < CHECKPOINT_FILES; i++)
        strcpy(s.files[i].name, "file");
    training_state_print(&text, &s);
    int status = training_state_parse(&back, text, &e);
    tap_ok(status == 0 && strlen(back.store.autoencoder.name) == 126 &&
               strlen(back.store.cloob.name) == 126,
           "names that are cut inside a character are read %s", e.text);
    if (status == 0)
        training_state_release(&back);
    free(text);
}

static void test_many_options(void)
{
    enum { COUNT = 200000 };
    struct training_state s, back;
    struct error e = {""};
    char *text, name[32];
    training_state_init(&s);
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "shards-%d", i);
        training_state_set_option(&s, name, name);
    }
    for (int i = 0; i < CHECKPOINT_FILES; i++)
        strcpy(s.files[i].name, "file");
    training_state_print(&text, &s);
    clock_t begin = clock();
    bool read = training_state_parse(&back, text, &e) == 0;
    double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    tap_ok(read && back.options.count == COUNT &&
               strcmp(training_state_option(&back, name), name) == 0 && seconds < 10,
           "%d options are read in %.1f s %s", COUNT, seconds, e.text);
    if (read)
        training_state_release(&back);
    training_state_release(&s);
    free(text);
}

int main(void)
{
    struct error e;
    CHECK(device_open(&checkpoints_device, "ref", &e) == 0);
    test_round_trip();
    test_companion();
    test_find();
    test_keep_and_clean();
    test_damage();
    test_changed_state();
    test_long_names();
    test_many_options();
    device_close(checkpoints_device);
    return tap_done();
}
