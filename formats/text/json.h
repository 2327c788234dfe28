#ifndef CCLD_TEXT_JSON_H
#define CCLD_TEXT_JSON_H

#include <cjson/cJSON.h>

/* A JSON string. Bytes of text that are not UTF-8, which paths may contain, are replaced. */
cJSON *json_string(const char *text);

#endif
