#ifndef CCLD_TESTS_INPUT_FAULTS_H
#define CCLD_TESTS_INPUT_FAULTS_H

/* Replaces the C library's open() in the tests that use it: the next `times` calls whose path
 * contains `part` fail with errno `number`. */
void input_faults_set(const char *part, int number, int times);
int input_faults_left(void); /* how many have not happened */

#endif
