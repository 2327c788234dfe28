#include "tests/support/subject.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

const char *const *subject_devices(void)
{
    static const char *const plain[] = {"cpu", "ref", NULL};
    static const char *named[2];
    named[0] = getenv("CCLD_DEVICE");
    bool cpu = named[0] && !strcmp(named[0], "cpu") && getenv("CCLD_PRECISION");
    return named[0] && (cpu || strcmp(named[0], "cpu") != 0) ? named : plain;
}

bool subject_small(void)
{
    return getenv("CCLD_TEST_SMALL");
}

struct device *subject_open(const char *spec)
{
    const char *precision = getenv("CCLD_PRECISION");
    struct device *d;
    struct error e;
    if (device_open(&d, spec, &e) != 0)
        die("cannot open device '%s': %s", spec, e.text);
    if (strcmp(spec, "ref") != 0 &&
        device_set_precision(d, precision ? precision : "fp32", false, &e) != 0)
        die("cannot set the precision of device '%s': %s", spec, e.text);
    return d;
}

const char *subject_name(const struct device *d)
{
    static char name[40];
    if (d->compute == DTYPE_F32 && d->host_memory)
        return d->backend->name;
    snprintf(name, sizeof name, "%s in %s", d->backend->name, device_precision(d));
    return name;
}

double subject_tolerance(const struct device *d, double fp32, double fp16, double bf16)
{
    return d->compute == DTYPE_F16 ? fp16 : d->compute == DTYPE_BF16 ? bf16 : fp32;
}
