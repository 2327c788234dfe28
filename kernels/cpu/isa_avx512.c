#if defined(__x86_64__)
#define ISA     avx512
#define LANES   16
#define ROWS    8
#define VECTORS 3
#include "kernels/cpu/isa_template.h"
#endif
typedef int translation_unit_not_empty;
