#ifndef CCLD_FORMATS_TEXT_MOJIBAKE_H
#define CCLD_FORMATS_TEXT_MOJIBAKE_H

#include <stdbool.h>
#include <stddef.h>

/* Whether text (`size` bytes of UTF-8) has a character that was encoded as UTF-8 and decoded as
 * Windows-1252 or Latin-1, such as the last one of "cafÃ©". ftfy.fix_text repairs these where
 * its heuristics agree, and text_clean leaves them. */
bool text_is_mojibake(const char *text, size_t size);

/* For messages about such text, after what it is. */
#define MOJIBAKE_ADVICE                                                                            \
    "looks like UTF-8 that was read in another encoding: it is used as it is, while the "          \
    "reference "                                                                                   \
    "repairs it (ftfy)"

#endif
