/* Streams of images with remarks. What is read, written and read again must be the same. */
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "formats/images/image_stream.h"
#include "tests/fuzz/support/fuzz.h"

#define MAX_PIXELS (1 << 18)

static void compare(const struct image *a, const struct image_remarks *p, const struct image *b,
                    const struct image_remarks *q)
{
    CHECK(a->width == b->width && a->height == b->height && a->channels == b->channels);
    CHECK(a->depth == b->depth && a->alpha == b->alpha);
    CHECK(memcmp(a->pixels, b->pixels, image_bytes(a)) == 0);
    CHECK(p->count == q->count);
    for (int i = 0; i < p->count; i++) {
        CHECK(strcmp(p->items[i].key, q->items[i].key) == 0);
        CHECK(strcmp(p->items[i].value, q->items[i].value) == 0);
    }
}

static void write_and_read(const struct image *image, const struct image_remarks *remarks)
{
    char *text = NULL;
    size_t size = 0;
    struct error e;
    FILE *f = open_memstream(&text, &size);
    CHECK(f && image_stream_write(f, image, remarks, &e) == 0 && fclose(f) == 0);
    f = fmemopen(text, size, "r");
    struct image_stream s;
    struct image again;
    struct image_remarks remarks_again;
    image_stream_init(&s, f, MAX_PIXELS);
    CHECK(image_stream_read(&s, &again, &remarks_again, &e) == 1);
    compare(image, remarks, &again, &remarks_again);
    image_release(&again);
    image_remarks_release(&remarks_again);
    CHECK(image_stream_read(&s, &again, &remarks_again, &e) == 0);
    fclose(f);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image_stream s;
    struct image image;
    struct image_remarks remarks;
    struct error e = {""};
    if (size == 0)
        return 0;
    FILE *f = fmemopen((void *)(uintptr_t)data, size, "r");
    CHECK(f);
    image_stream_init(&s, f, MAX_PIXELS);
    int got;
    while ((got = image_stream_read(&s, &image, &remarks, &e)) == 1) {
        write_and_read(&image, &remarks);
        image_release(&image);
        image_remarks_release(&remarks);
    }
    CHECK(got == 0 || e.text[0]);
    fclose(f);
    return 0;
}
