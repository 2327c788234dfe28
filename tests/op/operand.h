#ifndef CCLD_TESTS_OP_OPERAND_H
#define CCLD_TESTS_OP_OPERAND_H

#include "tests/op/checker.h"

uint64_t draw_bits(struct check *c);
/* Fails the case when something outside the elements changed, or an input. */
void operand_check_memory(struct check *c, enum side side, const struct operand *o);
/* Whether the op has to write element i of an output. */
bool operand_owns(const struct operand *o, int64_t i);
/* Malloc'ed copies of an operand's elements as floats: now, and before the op ran. */
float *operand_floats(struct check *c, enum side side, const struct operand *o);
float *operand_before(enum side side, const struct operand *o);
/* Everything as it was before the op ran. */
void operand_restore(struct check *c, enum side side, const struct operand *o);
void operands_release(struct check *c);

#endif
