#include "formats/text/mojibake.h"

#include "formats/text/codepoints.h"
#include "formats/text/html_entities.h"

/* The byte that is c in Windows-1252, or in Latin-1 where that has no other; -1: neither has c. */
static int byte_of(uint32_t c)
{
    if (c < 0x100)
        return (int)c;
    for (uint32_t byte = 0x80; byte < 0xA0; byte++)
        if (codepoint_from_windows_1252(byte) == c)
            return (int)byte;
    return -1;
}

/* The length of the UTF-8 sequence that begins with a byte of 0x80 or more, or 0. */
static size_t sequence_length(int byte)
{
    return byte < 0xC2 || byte > 0xF4 ? 0 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

static bool is_misread(const uint32_t *text, size_t count)
{
    size_t length = sequence_length(byte_of(text[0]));
    if (length == 0 || length > count)
        return false;
    for (size_t i = 1; i < length; i++) {
        int byte = byte_of(text[i]);
        if (byte < 0x80 || byte > 0xBF)
            return false;
    }
    return true;
}

bool text_is_mojibake(const char *text, size_t size)
{
    struct codepoints decoded = {0};
    bool found = false;
    codepoints_decode(&decoded, text, size);
    for (size_t i = 0; i < decoded.count && !found; i++)
        found = is_misread(decoded.at + i, decoded.count - i);
    codepoints_release(&decoded);
    return found;
}
