#ifndef CCLD_FORMATS_WEIGHTS_PICKLE_READER_H
#define CCLD_FORMATS_WEIGHTS_PICKLE_READER_H

#include "formats/weights/pickle.h"

/* The machine that a pickle's opcodes drive: a stack of values with marks, a memo, and the bytes
 * that are left. Private to pickle.c, pickle_stack.c and pickle_literals.c. Functions that return
 * int return 0, or -1 with the error set; those that return a pointer return NULL. Pushing NULL
 * fails, so that calls nest. */
struct pickle_reader {
    struct arena *arena;
    const uint8_t *start, *at, *end;
    struct error *e;
    struct pickle_value **stack;
    size_t depth, stack_capacity;
    size_t *marks;
    size_t mark_count, mark_capacity;
    struct pickle_value **memo;
    size_t memo_capacity, memo_count;
    size_t nodes, slots; /* values, and room for items in them */
    struct pickle_value *last_persistent;
};

/* pickle_stack.c: values, the stack and the memo. */
void pickle_reader_init(struct pickle_reader *r, struct arena *arena, const uint8_t *data,
                        size_t size, struct error *e);
void pickle_reader_release(struct pickle_reader *r);
/* Both set the error and return -1. */
int pickle_bad(struct pickle_reader *r, const char *what);
int pickle_truncated(struct pickle_reader *r);

struct pickle_value *pickle_new(struct pickle_reader *r, enum pickle_kind kind);
struct pickle_value *pickle_sequence(struct pickle_reader *r, enum pickle_kind kind,
                                     struct pickle_value *const *items, size_t count);

int pickle_push(struct pickle_reader *r, struct pickle_value *v);
int pickle_push_int(struct pickle_reader *r, enum pickle_kind kind, int64_t value);
int pickle_push_float(struct pickle_reader *r, double value);
int pickle_push_string(struct pickle_reader *r, enum pickle_kind kind, const void *bytes,
                       size_t size);
int pickle_push_global(struct pickle_reader *r, struct pickle_string module,
                       struct pickle_string name);
int pickle_push_object(struct pickle_reader *r, struct pickle_value *callable,
                       struct pickle_value *arguments);
int pickle_push_persistent(struct pickle_reader *r, struct pickle_value *id);
/* Of the `count` topmost values; of those above the topmost mark, which goes as well. */
int pickle_push_tuple(struct pickle_reader *r, size_t count);
int pickle_push_marked(struct pickle_reader *r, enum pickle_kind kind);

/* Values below the topmost mark cannot be popped. */
struct pickle_value *pickle_pop(struct pickle_reader *r);
struct pickle_value *pickle_top(struct pickle_reader *r);
/* Removes the topmost value or, if there is none above it, the topmost mark. */
int pickle_drop(struct pickle_reader *r);

int pickle_push_mark(struct pickle_reader *r);
/* Removes the topmost mark and the values above it, which stay readable until the next push. */
int pickle_pop_to_mark(struct pickle_reader *r, struct pickle_value ***items, size_t *count);
int pickle_drop_marked(struct pickle_reader *r);

/* Appends the values above the topmost mark, or the `count` topmost ones, to the list or
 * dictionary below them, or to that of the object below them. */
int pickle_add_marked(struct pickle_reader *r, enum pickle_kind kind);
int pickle_add_popped(struct pickle_reader *r, enum pickle_kind kind, size_t count);

/* The topmost value to the memo; a value of the memo to the stack. */
int pickle_memo_put(struct pickle_reader *r, uint64_t index);
int pickle_memo_get(struct pickle_reader *r, uint64_t index);

/* pickle_literals.c: what stands between opcodes. */
const uint8_t *pickle_take(struct pickle_reader *r, uint64_t size);
/* An unsigned little-endian number of 1, 2, 4 or 8 bytes. */
int pickle_take_number(struct pickle_reader *r, int bytes, uint64_t *value);
int pickle_take_line(struct pickle_reader *r, struct pickle_string *line);
int pickle_take_decimal(struct pickle_reader *r, int64_t *value);
/* These push what they read: lines of text, little-endian integers, a big-endian double, and
 * strings and long integers after their size, a number of count_bytes. */
int pickle_read_int_line(struct pickle_reader *r);
int pickle_read_long_line(struct pickle_reader *r);
int pickle_read_float_line(struct pickle_reader *r);
int pickle_read_unicode_line(struct pickle_reader *r);
int pickle_read_string_line(struct pickle_reader *r);
int pickle_read_signed(struct pickle_reader *r);
int pickle_read_unsigned(struct pickle_reader *r, int bytes);
int pickle_read_binary_float(struct pickle_reader *r);
int pickle_read_long(struct pickle_reader *r, int count_bytes);
int pickle_read_counted(struct pickle_reader *r, enum pickle_kind kind, int count_bytes);

#endif
