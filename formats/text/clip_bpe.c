#include "formats/text/clip_bpe.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>
#include <zstd.h>

#include "common/base/message.h"
#include "formats/text/embedded.h"
#include "formats/text/text_clean.h"
#include "formats/text/utf8.h"

enum {
    BYTES = 256,
    FIRST_MERGE = 2 * BYTES, /* bytes, bytes that end a word, merges, start, end */
    SLOTS = 1 << 17,         /* per hash table: at most 38% full */
};

struct clip_bpe {
    int32_t vocabulary;
    uint16_t id_of_byte[BYTES];
    /* Open addressing; key: left id << 16 | right id. merged is 0 in free slots: a merge has an id
     * of at least FIRST_MERGE. */
    struct pair {
        uint32_t key, merged;
    } pairs[SLOTS];
};

static bool is_printable_byte(int b)
{
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xFF && b != 0xAD);
}

/* Printable bytes have the first ids; the others follow. In the merge table, byte b is written as
 * character b or, if it is the k-th nonprintable one, as U+0100 + k. */
static void number_bytes(uint16_t *id_of_byte, uint32_t *character_of_byte)
{
    uint16_t id = 0;
    uint32_t other = 0x100;
    for (int b = 0; b < BYTES; b++)
        if (is_printable_byte(b)) {
            id_of_byte[b] = id++;
            character_of_byte[b] = (uint32_t)b;
        }
    for (int b = 0; b < BYTES; b++)
        if (!is_printable_byte(b)) {
            id_of_byte[b] = id++;
            character_of_byte[b] = other++;
        }
}

static uint32_t hash_pair(uint32_t key)
{
    return key * UINT32_C(0x9E3779B1) >> 15;
}

/* The slot that holds the pair, or the free slot for it. */
static const struct pair *find_pair(const struct pair *pairs, uint32_t left, uint32_t right)
{
    uint32_t key = left << 16 | right, slot = hash_pair(key);
    while (pairs[slot].merged && pairs[slot].key != key)
        slot = (slot + 1) % SLOTS;
    return &pairs[slot];
}

/* The symbols of the merge table by spelling, needed only while the table is read. */
struct symbol {
    const char *text;
    uint32_t length, id;
};

static struct symbol *find_symbol(struct symbol *symbols, const char *text, size_t length)
{
    uint32_t hash = UINT32_C(0x811C9DC5); /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * UINT32_C(0x01000193);
    uint32_t slot = (hash ^ hash >> 15) % SLOTS;
    while (symbols[slot].text &&
           (symbols[slot].length != length || memcmp(symbols[slot].text, text, length) != 0))
        slot = (slot + 1) % SLOTS;
    return &symbols[slot];
}

static void add_symbol(struct symbol *symbols, const char *text, size_t length, uint32_t id)
{
    struct symbol *s = find_symbol(symbols, text, length);
    CHECK(!s->text);
    *s = (struct symbol){text, (uint32_t)length, id};
}

#define END_OF_WORD "</w>"

static void add_bytes(struct clip_bpe *b, struct symbol *symbols, char (*spelling)[8])
{
    uint32_t character_of_byte[BYTES];
    number_bytes(b->id_of_byte, character_of_byte);
    for (int i = 0; i < BYTES; i++) {
        char *end = utf8_put(spelling[i], character_of_byte[i]);
        size_t length = (size_t)(end - spelling[i]);
        memcpy(end, END_OF_WORD, strlen(END_OF_WORD));
        add_symbol(symbols, spelling[i], length, b->id_of_byte[i]);
        add_symbol(symbols, spelling[i], length + strlen(END_OF_WORD),
                   (uint32_t)b->id_of_byte[i] + BYTES);
    }
}

/* Reads the first `count` merges of the table. The space in each line is removed in place, so that
 * later lines find the merged symbol. */
static void add_merges(struct clip_bpe *b, struct symbol *symbols, char *table, char *end,
                       uint32_t count)
{
    char *line = table;
    for (uint32_t i = 0; i < count; i++) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        CHECK(newline);
        char *blank = memchr(line, ' ', (size_t)(newline - line));
        CHECK(blank);
        size_t left_length = (size_t)(blank - line), right_length = (size_t)(newline - blank - 1);
        const struct symbol *left = find_symbol(symbols, line, left_length);
        const struct symbol *right = find_symbol(symbols, blank + 1, right_length);
        CHECK(left->text && right->text);
        struct pair *p = (struct pair *)find_pair(b->pairs, left->id, right->id);
        CHECK(!p->merged);
        *p = (struct pair){left->id << 16 | right->id, FIRST_MERGE + i};
        memmove(blank, blank + 1, right_length);
        add_symbol(symbols, line, left_length + right_length, FIRST_MERGE + i);
        line = newline + 1;
    }
}

int clip_bpe_new(struct clip_bpe **out, int64_t vocabulary, struct error *e)
{
    if (vocabulary < FIRST_MERGE + 2 || vocabulary > CLIP_BPE_VOCABULARY_MAX)
        return error_set(e, "vocabulary of %" PRId64 " tokens is not in %d to %d", vocabulary,
                         FIRST_MERGE + 2, CLIP_BPE_VOCABULARY_MAX);
    size_t packed = (size_t)(embedded_clip_bpe_merges_end - embedded_clip_bpe_merges);
    unsigned long long size = ZSTD_getFrameContentSize(embedded_clip_bpe_merges, packed);
    CHECK(size < 1 << 24);
    char *table = xmalloc(size);
    CHECK(ZSTD_decompress(table, size, embedded_clip_bpe_merges, packed) == size);

    struct clip_bpe *b = xcalloc(1, sizeof *b);
    struct symbol *symbols = xcalloc(SLOTS, sizeof *symbols);
    char(*spelling)[8] = xmalloc(BYTES * sizeof *spelling);
    b->vocabulary = (int32_t)vocabulary;
    add_bytes(b, symbols, spelling);
    add_merges(b, symbols, table, table + size, (uint32_t)vocabulary - FIRST_MERGE - 2);
    free(spelling);
    free(symbols);
    free(table);
    *out = b;
    return 0;
}

void clip_bpe_free(struct clip_bpe *b)
{
    free(b);
}

int32_t clip_bpe_start(const struct clip_bpe *b)
{
    return b->vocabulary - 2;
}

int32_t clip_bpe_end(const struct clip_bpe *b)
{
    return b->vocabulary - 1;
}

struct tokens {
    int32_t *ids;
    size_t count, capacity;
};

static void push_token(struct tokens *t, int32_t id)
{
    if (t->count == t->capacity) {
        t->capacity = t->capacity ? 2 * t->capacity : 128;
        t->ids = xrealloc(t->ids, t->capacity * sizeof *t->ids);
    }
    t->ids[t->count++] = id;
}

/* A word being merged: a linked list of symbols, and a heap of pairs by rank, then position. */
struct word {
    uint32_t *symbol, *next, *previous; /* next of the last symbol is length */
    uint64_t *heap;
    size_t length, heap_count;
};
#define MERGED_AWAY UINT32_MAX

static void heap_push(struct word *w, uint64_t value)
{
    size_t i = w->heap_count++;
    for (; i > 0 && w->heap[(i - 1) / 2] > value; i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = value;
}

static uint64_t heap_pop(struct word *w)
{
    uint64_t top = w->heap[0], last = w->heap[--w->heap_count];
    size_t i = 0, child;
    for (; (child = 2 * i + 1) < w->heap_count; i = child) {
        if (child + 1 < w->heap_count && w->heap[child + 1] < w->heap[child])
            child++;
        if (w->heap[child] >= last)
            break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return top;
}

/* The id that the symbol at i and its successor merge to, or 0. */
static uint32_t merge_at(const struct clip_bpe *b, const struct word *w, size_t i)
{
    if (w->symbol[i] == MERGED_AWAY || w->next[i] == w->length)
        return 0;
    return find_pair(b->pairs, w->symbol[i], w->symbol[w->next[i]])->merged;
}

static void offer_pair(const struct clip_bpe *b, struct word *w, size_t i)
{
    uint32_t merged = merge_at(b, w, i);
    if (merged)
        heap_push(w, (uint64_t)merged << 32 | i);
}

/* Repeatedly merges the leftmost pair of lowest rank until none is left. Skips heap entries whose
 * pair has changed meanwhile. */
static void merge_word(const struct clip_bpe *b, struct word *w)
{
    for (size_t i = 0; i < w->length; i++)
        offer_pair(b, w, i);
    while (w->heap_count) {
        uint64_t top = heap_pop(w);
        uint32_t i = (uint32_t)top, merged = (uint32_t)(top >> 32);
        if (merge_at(b, w, i) != merged)
            continue;
        uint32_t gone = w->next[i];
        w->symbol[i] = merged;
        w->symbol[gone] = MERGED_AWAY;
        w->next[i] = w->next[gone];
        if (w->next[i] < w->length)
            w->previous[w->next[i]] = i;
        offer_pair(b, w, i);
        if (i > 0)
            offer_pair(b, w, w->previous[i]);
    }
}

static void encode_word(const struct clip_bpe *b, struct tokens *t, const uint32_t *text,
                        size_t count)
{
    size_t n;
    char *bytes = codepoints_encode(text, count, &n);
    uint32_t *lists = xmalloc(3 * n * sizeof *lists);
    struct word w = {.symbol = lists, .next = lists + n, .previous = lists + 2 * n, .length = n};
    w.heap = xmalloc(3 * n * sizeof *w.heap); /* one per pair, two per merge */
    CHECK(n > 0 && n < MERGED_AWAY);
    for (size_t i = 0; i < n; i++) {
        w.symbol[i] = b->id_of_byte[(unsigned char)bytes[i]] + (i + 1 == n ? BYTES : 0u);
        w.next[i] = (uint32_t)i + 1;
        w.previous[i] = (uint32_t)i - 1;
    }
    merge_word(b, &w);
    for (size_t i = 0; i < n; i = w.next[i])
        push_token(t, (int32_t)w.symbol[i]);
    free(w.heap);
    free(lists);
    free(bytes);
}

static bool is_letter(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

static bool is_number(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

static bool starts_with(const uint32_t *text, size_t count, const char *what)
{
    size_t i = 0;
    while (what[i] && i < count && text[i] == (unsigned char)what[i])
        i++;
    return !what[i];
}

/* The original's pattern ignores case, so U+017F, the long s, matches s: both have the upper case
 * S. */
static size_t contraction(const uint32_t *text, size_t count)
{
    static const char *const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (starts_with(text, count, endings[i]))
            return strlen(endings[i]);
    return count > 1 && text[0] == '\'' && text[1] == 0x17F ? 2 : 0;
}

/* White space, and by accident U+0345: a combining mark whose upper case, iota, is a letter, so
 * that none of the original's character classes matches it. */
static bool is_between_words(uint32_t c)
{
    return codepoint_is_space(c) || c == 0x345;
}

/* The length of the word that starts at text[0]. */
static size_t word_length(const uint32_t *text, size_t count)
{
    size_t n = contraction(text, count);
    if (n || is_number(text[0]))
        return n ? n : 1;
    if (is_letter(text[0])) {
        for (n = 1; n < count && is_letter(text[n]); n++)
            ;
        return n;
    }
    for (n = 1;
         n < count && !is_between_words(text[n]) && !is_letter(text[n]) && !is_number(text[n]); n++)
        ;
    return n;
}

size_t clip_bpe_encode(const struct clip_bpe *b, const char *text, size_t size, int32_t **ids)
{
    static const char start[] = "<|startoftext|>", end[] = "<|endoftext|>";
    struct tokens t = {0};
    struct codepoints clean = {0};
    text_clean(&clean, text, size);
    for (size_t i = 0, used; i < clean.count; i += used) {
        const uint32_t *rest = clean.at + i;
        size_t count = clean.count - i;
        if (is_between_words(*rest)) {
            used = 1;
        } else if (starts_with(rest, count, start)) {
            push_token(&t, clip_bpe_start(b));
            used = strlen(start);
        } else if (starts_with(rest, count, end)) {
            push_token(&t, clip_bpe_end(b));
            used = strlen(end);
        } else {
            used = word_length(rest, count);
            encode_word(b, &t, rest, used);
        }
    }
    codepoints_release(&clean);
    *ids = t.ids ? t.ids : xmalloc(sizeof **ids);
    return t.count;
}

size_t clip_bpe_encode_row(const struct clip_bpe *b, const char *text, int32_t *row, size_t n)
{
    int32_t *ids;
    CHECK(n >= 2);
    size_t count = clip_bpe_encode(b, text, strlen(text), &ids);
    size_t kept = count < n - 2 ? count : n - 2;
    row[0] = clip_bpe_start(b);
    memcpy(row + 1, ids, kept * sizeof *row);
    row[kept + 1] = clip_bpe_end(b);
    memset(row + kept + 2, 0, (n - kept - 2) * sizeof *row);
    free(ids);
    return count - kept;
}
