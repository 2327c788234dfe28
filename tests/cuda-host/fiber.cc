#include "tests/cuda-host/fiber.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#ifdef WITH_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_host
{
#ifdef WITH_ASAN
static const size_t STACK_BYTES = 512 << 10;
#else
static const size_t STACK_BYTES = 128 << 10;
#endif
static const size_t GUARD_BYTES = 4 << 10;

__thread fiber_switch_state switching;

static void arrived(fiber *self)
{
#ifdef WITH_ASAN
    const void *stack;
    size_t bytes;
    __sanitizer_finish_switch_fiber(self->fake_stack, &stack, &bytes);
    if (!switching.leaving->stack) {
        switching.leaving->stack = stack;
        switching.leaving->stack_bytes = bytes;
    }
#else
#endif
}

static void start()
{
    fiber *self = switching.entering;
    arrived(self);
    self->body(self->argument);
    abort();
}

#if defined(__x86_64__)
/* Pushes the callee-saved registers, switches stacks and pops. */
extern "C" void cuda_host_exchange_stacks(void **save, void *load);
__asm__(".text\n"
        ".hidden cuda_host_exchange_stacks\n"
        ".globl cuda_host_exchange_stacks\n"
        ".type cuda_host_exchange_stacks,@function\n"
        "cuda_host_exchange_stacks:\n"
        "    push %rbp\n"
        "    push %rbx\n"
        "    push %r12\n"
        "    push %r13\n"
        "    push %r14\n"
        "    push %r15\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r15\n"
        "    pop %r14\n"
        "    pop %r13\n"
        "    pop %r12\n"
        "    pop %rbx\n"
        "    pop %rbp\n"
        "    ret\n"
        ".size cuda_host_exchange_stacks, .-cuda_host_exchange_stacks\n");

static void prepare(fiber *f, char *top)
{
    void **p = (void **)((uintptr_t)top & -(uintptr_t)16);
    *--p = nullptr; /* start's return address: ends backtraces */
    *--p = (void *)start;
    for (int i = 0; i < 6; i++)
        *--p = nullptr;
    f->stack_pointer = p;
}

static void exchange(fiber *from, fiber *to)
{
    cuda_host_exchange_stacks(&from->stack_pointer, to->stack_pointer);
}
#else
static void prepare(fiber *f, char *top)
{
    ucontext_t *u = new ucontext_t;
    getcontext(u);
    u->uc_stack.ss_sp = (void *)f->stack;
    u->uc_stack.ss_size = (size_t)(top - (char *)f->stack);
    u->uc_link = nullptr;
    makecontext(u, start, 0);
    f->stack_pointer = u;
}

static void exchange(fiber *from, fiber *to)
{
    if (!from->stack_pointer)
        from->stack_pointer = new ucontext_t;
    swapcontext((ucontext_t *)from->stack_pointer, (ucontext_t *)to->stack_pointer);
}
#endif

void fiber_make(fiber *f, void (*body)(void *), void *argument, int color)
{
    char *memory = (char *)mmap(nullptr, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, GUARD_BYTES, PROT_NONE)) {
        perror("the emulator cannot map a stack");
        abort();
    }
    f->stack = memory + GUARD_BYTES;
    f->stack_bytes = STACK_BYTES;
    f->body = body;
    f->argument = argument;
    prepare(f, memory + GUARD_BYTES + STACK_BYTES - color % 32 * 320);
}

void fiber_switch(fiber *from, fiber *to)
{
    switching.leaving = from;
    switching.entering = to;
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
    exchange(from, to);
    arrived(from);
}
} // namespace cuda_host
