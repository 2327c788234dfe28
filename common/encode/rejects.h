#ifndef CCLD_ENCODE_REJECTS_H
#define CCLD_ENCODE_REJECTS_H

#include <stdbool.h>
#include <stdio.h>

#include "common/base/error.h"

/* The file that receives the paths of files that could not be encoded, from all processes of a
 * program. An empty or new file, a device or a pipe receives each path at once. Any other file
 * keeps what it has until the run is complete, and is replaced then: it may be part of what the
 * list is made of. */
struct rejects;

/* path: - is standard output. Call it before the program forks. inputs: the images, or NULL if
 * standard input is a list of them. Refuses a file that is one of the inputs or that list, or has
 * anything but a list of paths, such as an image. */
int rejects_open(struct rejects **out, const char *path, int input_count, char *const *inputs,
                 struct error *e);
/* The stream of this process, in which each path is to be flushed at once. */
FILE *rejects_stream(const struct rejects *r);
/* After the last path of all processes: complete if the whole list was read. */
int rejects_finish(struct rejects *r, bool complete, struct error *e);
void rejects_close(struct rejects *r);

#endif
