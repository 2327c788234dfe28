/* Classifies samples to measure whether they show what their prompts ask for: reads image streams
 * from ccld-plms, or images with captions beside them, and prints the shares of right shapes and
 * colors. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "formats/images/image_stream.h"
#include "tests/support/fidelity.h"

enum list { LIST_NONE, LIST_SEEN, LIST_HOLDOUT };
static const char *const list_names[] = {"none", "seen", "holdout", NULL};
static int list;

static const struct option option_table[] = {
    {.name = "list",
     .kind = OPTION_CHOICE,
     .value = &list,
     .argument = "WHICH",
     .help = "print prompts of seen or held-out combinations, one per line, and exit",
     .choices = list_names},
    {0},
};

static const struct program program = {
    .name = "bench-fidelity",
    .summary = "Print the shares of images of one object with the shape and color of the prompt.\n"
               "FILE: an image stream with prompts, or an image with its caption in a .txt file "
               "beside it.",
    .usage = "[OPTION]... [FILE]...",
    .options = option_table,
};

struct tally {
    int images, shape, color, both;
};

#define MAX_ROWS 32
struct table {
    int rows, without_prompt;
    struct row {
        char *guidance;
        struct tally seen, held_out;
    } items[MAX_ROWS];
};

static struct row *find_row(struct table *t, const char *guidance)
{
    for (int i = 0; i < t->rows; i++)
        if (!strcmp(t->items[i].guidance, guidance))
            return &t->items[i];
    if (t->rows == MAX_ROWS)
        die("more than %d values of guidance", MAX_ROWS);
    t->items[t->rows] = (struct row){.guidance = xstrdup(guidance)};
    return &t->items[t->rows++];
}

static void judge(struct table *t, const struct image *image, const char *prompt,
                  const char *guidance)
{
    enum shape shape;
    enum color color;
    struct sighting s;
    if (!prompt || !fidelity_parse(prompt, &shape, &color)) {
        t->without_prompt++;
        return;
    }
    if (image->color == IMAGE_CMYK)
        die("cannot judge a CMYK image");
    fidelity_look(&s, image);
    struct row *row = find_row(t, guidance ? guidance : "-");
    struct tally *tally = shapes_held_out(shape, color) ? &row->held_out : &row->seen;
    tally->images++;
    tally->shape += s.shape == shape;
    tally->color += s.color == color;
    tally->both += s.shape == shape && s.color == color;
    if (s.trouble)
        note("'%s': %s", prompt, s.trouble);
    else if (s.shape != shape || s.color != color)
        note("'%s': %s %s", prompt, s.color < COLOR_COUNT ? color_names[s.color] : "other colour",
             s.shape < SHAPE_COUNT ? shape_names[s.shape] : "other shape");
}

static void judge_stream(struct table *t, FILE *f, const char *name)
{
    struct image_stream stream;
    struct image image;
    struct image_remarks remarks;
    struct error e;
    int status;
    image_stream_init(&stream, f, IMAGE_DEFAULT_MAX_PIXELS);
    while ((status = image_stream_read(&stream, &image, &remarks, &e)) > 0) {
        judge(t, &image, image_remarks_find(&remarks, "prompt"),
              image_remarks_find(&remarks, "guidance"));
        image_release(&image);
        image_remarks_release(&remarks);
    }
    if (status < 0)
        die("cannot read '%s': %s", name, e.text);
}

static void judge_image_file(struct table *t, const char *path)
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
    judge(t, &image, (const char *)caption, NULL);
    image_release(&image);
    free(caption);
    free(beside);
}

/* A netpbm file is a stream, possibly of one image. */
static void judge_file(struct table *t, const char *path)
{
    char magic[2] = {0};
    FILE *f = !strcmp(path, "-") ? stdin : fopen(path, "rb");
    if (!f)
        die("cannot open '%s': %s", path, strerror(errno));
    if (f == stdin) {
        judge_stream(t, f, "standard input");
        return;
    }
    bool netpbm =
        fread(magic, 1, 2, f) == 2 && magic[0] == 'P' && magic[1] >= '1' && magic[1] <= '7';
    rewind(f);
    if (netpbm)
        judge_stream(t, f, path);
    fclose(f);
    if (!netpbm)
        judge_image_file(t, path);
}

static void print_tally(const struct tally *t)
{
    const int right[] = {t->shape, t->color, t->both};
    printf("  %8d", t->images);
    for (int i = 0; i < 3; i++)
        if (t->images > 0)
            printf("  %5.1f%%", 100.0 * right[i] / t->images);
        else
            printf("  %6s", "-");
}

static void print_table(const struct table *t)
{
    printf("%8s  %-32s  %s\n%8s", "", "combinations seen in training", "held-out combinations",
           "guidance");
    for (int i = 0; i < 2; i++)
        printf("  %8s  %6s  %6s  %6s", "images", "shape", "color", "both");
    putchar('\n');
    for (int i = 0; i < t->rows; i++) {
        printf("%8s", t->items[i].guidance);
        print_tally(&t->items[i].seen);
        print_tally(&t->items[i].held_out);
        putchar('\n');
    }
}

/* Three kinds of prompt: the object, the object on a plain background, and the same with its size.
 */
static void print_prompt(enum shape shape, enum color color, int kind)
{
    static const char *const sizes[] = {"small", "large"};
    const char *name = color_names[color], *article = strchr("aeiou", name[0]) ? "an" : "a";
    int turn = shape * 3 + color, background = turn % BACKGROUND_PLAINS;
    while (!shapes_stands_out(color, background))
        background = (background + 1) % BACKGROUND_PLAINS;
    if (kind == 2)
        printf("a %s %s %s", sizes[turn % 2], name, shape_names[shape]);
    else
        printf("%s %s %s", article, name, shape_names[shape]);
    printf("%s%s\n", kind ? " " : "", kind ? backgrounds[background].where : "");
}

static void print_list(void)
{
    for (int shape = 0; shape < SHAPE_COUNT; shape++)
        for (int color = 0; color < COLOR_COUNT; color++) {
            bool held_out = shapes_held_out((enum shape)shape, (enum color)color);
            if (held_out != (list == LIST_HOLDOUT))
                continue;
            for (int kind = 0; kind < 3; kind++)
                if (held_out || kind == (shape + color) % 3)
                    print_prompt((enum shape)shape, (enum color)color, kind);
        }
}

int main(int argc, char **argv)
{
    int files = options_parse(&program, argc, argv);
    struct table t = {0};
    if (list != LIST_NONE) {
        if (files > 0)
            die_usage("no files with --list");
        print_list();
        return 0;
    }
    if (files == 0 && isatty(STDIN_FILENO))
        die_usage("no images: standard input is a terminal; name files, or pipe an image stream "
                  "in");
    for (int i = 0; i < files; i++)
        judge_file(&t, argv[1 + i]);
    if (files == 0)
        judge_stream(&t, stdin, "standard input");
    if (t.without_prompt > 0)
        warn("images skipped because their prompt does not name one known object: %d",
             t.without_prompt);
    if (t.rows == 0)
        die("no images to judge");
    print_table(&t);
    for (int i = 0; i < t.rows; i++)
        free(t.items[i].guidance);
    if (fflush(stdout) != 0 || ferror(stdout))
        die("cannot write to standard output: %s", strerror(errno));
    return 0;
}
