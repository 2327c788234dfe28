#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/rng.h"
#include "formats/text/clip_bpe.h"
#include "tests/support/tap.h"

/* Tokenizes random text, valid UTF-8 or not. Every id must be in range, a row must match the ids,
 * and nothing may be read out of bounds (build with sanitizers). Usage: fuzz-bpe [ROUNDS [SEED]] */

static uint32_t draw(uint64_t seed, uint64_t round, uint32_t i)
{
    uint32_t out[4];
    philox4x32_10(out, (uint32_t[4]){i, (uint32_t)round, (uint32_t)(round >> 32), 7},
                  (uint32_t[2]){(uint32_t)seed, (uint32_t)(seed >> 32)});
    return out[0];
}

static const char *const pieces[] = {
    "a photo of ",
    "&amp;",
    "&#x",
    "&#1114112;",
    "&notit;",
    "&",
    "<",
    "\xF0\x9F\x8E\xA8",
    "\xEF\xAC\x81",
    "\r\n",
    "\x1B[3;",
    "m",
    "don't",
    "'ll",
    "\xCE\xA3",
    "\xC4\xB0",
    "\xE2\x80\x9C",
    "\xC2",
    "\xE0\xA0",
    "\xF4\x90",
    "\xFF",
    "<|endoftext|>",
    "123",
    "\xCC\x81",
};

static size_t make_text(char *text, size_t limit, uint64_t seed, uint64_t round)
{
    size_t size = 0;
    uint32_t count = draw(seed, round, 0) % 40;
    for (uint32_t i = 1; i <= count; i++) {
        uint32_t r = draw(seed, round, i);
        const char *piece = pieces[(r >> 8) % (sizeof pieces / sizeof *pieces)];
        char byte[2] = {(char)(r >> 16), 0};
        if (r % 4 == 0)
            piece = byte;
        size_t length = piece == byte ? 1 : strlen(piece);
        if (size + length > limit)
            break;
        memcpy(text + size, piece, length);
        size += length;
    }
    return size;
}

static bool check(const struct clip_bpe *b, int32_t vocabulary, const char *made, size_t size)
{
    char *text = xmalloc(size + 1); /* exact size, so that overreads are detected */
    memcpy(text, made, size);
    int32_t *ids, row[16];
    size_t n = clip_bpe_encode(b, text, size, &ids);
    bool fine = true;
    for (size_t i = 0; i < n; i++)
        fine = fine && ids[i] >= 0 && ids[i] < vocabulary;
    if (!memchr(text, 0, size)) {
        text[size] = 0;
        size_t cut = clip_bpe_encode_row(b, text, row, 16), kept = n - cut;
        fine = fine && kept <= 14 && row[0] == vocabulary - 2 && row[kept + 1] == vocabulary - 1 &&
               !memcmp(row + 1, ids, kept * sizeof *row);
    }
    free(ids);
    free(text);
    return fine;
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    const int32_t vocabulary = 5000;
    struct clip_bpe *b;
    struct error e;
    if (clip_bpe_new(&b, vocabulary, &e) != 0)
        die("cannot create the tokenizer: %s", e.text);
    uint64_t bad = 0;
    for (uint64_t round = 0; round < rounds; round++) {
        char text[512];
        size_t size = make_text(text, sizeof text, seed, round);
        if (!check(b, vocabulary, text, size)) {
            tap_diag("seed %" PRIu64 ", round %" PRIu64, seed, round);
            bad++;
        }
    }
    clip_bpe_free(b);
    tap_ok(rounds > 0 && bad == 0, "%" PRIu64 " texts", rounds);
    return tap_done();
}
