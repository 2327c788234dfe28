#ifndef CCLD_PROGRAM_DEVICE_H
#define CCLD_PROGRAM_DEVICE_H

#include "kernels/device.h"

/* The device of --device, in the precision of --precision and --tf32; dies where it cannot be had.
 * Says with -v what it is. */
struct device *program_open_device(void);

#endif
