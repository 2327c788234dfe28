#include "tests/support/samples.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/images/image_stream.h"

static void call(samples_judge *judge, void *context, const struct image *image, const char *prompt,
                 const char *guidance)
{
    if (image->color == IMAGE_CMYK)
        die("cannot judge a CMYK image");
    judge(context, image, prompt, guidance);
}

static void judge_stream(samples_judge *judge, void *context, FILE *f, const char *name)
{
    struct image_stream stream;
    struct image image;
    struct image_remarks remarks;
    struct error e;
    int status;
    image_stream_init(&stream, f, IMAGE_DEFAULT_MAX_PIXELS);
    while ((status = image_stream_read(&stream, &image, &remarks, &e)) > 0) {
        call(judge, context, &image, image_remarks_find(&remarks, "prompt"),
             image_remarks_find(&remarks, "guidance"));
        image_release(&image);
        image_remarks_release(&remarks);
    }
    if (status < 0)
        die("cannot read '%s': %s", name, e.text);
}

static void judge_image(samples_judge *judge, void *context, const char *path)
{
    struct image image;
    struct error e;
    uint8_t *caption;
    size_t size;
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    int stem = dot && (!slash || dot > slash) ? (int)(dot - path) : (int)strlen(path);
    char *beside = xasprintf("%.*s.txt", stem, path);
    if (image_read(&image, path, 0, &e) < 0)
        die("cannot read '%s': %s", path, e.text);
    if (file_read(&caption, &size, beside, 65536, &e) < 0)
        die("cannot read '%s': %s", beside, e.text);
    caption[strcspn((const char *)caption, "\n")] = 0;
    call(judge, context, &image, (const char *)caption, NULL);
    image_release(&image);
    free(caption);
    free(beside);
}

/* A netpbm file is a stream, possibly of one image. */
static void judge_file(samples_judge *judge, void *context, const char *path)
{
    char magic[2] = {0};
    FILE *f = !strcmp(path, "-") ? stdin : fopen(path, "rb");
    if (!f)
        die("cannot open '%s': %s", path, strerror(errno));
    if (f == stdin) {
        judge_stream(judge, context, f, "standard input");
        return;
    }
    bool netpbm =
        fread(magic, 1, 2, f) == 2 && magic[0] == 'P' && magic[1] >= '1' && magic[1] <= '7';
    rewind(f);
    if (netpbm)
        judge_stream(judge, context, f, path);
    fclose(f);
    if (!netpbm)
        judge_image(judge, context, path);
}

void samples_read(char **files, int count, samples_judge *judge, void *context)
{
    if (count == 0 && isatty(STDIN_FILENO))
        die_usage("no images: name files, or pipe an image stream to standard input");
    for (int i = 0; i < count; i++)
        judge_file(judge, context, files[i]);
    if (count == 0)
        judge_stream(judge, context, stdin, "standard input");
}

int sample_rows_find(struct sample_rows *rows, const char *guidance)
{
    const char *name = guidance ? guidance : "-";
    for (int i = 0; i < rows->count; i++)
        if (!strcmp(rows->guidance[i], name))
            return i;
    if (rows->count == SAMPLES_MAX_ROWS)
        die("more than %d values of guidance", SAMPLES_MAX_ROWS);
    rows->guidance[rows->count] = xstrdup(name);
    return rows->count++;
}

void sample_rows_release(struct sample_rows *rows)
{
    for (int i = 0; i < rows->count; i++)
        free(rows->guidance[i]);
    rows->count = 0;
}

void print_shares(int images, const int *right, int count)
{
    printf("  %8d", images);
    for (int i = 0; i < count; i++)
        if (images > 0)
            printf("  %5.1f%%", 100.0 * right[i] / images);
        else
            printf("  %6s", "-");
}
