/* Stacks between which a host thread switches. */
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
    void *stack_pointer =
        nullptr;                /* while suspended; on other machines than x86-64, a ucontext_t */
    void *fake_stack = nullptr; /* AddressSanitizer's */
    const void *stack = nullptr;
    size_t stack_bytes = 0;
    void (*body)(void *) = nullptr;
    void *argument = nullptr;
};

/* The switch in progress. */
struct fiber_switch_state {
    fiber *leaving, *entering;
};
extern __thread fiber_switch_state switching;

/* Prepares f to call body(argument), which never returns, at the first switch to it. `color` keeps
 * the tops of stacks from sharing cache sets. A fiber not set up here represents a thread's own
 * stack. */
void fiber_make(fiber *f, void (*body)(void *), void *argument, int color);
/* Switches from the running fiber to another one of this thread. */
void fiber_switch(fiber *from, fiber *to);
} // namespace cuda_host

#endif
