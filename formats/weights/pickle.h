#ifndef CCLD_FORMATS_WEIGHTS_PICKLE_H
#define CCLD_FORMATS_WEIGHTS_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "formats/weights/arena.h"

/* Reads Python pickles, protocols 0 to 5, as data (for the opcodes, see CPython's pickletools).
 * Nothing is looked up, imported or called: a class or function is a pair of names, and "call this
 * with these arguments" becomes an object that records both. The caller interprets the objects it
 * knows; all others stay opaque.
 *
 * The reader does not recurse, and it limits the number of values, so hostile input costs bounded
 * memory. The result may be cyclic (a list can contain itself): walk it with a limit on depth and
 * steps. */

enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_LONG, /* exceeds 64 bits; string: as in the file, binary or decimal */
    PICKLE_FLOAT,
    PICKLE_TEXT,  /* UTF-8, unchecked */
    PICKLE_BYTES, /* bytes, bytearray, and Python 2's str */
    PICKLE_TUPLE,
    PICKLE_LIST, /* and sets */
    PICKLE_DICT, /* items: key, value, key, value ... */
    PICKLE_GLOBAL,
    PICKLE_OBJECT,
    PICKLE_PERSISTENT, /* the id of a value stored outside the pickle */
};

struct pickle_string {
    const char *bytes; /* not zero-terminated; in the source, or unescaped in the arena */
    size_t size;
};

struct pickle_value {
    enum pickle_kind kind;
    uint32_t searched; /* zero; for who walks over values that may be shared and cyclic */
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
            struct pickle_value *callable, *arguments; /* the call that would create it */
            struct pickle_value *state;                /* BUILD's operand; NULL: none */
            struct pickle_value *list, *dict;          /* appended and set items; NULL: none */
        } object;
        struct {
            struct pickle_value *id;
            struct pickle_value *previous; /* the persistent value before this one */
        } persistent;
    };
};

struct pickle {
    struct pickle_value *root;
    struct pickle_value *last_persistent; /* all of them, chained by `previous` */
    size_t size;                          /* bytes read: another pickle may follow */
};

/* Values are allocated in the arena and point into data; both must outlive the result. */
int pickle_read(struct pickle *p, struct arena *arena, const uint8_t *data, size_t size,
                struct error *e);

/* These accept NULL and values of any kind, so that lookups chain. */
bool pickle_is_global(const struct pickle_value *v, const char *module, const char *name);
/* A class or function of this package or of a module in it. */
bool pickle_is_within(const struct pickle_value *v, const char *package);
bool pickle_is_text(const struct pickle_value *v, const char *text); /* TEXT or BYTES */
/* Item i of a tuple or list; NULL if there is none. */
struct pickle_value *pickle_item(const struct pickle_value *v, uint32_t i);

#endif
