#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "formats/text/clip_bpe.h"
#include "formats/text/html_entities.h"
#include "formats/text/mojibake.h"
#include "formats/text/text_clean.h"
#include "tests/support/tap.h"

static void cleans_bytes(const char *text, size_t size, const char *expected, const char *what)
{
    struct codepoints clean = {0};
    size_t clean_size;
    text_clean(&clean, text, size);
    char *ours = codepoints_encode(clean.at, clean.count, &clean_size);
    if (!tap_ok(clean_size == strlen(expected) && !memcmp(ours, expected, clean_size), "%s", what))
        tap_diag("'%s', not '%s'", ours, expected);
    free(ours);
    codepoints_release(&clean);
}

static void cleans(const char *text, const char *expected, const char *what)
{
    cleans_bytes(text, strlen(text), expected, what);
}

static void test_fixes(void)
{
    cleans("\u201cDon\u2019t\u201d \u2018x\u02bc", "\"don't\" 'x'", "curly quotes");
    cleans("\ufb01ne \ufb03x \u0133 \u01c5 \u0149", "fine ffix ij d\u017e 'n", "ligatures");
    cleans("\uff21\uff22\uff11\u3000\uff8a\uff9f", "ab1 \u30d1", "widths");
    cleans("a\r\nb\rc\u2028d", "a b c d", "line breaks");
    cleans("e\u0301 \u1112\u1161\u11ab", "\u00e9 \ud55c", "NFC");
    cleans("a\x07\ufeff\u206a"
           "b\x7f",
           "ab", "control characters");
    cleans("\x1b[1;31mred\x1b[0m \x1b[;", "red [;", "terminal escapes");
    cleans("a\xc2\x93quote\xc2\x94\xc2\x85", "a\"quote\"\u2026", "C1 controls are Windows-1252");
    cleans("  many   spaces\tand\nlines\u00a0\u2003", "many spaces and lines", "white space");
    cleans("\u039f\u0394\u039f\u03a3 \u03a3\u0391\u03a3'x \u0130\u1e9e",
           "\u03bf\u03b4\u03bf\u03c2 \u03c3\u03b1\u03c3'x i\u0307\u00df",
           "lower case, final sigma");
    cleans("", "", "nothing");
    cleans_bytes("a\0b", 3, "ab", "a zero byte is a control character");
}

static void test_mojibake(void)
{
    static const char *const misread[] = {"caf\u00c3\u00a9", "it\u00e2\u20ac\u2122s",
                                          "\u00f0\u0178\u2122\u201a", "\u00c3\u00a0 la carte"};
    static const char *const proper[] = {"",
                                         "caf\u00e9",
                                         "\u201cit\u2019s\u201d",
                                         "\u00c3O PAULO",
                                         "\u00e2\u20ac",
                                         "S\u00c3O",
                                         "\u65e5\u672c \u0416\u0443\u043a"};
    for (size_t i = 0; i < sizeof misread / sizeof *misread; i++)
        tap_ok(text_is_mojibake(misread[i], strlen(misread[i])), "'%s' is mojibake", misread[i]);
    for (size_t i = 0; i < sizeof proper / sizeof *proper; i++)
        tap_ok(!text_is_mojibake(proper[i], strlen(proper[i])), "'%s' is not mojibake", proper[i]);
}

static void test_html(void)
{
    cleans("a&amp;b &lt;tag&gt; &quot;q&quot;", "a&b <tag> \"q\"", "references");
    cleans("&amp;amp;amp;lt;", "<", "nested references");
    cleans("&lt &notit; &notin; &AMPx", "< \u00acit; \u2209 &x", "references without a semicolon");
    cleans("&NTILDE; &SZLIG; &MICRO; &nTILDE;", "\u00f1 ss \u03bc &ntilde;", "names in capitals");
    cleans("&ldquo;x&rdquo;", "\"x\"", "quotes by name become straight");
    cleans("<b>&ldquo;x&rdquo;", "<b>\u201cx\u201d", "but not in a line with <");
    cleans("&#65;&#x42;&#67 &#150;&#0; &#xD800;&#x110000;&#99999999999999999999;",
           "abc \u2013\ufffd \ufffd\ufffd\ufffd", "numbers");
    cleans("<&#11;&#127;&#xFDD0;&#xffff;>", "<>", "references that are dropped");
    cleans("& &; &# &#; &#x; &nosuch; a&b", "& &; &# &#; &#x; &nosuch; a&b", "not references");
    cleans("&NotEqualTilde;", "\u2242\u0338", "two code points");
    cleans("&CounterClockwiseContourIntegral;", "\u2233", "the longest name");
}

static void test_invalid_utf8(void)
{
    cleans("a\xff"
           "b",
           "a\ufffd"
           "b",
           "invalid byte");
    cleans("\xe2\x82", "\ufffd", "truncated");
    cleans("\xc0\xaf", "\ufffd\ufffd", "overlong");
    cleans("\xed\xa0\x80", "\ufffd\ufffd\ufffd", "surrogate");
    cleans("\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd", "beyond Unicode");
    cleans("\xf0\x9f\x8e", "\ufffd", "three of four bytes");
    cleans("\xf0\x9f\x8e\xa8", "\xf0\x9f\x8e\xa8", "four bytes");
}

static void tokens(const struct clip_bpe *b, const char *text, size_t n, const int32_t *expected,
                   const char *what)
{
    int32_t *ids;
    size_t count = clip_bpe_encode(b, text, strlen(text), &ids);
    bool same = count == n && !memcmp(ids, expected, n * sizeof *ids);
    if (!tap_ok(same, "%s", what))
        for (size_t i = 0; i < count; i++)
            tap_diag("%d", ids[i]);
    free(ids);
}
#define TOKENS(b, text, what, ...)                                                                 \
    tokens(b, text, sizeof((int32_t[]){__VA_ARGS__}) / 4, (int32_t[]){__VA_ARGS__}, what)

static void test_vocabularies(void)
{
    struct clip_bpe *b;
    struct error e;
    tap_ok(clip_bpe_new(&b, 513, &e) == -1, "too few rows: %s", e.text);
    tap_ok(clip_bpe_new(&b, CLIP_BPE_VOCABULARY_MAX + 1, &e) == -1, "too many rows: %s", e.text);

    if (tap_ok(clip_bpe_new(&b, 514, &e) == 0, "no merges")) {
        TOKENS(b, "hi", "bytes, the last one as end of word", 'h' - 33, 'i' - 33 + 256);
        tap_ok(clip_bpe_start(b) == 512 && clip_bpe_end(b) == 513, "start 512, end 513");
        clip_bpe_free(b);
    }
    /* The first four merges are "i n", "t h", "a n" and "r e". */
    if (tap_ok(clip_bpe_new(&b, 514 + 3, &e) == 0, "three merges")) {
        TOKENS(b, "inthanrex", "only these three merges", 512, 513, 514, 'r' - 33, 'e' - 33,
               'x' - 33 + 256);
        TOKENS(b, "in", "a merge of inner symbols does not apply at the end of a word", 'i' - 33,
               'n' - 33 + 256);
        TOKENS(b, "<|startoftext|> <|endoftext|>", "special tokens in text", 515, 516);
        clip_bpe_free(b);
    }
}

static void test_rows(const struct clip_bpe *b)
{
    int32_t row[6];
    tap_ok(clip_bpe_encode_row(b, "a a a a", row, 6) == 0 && row[0] == 49406 && row[4] == 320 &&
               row[5] == 49407,
           "a text that fills the row");
    tap_ok(clip_bpe_encode_row(b, "a a a a a a", row, 6) == 2 && row[4] == 320 && row[5] == 49407,
           "two tokens cut off");
    tap_ok(clip_bpe_encode_row(b, "", row, 6) == 0 && row[0] == 49406 && row[1] == 49407 &&
               row[2] == 0 && row[5] == 0,
           "an empty text");
    tap_ok(clip_bpe_encode_row(b, "a", row, 2) == 1 && row[0] == 49406 && row[1] == 49407,
           "a row without room for tokens");
}

/* Merging a very long word must not take longer than n log n. */
static void test_long_text(const struct clip_bpe *b)
{
    size_t n = 400000;
    char *text = xmalloc(n);
    for (size_t i = 0; i < n; i++)
        text[i] = "abcdefgh"[(i * 2654435761u >> 7) % 8];
    int32_t *ids;
    double begin = seconds_now();
    size_t count = clip_bpe_encode(b, text, n, &ids);
    double seconds = seconds_now() - begin;
    tap_ok(count > n / 8 && count < n && seconds < 20, "one word of %zu letters: %.2f s", n,
           seconds);
    free(ids);
    free(text);
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    test_fixes();
    test_mojibake();
    test_html();
    test_invalid_utf8();
    test_vocabularies();
    struct clip_bpe *b;
    struct error e;
    if (tap_ok(clip_bpe_new(&b, CLIP_BPE_VOCABULARY_MAX, &e) == 0, "the whole vocabulary")) {
        TOKENS(b, "don't I'LL", "contractions", 847, 713, 328, 1342);
        TOKENS(b, "123", "one token per digit", 272, 273, 274);
        test_rows(b);
        test_long_text(b);
        clip_bpe_free(b);
    }
    return tap_done();
}
