#ifndef CCLD_IMAGES_IMAGE_FILES_H
#define CCLD_IMAGES_IMAGE_FILES_H

#include <stdbool.h>

#include "common/base/error.h"
#include "formats/images/image_stream.h"

/* Numbered image files. The pattern is a path with one %d, as in printf with a width and leading
 * zeros ("out-%05d.png"), and the extension .png, .ppm or .pam; %% is a percent sign. A PNG has the
 * text chunk `parameters` of grid_parameters, the others have comments as an image stream. A file
 * appears under its name only when it is complete. */
struct image_files {
    char *before, *after; /* of the number */
    bool numbered;        /* false: one file, without a number */
    int width;            /* of the number */
    bool zeros;
    enum { IMAGE_FILES_PNG, IMAGE_FILES_PPM, IMAGE_FILES_PAM } format;
    bool overwrite; /* files that exist */
};

/* Fails if the pattern has more than one number or another extension. */
int image_files_init(struct image_files *f, const char *pattern, bool overwrite, struct error *e);
void image_files_release(struct image_files *f);
/* Fails, naming it, if one of the files first .. first + count - 1 exists and must not be
 * overwritten, or if there is no folder for them. */
int image_files_check(const struct image_files *f, int64_t first, int64_t count, struct error *e);
/* Writes the image with its remarks to the file with this number. Reasons name the file. */
int image_files_write(const struct image_files *f, int64_t number, const struct image *image,
                      const struct image_remarks *remarks, struct error *e);

#endif
