#define ISA     generic
#define LANES   4
#define ROWS    6
#define VECTORS 2
#include "kernels/cpu/isa_template.h"
