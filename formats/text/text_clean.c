#include "formats/text/text_clean.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "formats/text/html_entities.h"

bool codepoint_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

/* Appends text as mapped by utf8proc with these options, or unchanged if that fails. */
static void map_with_utf8proc(struct codepoints *out, const uint32_t *text, size_t count,
                              utf8proc_option_t options)
{
    size_t size;
    utf8proc_uint8_t *mapped = NULL;
    char *utf8 = codepoints_encode(text, count, &size);
    utf8proc_ssize_t mapped_size =
        utf8proc_map((const utf8proc_uint8_t *)utf8, (utf8proc_ssize_t)size, &mapped, options);
    if (mapped_size < 0)
        codepoints_append(out, text, count);
    else
        codepoints_decode(out, (const char *)mapped, (size_t)mapped_size);
    free(mapped);
    free(utf8);
}

/* NFC changes nothing below U+0300. */
static void append_nfc(struct codepoints *out, const uint32_t *text, size_t count)
{
    size_t plain = 0;
    while (plain < count && text[plain] < 0x300)
        plain++;
    if (plain == count)
        codepoints_append(out, text, count);
    else
        map_with_utf8proc(out, text, count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
}

/* The letters of a character that stands for two or three: typographic ligatures, and digraphs from
 * old encodings. */
static const uint16_t *ligature(uint32_t c)
{
    static const uint16_t table[][4] = {
        {0x0132, 'I', 'J'},   {0x0133, 'i', 'j'}, {0x0149, 0x02BC, 'n'},   {0x01F1, 'D', 'Z'},
        {0x01F2, 'D', 'z'},   {0x01F3, 'd', 'z'}, {0x01C4, 'D', 0x17D},    {0x01C5, 'D', 0x17E},
        {0x01C6, 'd', 0x17E}, {0x01C7, 'L', 'J'}, {0x01C8, 'L', 'j'},      {0x01C9, 'l', 'j'},
        {0x01CA, 'N', 'J'},   {0x01CB, 'N', 'j'}, {0x01CC, 'n', 'j'},      {0xFB00, 'f', 'f'},
        {0xFB01, 'f', 'i'},   {0xFB02, 'f', 'l'}, {0xFB03, 'f', 'f', 'i'}, {0xFB04, 'f', 'f', 'l'},
        {0xFB05, 0x17F, 't'}, {0xFB06, 's', 't'},
    };
    for (size_t i = 0; c >= 0x132 && i < sizeof table / sizeof *table; i++)
        if (table[i][0] == c)
            return table[i] + 1;
    return NULL;
}

static bool is_unwanted_control(uint32_t c)
{
    return c < 0x09 || c == 0x0B || (c >= 0x0E && c < 0x20) || c == 0x7F ||
           (c >= 0x206A && c <= 0x206F) || c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFC);
}

/* Fixes a single character: C1 controls, ligatures, widths, quotes, line breaks. */
static void push_fixed(struct codepoints *out, uint32_t c)
{
    c = codepoint_from_windows_1252(c);
    const uint16_t *letters = ligature(c);
    if (letters)
        for (int i = 0; i < 3 && letters[i]; i++)
            push_fixed(out, letters[i]);
    else if (c >= 0xFF01 && c <= 0xFFEF)
        map_with_utf8proc(out, &c, 1, UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_COMPOSE);
    else if (c == 0x3000)
        codepoints_push(out, ' ');
    else if (c == 0x02BC || (c >= 0x2018 && c <= 0x201B))
        codepoints_push(out, '\'');
    else if (c >= 0x201C && c <= 0x201F)
        codepoints_push(out, '"');
    else if (c == '\r' || c == 0x2028 || c == 0x2029 || c == 0x85)
        codepoints_push(out, '\n');
    else
        codepoints_push(out, c);
}

/* The length of `ESC [ digits and semicolons letter` at s, or 0. */
static size_t terminal_escape(const uint32_t *s, size_t count)
{
    size_t i = 2;
    if (count < 3 || s[0] != 0x1B || s[1] != '[')
        return 0;
    while (i < count &&
           (s[i] == ';' || utf8proc_category((utf8proc_int32_t)s[i]) == UTF8PROC_CATEGORY_ND))
        i++;
    return i < count && s[i] < 0x80 && (s[i] | 0x20) >= 'a' && (s[i] | 0x20) <= 'z' ? i + 1 : 0;
}

/* Compacts in place. */
static void remove_controls(struct codepoints *text)
{
    size_t kept = 0;
    for (size_t i = 0; i < text->count; i++) {
        size_t escape = terminal_escape(text->at + i, text->count - i);
        if (escape)
            i += escape - 1;
        else
            text->at[kept++] = text->at[i];
    }
    text->count = kept;
    kept = 0;
    for (size_t i = 0; i < text->count; i++)
        if (!is_unwanted_control(text->at[i]))
            text->at[kept++] = text->at[i];
    text->count = kept;
}

static void fix_once(struct codepoints *out, const struct codepoints *line, bool unescape)
{
    struct codepoints raw = {0}, fixed = {0};
    if (unescape)
        html_unescape_strict(&raw, line->at, line->count);
    else
        codepoints_append(&raw, line->at, line->count);
    for (size_t i = 0; i < raw.count; i++) {
        bool pair = raw.at[i] == '\r' && i + 1 < raw.count && raw.at[i + 1] == '\n';
        if (!pair)
            push_fixed(&fixed, raw.at[i]);
    }
    remove_controls(&fixed);
    append_nfc(out, fixed.at, fixed.count);
    codepoints_release(&raw);
    codepoints_release(&fixed);
}

static void fix_line(struct codepoints *out, const uint32_t *text, size_t count, bool unescape)
{
    struct codepoints line = {0};
    codepoints_append(&line, text, count);
    for (bool changed = true; changed;) {
        struct codepoints fixed = {0};
        fix_once(&fixed, &line, unescape);
        changed = fixed.count != line.count ||
                  (fixed.count && memcmp(fixed.at, line.at, fixed.count * sizeof *fixed.at) != 0);
        codepoints_release(&line);
        line = fixed;
    }
    codepoints_append(out, line.at, line.count);
    codepoints_release(&line);
}

static void fix_text(struct codepoints *out, const uint32_t *text, size_t count)
{
    bool unescape = true;
    for (size_t begin = 0, end; begin < count; begin = end) {
        for (end = begin; end < count && text[end] != '\n'; end++)
            unescape = unescape && text[end] != '<';
        end += end < count;
        fix_line(out, text + begin, end - begin, unescape);
    }
}

static void collapse_spaces(struct codepoints *out, const uint32_t *text, size_t count)
{
    size_t begin = out->count;
    bool pending = false;
    for (size_t i = 0; i < count; i++) {
        if (codepoint_is_space(text[i])) {
            pending = true;
            continue;
        }
        if (pending && out->count > begin)
            codepoints_push(out, ' ');
        pending = false;
        codepoints_push(out, text[i]);
    }
}

static utf8proc_category_t category(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t)c);
}

static bool is_cased(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT ||
           c == 0xAA || c == 0xBA || (c >= 0x2B0 && c <= 0x2B8) || (c >= 0x24B6 && c <= 0x24E9) ||
           (c >= 0x2160 && c <= 0x217F);
}

/* Marks and signs inside or after a word that do not end it. */
static bool is_case_ignorable(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK || c == '\'' || c == '.' ||
           c == ':' || c == 0xB7 || c == 0x387 || c == 0x55F || c == 0x5F4 || c == 0x2018 ||
           c == 0x2019 || c == 0x2024 || c == 0x2027;
}

/* Whether a capital sigma ends a word: after a cased letter and not before one (Unicode's
 * Final_Sigma). */
static bool is_final_sigma(const uint32_t *text, size_t count, size_t at)
{
    size_t i = at;
    while (i > 0 && is_case_ignorable(text[i - 1]))
        i--;
    if (i == 0 || !is_cased(text[i - 1]))
        return false;
    for (i = at + 1; i < count && is_case_ignorable(text[i]); i++)
        ;
    return i == count || !is_cased(text[i]);
}

/* Python's str.lower. */
static void codepoints_lower(struct codepoints *out, const uint32_t *text, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (text[i] == 0x130) { /* the only one whose lower case has two characters */
            codepoints_push(out, 'i');
            codepoints_push(out, 0x307);
        } else if (text[i] == 0x3A3) {
            codepoints_push(out, is_final_sigma(text, count, i) ? 0x3C2 : 0x3C3);
        } else {
            codepoints_push(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)text[i]));
        }
    }
}

void text_clean(struct codepoints *out, const char *text, size_t size)
{
    struct codepoints given = {0}, fixed = {0}, once = {0}, twice = {0}, words = {0};
    codepoints_decode(&given, text, size);
    fix_text(&fixed, given.at, given.count);
    html_unescape(&once, fixed.at, fixed.count);
    html_unescape(&twice, once.at, once.count);
    collapse_spaces(&words, twice.at, twice.count);
    codepoints_lower(out, words.at, words.count);
    codepoints_release(&given);
    codepoints_release(&fixed);
    codepoints_release(&once);
    codepoints_release(&twice);
    codepoints_release(&words);
}
