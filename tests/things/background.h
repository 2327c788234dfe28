#ifndef CCLD_TESTS_THINGS_BACKGROUND_H
#define CCLD_TESTS_THINGS_BACKGROUND_H

#include "tests/support/paint.h"
#include "tests/things/things.h"

/* Fills size x size pixels with the scene's background, in linear light. */
void background_draw(struct rgb *pixels, const struct things_scene *s, int size);

/* Each 0 to 1. */
float linear_from_srgb(float x);
float srgb_from_linear(float x);

#endif
