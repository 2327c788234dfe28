/* The three networks against the reference. Weights are from the formula in tests/support/synth.h,
 * inputs and outputs from the golden files. The small networks run on the plain C kernels, too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/nets/cloob.h"
#include "common/nets/kl.h"
#include "common/nets/unet.h"
#include "kernels/tape.h"
#include "tests/support/golden.h"
#include "tests/support/subject.h"
#include "tests/support/tap.h"
#include "tests/support/weight_copy.h"

#define TOLERANCE_REF  1e-5 /* float32, another order of summation */
#define TOLERANCE_CPU  1e-4 /* with Winograd */
#define TOLERANCE_F16  4e-3
#define TOLERANCE_BF16 2e-2
#define LARGE_ELEMENTS 50000000

/* Releases ours. */
static void check(const struct golden *g, struct tensor *ours, const char *name)
{
    bool plain = !strcmp(ours->device->backend->name, "ref");
    golden_check(
        g, ours, name,
        plain ? TOLERANCE_REF
              : subject_tolerance(ours->device, TOLERANCE_CPU, TOLERANCE_F16, TOLERANCE_BF16));
}

static void check_unet(struct tape *t, const struct golden *g)
{
    struct unet *u;
    struct error e;
    if (!tap_ok(!unet_load(&u, &g->names, t->device, &e), "%s: network loads", g->name)) {
        tap_diag("%s", e.text);
        return;
    }
    struct tensor *x = golden_input(g, t->device, "in.x");
    struct tensor *time = golden_input(g, t->device, "in.t");
    struct tensor *embed = golden_input(g, t->device, "in.cond");
    check(g, unet_forward(t, u, x, time, embed), "out.v");
    tensor_release(x);
    tensor_release(time);
    tensor_release(embed);
    unet_free(u);
}

static void check_kl(struct tape *t, const struct golden *g)
{
    struct kl *k;
    struct error e;
    if (!tap_ok(!kl_load(&k, &g->names, t->device, &e), "%s: network loads", g->name)) {
        tap_diag("%s", e.text);
        return;
    }
    struct tensor *image = golden_input(g, t->device, "in.image");
    struct tensor *z = golden_input(g, t->device, "in.z");
    check(g, kl_encode(t, k, image), "out.moments");
    check(g, kl_decode(t, k, z), "out.decoded");
    tensor_release(image);
    tensor_release(z);
    kl_free(k);
}

static void check_cloob(struct tape *t, const struct golden *g)
{
    struct cloob *c;
    struct error e;
    if (!tap_ok(!cloob_load(&c, &g->names, t->device, &e), "%s: network loads", g->name)) {
        tap_diag("%s", e.text);
        return;
    }
    struct tensor *rgb = golden_input(g, t->device, "in.rgb");
    check(g, cloob_image(t, c, rgb), "out.image_embed");
    tensor_release(rgb);
    const struct weight *w = golden_find(g, "in.tokens");
    int32_t *tokens = xmalloc(weight_bytes(w));
    weight_copy(w, tokens);
    check(g, cloob_text(t, c, tokens, w->shape[0]), "out.text_embed");
    free(tokens);
    cloob_free(c);
}

static void check_file(const char *folder, const char *name)
{
    const char *const *devices = subject_devices();
    struct golden g;
    if (subject_small() && strstr(name, "_full")) {
        tap_skip("too large for an emulated GPU", "%s", name);
        return;
    }
    if (!golden_open(&g, folder, name))
        return;
    for (int i = 0; devices[i] && !(i == 1 && g.elements > LARGE_ELEMENTS); i++) {
        struct tape tape;
        struct device *d = subject_open(devices[i]);
        tape_init(&tape, d);
        if (g.net == NET_UNET)
            check_unet(&tape, &g);
        else if (g.net == NET_KL)
            check_kl(&tape, &g);
        else
            check_cloob(&tape, &g);
        tap_ok(device_memory(d).in_use == 0, "%s: all tensors were released on %s", g.name,
               subject_name(d));
        tape_release(&tape);
        device_close(d);
    }
    golden_close(&g);
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "tests/golden/data";
    static const char *const files[] = {"unet_tiny", "unet_mixed", "kl_tiny",  "cloob_tiny",
                                        "kl_full",   "cloob_full", "unet_full"};
    message_init(argv[0]);
    threads_init(0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (argc < 3 || !strcmp(argv[2], files[i]))
            check_file(folder, files[i]);
    return tap_done();
}
