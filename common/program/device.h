#ifndef CCLD_PROGRAM_DEVICE_H
#define CCLD_PROGRAM_DEVICE_H

#include "kernels/device.h"

/* Opens the device that --device selects and sets its precision by --precision and --tf32. Exits
 * with a message on failure; with -v, prints what it opened. Close it with device_close. */
struct device *program_open_device(void);

#endif
