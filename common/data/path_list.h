#ifndef CCLD_DATA_PATH_LIST_H
#define CCLD_DATA_PATH_LIST_H

#include "common/base/error.h"
#include "formats/shards/path_set.h"

/* The paths in a file, one per line (NUL-separated if it has a NUL). A path stands for itself and,
 * if it can be spelled shorter (path_normalize), for that. */
struct path_list {
    const char *file; /* borrowed */
    int64_t count, capacity;
    uint8_t (*keys)[2][PATH_KEY_SIZE]; /* [count]: of each path, as it is and normalized */
    struct path_set set;               /* of all keys */
};
/* Release *l with path_list_release; after a failure, too, is fine. */
int path_list_read(struct path_list *l, const char *file, struct error *e);
void path_list_release(struct path_list *l);
/* How many of the paths have no key in `met`. */
int64_t path_list_unmet(const struct path_list *l, const struct path_set *met);

#endif
