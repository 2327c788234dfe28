#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/nets/cloob.h"
#include "common/nets/kl.h"
#include "common/nets/patch_discriminator.h"
#include "common/nets/unet.h"
#include "tests/fuzz/corpus/corpus.h"

static void write_lines(const char *name, const char *prefix, struct architecture *a)
{
    char *text = NULL;
    for (int i = 0; i < a->count; i++) {
        const struct tensor_spec *t = &a->items[i];
        xappend(&text, "%s%s", prefix, t->name);
        for (int j = 0; j < t->ndim; j++)
            xappend(&text, " %" PRId64, t->shape[j]);
        xappend(&text, "\n");
    }
    corpus_write_text("networks", name, text);
    free(text);
}

void corpus_networks(void)
{
    struct architecture unet = {0}, kl = {0}, cloob = {0}, discriminator = {0};
    unet_architecture(&unet, &(struct unet_config){.latent_channels = 4,
                                                   .embed_width = 16,
                                                   .base_channels = 64,
                                                   .multipliers = {1, 1, 1, 1},
                                                   .cond_width = 64,
                                                   .autoencoder_scale = 8});
    kl_architecture(&kl, &(struct kl_config){.latent_channels = 4,
                                             .base_channels = 8,
                                             .multipliers = {1, 2},
                                             .levels = 2,
                                             .blocks = 1,
                                             .norm_groups = 4});
    cloob_architecture(&cloob, &(struct cloob_config){.embed_width = 16,
                                                      .image_size = 32,
                                                      .patch_size = 16,
                                                      .image_width = 64,
                                                      .image_layers = 1,
                                                      .context = 8,
                                                      .vocabulary = 600,
                                                      .text_width = 64,
                                                      .text_layers = 1});
    patch_discriminator_architecture(&discriminator, 3, 8, 3);
    write_lines("unet", "", &unet);
    write_lines("unet-ema", "model_ema.", &unet);
    write_lines("kl", "", &kl);
    write_lines("kl-first-stage", "first_stage_model.", &kl);
    write_lines("cloob", "", &cloob);
    write_lines("discriminator", "", &discriminator);
    architecture_release(&unet);
    architecture_release(&kl);
    architecture_release(&cloob);
    architecture_release(&discriminator);
}
