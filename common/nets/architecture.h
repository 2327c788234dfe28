#ifndef CCLD_NETS_ARCHITECTURE_H
#define CCLD_NETS_ARCHITECTURE_H

#include <stdint.h>

#include "common/nets/names.h"

/* The names and shapes of a network's tensors, to create it from scratch. Each network lists its
 * own (unet_architecture in unet.h and so on) with the functions below. */

#define HEAD_WIDTH 64 /* channels per attention head, in the U-Net and in CLOOB */

enum tensor_kind {
    TENSOR_TRAINED,
    TENSOR_FIXED,  /* Fourier weights: drawn once, never trained */
    TENSOR_SCALAR, /* a number stored beside the weights */
};

#define ARCHITECTURE_MAX_DIMS 4

struct tensor_spec {
    char name[120];
    enum tensor_kind kind;
    int ndim;
    int64_t shape[ARCHITECTURE_MAX_DIMS];
    float value; /* TENSOR_SCALAR only */
};

/* Starts as {0}. */
struct architecture {
    struct tensor_spec *items;
    int count, capacity;
};

/* Appends a trained tensor, named by the format. The result, through which the caller may change
 * the kind, is valid until the next tensor is appended. */
struct tensor_spec *architecture_add(struct architecture *a, int ndim, const int64_t *shape,
                                     const char *format, ...) __attribute__((format(printf, 4, 5)));
void architecture_add_scalar(struct architecture *a, const char *name, double value);

/* The next three append NAME.weight and NAME.bias; the format gives NAME. */
/* Weight [out, in]. */
void architecture_add_linear(struct architecture *a, int64_t in, int64_t out, const char *format,
                             ...) __attribute__((format(printf, 4, 5)));
/* Weight [out, in, kernel, kernel]. */
void architecture_add_conv(struct architecture *a, int64_t in, int64_t out, int64_t kernel,
                           const char *format, ...) __attribute__((format(printf, 5, 6)));
/* Weight [channels]. */
void architecture_add_norm(struct architecture *a, int64_t channels, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void architecture_release(struct architecture *a);

/* Number of parameters: elements of all tensors, without the numbers stored beside the weights.
 * kind_of: the network's, NULL if it stores no such numbers. */
int64_t architecture_parameters(const struct named_weights *n,
                                enum tensor_kind (*kind_of)(const char *name));

#endif
