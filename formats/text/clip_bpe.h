#ifndef CCLD_FORMATS_TEXT_CLIP_BPE_H
#define CCLD_FORMATS_TEXT_CLIP_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* CLIP's byte pair encoding (Radford et al., arXiv 2103.00020). Text is cleaned (text_clean.h),
 * lower-cased and split into words (contractions, letters, single digits, runs of anything else);
 * then the bytes of each word are merged in order of rank. Token ids: 256 bytes, 256 bytes that end
 * a word, one per merge, start, end. The merge table is compiled in. A tokenizer may be used by
 * several threads at once. */
struct clip_bpe;

#define CLIP_BPE_VOCABULARY_MAX 49408

/* vocabulary: the number of rows V in the model's token embedding. The first V - 514 merges are
 * used; the start token is V - 2 and the end token V - 1. Fails unless V is in 514 ..
 * CLIP_BPE_VOCABULARY_MAX. */
int clip_bpe_new(struct clip_bpe **out, int64_t vocabulary, struct error *e);
void clip_bpe_free(struct clip_bpe *b); /* NULL is fine */
int32_t clip_bpe_start(const struct clip_bpe *b);
int32_t clip_bpe_end(const struct clip_bpe *b);

/* Returns the number of tokens in `size` bytes of UTF-8, without start and end; *ids is malloc'ed,
 * never NULL. Invalid byte sequences count as U+FFFD. As in the original, the literals
 * "<|startoftext|>" and "<|endoftext|>" become the start and end tokens. */
size_t clip_bpe_encode(const struct clip_bpe *b, const char *text, size_t size, int32_t **ids);

/* Fills a model's input of n >= 2 tokens: start, the first n - 2 tokens of the zero-terminated
 * text, end, then zeros. Returns the number of tokens cut off (0: all fit). */
size_t clip_bpe_encode_row(const struct clip_bpe *b, const char *text, int32_t *row, size_t n);

#endif
