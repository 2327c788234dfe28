#include <string.h>

#include "formats/weights/pickle_values.h"

/* Older files may store a storage as a view of another: [offset, offset + size). */
static int apply_view(const struct pickle_value *view, size_t element, const uint8_t **data,
                      size_t *size, struct error *e)
{
    const struct pickle_value *offset = pickle_item(view, 1), *length = pickle_item(view, 2);
    if (!offset || !length || offset->kind != PICKLE_INT || length->kind != PICKLE_INT)
        return error_set(e, "damaged view of a storage");
    size_t room = *size / element;
    if (offset->integer < 0 || length->integer < 0 || (uint64_t)offset->integer > room ||
        (uint64_t)length->integer > room - (size_t)offset->integer)
        return error_set(e, "a view exceeds its storage");
    *data += (size_t)offset->integer * element;
    *size = (size_t)length->integer * element;
    return 0;
}

/* A persistent id is ('storage', class, key, device, elements[, view]). NULL: v is none. */
static const struct pickle_value *storage_id(const struct pickle_value *v)
{
    const struct pickle_value *id = v && v->kind == PICKLE_PERSISTENT ? v->persistent.id : NULL;
    return pickle_is_text(pickle_item(id, 0), "storage") ? id : NULL;
}

/* type: of the tensor's elements, which differs from stored, the storage's, if that has bytes. */
static int find_storage(struct pickle_source *s, const struct pickle_value *id,
                        const struct torch_type *stored, const struct torch_type *type,
                        const uint8_t **data, size_t *size, struct error *e)
{
    const struct pickle_value *key = pickle_item(id, 2), *view = pickle_item(id, 5);
    if (!key || (key->kind != PICKLE_TEXT && key->kind != PICKLE_BYTES))
        return error_set(e, "a storage without a key");
    if (s->find_storage(s, key->string, stored, type, data, size, e) != 0)
        return -1;
    return view && view->kind != PICKLE_NONE ? apply_view(view, stored->element, data, size, e) : 0;
}

static int place(struct weight *t, const uint8_t *data, size_t size, int64_t offset,
                 struct error *e)
{
    size_t element = dtype_size(t->dtype);
    if ((uint64_t)offset > size / element)
        return error_set(e, "it exceeds its storage");
    t->data = data + (size_t)offset * element;
    if (!weight_fits(t, size - (size_t)offset * element))
        return error_set(e, "it exceeds its storage");
    weight_update_contiguous(t);
    return 0;
}

/* The elements of views such as x.conj() and x.conj().imag are stored without the operation. */
static bool is_lazy(const struct pickle_value *metadata)
{
    if (!metadata || metadata->kind != PICKLE_DICT)
        return false;
    for (uint32_t i = 0; i + 1 < metadata->list.count; i += 2) {
        const struct pickle_value *key = metadata->list.items[i],
                                  *value = metadata->list.items[i + 1];
        if ((pickle_is_text(key, "conj") || pickle_is_text(key, "neg")) &&
            value->kind == PICKLE_BOOL && value->integer)
            return true;
    }
    return false;
}

/* Why a tensor cannot be read; NULL: it can. */
static const char *unreadable(struct pickle_source *s, const struct torch_type *type,
                              const struct pickle_value *dtype, const struct pickle_value *metadata)
{
    if (!type)
        return dtype && dtype->kind == PICKLE_GLOBAL
                   ? arena_text(&s->w->arena, dtype->global.name.bytes, dtype->global.name.size)
                   : "unknown";
    if (type->dtype == DTYPE_COUNT)
        return type->name;
    return is_lazy(metadata) ? "conj or neg view" : NULL;
}

/* Arguments: (storage, offset, size, stride, requires_grad, hooks, metadata). In version 3, the
 * elements' type precedes the metadata. */
static enum tensor_result rebuild(struct pickle_source *s, const struct pickle_value *arguments,
                                  bool version_3, struct weight *t, struct error *e)
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
    const struct pickle_value *id = storage_id(pickle_item(arguments, 0));
    if (!id || !s->find_storage)
        return TENSOR_NOT_ONE;
    const struct pickle_value *dtype = pickle_item(version_3 ? arguments : id, version_3 ? 6 : 1);
    const struct torch_type *stored = torch_type_of_storage(pickle_item(id, 1));
    const struct torch_type *type = version_3 ? torch_type_named(dtype) : stored;
    const char *why =
        unreadable(s, stored ? type : NULL, dtype, pickle_item(arguments, version_3 ? 7 : 6));
    if (why && weight_set_unreadable(t, why))
        return TENSOR_FILLED;
    if (why) {
        error_set(e, "invalid shape");
        return TENSOR_BAD;
    }
    t->dtype = type->dtype;
    return find_storage(s, id, stored, type, &data, &size, e) != 0 ||
                   place(t, data, size, offset->integer, e) != 0
               ? TENSOR_BAD
               : TENSOR_FILLED;
}

/* Begins like version 2; the scales that follow give its numbers a meaning. */
static enum tensor_result rebuild_quantized(struct pickle_source *s,
                                            const struct pickle_value *arguments, struct weight *t,
                                            struct error *e)
{
    enum tensor_result r = rebuild(s, arguments, false, t, e);
    if (r == TENSOR_FILLED && !t->unreadable)
        weight_set_unreadable(t, "qtensor");
    return r;
}

bool torch_is_storage(const struct pickle_value *v)
{
    return storage_id(v) != NULL;
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
            return rebuild(s, arguments, false, t, e);
        if (pickle_is_global(f, "torch._utils", "_rebuild_qtensor"))
            return rebuild_quantized(s, arguments, t, e);
        if (pickle_is_global(f, "torch._utils", "_rebuild_tensor_v3"))
            return rebuild(s, arguments, true, t, e);
        return TENSOR_NOT_ONE;
    }
    return TENSOR_NOT_ONE;
}
