#include "kernels/cpu/isa.h"

#include <stdlib.h>
#include <string.h>

const struct cpu_isa *cpu_isa(void)
{
    static const struct cpu_isa *chosen;
    const struct cpu_isa *isa = __atomic_load_n(&chosen, __ATOMIC_ACQUIRE);
    if (isa)
        return isa;
    isa = &cpu_isa_generic;
#if defined(__x86_64__)
    const char *limit = getenv("CCLD_CPU");
    bool generic = limit && !strcmp(limit, "generic"), avx2 = limit && !strcmp(limit, "avx2");
    if (!generic && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("f16c"))
        isa = &cpu_isa_avx2;
    if (!generic && !avx2 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        isa = &cpu_isa_avx512;
#endif
    __atomic_store_n(&chosen, isa, __ATOMIC_RELEASE);
    return isa;
}
