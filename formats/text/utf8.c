#include "formats/text/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "common/base/message.h"

bool utf8_repair(char **out, const char *text)
{
    size_t size = strlen(text);
    char *repaired = xmalloc(3 * size + 1), *end = repaired;
    bool valid = true;
    for (size_t at = 0; at < size;) {
        utf8proc_int32_t codepoint;
        utf8proc_ssize_t used =
            utf8proc_iterate((const uint8_t *)text + at, (utf8proc_ssize_t)(size - at), &codepoint);
        if (used > 0) {
            memcpy(end, text + at, (size_t)used);
            end += used;
            at += (size_t)used;
        } else {
            memcpy(end, "\xef\xbf\xbd", 3);
            end += 3;
            at++;
            valid = false;
        }
    }
    *end = 0;
    *out = repaired;
    return valid;
}

void utf8_cut(char *out, size_t size, const char *text)
{
    char *repaired;
    utf8_repair(&repaired, text);
    size_t length = strlen(repaired);
    if (length >= size) {
        length = size - 1;
        while (length > 0 && ((uint8_t)repaired[length] & 0xc0) == 0x80)
            length--;
    }
    memcpy(out, repaired, length);
    out[length] = 0;
    free(repaired);
}
