#include <stddef.h>

#include "common/base/message.h"
#include "common/train/collective.h"
#include "tests/support/tap.h"

int main(void)
{
    struct device *d;
    struct error e;
    if (device_open(&d, "cpu", &e) != 0)
        die("%s", e.text);
    struct collective *c = collective_alone();
    tap_ok(c->rank == 0 && c->size == 1, "one rank");
    float x[3] = {1, 2, 3};
    double y[2] = {4, 5};
    collective_allreduce(c, d, x, 3);
    collective_allreduce_host(c, y, 2);
    collective_barrier(c);
    tap_ok(x[0] == 1 && x[1] == 2 && x[2] == 3 && y[0] == 4 && y[1] == 5,
           "a sum over one rank is the value itself");
    collective_close(c);
    collective_close(NULL);
    device_close(d);
    return tap_done();
}
