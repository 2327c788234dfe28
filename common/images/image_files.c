#include "common/images/image_files.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/text.h"
#include "common/images/grid.h"
#include "common/images/grid_parameters.h"

#define WIDTH_MAX 18 /* digits */

/* Reads what follows a percent sign up to d. Returns where it ends, or NULL. */
static const char *parse_number(struct image_files *f, const char *s)
{
    f->zeros = *s == '0';
    while (*s >= '0' && *s <= '9' && f->width <= WIDTH_MAX)
        f->width = 10 * f->width + (*s++ - '0');
    f->numbered = true;
    return *s == 'd' && f->width <= WIDTH_MAX ? s + 1 : NULL;
}

static int parse(struct image_files *f, const char *pattern, struct error *e)
{
    char **part = &f->before;
    f->before = xstrdup("");
    f->after = xstrdup("");
    for (const char *s = pattern; *s;) {
        if (*s != '%' || s[1] == '%') {
            xappend(part, "%c", *s);
            s += *s == '%' ? 2 : 1;
            continue;
        }
        if (f->numbered)
            return error_set(e, "'%s' has more than one number", pattern);
        s = parse_number(f, s + 1);
        if (!s)
            return error_set(e, "'%s': %% is not followed by d, as in %%05d", pattern);
        part = &f->after;
    }
    return 0;
}

int image_files_init(struct image_files *f, const char *pattern, bool overwrite, struct error *e)
{
    static const char *const extensions[] = {".png", ".ppm", ".pam"};
    *f = (struct image_files){.overwrite = overwrite};
    int status = parse(f, pattern, e), format = 0;
    while (format < 3 && !has_suffix(pattern, extensions[format]))
        format++;
    f->format = format;
    if (status == 0 && format == 3)
        status = error_set(e, "'%s' does not end in .png, .ppm or .pam", pattern);
    if (status != 0)
        image_files_release(f);
    return status;
}

void image_files_release(struct image_files *f)
{
    free(f->before);
    free(f->after);
    *f = (struct image_files){0};
}

static char *path_of(const struct image_files *f, int64_t number)
{
    if (!f->numbered)
        return xstrdup(f->before);
    return f->zeros ? xasprintf("%s%0*" PRId64 "%s", f->before, f->width, number, f->after)
                    : xasprintf("%s%*" PRId64 "%s", f->before, f->width, number, f->after);
}

/* Fails if there is no folder for the file: better now than when an image has been made. */
static int check_folder(const char *path, struct error *e)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? xasprintf("%.*s", (int)(slash - path + 1), path) : NULL;
    int status = 0;
    if (folder && !folder_exists(folder))
        status = error_set(e, "cannot write '%s': no such folder", path);
    free(folder);
    return status;
}

int image_files_check(const struct image_files *f, int64_t first, int64_t count, struct error *e)
{
    int status = 0;
    for (int64_t i = 0; i < count && status == 0; i++) {
        char *path = path_of(f, first + i);
        if (i == 0)
            status = check_folder(path, e);
        if (status == 0 && !f->overwrite && file_exists(path))
            status = error_set(e, "'%s' exists: --force overwrites it", path);
        free(path);
    }
    return status;
}

static int encode_png(uint8_t **data, size_t *size, const struct image *image,
                      const struct image_remarks *remarks, struct error *e)
{
    struct image copy = *image;
    struct image_remarks said = *remarks;
    struct grid one = {.images = &copy, .remarks = &said, .count = 1};
    struct image_text text = {"parameters", grid_parameters(&one)};
    int status = png_encode(data, size, image, &text, text.value ? 1 : 0, -1, e);
    free(text.value);
    return status;
}

static int encode_pnm(uint8_t **data, size_t *size, const struct image *image,
                      const struct image_remarks *remarks, bool pam, struct error *e)
{
    FILE *f = xallocated(open_memstream((char **)data, size));
    int status = image_stream_write_as(f, image, remarks, pam, e);
    if (fclose(f) != 0)
        die("out of memory");
    return status;
}

int image_files_write(const struct image_files *f, int64_t number, const struct image *image,
                      const struct image_remarks *remarks, struct error *e)
{
    uint8_t *data = NULL;
    size_t size = 0;
    if (image_files_check(f, number, 1, e) != 0)
        return -1;
    char *path = path_of(f, number);
    int status = f->format == IMAGE_FILES_PNG
                     ? encode_png(&data, &size, image, remarks, e)
                     : encode_pnm(&data, &size, image, remarks, f->format == IMAGE_FILES_PAM, e);
    if (status == 0)
        status = file_write(path, data, size, e);
    if (status != 0)
        error_prefix(e, "cannot write '%s'", path);
    free(data);
    free(path);
    return status;
}
