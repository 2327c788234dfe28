#ifndef CCLD_DATA_PATH_LIST_H
#define CCLD_DATA_PATH_LIST_H

#include "common/base/error.h"
#include "formats/shards/path_set.h"

/* Reads the paths in a file, one per line (NUL-separated if it has a NUL), into a set. A path
 * stands for itself and, if it can be spelled shorter (path_normalize), for that. *count:
 * paths in the file. Release *set with path_set_release. */
int path_list_read(struct path_set *set, int64_t *count, const char *file, struct error *e);

#endif
