#ifndef CCLD_KERNELS_CPU_ATTENTION_H
#define CCLD_KERNELS_CPU_ATTENTION_H

#include "kernels/backward.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/matmul.h"

/* Whether products of attention on activations of that type, forward and backward, are of BF16. */
bool cpu_attention_is_bf16(const struct attention_args *a, enum dtype dtype);

/* attention_backward.c's part for BF16, and its scratch memory. */
void cpu_attention_backward_bf16(struct device *d, const struct attention_backward_args *a);
size_t cpu_attention_backward_bf16_bytes(const struct attention_args *a);

/* Both pack rows of BF16, ld apart, as right sides of a tile, panel by panel: their elements [0, d)
 * as k, for products with each row, or the rows as k. */
static inline void pack_elements(const struct cpu_isa *isa, uint16_t *dst, const uint16_t *rows,
                                 int64_t ld, int64_t d, const struct panel *panels, int count)
{
    for (int i = 0; i < count; i++) {
        const struct panel *p = &panels[i];
        isa->pack((float *)(dst + p->column * d), p->vectors * isa->lanes,
                  (const float *)(rows + p->column * ld), ld / 2, p->columns, d / 2, 1);
    }
}

/* found: room for `count` pointers. */
static inline void pack_pairs(const struct cpu_isa *isa, const struct cpu_bf16 *bf16, uint16_t *dst,
                              const uint16_t *rows, int64_t ld, int64_t k, const void **found,
                              const struct panel *panels, int count)
{
    for (int64_t i = 0; i < k; i++)
        found[i] = rows + i * ld;
    for (int i = 0; i < count; i++) {
        const struct panel *p = &panels[i];
        bf16->pair_rows(dst + p->column * ((k + 1) / 2 * 2), found, k, p->column, p->columns,
                        p->vectors * isa->lanes);
    }
}

#endif
