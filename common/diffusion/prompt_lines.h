#ifndef CCLD_DIFFUSION_PROMPT_LINES_H
#define CCLD_DIFFUSION_PROMPT_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/input_lines.h"

/* Lines of prompts from a file, or from a pipe as they arrive. */
struct prompt_lines {
    struct input_lines input;
    char *source;   /* for messages: "'FILE'" or "standard input" */
    bool is_file;   /* all lines are there */
    int64_t number; /* of the last line, from 1 */
};

/* path: NULL and "-" are standard input. To be closed, also after a failure. */
int prompt_lines_open(struct prompt_lines *s, const char *path, struct error *e);
void prompt_lines_close(struct prompt_lines *s);
bool prompt_lines_ended(const struct prompt_lines *s); /* no line is left */
/* Stores the next line that is not blank in *line, without its end or a byte order mark, and
 * returns 1; it is valid until the next call. Returns 0 at the end or, unless `wait` is set, if no
 * whole line has arrived. Errors name source and line. */
int prompt_lines_next(struct prompt_lines *s, bool wait, char **line, struct error *e);

#endif
