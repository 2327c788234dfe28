#ifndef CCLD_FORMATS_TFEVENTS_H
#define CCLD_FORMATS_TFEVENTS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* TensorBoard's event files: TFRecord frames that contain Event messages
 * (tensorflow/core/util/event.proto and framework/summary.proto, encoded here by hand). A frame is
 * the length of the data (8 bytes, little-endian), the masked CRC of these 8 bytes, the data, and
 * the masked CRC of the data (4 bytes each). */

/* CRC-32C (Castagnoli; RFC 3720, appendix B.4) of more bytes; crc is 0 at the start. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);
/* TFRecord's mask: ((crc >> 15) | (crc << 17)) + 0xa282ead8. */
uint32_t crc32c_masked(const void *data, size_t size);

struct tfevents;

/* Creates a file in the folder, events.out.tfevents.SECONDS.HOST.PID, whose name sorts after all
 * event files already there. TensorBoard discards what earlier files recorded for step
 * `first_step` and later (SessionLog START); -1: nothing. */
int tfevents_open(struct tfevents **t, const char *folder, int64_t first_step, struct error *e);
void tfevents_close(struct tfevents *t); /* NULL is fine */
const char *tfevents_path(const struct tfevents *t);

/* Each call writes one frame at once; after a failure, the file ends with the previous frame. Tags
 * are UTF-8; TensorBoard groups tags by the part before the first slash. wall_time: seconds since
 * 1970. */
struct tfevents_scalar {
    const char *tag;
    float value;
};
int tfevents_scalars(struct tfevents *t, double wall_time, int64_t step,
                     const struct tfevents_scalar *scalars, int count, struct error *e);
/* A PNG: 8 or 16 bits, gray or RGB, with or without alpha. */
int tfevents_image(struct tfevents *t, double wall_time, int64_t step, const char *tag,
                   const void *png, size_t size, struct error *e);
/* Markdown, UTF-8. */
int tfevents_text(struct tfevents *t, double wall_time, int64_t step, const char *tag,
                  const char *text, struct error *e);

#endif
