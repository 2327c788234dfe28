#include "common/program/device.h"

#include "common/base/message.h"
#include "common/base/options.h"

struct device *program_open_device(void)
{
    struct device *d;
    struct error e;
    if (device_open(&d, common_options.device, &e) != 0)
        die("cannot use device '%s': %s", common_options.device, e.text);
    if (device_set_precision(d, common_options.precision, common_options.tf32, &e) != 0)
        die("cannot compute in %s: %s", common_options.precision, e.text);
    bool slower = d->backend->fast_bf16 && d->compute == DTYPE_F32;
    note("computing on '%s' in %s%s", d->backend->name, device_precision(d),
         slower ? "; on this processor, --precision bf16 is faster" : "");
    return d;
}
