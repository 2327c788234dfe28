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

void prompt_parse(struct prompt *p, const char *argument, double default_weight)
{
    const char *colon = strrchr(argument, ':');
    p->text = xstrdup(argument);
    p->weight = default_weight;
    double weight;
    if (colon && parse_decimal(&weight, colon + 1)) {
        p->weight = weight;
        p->text[colon - argument] = 0;
    }
}

void prompt_release(struct prompt *p)
{
    free(p->text);
    p->text = NULL;
}
