#ifndef CCLD_TESTS_PICKLES_H
#define CCLD_TESTS_PICKLES_H

#include <stddef.h>

/* {'params': ({'m': {'w': numpy float32 [[1, 2, 3], [4, 5, -6.5]]}},)} pickled by numpy 2 under
 * Python 3 in each protocol; the last one is the same array pickled by numpy 1 under Python 2.7. */
#define PICKLES 7
struct pickled {
    int protocol; /* negative: written by Python 2 */
    const char *bytes;
    size_t size;
};
extern const struct pickled pickles[PICKLES];

#endif
