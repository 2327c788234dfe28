#include "formats/text/embedded.h"

/* Paths are relative to the compiler's working directory: the root, as for includes. */
#define EMBED(name, file)                                                                          \
    __asm__(".section .rodata\n"                                                                   \
            ".balign 16\n"                                                                         \
            ".global embedded_" #name ", embedded_" #name "_end\n"                                 \
            "embedded_" #name ":\n"                                                                \
            ".incbin \"" file "\"\n"                                                               \
            "embedded_" #name "_end:\n"                                                            \
            ".previous\n")

EMBED(clip_bpe_merges, "formats/text/clip_bpe_merges.txt.zst");
EMBED(html_entities, "formats/text/html_entities.txt");
EMBED(font_8x16, "formats/text/font_8x16.txt");
