#include "common/base/text.h"

#include <stdlib.h>

#include "common/base/message.h"

char *exact_text(double v)
{
    char *text = xasprintf("%.15g", v);
    if (strtod(text, NULL) == v)
        return text;
    free(text);
    return xasprintf("%.17g", v);
}
