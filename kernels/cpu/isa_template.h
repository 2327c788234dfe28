/* Compiled once per instruction set by isa_*.c, which define ISA, LANES, ROWS and VECTORS. Written
 * with the compiler's vector types; multiplications and additions are contracted to FMA if the
 * instruction set has it. No include guard: each file that defines the macros includes it once. */

#if LANES > 4
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#include <math.h>
#include <string.h>

#include "kernels/cpu/isa.h"

#include "kernels/cpu/isa_vector.h"
#include "kernels/cpu/isa_tile.h"
#include "kernels/cpu/isa_matmul.h"
#include "kernels/cpu/isa_dot.h"
#include "kernels/cpu/isa_winograd.h"
#include "kernels/cpu/isa_norm.h"
#include "kernels/cpu/isa_elementwise.h"

#define JOIN(a, b)  a##b
#define TABLE(isa)  JOIN(cpu_isa_, isa)
#define TEXT(isa)   #isa
#define QUOTED(isa) TEXT(isa)
const struct cpu_isa TABLE(ISA) = {
    .name = QUOTED(ISA),
    .lanes = LANES,
    .rows = ROWS,
    .vectors = VECTORS,
    .tile = tile,
    .half_tile = half_tile,
    .tile_strided = tile_strided,
    .pack = pack,
    .dot = dot,
    .widen = widen,
    .narrow = narrow,
    .round_to_bf16 = round_to_bf16,
    .pair = pair,
    .winograd_input = winograd_input,
    .winograd_weight = winograd_weight,
    .winograd_output = winograd_output,
    .winograd_output_backward = winograd_output_backward,
    .winograd_weight_backward = winograd_weight_backward,
    .moments = moments,
    .channel_moments = channel_moments,
    .normalize = normalize,
    .normalize_row = normalize_row,
    .normalize_sums = normalize_sums,
    .normalize_backward = normalize_backward,
    .row_gradient_sums = row_gradient_sums,
    .row_gradient = row_gradient,
    .activation = activation_all,
    .softmax = softmax,
    .softmax_backward = softmax_backward,
    .activation_backward = activation_backward_all,
    .adamw = adamw,
    .moving_average = moving_average,
    .sum_squares = sum_squares,
    .add = add_all,
    .combine = combine,
};
