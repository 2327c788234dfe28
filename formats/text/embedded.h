#ifndef CCLD_FORMATS_TEXT_EMBEDDED_H
#define CCLD_FORMATS_TEXT_EMBEDDED_H

/* Data files that are part of the program, so that an installed one needs none. */
#define EMBEDDED(name) extern const unsigned char embedded_##name[], embedded_##name##_end[];

/* zstd; one merge of CLIP's byte pair encoding a line, in rank order: the first 48,894 lines after
 * the heading of OpenAI's bpe_simple_vocab_16e6.txt (MIT). */
EMBEDDED(clip_bpe_merges)
/* HTML's named character references, sorted by byte: name (with its semicolon, where it has one),
 * then one or two code points in hexadecimal. */
EMBEDDED(html_entities)

#undef EMBEDDED

#endif
