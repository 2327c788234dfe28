#include "formats/weights/torch_types.h"

#include <string.h>

#include "common/base/message.h"

/* A class of storage exists for each type of PyTorch 1; tensors of newer types are views of
 * untyped bytes. */
static const struct torch_type types[] = {
    {"FloatStorage", "float32", DTYPE_F32, 4, 4},
    {"HalfStorage", "float16", DTYPE_F16, 2, 2},
    {"BFloat16Storage", "bfloat16", DTYPE_BF16, 2, 2},
    {"DoubleStorage", "float64", DTYPE_F64, 8, 8},
    {"LongStorage", "int64", DTYPE_I64, 8, 8},
    {"IntStorage", "int32", DTYPE_I32, 4, 4},
    {"ShortStorage", "int16", DTYPE_I16, 2, 2},
    {"CharStorage", "int8", DTYPE_I8, 1, 1},
    {"ByteStorage", "uint8", DTYPE_U8, 1, 1},
    {"BoolStorage", "bool", DTYPE_BOOL, 1, 1},
    {"ComplexFloatStorage", "complex64", DTYPE_C64, 8, 4},
    {NULL, "float8_e4m3fn", DTYPE_F8_E4M3, 1, 1},
    {NULL, "float8_e5m2", DTYPE_F8_E5M2, 1, 1},
    {NULL, "float8_e4m3fnuz", DTYPE_F8_E4M3FNUZ, 1, 1},
    {NULL, "float8_e5m2fnuz", DTYPE_F8_E5M2FNUZ, 1, 1},
    {NULL, "float8_e8m0fnu", DTYPE_F8_E8M0, 1, 1},
    {NULL, "uint16", DTYPE_U16, 2, 2},
    {NULL, "uint32", DTYPE_U32, 4, 4},
    {NULL, "uint64", DTYPE_U64, 8, 8},
    {"UntypedStorage", NULL, DTYPE_U8, 1, 1},
    {"ComplexDoubleStorage", "complex128", DTYPE_COUNT, 16, 8},
    {"QInt8Storage", "qint8", DTYPE_COUNT, 1, 1},
    {"QUInt8Storage", "quint8", DTYPE_COUNT, 1, 1},
    {"QInt32Storage", "qint32", DTYPE_COUNT, 4, 4},
    {"QUInt4x2Storage", "quint4x2", DTYPE_COUNT, 1, 1},
    {"QUInt2x4Storage", "quint2x4", DTYPE_COUNT, 1, 1},
};
#define TYPES (sizeof types / sizeof *types)

static bool text_is(struct pickle_string s, const char *text)
{
    return text && s.size == strlen(text) && memcmp(s.bytes, text, s.size) == 0;
}

/* Class names are the same in "torch" and "torch.cuda"; UntypedStorage is in "torch.storage". */
const struct torch_type *torch_type_of_storage(const struct pickle_value *global)
{
    if (!pickle_is_within(global, "torch"))
        return NULL;
    for (size_t i = 0; i < TYPES; i++)
        if (text_is(global->global.name, types[i].storage))
            return &types[i];
    return NULL;
}

const struct torch_type *torch_type_named(const struct pickle_value *global)
{
    for (size_t i = 0; i < TYPES; i++)
        if (types[i].name && pickle_is_global(global, "torch", types[i].name))
            return &types[i];
    return NULL;
}

const struct torch_type *torch_type_of(enum dtype dtype)
{
    size_t i = 0;
    while (i < TYPES && types[i].dtype != dtype)
        i++;
    CHECK(i < TYPES && dtype != DTYPE_COUNT);
    return &types[i];
}
