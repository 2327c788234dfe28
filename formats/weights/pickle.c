#include "formats/weights/pickle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/text.h"
#include "formats/text/utf8.h"

#define NODES_MAX ((size_t)4 << 20)  /* values; a checkpoint of 2,000 tensors has about 50,000 */
#define SLOTS_MAX ((size_t)16 << 20) /* items in lists, dictionaries and tuples */
#define STACK_MAX ((size_t)4 << 20)
#define MEMO_MAX  ((uint64_t)4 << 20)
#define LINE_MAX  ((size_t)1 << 12) /* bytes of a number terminated by a newline */

struct reader {
    struct arena *arena;
    const uint8_t *start, *at, *end;
    struct error *e;
    struct pickle_value **stack;
    size_t depth, stack_capacity;
    size_t *marks;
    size_t mark_count, mark_capacity;
    struct pickle_value **memo;
    size_t memo_capacity, memo_count;
    size_t nodes, slots;
    struct pickle_value *last_persistent;
};

static int bad(struct reader *r, const char *what)
{
    error_set(r->e, "bad pickle at byte %zu: %s", (size_t)(r->at - r->start), what);
    return -1;
}

static int truncated(struct reader *r)
{
    error_set(r->e, "truncated pickle");
    return -1;
}

/* Grows an array by doubling until index count fits; the caller has checked the limit. */
static void *grown(void *array, size_t *capacity, size_t count, size_t element)
{
    if (count < *capacity)
        return array;
    *capacity = *capacity ? 2 * *capacity : 256;
    while (*capacity <= count)
        *capacity *= 2;
    return xrealloc(array, *capacity * element);
}

static struct pickle_value *node(struct reader *r, enum pickle_kind kind)
{
    if (r->nodes == NODES_MAX) {
        bad(r, "too many values");
        return NULL;
    }
    r->nodes++;
    struct pickle_value *v = arena_allocate(r->arena, sizeof *v);
    *v = (struct pickle_value){.kind = kind};
    return v;
}

static int push(struct reader *r, struct pickle_value *v)
{
    if (!v)
        return -1;
    if (r->depth == STACK_MAX)
        return bad(r, "stack overflow");
    r->stack = grown(r->stack, &r->stack_capacity, r->depth, sizeof *r->stack);
    r->stack[r->depth++] = v;
    return 0;
}

/* Values below the topmost mark cannot be popped. */
static size_t floor_of(const struct reader *r)
{
    return r->mark_count ? r->marks[r->mark_count - 1] : 0;
}

static struct pickle_value *pop(struct reader *r)
{
    if (r->depth <= floor_of(r)) {
        bad(r, "stack underflow");
        return NULL;
    }
    return r->stack[--r->depth];
}

static struct pickle_value *top(struct reader *r)
{
    if (r->depth <= floor_of(r)) {
        bad(r, "stack underflow");
        return NULL;
    }
    return r->stack[r->depth - 1];
}

static int push_mark(struct reader *r)
{
    if (r->mark_count == STACK_MAX)
        return bad(r, "too many marks");
    r->marks = grown(r->marks, &r->mark_capacity, r->mark_count, sizeof *r->marks);
    r->marks[r->mark_count++] = r->depth;
    return 0;
}

/* Removes the topmost mark and the values above it, which stay readable until the next push. */
static int pop_to_mark(struct reader *r, struct pickle_value ***items, size_t *count)
{
    if (r->mark_count == 0)
        return bad(r, "no mark");
    size_t mark = r->marks[--r->mark_count];
    *items = r->stack + mark;
    *count = r->depth - mark;
    r->depth = mark;
    return 0;
}

static int extend(struct reader *r, struct pickle_value *list, struct pickle_value *const *items,
                  size_t count)
{
    size_t have = list->list.count;
    if (count > list->list.capacity - have) {
        size_t capacity = have + count > 2 * have ? have + count : 2 * have;
        if (capacity > SLOTS_MAX - r->slots)
            return bad(r, "too many values");
        r->slots += capacity;
        struct pickle_value **more = arena_allocate(r->arena, capacity * sizeof(void *));
        if (have > 0)
            memcpy(more, list->list.items, have * sizeof(void *));
        list->list.items = more;
        list->list.capacity = (uint32_t)capacity;
    }
    if (count > 0)
        memcpy(list->list.items + have, items, count * sizeof(void *));
    list->list.count += (uint32_t)count;
    return 0;
}

static struct pickle_value *sequence(struct reader *r, enum pickle_kind kind,
                                     struct pickle_value *const *items, size_t count)
{
    struct pickle_value *v = node(r, kind);
    return v && extend(r, v, items, count) == 0 ? v : NULL;
}

static int push_tuple(struct reader *r, size_t count)
{
    if (r->depth - floor_of(r) < count)
        return bad(r, "stack underflow");
    struct pickle_value *v = sequence(r, PICKLE_TUPLE, r->stack + r->depth - count, count);
    if (v)
        r->depth -= count;
    return push(r, v);
}

static int push_marked(struct reader *r, enum pickle_kind kind)
{
    struct pickle_value **items;
    size_t count;
    if (pop_to_mark(r, &items, &count) != 0)
        return -1;
    if (kind == PICKLE_DICT && count % 2 != 0)
        return bad(r, "a key without a value");
    return push(r, sequence(r, kind, items, count));
}

static int push_int(struct reader *r, enum pickle_kind kind, int64_t value)
{
    struct pickle_value *v = node(r, kind);
    if (v)
        v->integer = value;
    return push(r, v);
}

static int push_float(struct reader *r, double value)
{
    struct pickle_value *v = node(r, PICKLE_FLOAT);
    if (v)
        v->number = value;
    return push(r, v);
}

static int push_string(struct reader *r, enum pickle_kind kind, const void *bytes, size_t size)
{
    struct pickle_value *v = node(r, kind);
    if (v)
        v->string = (struct pickle_string){bytes, size};
    return push(r, v);
}

static int push_global(struct reader *r, struct pickle_string module, struct pickle_string name)
{
    struct pickle_value *v = node(r, PICKLE_GLOBAL);
    if (v) {
        v->global.module = module;
        v->global.name = name;
    }
    return push(r, v);
}

static int push_object(struct reader *r, struct pickle_value *callable,
                       struct pickle_value *arguments)
{
    struct pickle_value *v = callable && arguments ? node(r, PICKLE_OBJECT) : NULL;
    if (v) {
        v->object.callable = callable;
        v->object.arguments = arguments;
    }
    return push(r, v);
}

static int push_persistent(struct reader *r, struct pickle_value *id)
{
    struct pickle_value *v = id ? node(r, PICKLE_PERSISTENT) : NULL;
    if (v) {
        v->persistent.id = id;
        v->persistent.previous = r->last_persistent;
        r->last_persistent = v;
    }
    return push(r, v);
}

static const uint8_t *take(struct reader *r, uint64_t size)
{
    if (size > (uint64_t)(r->end - r->at)) {
        truncated(r);
        return NULL;
    }
    const uint8_t *p = r->at;
    r->at += size;
    return p;
}

/* Reads an unsigned little-endian number of 1, 2, 4 or 8 bytes. */
static int take_number(struct reader *r, int bytes, uint64_t *value)
{
    const uint8_t *p = take(r, (uint64_t)bytes);
    if (!p)
        return -1;
    *value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        *value = *value << 8 | p[i];
    return 0;
}

static int push_counted(struct reader *r, enum pickle_kind kind, int count_bytes)
{
    uint64_t size;
    const uint8_t *p;
    if (take_number(r, count_bytes, &size) != 0 || !(p = take(r, size)))
        return -1;
    return push_string(r, kind, p, (size_t)size);
}

static int take_line(struct reader *r, struct pickle_string *line)
{
    const uint8_t *p = r->at, *newline = memchr(p, '\n', (size_t)(r->end - p));
    if (!newline)
        return truncated(r);
    *line = (struct pickle_string){(const char *)p, (size_t)(newline - p)};
    r->at = newline + 1;
    return 0;
}

/* Reads a line as zero-terminated text into the caller's buffer. */
static int take_short_line(struct reader *r, char text[LINE_MAX])
{
    struct pickle_string line;
    if (take_line(r, &line) != 0)
        return -1;
    if (line.size >= LINE_MAX || memchr(line.bytes, 0, line.size))
        return bad(r, "number expected");
    memcpy(text, line.bytes, line.size);
    text[line.size] = 0;
    return 0;
}

static int take_decimal(struct reader *r, int64_t *value)
{
    char text[LINE_MAX], *end;
    if (take_short_line(r, text) != 0)
        return -1;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (*end == 'L')
        end++;
    return errno || end == text || *end ? bad(r, "number expected") : 0;
}

static int read_int_line(struct reader *r)
{
    if (r->end - r->at >= 3 && r->at[0] == '0' && r->at[2] == '\n' &&
        (r->at[1] == '0' || r->at[1] == '1')) { /* False and True in protocol 0 */
        int64_t value = r->at[1] - '0';
        r->at += 3;
        return push_int(r, PICKLE_BOOL, value);
    }
    int64_t value;
    return take_decimal(r, &value) != 0 ? -1 : push_int(r, PICKLE_INT, value);
}

static int read_long_line(struct reader *r)
{
    struct pickle_string line;
    int64_t value;
    const uint8_t *start = r->at;
    if (take_line(r, &line) != 0)
        return -1;
    if (line.size > 19) /* may exceed 64 bits */
        return push_string(r, PICKLE_LONG, line.bytes, line.size);
    r->at = start;
    return take_decimal(r, &value) != 0 ? -1 : push_int(r, PICKLE_INT, value);
}

static int read_float_line(struct reader *r)
{
    char text[LINE_MAX], *end;
    if (take_short_line(r, text) != 0)
        return -1;
    double value = strtod(text, &end);
    return end == text || *end ? bad(r, "number expected") : push_float(r, value);
}

static int read_binary_float(struct reader *r)
{
    const uint8_t *p = take(r, 8);
    if (!p)
        return -1;
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | p[i];
    double value;
    memcpy(&value, &bits, 8);
    return push_float(r, value);
}

static int read_long(struct reader *r, int count_bytes)
{
    uint64_t size, bits;
    const uint8_t *p;
    if (take_number(r, count_bytes, &size) != 0 || !(p = take(r, size)))
        return -1;
    if (size > 8)
        return push_string(r, PICKLE_LONG, p, (size_t)size);
    bits = size > 0 && p[size - 1] & 0x80 ? UINT64_MAX : 0; /* sign */
    for (size_t i = size; i-- > 0;)
        bits = bits << 8 | p[i];
    return push_int(r, PICKLE_INT, (int64_t)bits);
}

/* The value of `digits` hexadecimal digits at p, or -1. */
static int64_t hex_number(const char *p, const char *end, int digits)
{
    int64_t value = 0;
    if (end - p < digits)
        return -1;
    for (int i = 0; i < digits; i++) {
        int d = hex_digit(p[i]);
        if (d < 0)
            return -1;
        value = value << 4 | d;
    }
    return value;
}

/* Protocol 0's 'V': Latin-1 with the escapes \uXXXX and \UXXXXXXXX only. */
static int read_unicode_line(struct reader *r)
{
    struct pickle_string line;
    if (take_line(r, &line) != 0)
        return -1;
    char *text = arena_allocate(r->arena, 2 * line.size + 1), *out = text;
    for (const char *p = line.bytes, *end = p + line.size; p < end;) {
        uint32_t c = (uint8_t)*p++;
        int digits = c != '\\' || p == end ? 0 : *p == 'u' ? 4 : *p == 'U' ? 8 : 0;
        if (digits > 0) {
            int64_t code = hex_number(p + 1, end, digits);
            if (code < 0 || code >= 0x110000)
                return bad(r, "bad escape");
            c = (uint32_t)code;
            p += 1 + digits;
        }
        out = utf8_put(out, c);
    }
    return push_string(r, PICKLE_TEXT, text, (size_t)(out - text));
}

/* Protocol 0's 'S': the repr of a Python 2 str. */
static int read_string_line(struct reader *r)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    struct pickle_string line;
    if (take_line(r, &line) != 0)
        return -1;
    const char *p = line.bytes, *end = p + line.size;
    while (end > p && (end[-1] == '\r' || end[-1] == ' '))
        end--;
    if (end - p < 2 || (*p != '\'' && *p != '"') || end[-1] != *p)
        return bad(r, "quoted string expected");
    p++, end--;
    char *text = arena_allocate(r->arena, line.size), *out = text;
    while (p < end) {
        char c = *p++;
        if (c == '\\' && p < end) {
            const char *known = *p ? strchr(from, *p) : NULL;
            int64_t code;
            if (known) {
                c = to[known - from];
                p++;
            } else if (*p == 'x' && (code = hex_number(p + 1, end, 2)) >= 0) {
                c = (char)code;
                p += 3;
            } else {
                return bad(r, "bad escape");
            }
        }
        *out++ = c;
    }
    return push_string(r, PICKLE_BYTES, text, (size_t)(out - text));
}

static int memo_put(struct reader *r, uint64_t index)
{
    struct pickle_value *v = top(r);
    if (!v)
        return -1;
    if (index >= MEMO_MAX)
        return bad(r, "memo index too large");
    size_t before = r->memo_capacity;
    r->memo = grown(r->memo, &r->memo_capacity, (size_t)index, sizeof *r->memo);
    memset(r->memo + before, 0, (r->memo_capacity - before) * sizeof *r->memo);
    r->memo_count += !r->memo[index];
    r->memo[index] = v;
    return 0;
}

static int memo_get(struct reader *r, uint64_t index)
{
    if (index >= r->memo_capacity || !r->memo[index])
        return bad(r, "unset memo index");
    return push(r, r->memo[index]);
}

static int memo_line(struct reader *r, int (*f)(struct reader *, uint64_t))
{
    int64_t index;
    if (take_decimal(r, &index) != 0)
        return -1;
    return index < 0 ? bad(r, "negative memo index") : f(r, (uint64_t)index);
}

static int memo_binary(struct reader *r, int bytes, int (*f)(struct reader *, uint64_t))
{
    uint64_t index;
    return take_number(r, bytes, &index) != 0 ? -1 : f(r, index);
}

/* The target of APPEND(S) or SETITEM(S): the value itself, or an object's list or dict. */
static struct pickle_value *target(struct reader *r, struct pickle_value *v, enum pickle_kind kind)
{
    if (!v || v->kind == kind)
        return v;
    if (v->kind != PICKLE_OBJECT) {
        bad(r, "items added to a value that has none");
        return NULL;
    }
    struct pickle_value **slot = kind == PICKLE_LIST ? &v->object.list : &v->object.dict;
    if (!*slot)
        *slot = node(r, kind);
    return *slot;
}

static int add_items(struct reader *r, enum pickle_kind kind, struct pickle_value *const *items,
                     size_t count)
{
    if (kind == PICKLE_DICT && count % 2 != 0)
        return bad(r, "a key without a value");
    struct pickle_value *t = target(r, top(r), kind);
    return t ? extend(r, t, items, count) : -1;
}

static int add_marked(struct reader *r, enum pickle_kind kind)
{
    struct pickle_value **items;
    size_t count;
    return pop_to_mark(r, &items, &count) != 0 ? -1 : add_items(r, kind, items, count);
}

static int add_popped(struct reader *r, enum pickle_kind kind, size_t count)
{
    if (r->depth - floor_of(r) < count + 1)
        return bad(r, "stack underflow");
    r->depth -= count;
    return add_items(r, kind, r->stack + r->depth, count);
}

static int build(struct reader *r)
{
    struct pickle_value *state = pop(r), *v = state ? top(r) : NULL;
    if (!v)
        return -1;
    if (v->kind != PICKLE_OBJECT)
        return bad(r, "state set on a value that is not an object");
    v->object.state = state;
    return 0;
}

static int call(struct reader *r, size_t extra)
{
    if (extra && !pop(r)) /* keyword arguments are ignored */
        return -1;
    struct pickle_value *arguments = pop(r), *callable = arguments ? pop(r) : NULL;
    if (callable && arguments->kind != PICKLE_TUPLE)
        return bad(r, "arguments are not a tuple");
    return push_object(r, callable, arguments);
}

/* The class is directly above the mark; its arguments follow. */
static int call_marked(struct reader *r)
{
    struct pickle_value **items;
    size_t count;
    if (pop_to_mark(r, &items, &count) != 0)
        return -1;
    if (count == 0)
        return bad(r, "no class");
    struct pickle_value *callable = items[0];
    return push_object(r, callable, sequence(r, PICKLE_TUPLE, items + 1, count - 1));
}

static int read_global(struct reader *r)
{
    struct pickle_string module, name;
    return take_line(r, &module) != 0 || take_line(r, &name) != 0 ? -1
                                                                  : push_global(r, module, name);
}

static int instantiate(struct reader *r)
{
    struct pickle_value **items, *arguments, *callable;
    struct pickle_string module, name;
    size_t count;
    if (take_line(r, &module) != 0 || take_line(r, &name) != 0 ||
        pop_to_mark(r, &items, &count) != 0)
        return -1;
    arguments = sequence(r, PICKLE_TUPLE, items, count);
    if (!arguments || push_global(r, module, name) != 0 || !(callable = pop(r)))
        return -1;
    return push_object(r, callable, arguments);
}

static int stack_global(struct reader *r)
{
    struct pickle_value *name = pop(r), *module = name ? pop(r) : NULL;
    if (!module)
        return -1;
    if (name->kind != PICKLE_TEXT || module->kind != PICKLE_TEXT)
        return bad(r, "name is not text");
    return push_global(r, module->string, name->string);
}

static int persistent_line(struct reader *r)
{
    struct pickle_string line;
    if (take_line(r, &line) != 0 || push_string(r, PICKLE_TEXT, line.bytes, line.size) != 0)
        return -1;
    return push_persistent(r, pop(r));
}

static int drop(struct reader *r)
{
    if (r->depth > floor_of(r)) {
        r->depth--;
        return 0;
    }
    if (r->mark_count == 0)
        return bad(r, "stack underflow");
    r->mark_count--;
    return 0;
}

static int drop_marked(struct reader *r)
{
    struct pickle_value **items;
    size_t count;
    return pop_to_mark(r, &items, &count);
}

static int signed_int(struct reader *r)
{
    uint64_t n;
    return take_number(r, 4, &n) != 0 ? -1 : push_int(r, PICKLE_INT, (int32_t)(uint32_t)n);
}

static int unsigned_int(struct reader *r, int bytes)
{
    uint64_t n;
    return take_number(r, bytes, &n) != 0 ? -1 : push_int(r, PICKLE_INT, (int64_t)n);
}

static int protocol(struct reader *r)
{
    uint64_t n;
    if (take_number(r, 1, &n) != 0)
        return -1;
    return n > 5 ? error_set(r->e, "unknown pickle protocol %d", (int)n) : 0;
}

/* Executes one opcode; the caller handles STOP. */
static int step(struct reader *r, uint8_t opcode)
{
    switch (opcode) {
    case 0x80: /* PROTO */
        return protocol(r);
    case 0x95: /* FRAME: only a hint for buffering */
        return take(r, 8) ? 0 : -1;
    case '(': /* MARK */
        return push_mark(r);
    case '0': /* POP */
        return drop(r);
    case '1': /* POP_MARK */
        return drop_marked(r);
    case '2': /* DUP */
        return push(r, top(r));

    case 'N': /* NONE */
        return push(r, node(r, PICKLE_NONE));
    case 0x88: /* NEWTRUE */
        return push_int(r, PICKLE_BOOL, 1);
    case 0x89: /* NEWFALSE */
        return push_int(r, PICKLE_BOOL, 0);
    case 'I': /* INT */
        return read_int_line(r);
    case 'L': /* LONG */
        return read_long_line(r);
    case 'J': /* BININT */
        return signed_int(r);
    case 'K': /* BININT1 */
        return unsigned_int(r, 1);
    case 'M': /* BININT2 */
        return unsigned_int(r, 2);
    case 0x8a: /* LONG1 */
        return read_long(r, 1);
    case 0x8b: /* LONG4 */
        return read_long(r, 4);
    case 'F': /* FLOAT */
        return read_float_line(r);
    case 'G': /* BINFLOAT */
        return read_binary_float(r);

    case 'V': /* UNICODE */
        return read_unicode_line(r);
    case 0x8c: /* SHORT_BINUNICODE */
        return push_counted(r, PICKLE_TEXT, 1);
    case 'X': /* BINUNICODE */
        return push_counted(r, PICKLE_TEXT, 4);
    case 0x8d: /* BINUNICODE8 */
        return push_counted(r, PICKLE_TEXT, 8);
    case 'S': /* STRING */
        return read_string_line(r);
    case 'U': /* SHORT_BINSTRING */
    case 'C': /* SHORT_BINBYTES */
        return push_counted(r, PICKLE_BYTES, 1);
    case 'T': /* BINSTRING */
    case 'B': /* BINBYTES */
        return push_counted(r, PICKLE_BYTES, 4);
    case 0x8e: /* BINBYTES8 */
    case 0x96: /* BYTEARRAY8 */
        return push_counted(r, PICKLE_BYTES, 8);
    case 0x97: /* NEXT_BUFFER */
        return bad(r, "its buffers are stored outside the pickle");
    case 0x98: /* READONLY_BUFFER */
        return top(r) ? 0 : -1;

    case ')': /* EMPTY_TUPLE */
        return push_tuple(r, 0);
    case 0x85: /* TUPLE1 */
        return push_tuple(r, 1);
    case 0x86: /* TUPLE2 */
        return push_tuple(r, 2);
    case 0x87: /* TUPLE3 */
        return push_tuple(r, 3);
    case 't': /* TUPLE */
        return push_marked(r, PICKLE_TUPLE);
    case ']':  /* EMPTY_LIST */
    case 0x8f: /* EMPTY_SET */
        return push(r, node(r, PICKLE_LIST));
    case 'l':  /* LIST */
    case 0x91: /* FROZENSET */
        return push_marked(r, PICKLE_LIST);
    case 'a': /* APPEND */
        return add_popped(r, PICKLE_LIST, 1);
    case 'e':  /* APPENDS */
    case 0x90: /* ADDITEMS */
        return add_marked(r, PICKLE_LIST);
    case '}': /* EMPTY_DICT */
        return push(r, node(r, PICKLE_DICT));
    case 'd': /* DICT */
        return push_marked(r, PICKLE_DICT);
    case 's': /* SETITEM */
        return add_popped(r, PICKLE_DICT, 2);
    case 'u': /* SETITEMS */
        return add_marked(r, PICKLE_DICT);

    case 'c': /* GLOBAL */
        return read_global(r);
    case 0x93: /* STACK_GLOBAL */
        return stack_global(r);
    case 'R':  /* REDUCE */
    case 0x81: /* NEWOBJ */
        return call(r, 0);
    case 0x92: /* NEWOBJ_EX */
        return call(r, 1);
    case 'o': /* OBJ */
        return call_marked(r);
    case 'i': /* INST */
        return instantiate(r);
    case 'b': /* BUILD */
        return build(r);
    case 'P': /* PERSID */
        return persistent_line(r);
    case 'Q': /* BINPERSID */
        return push_persistent(r, pop(r));

    case 'p': /* PUT */
        return memo_line(r, memo_put);
    case 'q': /* BINPUT */
        return memo_binary(r, 1, memo_put);
    case 'r': /* LONG_BINPUT */
        return memo_binary(r, 4, memo_put);
    case 0x94: /* MEMOIZE */
        return memo_put(r, r->memo_count);
    case 'g': /* GET */
        return memo_line(r, memo_get);
    case 'h': /* BINGET */
        return memo_binary(r, 1, memo_get);
    case 'j': /* LONG_BINGET */
        return memo_binary(r, 4, memo_get);
    default: /* also EXT1, EXT2, EXT4: class numbers of one Python installation */
        return bad(r, "unknown opcode");
    }
}

static int run(struct reader *r)
{
    while (r->at < r->end) {
        uint8_t opcode = *r->at++;
        if (opcode == '.')
            return r->depth == 0 || r->mark_count > 0 ? bad(r, "it ends without a value") : 0;
        if (step(r, opcode) != 0)
            return -1;
    }
    return truncated(r);
}

int pickle_read(struct pickle *p, struct arena *arena, const uint8_t *data, size_t size,
                struct error *e)
{
    struct reader r = {.arena = arena, .start = data, .at = data, .end = data + size, .e = e};
    r.stack = grown(NULL, &r.stack_capacity, 0, sizeof *r.stack); /* never NULL */
    int status = run(&r);
    if (status == 0)
        *p = (struct pickle){r.stack[r.depth - 1], r.last_persistent, (size_t)(r.at - data)};
    free(r.stack);
    free(r.marks);
    free(r.memo);
    return status;
}

static bool string_equals(struct pickle_string s, const char *text)
{
    size_t n = strlen(text);
    return s.size == n && memcmp(s.bytes, text, n) == 0;
}

bool pickle_is_global(const struct pickle_value *v, const char *module, const char *name)
{
    return v && v->kind == PICKLE_GLOBAL && string_equals(v->global.module, module) &&
           string_equals(v->global.name, name);
}

bool pickle_is_within(const struct pickle_value *v, const char *package)
{
    size_t n = strlen(package);
    return v && v->kind == PICKLE_GLOBAL && v->global.module.size >= n &&
           memcmp(v->global.module.bytes, package, n) == 0 &&
           (v->global.module.size == n || v->global.module.bytes[n] == '.');
}

bool pickle_is_text(const struct pickle_value *v, const char *text)
{
    return v && (v->kind == PICKLE_TEXT || v->kind == PICKLE_BYTES) &&
           string_equals(v->string, text);
}

struct pickle_value *pickle_item(const struct pickle_value *v, uint32_t i)
{
    if (!v || (v->kind != PICKLE_TUPLE && v->kind != PICKLE_LIST) || i >= v->list.count)
        return NULL;
    return v->list.items[i];
}
