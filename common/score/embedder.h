#ifndef CCLD_SCORE_EMBEDDER_H
#define CCLD_SCORE_EMBEDDER_H

#include "common/base/error.h"
#include "common/base/options.h"
#include "common/images/prepare.h"
#include "common/nets/cloob.h"

/* CLOOB's image tower over images in memory. */
struct embedder {
    struct tape *tape;
    const struct cloob *cloob;
    /* As ccld-encode prepares images of this size in pixels, so that they can be compared with a
     * store's; 0x0: as an image prompt is prepared, resized to the tower's input at once. */
    struct size2d size;
    enum prepare_color color;
    int64_t batch; /* images that go through the tower together */
};

/* Fails, naming the file, if CLOOB has no image tower. */
int embedder_check(const struct embedder *m, const char *path, struct error *e);
/* Embeds n images, in their order, on all threads; changes and releases them, also after a failure.
 * out: [n, embed_width]. Reasons name the image: names[i]. */
int embedder_run(const struct embedder *m, float *out, struct image *images,
                 const char *const *names, int64_t n, struct error *e);

#endif
