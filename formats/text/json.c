#include "formats/text/json.h"

#include <stdlib.h>

#include "formats/text/utf8.h"

cJSON *json_string(const char *text)
{
    char *valid;
    utf8_repair(&valid, text);
    cJSON *string = cJSON_CreateString(valid);
    free(valid);
    return string;
}
