#ifndef CCLD_BASE_DTYPE_H
#define CCLD_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

/* Element types, named as in safetensors. */
enum dtype {
    DTYPE_F32,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_F64,
    DTYPE_I64,
    DTYPE_I32,
    DTYPE_I16,
    DTYPE_I8,
    DTYPE_U8,
    DTYPE_BOOL,
    DTYPE_F8_E4M3,     /* sign, 4 bits of exponent, 3 of mantissa; no infinity */
    DTYPE_F8_E5M2,     /* the upper half of an F16 */
    DTYPE_F8_E4M3FNUZ, /* no infinity, no negative zero */
    DTYPE_F8_E5M2FNUZ,
    DTYPE_F8_E8M0, /* a power of two: the scale of a block */
    DTYPE_U16,
    DTYPE_U32,
    DTYPE_U64,
    DTYPE_C64, /* a complex number of two F32 */
    DTYPE_COUNT
};

size_t dtype_size(enum dtype d);                   /* bytes per element */
const char *dtype_name(enum dtype d);              /* "F32", "BF16", "BOOL" ... */
bool dtype_parse(enum dtype *d, const char *name); /* false: unknown name */
bool dtype_is_float(enum dtype d);                 /* real floating-point numbers with a mantissa */
/* Bytes that a change of byte order reverses: of an element or, if it is complex, of each part. */
size_t dtype_swap_size(enum dtype d);

float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f); /* round to nearest even; overflow gives infinity */

/* Convert n contiguous elements: from any dtype but C64 to float, and from float to F32, F16 or
 * BF16, which round to nearest even. Unaligned pointers are allowed on the dtype's side. */
void dtype_to_f32(float *dst, enum dtype d, const void *src, size_t n);
void dtype_from_f32(enum dtype d, void *dst, const float *src, size_t n);

/* Whether none of n floats is infinite or NaN. */
bool all_finite(const float *x, int64_t n);

#endif
