#include <string.h>

#include "formats/weights/pickle_values.h"

/* numpy arrays as pickled by numpy.ndarray.__reduce__ and __reduce_ex__, on their own (haiku
 * parameters) or inside jax arrays. */

static bool is_numpy(const struct pickle_value *f, const char *name)
{
    return pickle_is_global(f, "numpy.core.multiarray", name) ||
           pickle_is_global(f, "numpy._core.multiarray", name) ||
           pickle_is_global(f, "numpy.core.numeric", name) ||
           pickle_is_global(f, "numpy._core.numeric", name);
}

/* A class of a package such as ml_dtypes that adds a type to numpy. */
static bool added_dtype(const struct pickle_value *class, enum dtype *dtype)
{
    static const struct {
        const char *name;
        enum dtype dtype;
    } types[] = {
        {"bfloat16", DTYPE_BF16},
        {"float8_e4m3fn", DTYPE_F8_E4M3},
        {"float8_e5m2", DTYPE_F8_E5M2},
        {"float8_e4m3fnuz", DTYPE_F8_E4M3FNUZ},
        {"float8_e5m2fnuz", DTYPE_F8_E5M2FNUZ},
        {"float8_e8m0fnu", DTYPE_F8_E8M0},
    };
    static const char *const modules[] = {"ml_dtypes", "jaxlib.xla_extension",
                                          "tensorflow.python.lib.core._pywrap_bfloat16"};
    for (size_t m = 0; m < sizeof modules / sizeof *modules; m++)
        for (size_t i = 0; i < sizeof types / sizeof *types; i++)
            if (pickle_is_global(class, modules[m], types[i].name)) {
                *dtype = types[i].dtype;
                return true;
            }
    return false;
}

static const struct pickle_value *dtype_name_of(const struct pickle_value *dtype)
{
    return dtype && dtype->kind == PICKLE_OBJECT &&
                   pickle_is_global(dtype->object.callable, "numpy", "dtype")
               ? pickle_item(dtype->object.arguments, 0)
               : NULL;
}

/* numpy.dtype('f4', False, True) with state (3, '<', ...). */
static bool numpy_dtype(const struct pickle_value *v, enum dtype *dtype, bool *big_endian)
{
    static const struct {
        const char *name;
        enum dtype dtype;
    } types[] = {
        {"f4", DTYPE_F32},  {"f2", DTYPE_F16},        {"f8", DTYPE_F64}, {"i8", DTYPE_I64},
        {"i4", DTYPE_I32},  {"i2", DTYPE_I16},        {"i1", DTYPE_I8},  {"u1", DTYPE_U8},
        {"b1", DTYPE_BOOL}, {"bfloat16", DTYPE_BF16}, {"u2", DTYPE_U16}, {"u4", DTYPE_U32},
        {"u8", DTYPE_U64},  {"c8", DTYPE_C64},
    };
    *big_endian = false;
    const struct pickle_value *name = dtype_name_of(v);
    if (!name)
        return false;
    const struct pickle_value *order = pickle_item(v->object.state, 1);
    if (pickle_is_text(order, ">"))
        *big_endian = true;
    else if (order && !pickle_is_text(order, "<") && !pickle_is_text(order, "|") &&
             !pickle_is_text(order, "="))
        return false;
    if (added_dtype(name, dtype))
        return true;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (pickle_is_text(name, types[i].name)) {
            *dtype = types[i].dtype;
            return true;
        }
    }
    return false;
}

/* Decodes Latin-1 text that the pickle stores as UTF-8, with two bytes for each from 128 up. */
static int decode_latin1(struct pickle_source *s, struct pickle_string text,
                         struct pickle_string *bytes, struct error *e)
{
    if (text.size > s->copy_budget)
        return error_set(e, "text expands to more than the size of the file");
    s->copy_budget -= text.size;
    uint8_t *out = arena_allocate(&s->w->arena, text.size);
    const uint8_t *p = (const uint8_t *)text.bytes, *end = p + text.size;
    bytes->bytes = (const char *)out;
    while (p < end) {
        if (*p < 0x80) {
            *out++ = *p++;
        } else if ((*p == 0xc2 || *p == 0xc3) && end - p >= 2 && (p[1] & 0xc0) == 0x80) {
            *out++ = (uint8_t)(*p << 6 | (p[1] & 0x3f));
            p += 2;
        } else {
            return error_set(e, "text that is not Latin-1");
        }
    }
    bytes->size = (size_t)((const char *)out - bytes->bytes);
    return 0;
}

/* An array's bytes, stored as they are or, below protocol 3, as _codecs.encode(text, 'latin1').
 * Such text is decoded only once: v then becomes plain bytes. */
static int array_bytes(struct pickle_source *s, struct pickle_value *v, struct pickle_string *bytes,
                       struct error *e)
{
    if (v->kind == PICKLE_OBJECT && pickle_is_global(v->object.callable, "_codecs", "encode")) {
        const struct pickle_value *text = pickle_item(v->object.arguments, 0);
        if (!text || text->kind != PICKLE_TEXT)
            return error_set(e, "no array data");
        if (decode_latin1(s, text->string, bytes, e) != 0)
            return -1;
        v->kind = PICKLE_BYTES;
        v->string = *bytes;
    }
    if (v->kind == PICKLE_OBJECT && (pickle_is_global(v->object.callable, "__builtin__", "bytes") ||
                                     pickle_is_global(v->object.callable, "builtins", "bytes"))) {
        *bytes = (struct pickle_string){"", 0};
        return 0;
    }
    if (v->kind != PICKLE_BYTES)
        return error_set(e, "no array data");
    *bytes = v->string;
    return 0;
}

static void set_column_major(struct weight *t)
{
    int64_t stride = 1;
    for (int i = 0; i < t->ndim; i++) {
        t->stride[i] = stride;
        stride *= t->shape[i] > 0 ? t->shape[i] : 1;
    }
    weight_update_contiguous(t);
}

/* Turns a row-major array into the view numpy.transpose(axes). */
static int transpose(struct weight *t, const struct pickle_value *axes, struct error *e)
{
    struct weight from = *t;
    int64_t order[WEIGHT_MAX_DIMS];
    int count;
    unsigned seen = 0;
    if (!pickle_sizes(axes, order, &count) || count != t->ndim)
        return error_set(e, "invalid order of axes");
    for (int i = 0; i < count; i++) {
        if (order[i] >= count || (seen & 1u << order[i]))
            return error_set(e, "invalid order of axes");
        seen |= 1u << order[i];
        t->shape[i] = from.shape[order[i]];
        t->stride[i] = from.stride[order[i]];
    }
    weight_update_contiguous(t);
    return 0;
}

/* The name of a dtype whose elements are numbers, known here or not; empty for text and objects. */
static struct pickle_string number_name(const struct pickle_value *dtype)
{
    const struct pickle_value *name = dtype_name_of(dtype);
    if (name && name->kind == PICKLE_GLOBAL)
        return name->global.name;
    if (!name || (name->kind != PICKLE_TEXT && name->kind != PICKLE_BYTES) ||
        name->string.size == 0 || strchr("OSUa", name->string.bytes[0]))
        return (struct pickle_string){"", 0};
    return name->string;
}

bool numpy_is_array(const struct pickle_value *v)
{
    if (v->kind != PICKLE_OBJECT)
        return false;
    const struct pickle_value *f = v->object.callable;
    return (is_numpy(f, "_reconstruct") && number_name(pickle_item(v->object.state, 2)).size > 0) ||
           (is_numpy(f, "_frombuffer") &&
            number_name(pickle_item(v->object.arguments, 1)).size > 0);
}

static enum tensor_result fill(struct pickle_source *s, const struct pickle_value *shape,
                               const struct pickle_value *dtype, struct pickle_value *data,
                               bool column_major, struct weight *t, struct error *e)
{
    bool big_endian;
    struct pickle_string bytes;
    bool known = numpy_dtype(dtype, &t->dtype, &big_endian);
    struct pickle_string name = number_name(dtype);
    if (name.size == 0 || !data || data->kind == PICKLE_LIST)
        return TENSOR_NOT_ONE;
    if (!pickle_sizes(shape, t->shape, &t->ndim) ||
        (!known && !weight_set_unreadable(t, arena_text(&s->w->arena, name.bytes, name.size)))) {
        error_set(e, "invalid shape");
        return TENSOR_BAD;
    }
    if (!known)
        return TENSOR_FILLED;
    if (array_bytes(s, data, &bytes, e) != 0)
        return TENSOR_BAD;
    int64_t expected = shape_bytes(t->ndim, t->shape, t->dtype);
    if (expected < 0 || (uint64_t)expected != bytes.size) {
        error_set(e, "size in bytes does not match the shape");
        return TENSOR_BAD;
    }
    t->data = bytes.bytes;
    size_t swap = dtype_swap_size(t->dtype);
    if (big_endian && !(t->data = byte_swapped(s, t->data, bytes.size / swap, swap))) {
        error_set(e, "too large for byte swapping");
        return TENSOR_BAD;
    }
    if (column_major)
        set_column_major(t);
    else
        weight_set_row_major(t);
    return TENSOR_FILLED;
}

/* The state of _reconstruct(ndarray, (0,), b'b'): (version, shape, dtype, is_fortran, data). */
static enum tensor_result fill_from_state(struct pickle_source *s, const struct pickle_value *state,
                                          struct weight *t, struct error *e)
{
    const struct pickle_value *fortran = pickle_item(state, 3);
    if (!fortran)
        return TENSOR_NOT_ONE;
    return fill(s, pickle_item(state, 1), pickle_item(state, 2), pickle_item(state, 4),
                fortran->integer != 0 &&
                    (fortran->kind == PICKLE_BOOL || fortran->kind == PICKLE_INT),
                t, e);
}

/* (buffer, dtype, shape, order). Since numpy 2.3 also the axes of a transposed array, whose order
 * is 'K' and whose shape is that of the buffer. */
static enum tensor_result fill_from_buffer(struct pickle_source *s, const struct pickle_value *a,
                                           struct weight *t, struct error *e)
{
    const struct pickle_value *order = pickle_item(a, 3), *axes = pickle_item(a, 4);
    bool any_order = pickle_is_text(order, "K") && axes;
    enum tensor_result filled = fill(s, pickle_item(a, 2), pickle_item(a, 1), pickle_item(a, 0),
                                     pickle_is_text(order, "F"), t, e);
    if (filled == TENSOR_FILLED && any_order && !t->unreadable && transpose(t, axes, e) != 0)
        return TENSOR_BAD;
    return filled;
}

enum tensor_result numpy_tensor(struct pickle_source *s, struct pickle_value *v, struct weight *t,
                                struct error *e)
{
    if (v->kind != PICKLE_OBJECT)
        return TENSOR_NOT_ONE;
    const struct pickle_value *f = v->object.callable, *a = v->object.arguments;
    if (is_numpy(f, "_reconstruct"))
        return fill_from_state(s, v->object.state, t, e);
    if (is_numpy(f, "_frombuffer"))
        return fill_from_buffer(s, a, t, e);
    if (is_numpy(f, "scalar")) { /* (dtype, bytes) */
        static struct pickle_value no_dimensions = {.kind = PICKLE_TUPLE};
        return fill(s, &no_dimensions, pickle_item(a, 0), pickle_item(a, 1), false, t, e);
    }
    /* jax: (_reconstruct, its arguments, the array's state, ...) */
    if (f && f->kind == PICKLE_GLOBAL && f->global.module.size >= 3 &&
        memcmp(f->global.module.bytes, "jax", 3) == 0 &&
        is_numpy(pickle_item(a, 0), "_reconstruct"))
        return fill_from_state(s, pickle_item(a, 2), t, e);
    return TENSOR_NOT_ONE;
}
