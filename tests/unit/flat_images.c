/* Pictures that are flat but for a border: a screenshot, a stamp on white. Padding makes the border
 * of every convolution stand out, and norms must not lose the interior's digits to it. */
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/nets/kl.h"
#include "kernels/tape.h"
#include "tests/support/synth_nets.h"
#include "tests/support/tap.h"

#define SIDE      64
#define TOLERANCE 2e-5

static float *encode(const char *device, const struct named_weights *names, float gray, int64_t *n)
{
    struct device *d;
    struct error e;
    struct kl *k;
    struct tape t;
    if (device_open(&d, device, &e) || kl_load(&k, names, d, &e))
        die("%s: %s", device, e.text);
    tape_init(&t, d);
    static float rgb[3 * SIDE * SIDE];
    for (int i = 0; i < 3 * SIDE * SIDE; i++)
        rgb[i] = gray;
    struct tensor *image = tensor_from_f32(d, DIMS(1, 3, SIDE, SIDE), rgb);
    struct tensor *moments = kl_encode(&t, k, image);
    *n = tensor_count(moments);
    float *out = xmalloc((size_t)*n * sizeof *out);
    tensor_to_f32(moments, out);
    tensor_release(moments);
    tensor_release(image);
    tape_release(&t);
    kl_free(k);
    device_close(d);
    return out;
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    threads_init(0);
    struct kl_config sizes = {.latent_channels = 4,
                              .base_channels = 32,
                              .multipliers = {1, 2, 2, 2},
                              .levels = 4,
                              .blocks = 1};
    struct architecture architecture = {0};
    struct named_weights names;
    void *memory;
    kl_architecture(&architecture, &sizes);
    synth_named_weights(&names, &memory, &architecture, NET_KL, DTYPE_F32, 1, 1);
    static const float grays[] = {1, -1, 0, 0.25f};
    for (int i = 0; i < 4; i++) {
        int64_t n;
        float *fast = encode("cpu", &names, grays[i], &n),
              *plain = encode("ref", &names, grays[i], &n);
        double error = relative_l2(fast, plain, (size_t)n);
        tap_ok(error <= TOLERANCE, "gray %g: relative L2 error of cpu against ref %.2g (<= %.0e)",
               grays[i], error, TOLERANCE);
        free(fast);
        free(plain);
    }
    free(names.items);
    free(memory);
    architecture_release(&architecture);
    return tap_done();
}
