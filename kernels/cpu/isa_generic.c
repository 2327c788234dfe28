#define ISA   generic
#define LANES 4
#if defined(__aarch64__) /* has 32 vector registers */
#define ROWS    8
#define VECTORS 3
#else
#define ROWS    6
#define VECTORS 2
#endif
#include "kernels/cpu/isa_template.h"
