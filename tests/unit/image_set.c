/* Image files in training: lists and captions, the order of batches, and files that cannot be read.
 */
#include "common/data/image_set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/rng.h"
#include "tests/support/input_faults.h"
#include "tests/support/tap.h"

#define FILES  23
#define SIDE   16
#define NUMBER (3 * SIDE * SIDE)

static char *warnings; /* the file that stderr goes to */

static char *file_name(int i)
{
    return xasprintf("%s/%02d.png", test_folder(), i);
}

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "w");
    CHECK(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
}

/* Writes files of different sizes, some gray, some with alpha; file i is a pure function of i. */
static void make_files(void)
{
    for (int i = 0; i < FILES; i++) {
        struct image image;
        struct error e;
        static const int channels[] = {3, 1, 4};
        if (image_new(&image, 16 + 3 * (i % 5), 16 + 2 * (i % 7), channels[i % 3], 8, &e) != 0)
            die("%s", e.text);
        for (size_t k = 0; k < image_bytes(&image); k++)
            image.pixels[k] = (uint8_t)((size_t)(i + 1) * (k + 3) * 37 >> 3);
        uint8_t *png;
        size_t size;
        if (png_encode(&png, &size, &image, NULL, 0, 1, &e) != 0)
            die("%s", e.text);
        char *path = file_name(i);
        write_file(path, png, size);
        free(path);
        free(png);
        image_release(&image);
    }
}

static struct image_set_options options(void)
{
    return (struct image_set_options){.height = SIDE,
                                      .width = SIDE,
                                      .holdout = 3,
                                      .is_signed = true,
                                      .cache_bytes = IMAGE_SET_CACHE_DEFAULT};
}

/* Files 0 to FILES-1. */
static struct image_set *open_files(const struct image_set_options *o)
{
    char *paths[FILES];
    struct path_source list;
    struct image_set *s;
    struct error e;
    for (int i = 0; i < FILES; i++)
        paths[i] = file_name(i);
    path_source_arguments(&list, FILES, paths);
    if (image_set_open(&s, &list, o, &e) != 0)
        die("%s", e.text);
    path_source_release(&list);
    for (int i = 0; i < FILES; i++)
        free(paths[i]);
    return s;
}

static struct image_set *open_text(const char *text, struct image_set_options o, struct error *e)
{
    int ends[2];
    CHECK(pipe(ends) == 0 && write(ends[1], text, strlen(text)) == (ssize_t)strlen(text));
    close(ends[1]);
    struct path_source list;
    struct image_set *s;
    path_source_stream(&list, ends[0], '\n');
    if (image_set_open(&s, &list, &o, e) != 0)
        s = NULL;
    path_source_release(&list);
    close(ends[0]);
    return s;
}

/* Prepares an image as ccld-encode does for the autoencoder. */
static void prepare(float *out, const char *path)
{
    struct image image, square;
    struct error e;
    if (image_read(&image, path, 0, &e) != 0 || prepare_color(&image, PREPARE_DISPLAY, &e) != 0 ||
        prepare_square(&square, &image, SIDE, &e) != 0)
        die("%s", e.text);
    prepare_to_float(out, &square);
    prepare_to_signed(out, NUMBER);
    image_release(&image);
    image_release(&square);
}

static void mirror(float *x)
{
    for (int row = 0; row < 3 * SIDE; row++)
        for (int i = 0; i < SIDE / 2; i++) {
            float t = x[row * SIDE + i];
            x[row * SIDE + i] = x[row * SIDE + SIDE - 1 - i];
            x[row * SIDE + SIDE - 1 - i] = t;
        }
}

static bool is_image(const struct image_set *s, const struct image_batch *b, int64_t i,
                     bool mirrored)
{
    float expected[NUMBER];
    prepare(expected, image_set_path(s, (int64_t)b->samples[i]));
    if (mirrored)
        mirror(expected);
    return memcmp(expected, b->images + i * NUMBER, sizeof expected) == 0;
}

/* The caption of a record whose file can be read; owned by s. */
static const char *caption_of(struct image_set *s, int64_t record)
{
    struct image_batch b = {0};
    CHECK(image_set_read(s, &record, 1, &b, NULL) == 0);
    CHECK(b.n == 1 && b.captions);
    const char *caption = b.captions[0];
    image_batch_release(&b);
    return caption;
}

/* Number of warnings so far about files that cannot be read. */
static int unreadable_warnings(void)
{
    uint8_t *text;
    size_t size;
    struct error e;
    if (file_read(&text, &size, warnings, 1 << 20, &e) != 0)
        die("%s", e.text);
    int count = 0;
    for (const char *at = (const char *)text; (at = strstr(at, "skipping it")); at++)
        count++;
    free(text);
    return count;
}

static struct image_reader *open_reader(struct image_set *s, int64_t first_step, bool flip)
{
    struct image_reader *r;
    struct error e;
    struct batch_reader_options o = {
        .seed = 5, .batch = 3, .accumulate = 2, .ranks = 1, .threads = 3, .first_step = first_step};
    o.start = order_advance(image_set_order(s), o.start, first_step, 6);
    if (image_reader_open(&r, s, &o, flip, &e) != 0)
        die("%s", e.text);
    return r;
}

static const struct image_batch *next(struct image_reader *r)
{
    const struct image_batch *b;
    struct error e;
    if (image_reader_next(r, &b, &e) != 0)
        die("%s", e.text);
    return b;
}

static void test_batches(void)
{
    struct image_set_options o = options();
    struct image_set *s = open_files(&o);
    const struct order *order = image_set_order(s);
    struct image_reader *r = open_reader(s, 0, false);
    bool in_order = true, right = true;
    int seen[FILES] = {0};
    for (int64_t i = 0; i < 6; i++) { /* 20 records: an epoch has three steps of six */
        const struct image_batch *b = next(r);
        in_order &=
            b->at.step == i / 2 && b->at.micro_batch == i % 2 && b->at.at.epoch == 0 && b->n == 3;
        for (int64_t k = 0; k < 3; k++) {
            int64_t record = order_record_at(order, 5, 0, 3 * i + k);
            in_order &= b->samples[k] == (uint64_t)record;
            right &= is_image(s, b, k, false);
            seen[record]++;
        }
    }
    for (int64_t i = 0; i < 3; i++)
        in_order &= seen[order_holdout_at(order, i)] == 0;
    for (int i = 0; i < FILES; i++)
        in_order &= seen[i] <= 1;
    tap_ok(in_order, "batches follow the epoch's order, without held-out records");
    tap_ok(right, "images are prepared as by ccld-encode");
    const struct image_batch *b = next(r);
    tap_ok(b->at.at.epoch == 1 && b->at.at.place == 0, "the next epoch follows");
    image_reader_close(r);
    struct image_batch held = {0};
    CHECK(image_set_read_holdout(s, 1, 2, &held, NULL) == 0);
    tap_ok(held.n == 2 && held.samples[0] == (uint64_t)order_holdout_at(order, 1) &&
               is_image(s, &held, 0, false) && is_image(s, &held, 1, false),
           "held-out images are read");
    image_batch_release(&held);
    image_set_close(s);
}

static void test_flip_and_resume(void)
{
    struct image_set_options o = options();
    struct image_set *s = open_files(&o);
    o.cache_bytes = 0;
    struct image_set *uncached = open_files(&o);
    struct image_reader *r = open_reader(s, 0, true), *resumed = open_reader(uncached, 4, true);
    int flipped = 0, all = 0;
    bool right = true, same = true;
    for (int i = 0; i < 40; i++) {
        const struct image_batch *b = next(r);
        for (int64_t k = 0; k < 3; k++) {
            float u;
            rng_uniform(&u, 1, 5, RNG_FLIP, (uint32_t)b->at.step, b->samples[k], 0);
            right &= is_image(s, b, k, u < 0.5f);
            flipped += u < 0.5f;
            all++;
        }
        if (i < 8)
            continue;
        const struct image_batch *c = next(resumed);
        same &= c->at.step == b->at.step && c->at.at.epoch == b->at.at.epoch &&
                memcmp(c->samples, b->samples, 3 * sizeof *b->samples) == 0 &&
                memcmp(c->images, b->images, 3 * NUMBER * sizeof(float)) == 0;
    }
    tap_ok(right && flipped > all / 3 && flipped < 2 * all / 3,
           "%d of %d images are mirrored, as drawn", flipped, all);
    tap_ok(same, "resumed at the fifth step and without a cache, batches are the same");
    image_reader_close(r);
    image_reader_close(resumed);
    image_set_close(s);
    image_set_close(uncached);
}

/* Damages three files and checks which records replace them. */
static void test_unreadable(void)
{
    struct image_set_options o = options();
    struct image_set *s = open_files(&o);
    const struct order *order = image_set_order(s);
    int64_t bad[3] = {order_record_at(order, 5, 0, 4), order_record_at(order, 5, 0, 5),
                      order_holdout_at(order, 0)};
    uint8_t *kept[3];
    size_t size[3];
    struct error e;
    for (int i = 0; i < 3; i++) {
        const char *path = image_set_path(s, bad[i]);
        if (file_read(&kept[i], &size[i], path, 1 << 20, &e) != 0)
            die("%s", e.text);
        write_file(path, kept[i], size[i] / 2);
    }
    struct image_reader *r = open_reader(s, 0, false);
    bool right = true;
    for (int64_t i = 0; i < 12; i++) {
        const struct image_batch *b = next(r);
        for (int64_t k = 0; k < 3; k++) {
            int64_t place = b->at.first + k, epoch = b->at.at.epoch;
            int64_t record = order_record_at(order, 5, epoch, place);
            while (record == bad[0] || record == bad[1])
                record = order_record_at(order, 5, epoch, ++place % 20);
            right &= b->samples[k] == (uint64_t)record && is_image(s, b, k, false);
        }
    }
    tap_ok(right, "the next readable file replaces one that cannot be read");
    struct image_batch held = {0};
    CHECK(image_set_read_holdout(s, 0, 3, &held, NULL) == 0);
    tap_ok(held.n == 2 && held.samples[0] == (uint64_t)order_holdout_at(order, 1),
           "an unreadable held-out file is left out");
    tap_ok(unreadable_warnings() == 3, "each causes one warning");
    image_batch_release(&held);
    image_reader_close(r);
    for (int i = 0; i < 3; i++) {
        write_file(image_set_path(s, bad[i]), kept[i], size[i]);
        free(kept[i]);
    }
    image_set_close(s);

    struct image_set_options none = options();
    none.holdout = 0;
    s = open_text("/nowhere/a.png\n/nowhere/b.png\n", none, &e);
    struct batch_reader_options two = {.batch = 2, .accumulate = 1, .ranks = 1};
    const struct image_batch *b;
    CHECK(s && image_reader_open(&r, s, &two, false, &e) == 0);
    tap_ok(image_reader_next(r, &b, &e) == -1, "fails if no file can be read: %s", e.text);
    image_reader_close(r);
    two.batch = 3;
    tap_ok(image_reader_open(&r, s, &two, false, &e) == -1, "fails with too few files: %s", e.text);
    image_set_close(s);
}

static void test_captions(void)
{
    struct image_set_options o = options();
    struct error e;
    o.captions = true;
    o.holdout = 1;
    char *beside = xasprintf("%s/01.png.txt", test_folder());
    char *in_place = xasprintf("%s/02.txt", test_folder());
    char *blank = xasprintf("%s/03.txt", test_folder());
    write_file(beside, "\n  a red disc \n", 15);
    write_file(in_place, "two\nlines", 9);
    write_file(blank, " \n", 2);
    char *first = file_name(0);
    char *text =
        xasprintf("%s\t a blue\tsquare \n%s/01.png\n%s/02.png\n%s/03.png\n%s/04.png\n%s\t\n", first,
                  test_folder(), test_folder(), test_folder(), test_folder(), first);
    struct image_set *s = open_text(text, o, &e);
    CHECK(s);
    tap_ok(image_set_order(s)->records == 3, "an image without a caption is left out");
    tap_ok(strcmp(caption_of(s, 0), "a blue\tsquare") == 0 &&
               strcmp(caption_of(s, 1), "a red disc") == 0 &&
               strcmp(caption_of(s, 2), "two\nlines") == 0,
           "captions are read from the list, PATH.txt or the file with extension .txt");
    struct image_batch b = {0};
    CHECK(image_set_read(s, (int64_t[]){2, 0}, 2, &b, NULL) == 0);
    tap_ok(b.n == 2 && b.captions[0] == caption_of(s, 2) && b.captions[1] == caption_of(s, 0),
           "a batch contains the images' captions");
    image_batch_release(&b);

    char *list = path_join(test_folder(), "list"), hash[33], again[33];
    struct image_set *back = NULL;
    tap_ok(image_set_save(s, list, &e) == 0 && image_set_reopen(&back, list, &o, &e) == 0,
           "a list is saved and opened again");
    CHECK(back);
    bool same = image_set_order(back)->records == 3;
    for (int i = 0; i < 3 && same; i++)
        same = strcmp(image_set_path(s, i), image_set_path(back, i)) == 0 &&
               strcmp(caption_of(s, i), caption_of(back, i)) == 0;
    image_set_hash(hash, s);
    image_set_hash(again, back);
    tap_ok(same && strcmp(hash, again) == 0, "it has the same records and hash");
    image_set_close(back);
    uint8_t *kept;
    size_t size;
    CHECK(file_read(&kept, &size, list, 1 << 20, &e) == 0);
    for (size_t cut = 1; cut < 12; cut += 5) {
        write_file(list, kept, size - cut);
        tap_ok(image_set_reopen(&back, list, &o, &e) == -1 && strstr(e.text, "damaged"),
               "refused: a list without its last %zu bytes", cut);
    }
    free(kept);
    image_set_close(s);
    o.captions = false;
    o.holdout = 0;
    s = open_text("relative.png\n", o, &e);
    char *here = getcwd(NULL, 0), *full = path_join(here, "relative.png");
    CHECK(image_set_read(s, (int64_t[]){0}, 1, &b, NULL) == 0);
    tap_ok(s && strcmp(image_set_path(s, 0), full) == 0 && !b.captions, "paths become absolute");
    image_batch_release(&b);
    image_set_close(s);
    o.holdout = 1;
    tap_ok(!open_text("a\n", o, &e) && !open_text("", o, &e), "refused: too short a list: %s",
           e.text);
    free(here);
    free(full);
    free(list);
    free(text);
    free(first);
    free(beside);
    free(in_place);
    free(blank);
}

static void ok_reads_on(int number, int times, bool can)
{
    struct image_set_options o = options();
    struct batch_reader_options r = {.batch = 20, .accumulate = 1, .ranks = 1, .seed = 1};
    struct image_set *s = open_files(&o);
    struct image_reader *reader;
    struct image_batch held = {0};
    const struct image_batch *b;
    struct error e = {""};
    char *name = strerror(number);
    input_faults_set(".png", number, times);
    CHECK(image_reader_open(&reader, s, &r, false, &e) == 0);
    int status = image_reader_next(reader, &b, &e);
    tap_ok(can ? status == 0 : status != 0 && strstr(e.text, ".png': ") && strstr(e.text, name),
           "'%s' %d times: %s", name, times, can ? "images are read again" : e.text);
    input_faults_set(".png", number, times);
    status = image_set_read_holdout(s, 0, 3, &held, &e);
    tap_ok(can ? status == 0 && held.n == 3 : status != 0 && strstr(e.text, name),
           "held-out ones, too: %s", can ? "all" : e.text);
    input_faults_set("", 0, 0);
    image_batch_release(&held);
    image_reader_close(reader);
    image_set_close(s);
}

/* The system's failures are no fault of an image, nor of a caption. */
static void test_system_failures(void)
{
    int before = unreadable_warnings();
    ok_reads_on(EMFILE, 2, true);
    ok_reads_on(ENFILE, 2, true);
    ok_reads_on(ENOMEM, 2, true);
    ok_reads_on(EIO, 100000, false);
    tap_ok(unreadable_warnings() == before, "no image is left out");
    struct image_set_options o = options();
    o.captions = true;
    o.holdout = 0;
    char *argv[] = {file_name(0)}, *caption = xasprintf("%s.txt", argv[0]);
    struct path_source list;
    struct image_set *s = NULL;
    struct error e = {""};
    write_file(caption, "a caption", 9);
    path_source_arguments(&list, 1, argv);
    input_faults_set(".txt", EMFILE, 2);
    bool opened = image_set_open(&s, &list, &o, &e) == 0;
    tap_ok(opened, "a caption is read again %s", e.text);
    image_set_close(opened ? s : NULL);
    path_source_arguments(&list, 1, argv);
    input_faults_set(".txt", EMFILE, 100000);
    int status = image_set_open(&s, &list, &o, &e);
    input_faults_set("", 0, 0);
    tap_ok(status != 0 && strstr(e.text, "cannot read the caption of"),
           "or reading the list ends: %s", e.text);
    free(caption);
    free(argv[0]);
}

static bool warned(const char *what)
{
    uint8_t *text;
    size_t size;
    struct error e;
    CHECK(file_read(&text, &size, warnings, 1 << 20, &e) == 0);
    bool found = strstr((char *)text, what) != NULL;
    free(text);
    return found;
}

/* However a path is spelled, each image is one record; in lists of pairs, each pair is. */
static void test_repeated(void)
{
    struct image_set_options o = options();
    o.holdout = 1;
    char *argv[5] = {file_name(0), file_name(1), file_name(0),
                     xasprintf("%s/.//01.png", test_folder()), file_name(2)};
    struct path_source list;
    struct image_set *s = NULL;
    struct error e = {""};
    path_source_arguments(&list, 5, argv);
    bool opened = image_set_open(&s, &list, &o, &e) == 0;
    tap_ok(opened && order_training_count(image_set_order(s)) == 2 &&
               strcmp(image_set_path(s, 2), argv[4]) == 0 &&
               warned("leaving out 2 repeated images"),
           "repeated images are left out, with a warning %s", e.text);
    image_set_close(opened ? s : NULL);
    for (int i = 0; i < 5; i++) {
        char *pair = xasprintf("%s\t%s", argv[i], i == 2 ? "another" : "one");
        free(argv[i]);
        argv[i] = pair;
    }
    o.captions = true;
    path_source_arguments(&list, 5, argv);
    opened = image_set_open(&s, &list, &o, &e) == 0;
    tap_ok(opened && order_training_count(image_set_order(s)) == 3 &&
               warned("leaving out 1 repeated pair of"),
           "one image may have several captions, but each pair is one record %s", e.text);
    image_set_close(opened ? s : NULL);
    for (int i = 0; i < 5; i++)
        free(argv[i]);
}

int main(void)
{
    message_init("image_set");
    message_set_verbosity(VERBOSITY_QUIET);
    warnings = path_join(test_folder(), "warnings");
    CHECK(freopen(warnings, "w", stderr));
    make_files();
    test_batches();
    test_flip_and_resume();
    test_unreadable();
    test_captions();
    test_repeated();
    test_system_failures();
    free(warnings);
    return tap_done();
}
