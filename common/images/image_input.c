#include "common/images/image_input.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/images/grid_parameters.h"
#include "common/images/prepare.h"

void image_input_init(struct image_input *s, char *const *paths, int count, int64_t max_pixels)
{
    static char *const standard_input[] = {(char *)"-"};
    *s = (struct image_input){.paths = count ? paths : standard_input,
                              .count = count ? count : 1,
                              .max_pixels = max_pixels};
}

static void close_stream(struct image_input *s)
{
    if (s->stream.file && s->stream.file != stdin)
        fclose(s->stream.file);
    s->stream.file = NULL;
}

void image_input_release(struct image_input *s)
{
    close_stream(s);
}

static int read_single(struct image_input *s, struct image *image, struct image_remarks *remarks,
                       struct error *e)
{
    const struct image_options o = {.max_pixels = s->max_pixels, .text = "parameters"};
    snprintf(s->name, sizeof s->name, "'%s'", s->path);
    if (image_read_with(image, s->path, &o, e) != 0)
        return error_prefix(e, "cannot read %s", s->name);
    if (image->text)
        grid_parameters_read(remarks, image->text, image);
    free(image->text);
    image->text = NULL;
    if (image->warning[0])
        warn("%s: %s", s->path, image->warning);
    prepare_note_first(image, s->path);
    bool convert = image->orientation > 1 || image->icc || image->color >= IMAGE_CMYK;
    if (convert && !s->as_stored && prepare_color(image, PREPARE_DISPLAY, e) != 0) {
        image_release(image);
        image_remarks_release(remarks);
        return error_prefix(e, "cannot read %s", s->name);
    }
    return 1;
}

/* Opens the next file. *single: it holds one image, and is not open. */
static int open_next(struct image_input *s, bool *single, struct error *e)
{
    const char *path = s->paths[s->next++];
    *single = false;
    s->path = strcmp(path, "-") == 0 ? NULL : path;
    FILE *f = s->path ? fopen(path, "rb") : stdin;
    if (!f)
        return error_errno(e, "cannot open '%s'", path);
    image_stream_init(&s->stream, f, s->max_pixels);
    if (!s->path)
        return 0;
    int letter = getc(f), digit = getc(f);
    rewind(f);
    *single = !(letter == 'P' && digit >= '5' && digit <= '7');
    if (*single)
        close_stream(s);
    return 0;
}

static int read_stream(struct image_input *s, struct image *image, struct image_remarks *remarks,
                       struct error *e)
{
    char source[304];
    snprintf(source, sizeof source, s->path ? "'%s'" : "%s", s->path ? s->path : "standard input");
    int got = image_stream_read(&s->stream, image, remarks, e);
    if (got < 0)
        return error_prefix(e, "%s", source);
    snprintf(s->name, sizeof s->name, "image %" PRId64 " of %s", s->stream.count, source);
    return got;
}

int image_input_next(struct image_input *s, struct image *image, struct image_remarks *remarks,
                     struct error *e)
{
    *image = (struct image){0};
    *remarks = (struct image_remarks){0};
    for (;;) {
        if (s->stream.file) {
            int got = read_stream(s, image, remarks, e);
            if (got != 0)
                return got;
            close_stream(s);
        }
        if (s->next == s->count)
            return 0;
        bool single;
        if (open_next(s, &single, e) != 0)
            return -1;
        if (single)
            return read_single(s, image, remarks, e);
    }
}
