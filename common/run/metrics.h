#ifndef CCLD_RUN_METRICS_H
#define CCLD_RUN_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* What a run tells of itself, in its folder: metrics.jsonl (one JSON object a line) and
 * TensorBoard's event files (formats/tfevents.h), both with the same numbers. `step` is the number
 * of steps done when the numbers were taken. */
struct metrics;

struct metric {
    const char *name; /* "loss", "loss/t-quartile-1": JSON key and TensorBoard tag */
    double value;     /* one that is not finite is null in JSON */
};

/* Continues the files of a run that goes on after step `resumed_step`: what they say of later steps
 * is dropped (TensorBoard drops it when it reads the new file). -1: a new run, all is dropped. A
 * last line that was not written to its end is dropped, too. */
int metrics_open(struct metrics **m, const char *run, int64_t resumed_step, struct error *e);
void metrics_close(struct metrics *m); /* NULL is fine */

/* Each of these writes at once, one line by one write(2): {"step":..,"time":..,<what follows>}.
 * time: seconds since 1970. A failure leaves no half line behind; later calls may succeed. */

/* "name":value of each; a scalar each. */
int metrics_scalars(struct metrics *m, int64_t step, const struct metric *metrics, int count,
                    struct error *e);
/* "event":tag,"text":text; a text (Markdown) in TensorBoard. UTF-8. */
int metrics_text(struct metrics *m, int64_t step, const char *tag, const char *text,
                 struct error *e);
/* "event":tag,"image":path (as given, NULL: none); the PNG's bytes in TensorBoard. */
int metrics_image(struct metrics *m, int64_t step, const char *tag, const char *path,
                  const void *png, size_t size, struct error *e);
/* "event":tag,"text":text,"paths":[...] in metrics.jsonl only: what was in a bad batch. */
int metrics_paths(struct metrics *m, int64_t step, const char *tag, const char *text,
                  const char *const *paths, int count, struct error *e);

#endif
