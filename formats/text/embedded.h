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
/* Glyphs of 8x16 pixels in the order of their code points, one per line: the code point and 16 rows
 * of 8 bits from the top, all in hexadecimal, 38 bytes a line. From Spleen 2.2.0 (BSD 2-Clause). */
EMBEDDED(font_8x16)

#undef EMBEDDED

#endif
