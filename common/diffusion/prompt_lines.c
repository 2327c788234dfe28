#include "common/diffusion/prompt_lines.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/message.h"

int prompt_lines_open(struct prompt_lines *s, const char *path, struct error *e)
{
    bool from_stdin = !path || strcmp(path, "-") == 0;
    *s = (struct prompt_lines){
        .input.fd = from_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC),
        .source = from_stdin ? xstrdup("standard input") : xasprintf("'%s'", path),
    };
    if (s->input.fd < 0)
        return error_errno(e, "cannot open %s", s->source);
    struct stat st;
    s->is_file = fstat(s->input.fd, &st) == 0 && S_ISREG(st.st_mode);
    return 0;
}

void prompt_lines_close(struct prompt_lines *s)
{
    if (s->input.fd > STDIN_FILENO)
        close(s->input.fd);
    free(s->source);
    input_lines_release(&s->input);
    *s = (struct prompt_lines){.input = {.fd = -1, .at_end = true}};
}

bool prompt_lines_ended(const struct prompt_lines *s)
{
    return s->input.at_end && s->input.begin == s->input.end;
}

static bool has_input(const struct prompt_lines *s)
{
    struct pollfd fd = {.fd = s->input.fd, .events = POLLIN};
    return poll(&fd, 1, 0) > 0;
}

int prompt_lines_next(struct prompt_lines *s, bool wait, char **line, struct error *e)
{
    for (;;) {
        size_t size;
        char *text = input_lines_take(&s->input, '\n', &size);
        if (text) {
            s->number++;
            if (strlen(text) != size)
                return error_set(e, "%s, line %" PRId64 ": NUL byte in the text", s->source,
                                 s->number);
            *line = text;
            if (text[strspn(text, " \t\v\f")])
                return 1;
        } else if (s->input.at_end || !(wait || has_input(s))) {
            return 0;
        } else if (input_lines_read(&s->input) < 0) {
            return error_errno(e, "cannot read %s", s->source);
        }
    }
}
