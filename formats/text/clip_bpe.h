#ifndef CCLD_FORMATS_TEXT_CLIP_BPE_H
#define CCLD_FORMATS_TEXT_CLIP_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* CLIP's byte pair encoding (Radford et al., arXiv 2103.00020): text is cleaned (text_clean.h) and
 * lower-cased, cut into words (contractions, letters, single digits, runs of anything else), and
 * each word's bytes are merged by rank. Ids: 256 bytes, 256 bytes that end a word, one per merge,
 * start, end. The merge table is part of the program. Safe with threads once made. */
struct clip_bpe;

#define CLIP_BPE_VOCABULARY_MAX 49408

/* vocabulary: rows V of the model's embedding; the first V - 514 merges are used, the start token
 * is V - 2 and the end token V - 1. Fails when V is not in 514 .. CLIP_BPE_VOCABULARY_MAX. */
int clip_bpe_new(struct clip_bpe **b, int64_t vocabulary, struct error *e);
void clip_bpe_free(struct clip_bpe *b); /* NULL is fine */
int32_t clip_bpe_start(const struct clip_bpe *b);
int32_t clip_bpe_end(const struct clip_bpe *b);

/* Tokens of `size` bytes of UTF-8 (each invalid byte sequence counts as U+FFFD), without start and
 * end, as many as there are. Returns their number; *ids is malloc'ed, never NULL. The literal
 * "<|startoftext|>" and "<|endoftext|>" are those tokens, as in the original. */
size_t clip_bpe_encode(const struct clip_bpe *b, const char *text, size_t size, int32_t **ids);

/* A model's input of n >= 2 tokens: start, the first n - 2 tokens of the text, end, then zeros.
 * Returns how many tokens were cut off (0: all fit). text ends with a zero byte. */
size_t clip_bpe_encode_row(const struct clip_bpe *b, const char *text, int32_t *row, size_t n);

#endif
