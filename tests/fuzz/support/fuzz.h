#ifndef CCLD_TESTS_FUZZ_H
#define CCLD_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* One harness per file of tests/fuzz, in libFuzzer's interface. `make fuzz` links it with
 * libFuzzer, all other builds with driver.c, which runs it as a test. Whatever the input is, a
 * harness must return, and may leave no memory allocated. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A harness may have one, for inputs that random changes would only break. It changes data in place
 * and returns the new size, at most max_size. The fuzzer calls it instead of LLVMFuzzerMutate. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);
/* The fuzzer's own changes. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* The input as a zero-terminated copy of exactly its size, so that overreads are detected. */
char *fuzz_text(const uint8_t *data, size_t size);
/* A file with these bytes, rewound, for code that reads from a descriptor; the same at every call.
 * fuzz_path names it. */
int fuzz_file(const uint8_t *data, size_t size);
const char *fuzz_path(void);

/* Changes the header of a safetensors blob and corrects the header's size. Returns the new size; 0
 * if it is not one or has no room. */
size_t mutate_safetensors(uint8_t *data, size_t size, size_t max_size);
/* Corrects the checksums of PNG chunks, and of a zip's deflated members together with their sizes,
 * so that readers get past them. Both do nothing to other data. */
void mend_png(uint8_t *data, size_t size);
void mend_zip(uint8_t *data, size_t size);

#endif
