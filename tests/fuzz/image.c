/* Image files of all formats that the build reads. Decodes and prepares them. */
#include <stdlib.h>

#include "common/base/message.h"
#include "common/images/grid_parameters.h"
#include "common/images/prepare.h"
#include "tests/fuzz/support/fuzz.h"

#define MAX_PIXELS (1 << 18)

/* What sanitizers do not count as leaks: libheif 1.15 forgets a frame that it has decoded but,
 * being strict, refuses. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:heif_image_create\nleak:libdav1d.so\nleak:libde265.so\nleak:libstdc++.so\n";
}

static void prepare(struct image *image, enum prepare_color how)
{
    struct image out;
    struct error e;
    if (prepare_color(image, how, &e) == 0) {
        CHECK(image->depth == 8 && !image->alpha && (image->channels == 1 || image->channels == 3));
        if (prepare_square(&out, image, 16, &e) == 0) {
            float x[3 * 16 * 16];
            prepare_to_float(x, &out);
            for (size_t i = 0; i < sizeof x / sizeof *x; i++)
                CHECK(x[i] >= 0 && x[i] <= 1);
            image_release(&out);
        }
    }
    image_release(image);
}

static void read_text(struct image *image)
{
    struct image_remarks remarks;
    if (image->text && grid_parameters_read(&remarks, image->text, image))
        image_remarks_release(&remarks);
    free(image->text);
    image->text = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image image;
    struct error e = {""};
    if (size == 0)
        return 0;
    const struct image_options o = {
        .max_pixels = MAX_PIXELS,
        .allow_truncated = data[size - 1] & 2,
        .missing = 128,
        .text = "parameters",
    };
    if (image_decode_with(&image, data, size, &o, &e) == 0) {
        CHECK((int64_t)image.width * image.height <= MAX_PIXELS);
        CHECK(o.allow_truncated || !image.truncated);
        read_text(&image);
        prepare(&image, data[size - 1] & 1 ? PREPARE_PIL : PREPARE_DISPLAY);
    } else {
        CHECK(e.text[0] && !image.pixels && !image.icc && !image.text);
    }
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    size = LLVMFuzzerMutate(data, size, max_size);
    if (seed % 8)
        mend_png(data, size);
    return size;
}
