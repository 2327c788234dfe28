#ifndef CCLD_TESTS_OP_BROKEN_H
#define CCLD_TESTS_OP_BROKEN_H

#include "tests/op/checker.h"

/* A check whose device is ref with its own table of kernels, one of which is broken. */
struct broken_check {
    struct check check;
    struct device *device;
    struct backend backend;
    struct tape tape;
};

void broken_check_init(struct broken_check *b, const struct check *c);
void broken_check_release(struct broken_check *b);

/* A TAP line. Every seed must fail; memory lies differently with each, so the reasons may differ.
 * Half of them check as they would on a device whose memory the CPU cannot reach. */
void expect_caught(struct broken_check *b, const struct op_test *test, const char *mistake,
                   const char *parameters, const char *reason, const char *other_reason);

#define EXPECT_CAUGHT(c, op, kernel, parameters, reason, other_reason)                             \
    do {                                                                                           \
        struct broken_check b_;                                                                    \
        broken_check_init(&b_, c);                                                                 \
        b_.backend.op = kernel;                                                                    \
        expect_caught(&b_, &test_##op, #kernel, parameters, reason, other_reason);                 \
        broken_check_release(&b_);                                                                 \
    } while (0)

#endif
