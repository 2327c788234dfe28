#if defined(__x86_64__)
#define ISA     avx2
#define LANES   8
#define ROWS    6
#define VECTORS 2
#include "kernels/cpu/isa_template.h"
#endif
typedef int translation_unit_not_empty;
