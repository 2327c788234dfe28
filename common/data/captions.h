#ifndef CCLD_DATA_CAPTIONS_H
#define CCLD_DATA_CAPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* Captions of images. Strings are UTF-8 and malloc'ed; white space at both ends is removed. */

/* Strips white space at both ends, changing text. NULL: nothing is left. */
char *caption_trim(char *text);
/* What a file says: without a byte order mark. NULL: nothing. Changes text. */
char *caption_of_text(char *text);
/* The content of PATH.txt or, if there is no such file, of the file named like path but with the
 * extension .txt. *file: which of them there is, malloc'ed also after a failure; NULL: none. Fails
 * with -1 or READ_SYSTEM_FAILED (common/base/files.h). */
int caption_beside(char **caption, char **file, const char *path, struct error *e);

/* The members of an archive with one key, by the convention of WebDataset: they stand together, and
 * the key is the path up to the first dot of the last component. What follows it is the extension:
 * an image's, or .txt, .json or .cls. */
struct caption_group {
    char *key;
    char *text, *class; /* of KEY.txt and KEY.cls; NULL: none */
    char *json;         /* the value of the key wanted, of KEY.json */
};

/* Whether the member with this path has the group's key. */
bool caption_group_has(const struct caption_group *g, const char *path);
/* Empties the group and gives it the key of path; a zeroed group is fine. path NULL: no key. */
void caption_group_begin(struct caption_group *g, const char *path);
/* Whether a member is one that may have a caption. */
bool caption_member(const char *path);
/* Takes over what it says, data[size] being followed by a zero byte. json_key: see
 * caption_group_caption. */
void caption_group_add(struct caption_group *g, const char *path, uint8_t *data, size_t size,
                       const char *json_key);
/* The caption of the group's images, borrowed: with json_key, the string of that key in the .json
 * file; else the .txt file, else "caption" in the .json file, else the .cls file. NULL: none. */
const char *caption_group_caption(const struct caption_group *g, const char *json_key);

#endif
