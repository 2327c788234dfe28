#include "common/train/sobol.h"

#define BITS 24 /* of a float in [0, 1) */

/* Van der Corput's fraction is the index with its bits reversed: bit k of the index is digit k + 1
 * after the point. Owen's scramble flips each digit or not at random, independently for every value
 * of the preceding digits. */
float sobol_scrambled(uint64_t seed, enum rng_purpose purpose, uint64_t index)
{
    uint32_t digits = 0, scrambled = 0;
    for (uint32_t bit = 0; bit < BITS; bit++) {
        uint32_t digit = (uint32_t)(index >> bit) & 1, words[4];
        rng_words(words, seed, purpose, bit, index >> BITS, digits);
        scrambled = scrambled << 1 | (digit ^ (words[0] & 1));
        digits = digits << 1 | digit;
    }
    return (float)scrambled * 0x1p-24f;
}
