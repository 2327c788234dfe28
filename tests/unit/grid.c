/* Grids of images: layout, mixed color types, different sizes, and the text for web UIs. */
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/images/grid.h"
#include "common/images/grid_parameters.h"
#include "tests/support/tap.h"

static struct image plain(int width, int height, int channels, int depth, unsigned value)
{
    struct image image = {0};
    struct error e;
    if (image_new(&image, width, height, channels, depth, &e) != 0) {
        tap_ok(false, "image_new: %s", e.text);
        exit(tap_done());
    }
    size_t n = (size_t)width * (size_t)height * (size_t)channels;
    for (size_t i = 0; i < n; i++)
        if (depth == 16)
            ((uint16_t *)image.pixels)[i] = (uint16_t)value;
        else
            image.pixels[i] = (uint8_t)value;
    return image;
}

static int add(struct grid *g, struct image image, struct error *e)
{
    struct image_remarks none = {0};
    return grid_add(g, &image, &none, "the image", e);
}

static unsigned at(const struct image *sheet, int x, int y, int c)
{
    size_t i = ((size_t)y * (size_t)sheet->width + (size_t)x) * (size_t)sheet->channels + (size_t)c;
    return sheet->depth == 16 ? ((uint16_t *)sheet->pixels)[i] : sheet->pixels[i];
}

static void test_columns(void)
{
    static const int expected[][2] = {{1, 1}, {2, 2},  {4, 2},         {5, 3},
                                      {9, 3}, {10, 4}, {1000000, 1000}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        tap_ok(grid_default_columns(expected[i][0]) == expected[i][1], "%d images in %d columns",
               expected[i][0], expected[i][1]);
}

static void test_layout(void)
{
    struct grid g = {0};
    struct image sheet = {0};
    struct error e;
    for (unsigned i = 0; i < 5; i++)
        add(&g, plain(4, 2, 3, 8, 10 * (i + 1)), &e);
    tap_ok(grid_draw(&sheet, &g, 3, 1, &e) == 0, "five images in three columns");
    tap_ok(sheet.width == 16 && sheet.height == 7 && sheet.channels == 3 && sheet.depth == 8,
           "the grid is 16x7 RGB");
    int wrong = 0;
    for (int y = 0; y < 7; y++) {
        for (int x = 0; x < 16; x++) {
            int column = (x - 1) / 5, row = (y - 1) / 3, index = row * 3 + column;
            bool padding = x % 5 == 0 || y % 3 == 0 || index >= 5;
            for (int c = 0; c < 3; c++)
                wrong += at(&sheet, x, y, c) != (padding ? 0u : 10u * (unsigned)(index + 1));
        }
    }
    tap_ok(wrong == 0, "every pixel is in its place (%d wrong)", wrong);
    image_release(&sheet);
    tap_ok(grid_draw(&sheet, &g, 100, 0, &e) == 0 && sheet.width == 20 && sheet.height == 2,
           "no more columns than images");
    image_release(&sheet);
    tap_ok(grid_draw(&sheet, &g, 1, INT32_MAX / 2, &e) == -1, "a grid that is too large: %s",
           e.text);
    tap_ok(add(&g, plain(4, 3, 3, 8, 0), &e) == -1 && g.count == 5 &&
               strcmp(e.text, "the image is 4x3 pixels, the first image is 4x2") == 0,
           "a different size: %s", e.text);
    grid_release(&g);
}

static void test_kinds(void)
{
    struct grid g = {0};
    struct image sheet = {0};
    struct error e;
    add(&g, plain(1, 1, 1, 8, 100), &e);
    tap_ok(grid_draw(&sheet, &g, 1, 0, &e) == 0 && sheet.channels == 1 && sheet.depth == 8 &&
               at(&sheet, 0, 0, 0) == 100,
           "gray stays gray");
    image_release(&sheet);
    add(&g, plain(1, 1, 3, 16, 0x1234), &e);
    tap_ok(grid_draw(&sheet, &g, 2, 0, &e) == 0 && sheet.channels == 3 && sheet.depth == 16 &&
               at(&sheet, 0, 0, 0) == 100 * 257 && at(&sheet, 0, 0, 2) == 100 * 257 &&
               at(&sheet, 1, 0, 1) == 0x1234,
           "8-bit gray beside 16-bit RGB");
    image_release(&sheet);
    add(&g, plain(1, 1, 2, 8, 50), &e);
    tap_ok(grid_draw(&sheet, &g, 2, 0, &e) == 0 && sheet.channels == 4 &&
               at(&sheet, 0, 0, 3) == 65535 && at(&sheet, 0, 1, 2) == 50 * 257 &&
               at(&sheet, 0, 1, 3) == 50 * 257 && at(&sheet, 1, 1, 3) == 0,
           "one image has alpha: the others are opaque, the empty cell transparent");
    image_release(&sheet);
    grid_release(&g);
}

static void add_remarks(struct grid *g, const char *prompt, const char *method, const char *seed,
                        const char *model)
{
    struct image image = plain(8, 4, 3, 8, 0);
    struct image_remarks r = {0};
    struct error e;
    if (prompt)
        image_remarks_set(&r, "prompt", prompt);
    image_remarks_set(&r, "seed", seed);
    image_remarks_set(&r, "steps", "50");
    image_remarks_set(&r, "method", method);
    image_remarks_set(&r, "guidance", "3");
    image_remarks_set(&r, "model", model);
    grid_add(g, &image, &r, "the image", &e);
}

static void expect_parameters(struct grid *g, const char *expected, const char *what)
{
    char *got = grid_parameters(g);
    bool same = got && expected ? strcmp(got, expected) == 0 : got == expected;
    if (!tap_ok(same, "%s", what))
        tap_diag("got: %s", got ? got : "(nothing)");
    free(got);
    grid_release(g);
}

static void test_parameters(void)
{
    struct grid g = {0};
    struct error e;
    add_remarks(&g, "a cat", "plms", "0", "yfcc");
    add_remarks(&g, "a cat", "plms", "0", "yfcc");
    expect_parameters(&g,
                      "a cat\nSteps: 50, Sampler: PLMS, CFG scale: 3, Seed: 0, Size: 8x4, "
                      "Model: yfcc",
                      "one prompt");
    add_remarks(&g, "a cat", "dpm2m", "7", "a, \"b\"");
    add_remarks(&g, "dog, blue", "dpm2m", "8", "a, \"b\"");
    add_remarks(&g, "a cat", "dpm2m", "7", "a, \"b\"");
    expect_parameters(&g,
                      "a cat\ndog, blue\nSteps: 50, Sampler: DPM++ 2M, CFG scale: 3, "
                      "Seed: \"7, 8\", Size: 8x4, Model: \"a, \\\"b\\\"\"",
                      "different prompts and seeds, a model that needs quoting");
    add_remarks(&g, NULL, "ddim", "1", "c:\\m");
    expect_parameters(&g,
                      "Steps: 50, Sampler: DDIM, CFG scale: 3, Seed: 1, Size: 8x4, "
                      "Model: \"c:\\\\m\"",
                      "no prompt");
    add(&g, plain(8, 4, 3, 8, 0), &e);
    expect_parameters(&g, NULL, "no metadata: no text");
}

/* What ccld-plms says of an image: all of it can be read again. */
static void add_all_remarks(struct grid *g)
{
    static const char *const values[][2] = {
        {"prompt", "a \"cat\"\nand: Steps: 3, \\n | dog:2"},
        {"prompts", "a \"cat\" and\\: Steps\\: 3, \\\\n:+3\tdog:+2"},
        {"seed", "7"},
        {"index", "4"},
        {"steps", "50"},
        {"method", "dpm2m"},
        {"guidance", "-2.5"},
        {"guidance_start", "0.7"},
        {"embed_noise", "0.25"},
        {"schedule", "ddpm"},
        {"eta", "0.5"},
        {"init", "x, \"y\": \r z.png"},
        {"starting_timestep", "0.8"},
        {"model", "a\\b"},
    };
    struct image image = plain(8, 4, 3, 8, 0);
    struct image_remarks r = {0};
    struct error e;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        image_remarks_set(&r, values[i][0], values[i][1]);
    grid_add(g, &image, &r, "the image", &e);
}

static bool same_remarks(const struct image_remarks *a, const struct image_remarks *b)
{
    for (int i = 0; i < a->count && a->count == b->count; i++)
        if (strcmp(a->items[i].key, b->items[i].key) != 0 ||
            strcmp(a->items[i].value, b->items[i].value) != 0)
            return false;
    return a->count == b->count;
}

static void expect_foreign(const char *text, const char *what)
{
    struct image image = {.width = 8, .height = 4};
    struct image_remarks r;
    tap_ok(!grid_parameters_read(&r, text, &image) && r.count == 0, "not read: %s", what);
    image_remarks_release(&r);
}

static void test_parameters_read(void)
{
    struct grid g = {0};
    struct image_remarks r;
    add_all_remarks(&g);
    char *text = grid_parameters(&g);
    struct image image = {.width = 8, .height = 4}, other = {.width = 9, .height = 4};
    tap_ok(grid_parameters_read(&r, text, &image) && same_remarks(&r, &g.remarks[0]),
           "all remarks come back, in their order");
    image_remarks_release(&r);
    tap_ok(!grid_parameters_read(&r, text, &other) && r.count == 0, "of an image of another size");
    for (size_t n = strlen(text); n-- > 0;) {
        text[n] = 0;
        if (grid_parameters_read(&r, text, &image))
            break;
    }
    tap_ok(r.count == 0, "nothing is read of a text that is cut off");
    free(text);
    add_all_remarks(&g);
    text = grid_parameters(&g);
    expect_foreign(text, "a grid of several images");
    free(text);
    grid_release(&g);
    expect_foreign("", "nothing");
    expect_foreign("a cat", "a prompt alone");
#define OURS "a cat\nSteps: 50, Sampler: PLMS, CFG scale: 3, Seed: 0, Size: 8x4, Model: m"
    tap_ok(grid_parameters_read(&r, OURS ", Schedule: log, Index: 0", &image), "a short one");
    image_remarks_release(&r);
    expect_foreign(
        "a cat\nSteps: 20, Sampler: DPM++ 2M, CFG scale: 7, Seed: 1, Size: 8x4, Model hash: "
        "6ce0161689, Model: v1-5, Version: v1.6.0",
        "a web UI's");
    expect_foreign(
        "a cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, "
        "Size: 8x4, Schedule type: Karras, Model: m",
        "one with a schedule");
    expect_foreign(OURS ", Schedule: log, Index: 0, Version: v1.6.0", "a further field");
    expect_foreign(OURS ", Index: 0, Schedule: log", "another order");
    expect_foreign(OURS ", Schedule: log, Index: \"0", "a string without end");
    expect_foreign(OURS ", Schedule: log, Index: \"\\u00g0\"", "a bad escape");
    expect_foreign(OURS ", Schedule: log, Index", "a field without value");
}

static void add_prompt(struct grid *g, int width, const char *prompt)
{
    struct image image = plain(width, 20, 1, 8, 100);
    struct image_remarks r = {0};
    struct error e;
    if (prompt)
        image_remarks_set(&r, "prompt", prompt);
    CHECK(grid_add(g, &image, &r, "the image", &e) == 0);
}

static int height_of(struct grid *g, int columns)
{
    struct image sheet = {0};
    struct error e;
    CHECK(grid_draw(&sheet, g, columns, 0, &e) == 0);
    int height = sheet.height;
    image_release(&sheet);
    return height;
}

/* Rows are 20 pixels high, a label has 8 around its lines of 16. */
static void test_labels(void)
{
    struct grid g = {.labels = true};
    struct image sheet = {0};
    struct error e;
    add_prompt(&g, 100, "I");
    add_prompt(&g, 100, "I");
    tap_ok(height_of(&g, 2) == 20 + 24, "a row has a label");
    CHECK(grid_draw(&sheet, &g, 2, 0, &e) == 0);
    int lit = 0, outside = 0;
    for (int y = 20; y < 44; y++)
        for (int x = 0; x < 200; x++) {
            lit += at(&sheet, x, y, 0) == 255;
            outside += x >= 10 && at(&sheet, x, y, 0) != 0;
        }
    tap_ok(lit > 10 && lit < 60 && outside == 0 && at(&sheet, 0, 19, 0) == 100,
           "two images with one prompt share it: %d dots", lit);
    image_release(&sheet);
    tap_ok(height_of(&g, 1) == 40 + 24, "rows with the same prompt share it");
    add_prompt(&g, 100, "a dog");
    tap_ok(height_of(&g, 1) == 60 + 48, "others have their own");
    add_prompt(&g, 100, "one two three four five six seven eight");
    tap_ok(height_of(&g, 4) == 20 + 72, "lines break between words");
    add_prompt(&g, 100, "one two three four five six seven eight nine ten eleven twelve thirteen");
    tap_ok(height_of(&g, 5) == 20 + 72, "and there are no more than four");
    add_prompt(&g, 100, "Donaudampfschifffahrtsgesellschaftskapit\xc3\xa4n \xe6\x97\xa5 \xff");
    tap_ok(height_of(&g, 1) > 0, "long words and characters that the font does not have");
    grid_release(&g);
    g = (struct grid){.labels = true};
    add_prompt(&g, 100, NULL);
    tap_ok(height_of(&g, 1) == 20, "no prompt, no label");
    grid_release(&g);
}

static void test_fit(void)
{
    struct grid g = {.fit = true};
    struct image sheet = {0};
    struct error e;
    CHECK(add(&g, plain(20, 10, 1, 8, 50), &e) == 0);
    CHECK(add(&g, plain(30, 30, 3, 8, 200), &e) == 0);
    CHECK(add(&g, plain(4, 1, 2, 16, 65535), &e) == 0);
    CHECK(grid_draw(&sheet, &g, 3, 0, &e) == 0);
    tap_ok(sheet.width == 60 && sheet.height == 10 && at(&sheet, 24, 5, 0) == 0 &&
               at(&sheet, 25, 0, 0) == 200 && at(&sheet, 34, 9, 2) == 200 &&
               at(&sheet, 35, 5, 0) == 0,
           "a taller image has the first one's height");
    tap_ok(at(&sheet, 40, 1, 0) == 0 && at(&sheet, 40, 2, 0) == 255 &&
               at(&sheet, 59, 6, 1) == 255 && at(&sheet, 59, 7, 1) == 0,
           "a wider one its width");
    image_release(&sheet);
    grid_release(&g);
}

int main(void)
{
    test_columns();
    test_layout();
    test_kinds();
    test_parameters();
    test_parameters_read();
    test_labels();
    test_fit();
    return tap_done();
}
