#include <string.h>

#include "formats/weights/pickle_values.h"

static bool text_is(struct pickle_string s, const char *text)
{
    return s.size == strlen(text) && memcmp(s.bytes, text, s.size) == 0;
}

static const struct {
    const char *storage, *name;
    enum dtype dtype;
} types[] = {
    {"FloatStorage", "float32", DTYPE_F32},      {"HalfStorage", "float16", DTYPE_F16},
    {"BFloat16Storage", "bfloat16", DTYPE_BF16}, {"DoubleStorage", "float64", DTYPE_F64},
    {"LongStorage", "int64", DTYPE_I64},         {"IntStorage", "int32", DTYPE_I32},
    {"ShortStorage", "int16", DTYPE_I16},        {"CharStorage", "int8", DTYPE_I8},
    {"ByteStorage", "uint8", DTYPE_U8},          {"BoolStorage", "bool", DTYPE_BOOL},
    {"UntypedStorage", NULL, DTYPE_U8},
};

/* Types without a dtype here: their tensors are left out, but their data must be skipped. */
static const struct {
    const char *storage;
    size_t element;
} others[] = {
    {"ComplexFloatStorage", 8}, {"ComplexDoubleStorage", 16}, {"QInt8Storage", 1},
    {"QUInt8Storage", 1},       {"QInt32Storage", 4},
};

/* Class names are the same in "torch" and "torch.cuda"; UntypedStorage is in "torch.storage". */
static bool is_torch(const struct pickle_value *global)
{
    return global && global->kind == PICKLE_GLOBAL && global->global.module.size >= 5 &&
           memcmp(global->global.module.bytes, "torch", 5) == 0;
}

static bool torch_storage_dtype(const struct pickle_value *global, enum dtype *dtype)
{
    if (!is_torch(global))
        return false;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (text_is(global->global.name, types[i].storage)) {
            *dtype = types[i].dtype;
            return true;
        }
    }
    return false;
}

size_t torch_storage_element(const struct pickle_value *global)
{
    enum dtype dtype;
    if (torch_storage_dtype(global, &dtype))
        return dtype_size(dtype);
    for (size_t i = 0; is_torch(global) && i < sizeof others / sizeof *others; i++)
        if (text_is(global->global.name, others[i].storage))
            return others[i].element;
    return 0;
}

static bool torch_dtype(const struct pickle_value *v, enum dtype *dtype)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].name && pickle_is_global(v, "torch", types[i].name)) {
            *dtype = types[i].dtype;
            return true;
        }
    }
    return false;
}

/* Older files may store a storage as a view of another: [offset, offset + size). */
static int apply_view(const struct pickle_value *view, enum dtype dtype, const uint8_t **data,
                      size_t *size, struct error *e)
{
    const struct pickle_value *offset = pickle_item(view, 1), *length = pickle_item(view, 2);
    if (!offset || !length || offset->kind != PICKLE_INT || length->kind != PICKLE_INT)
        return error_set(e, "damaged view of a storage");
    size_t element = dtype_size(dtype), room = *size / element;
    if (offset->integer < 0 || length->integer < 0 || (uint64_t)offset->integer > room ||
        (uint64_t)length->integer > room - (size_t)offset->integer)
        return error_set(e, "a view exceeds its storage");
    *data += (size_t)offset->integer * element;
    *size = (size_t)length->integer * element;
    return 0;
}

/* A persistent id is ('storage', class, key, device, elements[, view]). */
static enum tensor_result find_storage(struct pickle_source *s, const struct pickle_value *v,
                                       enum dtype *dtype, const uint8_t **data, size_t *size,
                                       struct error *e)
{
    if (!v || v->kind != PICKLE_PERSISTENT || !s->find_storage)
        return TENSOR_NOT_ONE;
    const struct pickle_value *id = v->persistent.id, *key = pickle_item(id, 2);
    if (!pickle_is_text(pickle_item(id, 0), "storage") ||
        !torch_storage_dtype(pickle_item(id, 1), dtype))
        return TENSOR_NOT_ONE;
    const struct pickle_value *view = pickle_item(id, 5);
    if (!key || (key->kind != PICKLE_TEXT && key->kind != PICKLE_BYTES)) {
        error_set(e, "a storage without a key");
        return TENSOR_BAD;
    }
    if (s->find_storage(s, key->string, *dtype, data, size, e) != 0)
        return TENSOR_BAD;
    if (view && view->kind != PICKLE_NONE && apply_view(view, *dtype, data, size, e) != 0)
        return TENSOR_BAD;
    return TENSOR_FILLED;
}

/* Arguments: (storage, offset, size, stride, ...). dtype: for a version 3 tensor over untyped
 * bytes, otherwise NULL. */
static enum tensor_result rebuild(struct pickle_source *s, const struct pickle_value *arguments,
                                  const struct pickle_value *dtype, struct weight *t,
                                  struct error *e)
{
    const uint8_t *data;
    size_t size;
    int strides;
    const struct pickle_value *offset = pickle_item(arguments, 1);
    if (!offset || offset->kind != PICKLE_INT || offset->integer < 0 ||
        !pickle_sizes(pickle_item(arguments, 2), t->shape, &t->ndim) ||
        !pickle_sizes(pickle_item(arguments, 3), t->stride, &strides) || strides != t->ndim) {
        error_set(e, "invalid shape or strides");
        return TENSOR_BAD;
    }
    enum tensor_result r = find_storage(s, pickle_item(arguments, 0), &t->dtype, &data, &size, e);
    if (r != TENSOR_FILLED)
        return r;
    if (dtype && !torch_dtype(dtype, &t->dtype))
        return TENSOR_NOT_ONE;
    size_t element = dtype_size(t->dtype);
    if ((uint64_t)offset->integer > size / element) {
        error_set(e, "it exceeds its storage");
        return TENSOR_BAD;
    }
    t->data = data + (size_t)offset->integer * element;
    if (!weight_fits(t, size - (size_t)offset->integer * element)) {
        error_set(e, "it exceeds its storage");
        return TENSOR_BAD;
    }
    weight_update_contiguous(t);
    return TENSOR_FILLED;
}

enum tensor_result torch_tensor(struct pickle_source *s, const struct pickle_value *v,
                                struct weight *t, struct error *e)
{
    /* Parameters and subclasses wrap a tensor; no known file has more than two wrappers. */
    for (int wrapped = 0; wrapped < 3 && v && v->kind == PICKLE_OBJECT; wrapped++) {
        const struct pickle_value *f = v->object.callable, *arguments = v->object.arguments;
        if (pickle_is_global(f, "torch._utils", "_rebuild_parameter") ||
            pickle_is_global(f, "torch._utils", "_rebuild_parameter_with_state")) {
            v = pickle_item(arguments, 0);
            continue;
        }
        if (pickle_is_global(f, "torch._tensor", "_rebuild_from_type_v2")) {
            f = pickle_item(arguments, 0);
            arguments = pickle_item(arguments, 2);
        }
        if (pickle_is_global(f, "torch._utils", "_rebuild_tensor_v2") ||
            pickle_is_global(f, "torch._utils", "_rebuild_tensor"))
            return rebuild(s, arguments, NULL, t, e);
        if (pickle_is_global(f, "torch._utils", "_rebuild_tensor_v3"))
            return rebuild(s, arguments, pickle_item(arguments, 6), t, e);
        return TENSOR_NOT_ONE;
    }
    return TENSOR_NOT_ONE;
}
