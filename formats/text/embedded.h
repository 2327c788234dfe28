#ifndef CCLD_FORMATS_TEXT_EMBEDDED_H
#define CCLD_FORMATS_TEXT_EMBEDDED_H

/* Data files compiled into the programs, so that an installed program needs no others. */
#define EMBEDDED(name) extern const unsigned char embedded_##name[], embedded_##name##_end[];

/* Compressed with zstd; one merge of CLIP's byte pair encoding per line, in order of rank: the
 * first 48,894 lines after the header of OpenAI's bpe_simple_vocab_16e6.txt (MIT). */
EMBEDDED(clip_bpe_merges)
/* HTML's named character references in byte order, one per line: the name (names whose semicolon is
 * optional are listed with and without it), then one or two code points in hexadecimal. */
EMBEDDED(html_entities)

#undef EMBEDDED

#endif
