#include "formats/weights/pickle.h"

#include <string.h>

#include "formats/weights/pickle_reader.h"

static int memo_line(struct pickle_reader *r, int (*f)(struct pickle_reader *, uint64_t))
{
    int64_t index;
    if (pickle_take_decimal(r, &index) != 0)
        return -1;
    return index < 0 ? pickle_bad(r, "negative memo index") : f(r, (uint64_t)index);
}

static int memo_binary(struct pickle_reader *r, int bytes,
                       int (*f)(struct pickle_reader *, uint64_t))
{
    uint64_t index;
    return pickle_take_number(r, bytes, &index) != 0 ? -1 : f(r, index);
}

static int build(struct pickle_reader *r)
{
    struct pickle_value *state = pickle_pop(r), *v = state ? pickle_top(r) : NULL;
    if (!v)
        return -1;
    if (v->kind != PICKLE_OBJECT)
        return pickle_bad(r, "state set on a value that is not an object");
    v->object.state = state;
    return 0;
}

static int call(struct pickle_reader *r, size_t extra)
{
    if (extra && !pickle_pop(r)) /* keyword arguments are ignored */
        return -1;
    struct pickle_value *arguments = pickle_pop(r), *callable = arguments ? pickle_pop(r) : NULL;
    if (callable && arguments->kind != PICKLE_TUPLE)
        return pickle_bad(r, "arguments are not a tuple");
    return pickle_push_object(r, callable, arguments);
}

/* The class is directly above the mark; its arguments follow. */
static int call_marked(struct pickle_reader *r)
{
    struct pickle_value **items;
    size_t count;
    if (pickle_pop_to_mark(r, &items, &count) != 0)
        return -1;
    if (count == 0)
        return pickle_bad(r, "no class");
    struct pickle_value *callable = items[0];
    return pickle_push_object(r, callable, pickle_sequence(r, PICKLE_TUPLE, items + 1, count - 1));
}

static int read_global(struct pickle_reader *r)
{
    struct pickle_string module, name;
    return pickle_take_line(r, &module) != 0 || pickle_take_line(r, &name) != 0
               ? -1
               : pickle_push_global(r, module, name);
}

static int instantiate(struct pickle_reader *r)
{
    struct pickle_value **items, *arguments, *callable;
    struct pickle_string module, name;
    size_t count;
    if (pickle_take_line(r, &module) != 0 || pickle_take_line(r, &name) != 0 ||
        pickle_pop_to_mark(r, &items, &count) != 0)
        return -1;
    arguments = pickle_sequence(r, PICKLE_TUPLE, items, count);
    if (!arguments || pickle_push_global(r, module, name) != 0 || !(callable = pickle_pop(r)))
        return -1;
    return pickle_push_object(r, callable, arguments);
}

static int stack_global(struct pickle_reader *r)
{
    struct pickle_value *name = pickle_pop(r), *module = name ? pickle_pop(r) : NULL;
    if (!module)
        return -1;
    if (name->kind != PICKLE_TEXT || module->kind != PICKLE_TEXT)
        return pickle_bad(r, "name is not text");
    return pickle_push_global(r, module->string, name->string);
}

static int persistent_line(struct pickle_reader *r)
{
    struct pickle_string line;
    if (pickle_take_line(r, &line) != 0 ||
        pickle_push_string(r, PICKLE_TEXT, line.bytes, line.size) != 0)
        return -1;
    return pickle_push_persistent(r, pickle_pop(r));
}

static int protocol(struct pickle_reader *r)
{
    uint64_t n;
    if (pickle_take_number(r, 1, &n) != 0)
        return -1;
    return n > 5 ? error_set(r->e, "unknown pickle protocol %d", (int)n) : 0;
}

/* Executes one opcode; the caller handles STOP. */
static int step(struct pickle_reader *r, uint8_t opcode)
{
    switch (opcode) {
    case 0x80: /* PROTO */
        return protocol(r);
    case 0x95: /* FRAME: only a hint for buffering */
        return pickle_take(r, 8) ? 0 : -1;
    case '(': /* MARK */
        return pickle_push_mark(r);
    case '0': /* POP */
        return pickle_drop(r);
    case '1': /* POP_MARK */
        return pickle_drop_marked(r);
    case '2': /* DUP */
        return pickle_push(r, pickle_top(r));

    case 'N': /* NONE */
        return pickle_push(r, pickle_new(r, PICKLE_NONE));
    case 0x88: /* NEWTRUE */
        return pickle_push_int(r, PICKLE_BOOL, 1);
    case 0x89: /* NEWFALSE */
        return pickle_push_int(r, PICKLE_BOOL, 0);
    case 'I': /* INT */
        return pickle_read_int_line(r);
    case 'L': /* LONG */
        return pickle_read_long_line(r);
    case 'J': /* BININT */
        return pickle_read_signed(r);
    case 'K': /* BININT1 */
        return pickle_read_unsigned(r, 1);
    case 'M': /* BININT2 */
        return pickle_read_unsigned(r, 2);
    case 0x8a: /* LONG1 */
        return pickle_read_long(r, 1);
    case 0x8b: /* LONG4 */
        return pickle_read_long(r, 4);
    case 'F': /* FLOAT */
        return pickle_read_float_line(r);
    case 'G': /* BINFLOAT */
        return pickle_read_binary_float(r);

    case 'V': /* UNICODE */
        return pickle_read_unicode_line(r);
    case 0x8c: /* SHORT_BINUNICODE */
        return pickle_read_counted(r, PICKLE_TEXT, 1);
    case 'X': /* BINUNICODE */
        return pickle_read_counted(r, PICKLE_TEXT, 4);
    case 0x8d: /* BINUNICODE8 */
        return pickle_read_counted(r, PICKLE_TEXT, 8);
    case 'S': /* STRING */
        return pickle_read_string_line(r);
    case 'U': /* SHORT_BINSTRING */
    case 'C': /* SHORT_BINBYTES */
        return pickle_read_counted(r, PICKLE_BYTES, 1);
    case 'T': /* BINSTRING */
    case 'B': /* BINBYTES */
        return pickle_read_counted(r, PICKLE_BYTES, 4);
    case 0x8e: /* BINBYTES8 */
    case 0x96: /* BYTEARRAY8 */
        return pickle_read_counted(r, PICKLE_BYTES, 8);
    case 0x97: /* NEXT_BUFFER */
        return pickle_bad(r, "its buffers are stored outside the pickle");
    case 0x98: /* READONLY_BUFFER */
        return pickle_top(r) ? 0 : -1;

    case ')': /* EMPTY_TUPLE */
        return pickle_push_tuple(r, 0);
    case 0x85: /* TUPLE1 */
        return pickle_push_tuple(r, 1);
    case 0x86: /* TUPLE2 */
        return pickle_push_tuple(r, 2);
    case 0x87: /* TUPLE3 */
        return pickle_push_tuple(r, 3);
    case 't': /* TUPLE */
        return pickle_push_marked(r, PICKLE_TUPLE);
    case ']':  /* EMPTY_LIST */
    case 0x8f: /* EMPTY_SET */
        return pickle_push(r, pickle_new(r, PICKLE_LIST));
    case 'l':  /* LIST */
    case 0x91: /* FROZENSET */
        return pickle_push_marked(r, PICKLE_LIST);
    case 'a': /* APPEND */
        return pickle_add_popped(r, PICKLE_LIST, 1);
    case 'e':  /* APPENDS */
    case 0x90: /* ADDITEMS */
        return pickle_add_marked(r, PICKLE_LIST);
    case '}': /* EMPTY_DICT */
        return pickle_push(r, pickle_new(r, PICKLE_DICT));
    case 'd': /* DICT */
        return pickle_push_marked(r, PICKLE_DICT);
    case 's': /* SETITEM */
        return pickle_add_popped(r, PICKLE_DICT, 2);
    case 'u': /* SETITEMS */
        return pickle_add_marked(r, PICKLE_DICT);

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
        return pickle_push_persistent(r, pickle_pop(r));

    case 'p': /* PUT */
        return memo_line(r, pickle_memo_put);
    case 'q': /* BINPUT */
        return memo_binary(r, 1, pickle_memo_put);
    case 'r': /* LONG_BINPUT */
        return memo_binary(r, 4, pickle_memo_put);
    case 0x94: /* MEMOIZE */
        return pickle_memo_put(r, r->memo_count);
    case 'g': /* GET */
        return memo_line(r, pickle_memo_get);
    case 'h': /* BINGET */
        return memo_binary(r, 1, pickle_memo_get);
    case 'j': /* LONG_BINGET */
        return memo_binary(r, 4, pickle_memo_get);
    default: /* also EXT1, EXT2, EXT4: class numbers of one Python installation */
        return pickle_bad(r, "unknown opcode");
    }
}

static int run(struct pickle_reader *r)
{
    while (r->at < r->end) {
        uint8_t opcode = *r->at++;
        if (opcode == '.')
            return r->depth == 0 || r->mark_count > 0 ? pickle_bad(r, "it ends without a value")
                                                      : 0;
        if (step(r, opcode) != 0)
            return -1;
    }
    return pickle_truncated(r);
}

int pickle_read(struct pickle *p, struct arena *arena, const uint8_t *data, size_t size,
                struct error *e)
{
    struct pickle_reader r;
    pickle_reader_init(&r, arena, data, size, e);
    int status = run(&r);
    if (status == 0)
        *p = (struct pickle){r.stack[r.depth - 1], r.last_persistent, (size_t)(r.at - data)};
    pickle_reader_release(&r);
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
