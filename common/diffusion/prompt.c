#include "common/diffusion/prompt.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

static const char *skip_digits(const char *s)
{
    while (*s >= '0' && *s <= '9')
        s++;
    return s;
}

static const char *skip_blanks(const char *s)
{
    return s + strspn(s, " \t\n\r\f\v");
}

/* Decimal only: strtod would also take hexadecimal, "nan" and "infinity". */
static bool parse_decimal(double *value, const char *s)
{
    s = skip_blanks(s);
    const char *begin = s;
    s += *s == '+' || *s == '-';
    const char *whole = s;
    s = skip_digits(s);
    size_t digits = (size_t)(s - whole);
    if (*s == '.') {
        const char *fraction = ++s;
        s = skip_digits(s);
        digits += (size_t)(s - fraction);
    }
    if (digits == 0)
        return false;
    if (*s == 'e' || *s == 'E') {
        const char *exponent = s + 1;
        exponent += *exponent == '+' || *exponent == '-';
        s = skip_digits(exponent);
        if (s == exponent)
            return false;
    }
    if (*skip_blanks(s))
        return false;
    *value = strtod(begin, NULL);
    return isfinite(*value);
}

/* Not one that a backslash escapes. */
static char *last_colon(char *text)
{
    char *found = NULL;
    for (char *c = text; *c; c++)
        if (*c == ':' && (c == text || c[-1] != '\\'))
            found = c;
    return found;
}

/* "12:30", "5:45": one or two digits before the colon, two after it, each number below 60. */
static bool is_time(const char *text, const char *colon)
{
    const char *hour = colon;
    while (hour > text && hour[-1] >= '0' && hour[-1] <= '9')
        hour--;
    const char *end = skip_digits(colon + 1);
    return hour < colon && colon - hour <= 2 && (colon - hour == 1 || *hour < '6') &&
           end - colon == 3 && colon[1] < '6' && !*skip_blanks(end);
}

static void split_weight(struct prompt *p)
{
    char *colon = last_colon(p->text);
    double weight;
    if (!colon || !parse_decimal(&weight, colon + 1))
        return;
    const char *number = skip_blanks(colon + 1);
    bool has_sign = *number == '+' || *number == '-';
    bool after_digit = colon > p->text && colon[-1] >= '0' && colon[-1] <= '9';
    if (is_time(p->text, colon)) {
        p->doubt = PROMPT_READ_AS_TEXT;
        return;
    }
    bool knows_escapes = strstr(p->text, "\\:");
    if (!has_sign && !knows_escapes && (after_digit || weight > PROMPT_USUAL_WEIGHT))
        p->doubt = PROMPT_READ_AS_WEIGHT;
    p->weight = weight;
    *colon = 0;
}

static void remove_escapes(char *text)
{
    char *to = text;
    for (const char *from = text; *from; from++)
        if (from[0] != '\\' || from[1] != ':')
            *to++ = *from;
    *to = 0;
}

void prompt_parse(struct prompt *p, const char *argument, double default_weight)
{
    *p = (struct prompt){.text = xstrdup(argument), .weight = default_weight};
    split_weight(p);
    remove_escapes(p->text);
}

void prompt_parse_any(struct prompt *p, const char *argument, double default_weight)
{
    const char *start = skip_blanks(argument);
    bool is_image = start[0] == '@' && start[1] && skip_blanks(start + 1) == start + 1;
    bool is_escaped = start[0] == '\\' && start[1] == '@';
    prompt_parse(p, is_image || is_escaped ? start + 1 : argument, default_weight);
    p->is_image = is_image;
}

void prompt_release(struct prompt *p)
{
    free(p->text);
    p->text = NULL;
}
