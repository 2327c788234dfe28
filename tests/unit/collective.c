#include <string.h>

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
    float own[3] = {1, 2, 3}, all[3];
    double y[2] = {4, 5};
    collective_gather(c, own, all, sizeof own);
    collective_sum(c, y, 2);
    collective_barrier(c);
    tap_ok(!memcmp(own, all, sizeof own) && y[0] == 4 && y[1] == 5,
           "one rank gathers and sums what it has");
    struct tensor *part = tensor_from_f32(d, DIMS(3), own),
                  *total = tensor_new(d, DTYPE_F32, DIMS(3));
    const int64_t bounds[2] = {0, 3};
    struct sum_slices_args sum = {part->data, total->data, bounds, true};
    collective_sum_slices(c, d, &sum);
    sum.first = false;
    collective_sum_slices(c, d, &sum);
    collective_join(c, d);
    tensor_to_f32(total, all);
    tap_ok(all[0] == 2 && all[1] == 4 && all[2] == 6, "and adds micro-batches");
    tensor_release(part);
    tensor_release(total);
    collective_close(c);
    collective_close(NULL);
    device_close(d);
    return tap_done();
}
