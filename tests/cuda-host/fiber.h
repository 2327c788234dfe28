/* Stacks that a thread of the host goes back and forth between. */
#ifndef CCLD_TESTS_CUDA_HOST_FIBER_H
#define CCLD_TESTS_CUDA_HOST_FIBER_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

namespace cuda_host
{
struct fiber {
    void *stack_pointer = nullptr; /* while it does not run; elsewhere than x86-64 a ucontext_t */
    void *fake_stack = nullptr;    /* AddressSanitizer's */
    const void *stack = nullptr;
    size_t stack_bytes = 0;
    void (*body)(void *) = nullptr;
    void *argument = nullptr;
};

/* Of the switch under way. */
struct fiber_switch_state {
    fiber *leaving, *entering;
};
extern __thread fiber_switch_state switching;

/* f will call body(argument), which never returns, when first switched to. `colour` keeps the tops
 * of stacks from sharing cache sets. A fiber that is not made stands for a thread's own stack. */
void fiber_make(fiber *f, void (*body)(void *), void *argument, int colour);
/* From the running fiber to another one of this thread. */
void fiber_switch(fiber *from, fiber *to);
} // namespace cuda_host

#endif
