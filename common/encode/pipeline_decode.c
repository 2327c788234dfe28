/* The pipeline's second stage: reads and decodes files. */
#include "common/encode/pipeline_internal.h"

#include <stdlib.h>

#include "common/base/files.h"
#include "formats/images/image.h"

/* The next file to decode, or NULL when there are no more. */
static struct slot *next_to_decode(struct pipeline *p)
{
    struct slot *s = NULL;
    pthread_mutex_lock(&p->mutex);
    while (!s && !p->stop && !p->failed) {
        if (p->decoding < p->filled) {
            s = &p->slots[p->decoding++ % p->slot_count];
            s = s->done ? NULL : s;
        } else if (p->list_ended) {
            break;
        } else {
            pthread_cond_wait(&p->work, &p->mutex);
        }
    }
    pthread_mutex_unlock(&p->mutex);
    return s;
}

int pipeline_prepare(struct pipeline *p, struct slot *s)
{
    const struct encoder *en = p->encoder;
    struct encode_file file = {.path = s->path, .data = s->data, .size = s->data_size};
    int status, tries = 0;
    char note[128];
    do {
        note[0] = '\0';
        status = en->prepare(en->context, &file, s->image, s->square, &s->width, &s->height, note,
                             &s->error);
    } while (read_again(status, &tries));
    if (status >= 0 && en->thumbnail)
        en->thumbnail(en->context, s->thumbnail, s->image);
    if (*note)
        complain(p->complaints, note, "'%s': %s", s->path, note);
    return status;
}

static int decode(struct pipeline *p, struct slot *s)
{
    const struct encode_options *o = p->options;
    int status = s->data ? 0 : image_read_bytes(&s->data, &s->data_size, s->path, &s->error);
    if (status != 0)
        return status;
    content_hash(s->hash, s->data, s->data_size);
    if (o->unique && s->old.state != SHARD_PATH_CHANGED && unique_has(o->unique, s->hash))
        return PIPELINE_DUPLICATE;
    return pipeline_prepare(p, s);
}

void *pipeline_decode_stage(void *arg)
{
    struct pipeline *p = arg;
    for (struct slot *s; (s = next_to_decode(p));) {
        int status = decode(p, s);
        if (status != PIPELINE_DUPLICATE) {
            free(s->data);
            s->data = NULL;
        }
        pthread_mutex_lock(&p->mutex);
        s->status = status;
        s->done = true;
        pthread_cond_signal(&p->ready);
        pthread_mutex_unlock(&p->mutex);
    }
    return NULL;
}
