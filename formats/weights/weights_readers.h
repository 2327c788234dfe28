#ifndef CCLD_FORMATS_WEIGHTS_WEIGHTS_READERS_H
#define CCLD_FORMATS_WEIGHTS_WEIGHTS_READERS_H

#include "formats/weights/weights_build.h"

/* One reader per file format, each with a test of the first bytes if the format has a signature.
 * Private to formats/weights. Readers add tensors and metadata to w and set w->format; data must
 * outlive w. */
bool safetensors_recognize(const uint8_t *data, size_t size);
/* data must have been recognized. */
int safetensors_read(struct weights *w, const uint8_t *data, size_t size, struct error *e);

/* z must hold a member data.pkl, at the top or in a folder. */
int torch_zip_read(struct weights *w, struct zip *z, struct error *e);

bool torch_legacy_recognize(const uint8_t *data, size_t size);
int torch_legacy_read(struct weights *w, const uint8_t *data, size_t size, struct error *e);

/* A pickle of numpy arrays. Pickles have no signature below protocol 2, so this reader comes last
 * and also refuses files of no known format. */
int weights_pickle_read(struct weights *w, const uint8_t *data, size_t size, struct error *e);

#endif
