#ifndef CCLD_FORMATS_WEIGHTS_PICKLE_H
#define CCLD_FORMATS_WEIGHTS_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "formats/weights/arena.h"

/* Reads Python pickles, protocols 0 to 5, as data (opcodes as described in CPython's pickletools).
 * Nothing is looked up, imported or called: a class or function is a pair of names, and "call this
 * with these arguments" becomes an object that records both. What such objects mean is for the
 * caller to know; what he does not know stays opaque.
 *
 * The reader does not recurse and limits nodes and slots, so hostile input costs bounded memory.
 * The result may be cyclic (a list can contain itself): walk it with a limit on depth and on steps.
 */

enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_LONG, /* too big for 64 bits; string: as the file writes it, in binary or decimal */
    PICKLE_FLOAT,
    PICKLE_TEXT,  /* UTF-8, not checked */
    PICKLE_BYTES, /* bytes, bytearray, and Python 2's str */
    PICKLE_TUPLE,
    PICKLE_LIST, /* sets too */
    PICKLE_DICT, /* items alternate: key, value */
    PICKLE_GLOBAL,
    PICKLE_OBJECT,
    PICKLE_PERSISTENT, /* something kept outside, by its id */
};

struct pickle_string {
    const char *bytes; /* not zero-terminated; in the source, or in the arena when unescaped */
    size_t size;
};

struct pickle_value {
    enum pickle_kind kind;
    union {
        int64_t integer; /* INT, and BOOL as 0 or 1 */
        double number;
        struct pickle_string string;
        struct {
            struct pickle_value **items;
            uint32_t count, capacity;
        } list;
        struct {
            struct pickle_string module, name;
        } global;
        struct {
            struct pickle_value *callable, *arguments; /* what would have made it */
            struct pickle_value *state;                /* of BUILD; NULL: none */
            struct pickle_value *list, *dict;          /* appended and set items; NULL: none */
        } object;
        struct {
            struct pickle_value *id;
            struct pickle_value *previous; /* persistent value before this one */
        } persistent;
    };
};

struct pickle {
    struct pickle_value *root;
    struct pickle_value *last_persistent; /* a chain of all, latest first */
    size_t size;                          /* bytes that it took: another pickle may follow */
};

/* Everything is allocated in the arena or points into data; both must outlive the result. */
int pickle_read(struct pickle *p, struct arena *arena, const uint8_t *data, size_t size,
                struct error *e);

/* NULL and false for values of other kinds, so that lookups chain. */
bool pickle_is_global(const struct pickle_value *v, const char *module, const char *name);
bool pickle_is_text(const struct pickle_value *v, const char *text); /* TEXT or BYTES */
/* The i-th item of a tuple or list; NULL when there is none. */
struct pickle_value *pickle_item(const struct pickle_value *v, uint32_t i);

#endif
