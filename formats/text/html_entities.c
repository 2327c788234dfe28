#include "formats/text/html_entities.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "common/base/message.h"
#include "formats/text/embedded.h"

#define REPLACEMENT     0xFFFD
#define NAME_MAX_LENGTH 32 /* characters examined after the ampersand, without the semicolon */

struct entity {
    const char *name;
    size_t length;
    uint32_t text[2];
    size_t count;
};
static struct entity entities[2304];
static size_t entity_count;
static pthread_once_t entities_once = PTHREAD_ONCE_INIT;

static void index_entities(void)
{
    const char *s = (const char *)embedded_html_entities;
    const char *end = (const char *)embedded_html_entities_end;
    while (s < end) {
        CHECK(entity_count < sizeof entities / sizeof *entities);
        struct entity *e = &entities[entity_count++];
        const char *blank = memchr(s, ' ', (size_t)(end - s));
        e->name = s;
        e->length = (size_t)(blank - s);
        for (s = blank; *s == ' ' && e->count < 2;) {
            char *after;
            e->text[e->count++] = (uint32_t)strtoul(s, &after, 16);
            s = after;
        }
        CHECK(*s == '\n');
        s++;
    }
}

struct name {
    char text[NAME_MAX_LENGTH + 1];
    size_t length;
};

static int compare_entity(const void *key, const void *element)
{
    const struct name *n = key;
    const struct entity *e = element;
    int order = memcmp(n->text, e->name, n->length < e->length ? n->length : e->length);
    return order ? order : (n->length > e->length) - (n->length < e->length);
}

static const struct entity *find_entity(const struct name *n)
{
    return bsearch(n, entities, entity_count, sizeof *entities, compare_entity);
}

/* The longest name that is a prefix of n and has at least two characters. */
static const struct entity *find_longest(struct name n)
{
    const struct entity *e = NULL;
    for (; n.length > 1 && !(e = find_entity(&n)); n.length--)
        ;
    return e;
}

static bool is_digit(uint32_t c, int base)
{
    return (c >= '0' && c <= '9') ||
           (base == 16 && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')));
}

/* Windows-1252 at 0x80 .. 0x9F; 0: undefined. */
static const uint16_t windows_1252[32] = {
    0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
    0x2039, 0x0152, 0,      0x017D, 0,      0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
    0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178};

uint32_t codepoint_from_windows_1252(uint32_t c)
{
    return c >= 0x80 && c <= 0x9F && windows_1252[c - 0x80] ? windows_1252[c - 0x80] : c;
}

static void push_number(struct codepoints *out, uint32_t c)
{
    bool control = c < 0x20 && c != '\t' && c != '\n' && c != '\f' && c != '\r';
    if (c == 0 || (c >= 0xD800 && c <= 0xDFFF) || c > 0x10FFFF)
        codepoints_push(out, REPLACEMENT);
    else if (c >= 0x80 && c <= 0x9F)
        codepoints_push(out, codepoint_from_windows_1252(c));
    else if (!control && c != 0x7F && !(c >= 0xFDD0 && c <= 0xFDEF) && (c & 0xFFFE) != 0xFFFE)
        codepoints_push(out, c);
}

/* Reads `#123` or `#x1F` at s, which follows the ampersand. Returns its length without a semicolon,
 * 0 if there are no digits. */
static size_t read_number(uint32_t *value, const uint32_t *s, size_t count)
{
    int base = count > 1 && (s[1] == 'x' || s[1] == 'X') ? 16 : 10;
    size_t i = base == 16 ? 2 : 1, first = i;
    for (*value = 0; i < count && is_digit(s[i], base); i++) {
        uint32_t digit = s[i] <= '9' ? s[i] - '0' : (s[i] | 0x20) - 'a' + 10;
        *value = *value > 0x10FFFF ? *value : *value * (uint32_t)base + digit;
    }
    return i > first ? i : 0;
}

/* A name as html.unescape reads it: up to 32 possible characters, and an optional semicolon. */
static struct name read_name(const uint32_t *s, size_t count)
{
    struct name n = {.length = 0};
    size_t i = 0;
    for (; i < count && i < NAME_MAX_LENGTH; i++) {
        if (s[i] == '\t' || s[i] == '\n' || s[i] == '\f' || s[i] == ' ' || s[i] == '<' ||
            s[i] == '&' || s[i] == '#' || s[i] == ';')
            break;
        n.text[n.length++] = s[i] < 0x80 ? (char)s[i] : '\x7F';
    }
    if (n.length && i < count && s[i] == ';')
        n.text[n.length++] = ';';
    return n;
}

/* Reads the text after an ampersand; returns the length of what was replaced. */
static size_t unescape_one(struct codepoints *out, const uint32_t *s, size_t count)
{
    uint32_t value;
    if (count && s[0] == '#') {
        size_t length = read_number(&value, s, count);
        if (length == 0) {
            codepoints_push(out, '&');
            return 0;
        }
        push_number(out, value);
        return length + (length < count && s[length] == ';');
    }
    const struct entity *e = find_longest(read_name(s, count));
    if (!e) {
        codepoints_push(out, '&');
        return 0;
    }
    codepoints_append(out, e->text, e->count);
    return e->length;
}

void html_unescape(struct codepoints *out, const uint32_t *text, size_t count)
{
    pthread_once(&entities_once, index_entities);
    for (size_t i = 0; i < count;)
        if (text[i++] != '&')
            codepoints_push(out, text[i - 1]);
        else
            i += unescape_one(out, text + i, count - i);
}

/* Python's str.upper. */
static void push_upper(struct codepoints *out, uint32_t c)
{
    static const struct {
        uint32_t from, to[3];
    } longer[] = {
        {0xDF, {'S', 'S'}},        {0x149, {0x2BC, 'N'}}, {0xFB00, {'F', 'F'}},
        {0xFB01, {'F', 'I'}},      {0xFB02, {'F', 'L'}},  {0xFB03, {'F', 'F', 'I'}},
        {0xFB04, {'F', 'F', 'L'}},
    };
    for (size_t i = 0; i < sizeof longer / sizeof *longer; i++)
        if (c == longer[i].from) {
            codepoints_append(out, longer[i].to, longer[i].to[2] ? 3 : 2);
            return;
        }
    codepoints_push(out, (uint32_t)utf8proc_toupper((utf8proc_int32_t)c));
}

/* Handles a name in capitals of which HTML defines no prefix, but the lower-case form. */
static bool push_capital(struct codepoints *out, struct name n)
{
    if (find_longest(n))
        return false;
    for (size_t i = 0; i < n.length; i++) {
        if (n.text[i] >= 'a' && n.text[i] <= 'z')
            return false;
        if (n.text[i] >= 'A' && n.text[i] <= 'Z')
            n.text[i] |= 0x20;
    }
    const struct entity *e = find_entity(&n);
    for (size_t i = 0; e && i < e->count; i++)
        push_upper(out, e->text[i]);
    return e;
}

static size_t unescape_one_strict(struct codepoints *out, const uint32_t *s, size_t count)
{
    const size_t longest = 24, number = count && s[0] == '#';
    size_t length = number;
    while (length < count && length < longest + number && s[length] < 0x80 &&
           (is_digit(s[length], 10) || ((s[length] | 0x20) >= 'a' && (s[length] | 0x20) <= 'z')))
        length++;
    if (length == number || length == count || s[length] != ';')
        return 0;
    if (number) {
        uint32_t value;
        /* ftfy keeps a reference whose result contains a semicolon. */
        if (read_number(&value, s, count) != length || value == ';')
            return 0;
        push_number(out, value);
        return length + 1;
    }
    struct name n = read_name(s, count);
    const struct entity *e = find_entity(&n);
    if (e)
        codepoints_append(out, e->text, e->count);
    else if (!push_capital(out, n))
        return 0;
    return length + 1;
}

void html_unescape_strict(struct codepoints *out, const uint32_t *text, size_t count)
{
    pthread_once(&entities_once, index_entities);
    for (size_t i = 0; i < count; i++) {
        size_t used = text[i] == '&' ? unescape_one_strict(out, text + i + 1, count - i - 1) : 0;
        if (used)
            i += used;
        else
            codepoints_push(out, text[i]);
    }
}
