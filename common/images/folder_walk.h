#ifndef CCLD_IMAGES_FOLDER_WALK_H
#define CCLD_IMAGES_FOLDER_WALK_H

#include "common/base/error.h"

/* The regular files of a folder and of those below it, sorted by name in each folder. Files and
 * folders whose names begin with a dot are left out, and links below the folder are told but not
 * followed, so there are no loops and no file is told twice. */
struct folder_walk;

/* A message, for the number of links and its plural. */
#define FOLDER_LINKS_LEFT_OUT                                                                      \
    "%" PRId64 " link%s in folders or archives left out: find -L DIR -type f lists files "         \
    "instead, tar -h --hard-dereference archives them"

struct folder_walk *folder_walk_new(const char *folder); /* may be a link to a folder */
void folder_walk_free(struct folder_walk *w);            /* NULL is fine */
#define FOLDER_WALK_LINK 2
/* Stores the next path, "FOLDER/..." and borrowed until the next call, and returns 1, or
 * FOLDER_WALK_LINK for a symbolic link; 0 at the end. Returns -1 or READ_SYSTEM_FAILED
 * (common/base/files.h) for a folder that cannot be read, whose path it stores; a further call goes
 * on behind it. */
int folder_walk_next(struct folder_walk *w, const char **path, struct error *e);

#endif
