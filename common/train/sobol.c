#include "common/train/sobol.h"

#define BITS 24 /* of a float in [0, 1) */

/* Van der Corput's fraction has the bits of the index in reverse: bit k of the index is digit k + 1
 * behind the point. Owen's scramble flips each digit by a coin of its own for every value of the
 * digits before it. */
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
