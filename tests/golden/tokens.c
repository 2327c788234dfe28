#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/text/clip_bpe.h"
#include "tests/support/tap.h"

static bool same(const cJSON *expected, const int32_t *ours, size_t n)
{
    if (!cJSON_IsArray(expected) || (size_t)cJSON_GetArraySize(expected) != n)
        return false;
    size_t i = 0;
    for (const cJSON *x = expected->child; x; x = x->next, i++)
        if (!cJSON_IsNumber(x) || x->valuedouble != ours[i])
            return false;
    return true;
}

static void check(const struct clip_bpe *b, const cJSON *item, int index)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(item, "text"));
    const cJSON *expected = cJSON_GetObjectItem(item, "ids");
    const cJSON *expected_row = cJSON_GetObjectItem(item, "row77");
    if (!text || !expected || !expected_row) {
        tap_ok(false, "tokens.json: %d: has text, ids and row77", index);
        return;
    }
    int32_t *ids, row[77];
    size_t n = clip_bpe_encode(b, text, strlen(text), &ids);
    tap_ok(same(expected, ids, n), "tokens.json: %d: %zu ids", index, n);
    size_t cut = clip_bpe_encode_row(b, text, row, 77);
    tap_ok(same(expected_row, row, 77) && cut == (n > 75 ? n - 75 : 0),
           "tokens.json: %d: row of 77, %zu cut off", index, cut);
    free(ids);
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    char *path = path_join(argc > 1 ? argv[1] : "tests/golden/data", "tokens.json");
    struct clip_bpe *b;
    struct error e;
    uint8_t *data;
    size_t size;
    if (!file_exists(path)) {
        tap_skip("not in this folder", "tokens.json");
    } else if (clip_bpe_new(&b, CLIP_BPE_VOCABULARY_MAX, &e) ||
               file_read(&data, &size, path, 1 << 28, &e)) {
        tap_ok(false, "tokens.json: %s", e.text);
    } else {
        cJSON *all = cJSON_ParseWithLength((const char *)data, size);
        tap_ok(cJSON_IsArray(all) && all->child, "tokens.json is a list");
        int index = 0;
        for (const cJSON *item = all ? all->child : NULL; item; item = item->next)
            check(b, item, index++);
        cJSON_Delete(all);
        free(data);
        clip_bpe_free(b);
    }
    free(path);
    return tap_done();
}
