/* Text of prompts and captions: character references, cleaning, tokens. */
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "formats/text/clip_bpe.h"
#include "formats/text/html_entities.h"
#include "formats/text/text_clean.h"
#include "formats/text/utf8.h"
#include "tests/fuzz/support/fuzz.h"

enum { VOCABULARY = 5000, ROW = 16 };

static void check_tokens(const struct clip_bpe *b, const char *text, size_t size)
{
    int32_t *ids, row[ROW];
    size_t n = clip_bpe_encode(b, text, size, &ids);
    for (size_t i = 0; i < n; i++)
        CHECK(ids[i] >= 0 && ids[i] < VOCABULARY);
    if (!memchr(text, 0, size)) {
        size_t cut = clip_bpe_encode_row(b, text, row, ROW), kept = n - cut;
        CHECK(kept <= ROW - 2 && row[0] == VOCABULARY - 2 && row[kept + 1] == VOCABULARY - 1);
        CHECK(!memcmp(row + 1, ids, kept * sizeof *row));
    }
    free(ids);
}

/* Unicode scalar values, which survive UTF-8. Releases c. */
static void check_codepoints(struct codepoints *c)
{
    size_t size;
    struct codepoints again = {0};
    for (size_t i = 0; i < c->count; i++)
        CHECK(c->at[i] < 0x110000 && (c->at[i] < 0xd800 || c->at[i] > 0xdfff));
    char *text = codepoints_encode(c->at, c->count, &size);
    codepoints_decode(&again, text, size);
    CHECK(again.count == c->count);
    CHECK(c->count == 0 || !memcmp(again.at, c->at, c->count * sizeof *c->at));
    free(text);
    codepoints_release(&again);
    codepoints_release(c);
}

static void check_utf8(const char *text)
{
    char *valid, *again, cut[24];
    utf8_repair(&valid, text);
    CHECK(utf8_repair(&again, valid) && strcmp(valid, again) == 0);
    utf8_cut(cut, sizeof cut, text);
    CHECK(strncmp(cut, valid, strlen(cut)) == 0);
    free(valid);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct clip_bpe *b;
    struct codepoints decoded = {0}, plain = {0}, strict = {0}, clean = {0};
    struct error e;
    if (!b)
        CHECK(clip_bpe_new(&b, VOCABULARY, &e) == 0);
    char *text = fuzz_text(data, size);
    check_tokens(b, text, size);
    check_utf8(text);
    codepoints_decode(&decoded, text, size);
    html_unescape(&plain, decoded.at, decoded.count);
    html_unescape_strict(&strict, decoded.at, decoded.count);
    text_clean(&clean, text, size);
    check_codepoints(&decoded);
    check_codepoints(&plain);
    check_codepoints(&strict);
    check_codepoints(&clean);
    free(text);
    return 0;
}
