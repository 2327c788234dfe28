#ifndef CCLD_TESTS_GENERATOR_H
#define CCLD_TESTS_GENERATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/options.h"
#include "formats/images/image.h"
#include "tests/support/caption.h"
#include "tests/support/draws.h"

/* What programs share that generate images with captions: writing 000000.png, 000000.txt and so on
 * to a folder, and the list of paths and captions. Image i of a sequence is a pure function of the
 * seed, the split and i, so that any part of it can be made, or completed, at any time. */

struct generator {
    const char *folder, *pairs; /* pairs: NULL for standard output */
    int64_t count, first, size;
    uint64_t seed;
    int split; /* enum split */
    /* Whether the sequence contains image `index`, and its caption. */
    bool (*describe)(char caption[CAPTION_MAX], const struct generator *g, uint64_t index);
    /* Returns 0, or -1 with a reason. The caller releases the image. Called from several threads.
     */
    int (*draw)(struct image *image, const struct generator *g, uint64_t index, struct error *e);
};

/* Rows of an option table. */
#define GENERATOR_OPTIONS(g, combinations)                                                         \
    {.name = "output",                                                                             \
     .letter = 'o',                                                                                \
     .kind = OPTION_STRING,                                                                        \
     .value = &(g).folder,                                                                         \
     .argument = "DIR",                                                                            \
     .help = "folder for 000000.png, 000000.txt and so on; created if it does not exist"},         \
        {.name = "number",                                                                         \
         .letter = 'n',                                                                            \
         .kind = OPTION_INT,                                                                       \
         .value = &(g).count,                                                                      \
         .argument = "N",                                                                          \
         .help = "number of images in the sequence",                                               \
         .min = 0,                                                                                 \
         .max = 100e6},                                                                            \
        {.name = "first",                                                                          \
         .kind = OPTION_INT,                                                                       \
         .value = &(g).first,                                                                      \
         .argument = "I",                                                                          \
         .help = "generate images I to I+N-1 of the seed's sequence",                              \
         .min = 0,                                                                                 \
         .max = 100e6},                                                                            \
        {.name = "size",                                                                           \
         .kind = OPTION_INT,                                                                       \
         .value = &(g).size,                                                                       \
         .argument = "PIXELS",                                                                     \
         .help = "side length of an image",                                                        \
         .min = 16,                                                                                \
         .max = 4096},                                                                             \
        {.name = "seed",                                                                           \
         .kind = OPTION_SEED,                                                                      \
         .value = &(g).seed,                                                                       \
         .argument = "N",                                                                          \
         .help = "seed of the scenes"},                                                            \
        {.name = "split",                                                                          \
         .kind = OPTION_CHOICE,                                                                    \
         .value = &(g).split,                                                                      \
         .argument = "WHICH",                                                                      \
         .help = combinations ": for training, at least one held-out per image, or all",           \
         .choices = split_names},                                                                  \
    {                                                                                              \
        .name = "pairs", .kind = OPTION_STRING, .value = &(g).pairs, .argument = "FILE",           \
        .help = "write the list of paths and captions to FILE instead of standard output"          \
    }

/* Ends the program with a message if an option is missing, or on failure. Images of the folder that
 * exist are checked and kept. */
void generate(const struct generator *g);

/* Ends the program if standard output could not be written. */
void end_output(void);

#endif
