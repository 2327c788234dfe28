#include "kernels/cpu/isa.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Everything that the Makefile compiles isa_avx2.c and isa_avx512.c for. Not every compiler's
 * __builtin_cpu_supports knows F16C. */
static bool has_avx2(void)
{
    unsigned a, b, c = 0, d;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
}

static bool has_avx512_bf16(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && a & 1 << 5;
}
#endif

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
    if (!generic && has_avx2())
        isa = &cpu_isa_avx2;
    if (!generic && !avx2 && has_avx512())
        isa = &cpu_isa_avx512;
#endif
    __atomic_store_n(&chosen, isa, __ATOMIC_RELEASE);
    return isa;
}

#if defined(__x86_64__)
/* Linux saves tile registers only for a process that has asked for them. */
static bool may_use_amx(void)
{
    const unsigned tiles = 1 << 24, bf16 = 1 << 22; /* of edx */
    const long request_permission = 0x1023, tile_data = 18;
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && d & tiles && d & bf16 &&
           syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

/* On Intel's, VDPBF16PS, of twice the products, takes as long as four FMAs (measured on an Emerald
 * Rapids without AMX): products of widened numbers are twice as fast. On AMD's Zen 5 it takes as
 * long as one. */
static bool is_intel(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx && d == signature_INTEL_edx &&
           c == signature_INTEL_ecx;
}

static const struct cpu_bf16 *find_bf16(void)
{
    static struct cpu_bf16 with_amx;
    const char *limit = getenv("CCLD_CPU");
    bool avx512 = limit && !strcmp(limit, "avx512-bf16");
    if (cpu_isa() != &cpu_isa_avx512 || (limit && !avx512) || !has_avx512_bf16())
        return NULL;
    if (avx512)
        return &cpu_bf16_avx512;
    if (!may_use_amx())
        return is_intel() ? NULL : &cpu_bf16_avx512;
    with_amx = cpu_bf16_avx512;
    with_amx.name = "amx-bf16";
    with_amx.tile = cpu_amx_tile;
    return &with_amx;
}

static const struct cpu_bf16 *chosen_bf16;

static void choose_bf16(void)
{
    chosen_bf16 = find_bf16();
}

/* Asking the processor takes microseconds, more in a virtual machine. */
const struct cpu_bf16 *cpu_bf16(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, choose_bf16);
    return chosen_bf16;
}
#else
const struct cpu_bf16 *cpu_bf16(void)
{
    return NULL;
}
#endif
