#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <lcms2.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/images/prepare.h"
#include "tests/support/tap.h"

/* The same code without vector instructions, under another name. */
#define PREPARE_PLAIN
#define prepare_resize prepare_resize_plain
int prepare_resize_plain(struct image *out, const struct image *in, int resized_width,
                         int resized_height, int left, int top, int width, int height,
                         struct error *e);
#include "common/images/resize.c"
#undef prepare_resize

static void make_noise(struct image *image, int width, int height, int channels, uint32_t seed)
{
    struct error e;
    if (image_new(image, width, height, channels, 8, &e) < 0)
        die("%s", e.text);
    for (size_t i = 0; i < image_bytes(image); i += 4) {
        uint32_t out[4];
        philox4x32_10(out, (uint32_t[4]){(uint32_t)i}, (uint32_t[2]){seed});
        for (size_t j = i; j < i + 4 && j < image_bytes(image);
             j++) /* many extreme values make the filter overshoot */
            image->pixels[j] =
                (uint8_t)(out[0] & 1 ? (out[j - i] >> 8 & 1) * 255 : out[j - i] >> 8);
    }
}

static void make_image(struct image *image, int width, int height, int channels, const void *pixels)
{
    struct error e;
    if (image_new(image, width, height, channels, 8, &e) < 0)
        die("%s", e.text);
    memcpy(image->pixels, pixels, image_bytes(image));
}

static double window_weight(double x)
{
    double a = M_PI * x, b = a / 3;
    return x == 0 ? 1 : x < -3 || x >= 3 ? 0 : sin(a) / a * (sin(b) / b);
}

/* Resizes one line by the definition; its elements are `step` apart. */
static void resize_line(uint8_t *out, int out_size, size_t out_step, const uint8_t *in, int in_size,
                        size_t in_step)
{
    double scale = (double)in_size / out_size, stretch = fmax(scale, 1);
    for (int i = 0; i < out_size; i++) {
        double center = (i + 0.5) * scale, total = 0;
        int begin = (int)fmax(0, floor(center - 3 * stretch + 0.5));
        int end = (int)fmin(in_size, floor(center + 3 * stretch + 0.5));
        for (int x = begin; x < end; x++)
            total += window_weight((x - center + 0.5) * (1 / stretch));
        int64_t sum = 1 << 21;
        for (int x = begin; x < end; x++) {
            double w = window_weight((x - center + 0.5) * (1 / stretch)) / total * (1 << 22);
            sum += (int64_t)(w < 0 ? ceil(w - 0.5) : floor(w + 0.5)) * in[(size_t)x * in_step];
        }
        sum >>= 22;
        out[(size_t)i * out_step] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
    }
}

static void resize_by_definition(struct image *out, const struct image *in, int width, int height)
{
    struct image half;
    struct error e;
    size_t c = (size_t)in->channels;
    if (image_new(&half, width, in->height, in->channels, 8, &e) < 0 ||
        image_new(out, width, height, in->channels, 8, &e) < 0)
        die("%s", e.text);
    for (int y = 0; y < in->height; y++)
        for (size_t i = 0; i < c; i++)
            resize_line(half.pixels + (size_t)(y * width) * c + i, width, c,
                        in->pixels + (size_t)(y * in->width) * c + i, in->width, c);
    size_t row = (size_t)width * c;
    for (size_t i = 0; i < row; i++)
        resize_line(out->pixels + i, height, row, half.pixels + i, in->height, row);
    image_release(&half);
}

static bool same(const struct image *a, const struct image *b)
{
    return a->width == b->width && a->height == b->height && a->channels == b->channels &&
           memcmp(a->pixels, b->pixels, image_bytes(a)) == 0;
}

static void test_resize(void)
{
    static const struct {
        int width, height, to_width, to_height;
    } cases[] = {
        {37, 29, 12, 9},  {12, 9, 40, 33},  {64, 64, 64, 64},  {64, 50, 64, 20},
        {50, 64, 20, 64}, {1, 1, 7, 5},     {200, 3, 11, 100}, {3, 200, 100, 11},
        {301, 97, 1, 1},  {33, 17, 130, 2}, {641, 5, 70, 5},   {40, 130, 31, 127},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int channels = 1; channels <= 3; channels += 2) {
            struct image in, want, fast, plain;
            struct error e;
            int w = cases[i].to_width, h = cases[i].to_height;
            make_noise(&in, cases[i].width, cases[i].height, channels, (uint32_t)i);
            resize_by_definition(&want, &in, w, h);
            bool done = prepare_resize(&fast, &in, w, h, 0, 0, w, h, &e) == 0 &&
                        prepare_resize_plain(&plain, &in, w, h, 0, 0, w, h, &e) == 0;
            tap_ok(done && same(&fast, &want), "%dx%d to %dx%d, %d channels: as defined", in.width,
                   in.height, w, h, channels);
            tap_ok(done && same(&plain, &want), "  and without vector instructions");
            image_release(&in);
            image_release(&want);
            image_release(&fast);
            image_release(&plain);
        }
}

/* A window is the same part of the whole image, black outside. */
static void test_window(void)
{
    static const struct {
        int left, top, width, height;
    } windows[] = {{3, 5, 20, 10}, {-2, -3, 60, 44}, {39, 29, 1, 1}, {40, 0, 4, 4}, {-9, 2, 5, 5}};
    struct image in, whole, part;
    struct error e;
    make_noise(&in, 111, 83, 3, 77);
    if (prepare_resize(&whole, &in, 40, 30, 0, 0, 40, 30, &e) < 0)
        die("%s", e.text);
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        int w = windows[i].width, h = windows[i].height, wrong = 0;
        if (prepare_resize(&part, &in, 40, 30, windows[i].left, windows[i].top, w, h, &e) < 0)
            die("%s", e.text);
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                for (int c = 0; c < 3; c++) {
                    int wx = x + windows[i].left, wy = y + windows[i].top;
                    bool inside = wx >= 0 && wx < 40 && wy >= 0 && wy < 30;
                    int want = inside ? whole.pixels[(wy * 40 + wx) * 3 + c] : 0;
                    wrong += part.pixels[(y * w + x) * 3 + c] != want;
                }
        tap_ok(wrong == 0 && part.width == w && part.height == h, "window %dx%d at %d, %d", w, h,
               windows[i].left, windows[i].top);
        image_release(&part);
    }
    image_release(&in);
    image_release(&whole);
}

static void check_geometry(const char *what, int width, int height, int to_width, int to_height,
                           int resized_width, int resized_height, int left, int top)
{
    struct image in, got = {0}, want = {0};
    struct error e = {""};
    make_noise(&in, width, height, 1, 5);
    int status = to_width == to_height && !strcmp(what, "square")
                     ? prepare_square(&got, &in, to_width, &e)
                     : prepare_cover(&got, &in, to_width, to_height, &e);
    if (prepare_resize(&want, &in, resized_width, resized_height, left, top, to_width, to_height,
                       &e) < 0)
        die("%s", e.text);
    tap_ok(status == 0 && same(&got, &want), "%s of %dx%d to %dx%d is %dx%d at %d, %d", what, width,
           height, to_width, to_height, resized_width, resized_height, left, top);
    image_release(&in);
    image_release(&got);
    image_release(&want);
}

/* Offsets round halves as Python's round() does. */
static void test_geometry(void)
{
    check_geometry("square", 640, 427, 256, 256, 383, 256, 64, 0); /* 63.5 */
    check_geometry("square", 427, 640, 256, 256, 256, 383, 0, 64);
    check_geometry("square", 100, 101, 256, 256, 256, 258, 0, 1);
    check_geometry("square", 100, 103, 256, 256, 256, 263, 0, 4); /* 3.5 */
    check_geometry("square", 300, 301, 300, 300, 300, 301, 0, 0); /* 0.5 */
    check_geometry("cover", 640, 480, 224, 224, 298, 224, 37, 0);
    check_geometry("cover", 640, 480, 128, 320, 426, 320, 149, 0);
    check_geometry("cover", 640, 480, 320, 128, 320, 240, 0, 56);
    /* 224 / 187 * 187 is 223.99999999999997 in double, which int() truncates: one black column. */
    check_geometry("cover", 187, 500, 224, 224, 223, 598, 0, 187);
}

static void test_orientation(void)
{
    static const uint8_t pixels[6] = {1, 2, 3, 4, 5, 6}; /* 3 wide, 2 high */
    static const uint8_t want[9][6] = {
        {0},
        {1, 2, 3, 4, 5, 6},
        {3, 2, 1, 6, 5, 4},
        {6, 5, 4, 3, 2, 1},
        {4, 5, 6, 1, 2, 3},
        {1, 4, 2, 5, 3, 6},
        {4, 1, 5, 2, 6, 3},
        {6, 3, 5, 2, 4, 1},
        {3, 6, 2, 5, 1, 4},
    };
    for (int o = 1; o <= 8; o++) {
        struct image image;
        struct error e = {""};
        make_image(&image, 3, 2, 1, pixels);
        image.orientation = o;
        int status = prepare_color(&image, PREPARE_DISPLAY, &e);
        tap_ok(status == 0 && image.width == (o >= 5 ? 2 : 3) && image.orientation == 1 &&
                   memcmp(image.pixels, want[o], 6) == 0,
               "orientation %d is turned upright", o);
        image_release(&image);
    }
    struct image image, upright;
    struct error e;
    make_noise(&image, 75, 41, 3, 9); /* more than one tile */
    make_noise(&upright, 75, 41, 3, 9);
    image.orientation = 6;
    int wrong = prepare_color(&image, PREPARE_DISPLAY, &e) < 0;
    for (int y = 0; y < 75 && !wrong; y++)
        for (int x = 0; x < 41; x++)
            wrong += memcmp(image.pixels + 3 * (y * 41 + x),
                            upright.pixels + 3 * ((40 - x) * 75 + y), 3) != 0;
    tap_ok(wrong == 0 && image.width == 41 && image.height == 75,
           "a quarter turn of a larger image");
    upright.orientation = 6;
    tap_ok(prepare_color(&upright, PREPARE_PIL, &e) == 0 && upright.width == 75 &&
               upright.orientation == 1,
           "Pillow's convert leaves it as it lies");
    image_release(&image);
    image_release(&upright);
}

static void check_color(const char *what, struct image *image, enum prepare_color how, int channels,
                        const uint8_t *want)
{
    struct error e = {""};
    int status = prepare_color(image, how, &e);
    tap_ok(status == 0 && image->channels == channels && image->depth == 8 && !image->alpha &&
               memcmp(image->pixels, want, image_bytes(image)) == 0,
           "%s: %d %d %d", what, image->pixels[0], image->pixels[1], image->pixels[2]);
    image_release(image);
}

static void make_16(struct image *image, int channels, const uint16_t *samples)
{
    struct error e;
    if (image_new(image, 1, 1, channels, 16, &e) < 0)
        die("%s", e.text);
    image->format = IMAGE_PNG;
    memcpy(image->pixels, samples, image_bytes(image));
}

static void test_colors(void)
{
    struct image image;
    make_image(&image, 2, 1, 4, (uint8_t[]){10, 20, 30, 128, 0, 0, 0, 0});
    check_color("alpha over white", &image, PREPARE_DISPLAY, 3,
                (uint8_t[]){132, 137, 142, 255, 255, 255});
    make_image(&image, 2, 1, 4, (uint8_t[]){10, 20, 30, 128, 0, 0, 0, 0});
    check_color("alpha dropped", &image, PREPARE_PIL, 3, (uint8_t[]){10, 20, 30, 0, 0, 0});
    make_image(&image, 2, 1, 2, (uint8_t[]){10, 128, 77, 255});
    check_color("gray with alpha", &image, PREPARE_DISPLAY, 1, (uint8_t[]){132, 77});
    make_image(&image, 1, 1, 4, (uint8_t[]){255, 0, 128, 51});
    image.color = IMAGE_CMYK;
    image.alpha = false;
    check_color("CMYK", &image, PREPARE_PIL, 3, (uint8_t[]){0, 204, 102});
    make_image(&image, 3, 1, 3, (uint8_t[]){255, 128, 128, 136, 208, 195, 200, 60, 170});
    image.color = IMAGE_LAB;
    check_color("L*a*b*", &image, PREPARE_PIL, 3,
                (uint8_t[]){254, 255, 254, 250, 3, 11, 18, 224, 109});
    make_16(&image, 1, (uint16_t[]){1600}); /* 100 of 4095 */
    image.format = IMAGE_TIFF;
    image.source_maxval = 4095;
    check_color("12-bit gray", &image, PREPARE_PIL, 1, (uint8_t[]){100});
    make_16(&image, 1, (uint16_t[]){300});
    check_color("16-bit gray is clipped", &image, PREPARE_PIL, 1, (uint8_t[]){255});
    make_16(&image, 1, (uint16_t[]){257 * 9});
    check_color("16-bit gray is scaled", &image, PREPARE_DISPLAY, 1, (uint8_t[]){9});
    make_16(&image, 3, (uint16_t[]){300, 65535, 511});
    check_color("16-bit RGB", &image, PREPARE_PIL, 3, (uint8_t[]){1, 255, 1});
    make_16(&image, 2, (uint16_t[]){300, 0});
    check_color("16-bit gray with opacity is not clipped", &image, PREPARE_PIL, 1, (uint8_t[]){1});
    make_16(&image, 2, (uint16_t[]){300, 0});
    image.alpha_from_key = true;
    check_color("but with a color key it is", &image, PREPARE_PIL, 1, (uint8_t[]){255});
}

static void set_profile(struct image *image, cmsHPROFILE profile)
{
    cmsUInt32Number size = 0;
    cmsSaveProfileToMem(profile, NULL, &size);
    image->icc = xmalloc(size);
    image->icc_size = size;
    cmsSaveProfileToMem(profile, image->icc, &size);
    cmsCloseProfile(profile);
}

static void test_profiles(void)
{
    const cmsCIExyY white = {0.3127, 0.3290, 1};
    const cmsCIExyYTRIPLE primaries = {{0.64, 0.33, 1}, {0.21, 0.71, 1}, {0.15, 0.06, 1}};
    const uint8_t color[] = {120, 200, 40, 77};
    cmsToneCurve *gamma[3];
    gamma[0] = gamma[1] = gamma[2] = cmsBuildGamma(NULL, 2.2);
    for (int channels = 3; channels <= 4; channels++) {
        struct image wide, plain;
        struct error e = {""};
        make_image(&wide, 1, 1, channels, color);
        set_profile(&wide, cmsCreateRGBProfile(&white, &primaries, gamma));
        make_image(&plain, 1, 1, channels, color);
        set_profile(&plain, cmsCreate_sRGBProfile());
        if (channels == 4)
            wide.pixels[3] = plain.pixels[3] = 255;
        bool done = prepare_color(&wide, PREPARE_DISPLAY, &e) == 0 &&
                    prepare_color(&plain, PREPARE_DISPLAY, &e) == 0;
        /* Adobe RGB (120, 200, 40) converted by both matrices: (51, 201), blue below zero. */
        tap_ok(done && abs(wide.pixels[0] - 51) <= 1 && abs(wide.pixels[1] - 201) <= 1 &&
                   wide.pixels[2] == 0 && !wide.icc,
               "a wide profile, %d channels: %d %d %d", channels, wide.pixels[0], wide.pixels[1],
               wide.pixels[2]);
        tap_ok(done && memcmp(plain.pixels, color, 3) == 0 && !plain.icc,
               "an sRGB profile changes nothing");
        image_release(&wide);
        image_release(&plain);
    }
    struct image gray;
    make_image(&gray, 1, 1, 1, (uint8_t[]){128});
    cmsToneCurve *linear = cmsBuildGamma(NULL, 1);
    set_profile(&gray, cmsCreateGrayProfile(cmsD50_xyY(), linear));
    check_color("linear gray", &gray, PREPARE_DISPLAY, 3, (uint8_t[]){188, 188, 188});
    cmsFreeToneCurve(linear);
    make_image(&gray, 1, 1, 1, (uint8_t[]){128});
    gray.icc = (uint8_t *)xstrdup("no profile");
    gray.icc_size = 10;
    check_color("a bad profile is ignored", &gray, PREPARE_DISPLAY, 1, (uint8_t[]){128});
    cmsFreeToneCurve(gamma[0]);
}

static void test_floats(void)
{
    struct image image;
    make_image(&image, 2, 1, 3, (uint8_t[]){0, 51, 255, 102, 153, 204});
    float x[6], want[6] = {0, 0.4f, 0.2f, 0.6f, 1, 0.8f};
    prepare_to_float(x, &image);
    tap_ok(max_abs_difference(x, want, 6) <= 1e-7, "planar, in [0, 1]");
    prepare_to_signed(x, 6);
    tap_ok(x[0] == -1 && x[4] == 1 && fabsf(x[2] + 0.6f) <= 1e-6f, "in [-1, 1]");
    image_release(&image);
    make_image(&image, 2, 1, 1, (uint8_t[]){255, 51});
    float gray[6] = {1, 0.2f, 1, 0.2f, 1, 0.2f};
    prepare_to_float(x, &image);
    tap_ok(max_abs_difference(x, gray, 6) <= 1e-7, "gray is three equal planes");
    image_release(&image);
}

static void test_from_signed(void)
{
    struct image image;
    struct error e;
    CHECK(image_new(&image, 2, 1, 3, 8, &e) == 0);
    /* 1 / 255 of [-1, 1] per level, rounded down. */
    const float x[6] = {-1, 1, -2, 3, 0, 1.0f / 255};
    const uint8_t want[6] = {0, 0, 127, 255, 255, 128};
    tap_ok(image_from_signed(&image, x) && memcmp(image.pixels, want, 6) == 0,
           "[-1, 1] to bytes: clamped and rounded down");
    const float bad[6] = {-1, 1, NAN, 3, 0, 0}, infinite[6] = {0, 0, 0, 0, 0, -INFINITY};
    tap_ok(!image_from_signed(&image, bad) && image.pixels[1] == 0 && image.pixels[4] == 255 &&
               !image_from_signed(&image, infinite) && image.pixels[5] == 0,
           "NaN and infinity are reported");
    image_release(&image);
}

/* Keys' kernel with this a reproduces constants but not straight lines. Halfway between two samples
 * its weights are -3/32, 19/32, 19/32, -3/32. */
static void test_bicubic(void)
{
    float in[64], out[49], one[64];
    for (int i = 0; i < 64; i++) {
        in[i] = (float)(i % 8 * i % 13) / 13;
        one[i] = 0.375f;
    }
    prepare_bicubic(out, 7, 7, one, 1, 8, 8);
    float worst = 0;
    for (int i = 0; i < 49; i++)
        worst = fmaxf(worst, fabsf(out[i] - 0.375f));
    tap_ok(worst <= 1e-6f, "bicubic keeps a constant: %g", worst);
    prepare_bicubic(out, 4, 4, in, 1, 8, 8); /* every output lies between four inputs */
    const double w[4] = {-3 / 32.0, 19 / 32.0, 19 / 32.0, -3 / 32.0};
    double sum = 0;
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 4; i++)
            sum += w[j] * w[i] * in[(1 + j) * 8 + 3 + i];
    tap_ok(fabs(sum - out[1 * 4 + 2]) <= 1e-6, "bicubic by hand: %g and %g", sum, out[6]);
    prepare_bicubic(out, 7, 1, in, 1, 7, 1);
    tap_ok(max_abs_difference(in, out, 7) <= 1e-6, "the same size gives the same image");
}

int main(void)
{
    message_init("prepare");
    test_resize();
    test_window();
    test_geometry();
    test_orientation();
    test_colors();
    test_profiles();
    test_floats();
    test_from_signed();
    test_bicubic();
    return tap_done();
}
