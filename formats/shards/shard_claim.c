#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/message.h"
#include "formats/shards/shard_internal.h"

struct claim {
    pid_t process; /* a forked process inherits the list, but not the locks */
    dev_t device;
    ino_t file;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct claim *claims;
static size_t count, capacity;

static struct claim *find(const struct claim *c)
{
    for (size_t i = 0; i < count; i++)
        if (claims[i].process == c->process && claims[i].device == c->device &&
            claims[i].file == c->file)
            return &claims[i];
    return NULL;
}

int shard_claim(struct shard *s, const struct stat *st, struct error *e)
{
    struct claim c = {getpid(), st->st_dev, st->st_ino};
    pthread_mutex_lock(&mutex);
    bool taken = find(&c) != NULL;
    if (!taken) {
        if (count == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            claims = xrealloc(claims, capacity * sizeof *claims);
        }
        claims[count++] = c;
        s->claimed = true;
        s->device = c.device;
        s->inode = c.file;
    }
    pthread_mutex_unlock(&mutex);
    return taken ? error_set(e, "%s: this process has it open already", s->name) : 0;
}

void shard_unclaim(struct shard *s)
{
    if (!s->claimed)
        return;
    struct claim c = {getpid(), s->device, s->inode}, *found;
    pthread_mutex_lock(&mutex);
    if ((found = find(&c)))
        *found = claims[--count];
    if (count == 0) {
        free(claims);
        claims = NULL;
        capacity = 0;
    }
    pthread_mutex_unlock(&mutex);
    s->claimed = false;
}
