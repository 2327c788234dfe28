#ifndef CCLD_RUN_METRICS_H
#define CCLD_RUN_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* A run's metrics, in its folder: metrics.jsonl (one JSON object per line) and TensorBoard event
 * files (formats/tfevents.h), both with the same numbers. `step` is the number of steps done when
 * the numbers were taken. */
struct metrics;

struct metric {
    const char *name; /* JSON key and TensorBoard tag: "loss", "loss/t-quartile-1" */
    double value;     /* null in JSON if it is not finite */
};

/* Opens the files to append to them. A run that is resumed from step `resumed_step` loses its
 * metrics of later steps (in TensorBoard, when it reads the new event file); -1 means a new run and
 * removes all lines. An incomplete last line is removed, too. */
int metrics_open(struct metrics **out, const char *run, int64_t resumed_step, struct error *e);
void metrics_close(struct metrics *m); /* NULL is fine */

/* Each of these writes a line {"step":..,"time":..,<members below>} immediately, in one write(2).
 * time: seconds since 1970. A failure leaves no partial line; later calls may succeed. */

/* "name":value for each metric; TensorBoard scalars. */
int metrics_scalars(struct metrics *m, int64_t step, const struct metric *metrics, int count,
                    struct error *e);
/* "event":tag,"text":text; a TensorBoard text, which is Markdown. */
int metrics_text(struct metrics *m, int64_t step, const char *tag, const char *text,
                 struct error *e);
/* "event":tag,"image":path, without "image" if path is NULL; a TensorBoard image, the PNG itself.
 */
int metrics_image(struct metrics *m, int64_t step, const char *tag, const char *path,
                  const void *png, size_t size, struct error *e);
/* "event":tag,"text":text,"paths":[...], for the samples of a bad step; not in TensorBoard. */
int metrics_paths(struct metrics *m, int64_t step, const char *tag, const char *text,
                  const char *const *paths, int count, struct error *e);

#endif
