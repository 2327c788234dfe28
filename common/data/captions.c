#include "common/data/captions.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/files.h"
#include "common/base/message.h"

#define CAPTION_LIMIT 65536

char *caption_trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1]))
        *--end = 0;
    return *text ? text : NULL;
}

char *caption_of_text(char *text)
{
    bool marked = strncmp(text, "\xef\xbb\xbf", 3) == 0; /* byte order mark */
    char *trimmed = caption_trim(text + (marked ? 3 : 0));
    return trimmed ? xstrdup(trimmed) : NULL;
}

/* Fails if the file cannot be read (as file_read) or is empty. */
static int read_caption(char **caption, const char *path, struct error *e)
{
    uint8_t *text;
    size_t size;
    int status = file_read(&text, &size, path, CAPTION_LIMIT, e);
    if (status != 0) {
        error_prefix(e, "cannot read '%s'", path);
        return status;
    }
    *caption = caption_of_text((char *)text);
    if (!*caption)
        status = error_set(e, "'%s' is empty", path);
    free(text);
    return status;
}

int caption_beside(char **caption, char **file, const char *path, struct error *e)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    int stem = dot && (!slash || dot > slash) ? (int)(dot - path) : (int)strlen(path);
    char *longer = xasprintf("%s.txt", path), *shorter = xasprintf("%.*s.txt", stem, path);
    int status = -1;
    *file = file_exists(longer) ? xstrdup(longer) : file_exists(shorter) ? xstrdup(shorter) : NULL;
    if (*file)
        status = read_caption(caption, *file, e);
    else if (path[stem])
        error_set(e, "neither '%s' nor '%s' exists", longer, shorter);
    else
        error_set(e, "'%s' does not exist", longer);
    free(longer);
    free(shorter);
    return status;
}

static size_t key_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    return (size_t)(name - path) + strcspn(name, ".");
}

static const char *extension(const char *path)
{
    return path + key_length(path);
}

bool caption_group_has(const struct caption_group *g, const char *path)
{
    size_t length = key_length(path);
    return g->key && strlen(g->key) == length && memcmp(g->key, path, length) == 0;
}

void caption_group_begin(struct caption_group *g, const char *path)
{
    free(g->key);
    free(g->text);
    free(g->class);
    free(g->json);
    *g = (struct caption_group){0};
    if (path)
        g->key = xasprintf("%.*s", (int)key_length(path), path);
}

bool caption_member(const char *path)
{
    const char *e = extension(path);
    return !strcasecmp(e, ".txt") || !strcasecmp(e, ".json") || !strcasecmp(e, ".cls");
}

static char *json_string_of(const uint8_t *data, size_t size, const char *key)
{
    cJSON *root = cJSON_ParseWithLength((const char *)data, size);
    const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, key));
    char *copy = value ? xstrdup(value) : NULL;
    char *caption = copy ? caption_of_text(copy) : NULL;
    free(copy);
    cJSON_Delete(root);
    return caption;
}

void caption_group_add(struct caption_group *g, const char *path, uint8_t *data, size_t size,
                       const char *json_key)
{
    const char *e = extension(path);
    char **field = !strcasecmp(e, ".txt")   ? &g->text
                   : !strcasecmp(e, ".cls") ? &g->class
                                            : &g->json;
    free(*field);
    if (field == &g->json)
        *field = json_string_of(data, size, json_key ? json_key : "caption");
    else
        *field = caption_of_text((char *)data);
}

const char *caption_group_caption(const struct caption_group *g, const char *json_key)
{
    if (json_key)
        return g->json;
    return g->text ? g->text : g->json ? g->json : g->class;
}
