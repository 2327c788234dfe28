#ifndef CCLD_TESTS_FUZZ_CORPUS_H
#define CCLD_TESTS_FUZZ_CORPUS_H

#include <stddef.h>
#include <stdint.h>

/* Small valid files for the harnesses to start from, made by the build: corpus/HARNESS/NAME. */

/* The folder of a harness; valid until the next call. */
const char *corpus_folder(const char *harness);
void corpus_write(const char *harness, const char *name, const void *data, size_t size);
void corpus_write_text(const char *harness, const char *name, const char *text);
/* Copies the files that match a pattern and have at most `limit` bytes. */
void corpus_copy(const char *harness, const char *pattern, size_t limit);

/* One function per file of this folder. */
void corpus_weights(void);
void corpus_images(void);
void corpus_shards(void);
void corpus_networks(void);
void corpus_texts(void);
void corpus_archives(void); /* after corpus_weights */

#endif
