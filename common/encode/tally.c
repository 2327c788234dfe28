#include "common/encode/tally.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "formats/text/utf8.h"

struct shared {
    pthread_mutex_t mutex; /* guards what follows */
    struct encode_state parts[];
};

struct encode_tally {
    struct shared *shared;
    size_t bytes;
    int parts;
    struct progress *progress; /* of this process */
};

struct encode_tally *encode_tally_new(int parts)
{
    struct encode_tally *t = xcalloc(1, sizeof *t);
    pthread_mutexattr_t attributes;
    t->parts = parts;
    t->bytes = sizeof *t->shared + (size_t)parts * sizeof *t->shared->parts;
    t->shared = mmap(NULL, t->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (t->shared == MAP_FAILED)
        die("cannot share memory between processes: %s", strerror(errno));
    CHECK(pthread_mutexattr_init(&attributes) == 0);
    CHECK(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
    CHECK(pthread_mutex_init(&t->shared->mutex, &attributes) == 0);
    pthread_mutexattr_destroy(&attributes);
    return t;
}

void encode_tally_show_progress(struct encode_tally *t)
{
    t->progress = progress_start("encoding", "images", -1);
}

/* Files that need no work are left out of done and total, so that the rate measures work and the
 * time left is realistic. */
static void show(struct encode_tally *t)
{
    char detail[128];
    if (!t->progress)
        return;
    struct encode_state s = encode_tally_sum(t);
    const struct encode_counts *c = &s.counts;
    int n = snprintf(detail, sizeof detail,
                     "%" PRId64 " encoded, %" PRId64 " skipped, %" PRId64 " failed", c->encoded,
                     c->skipped, c->failed);
    if (c->duplicates > 0)
        snprintf(detail + n, sizeof detail - (size_t)n, ", %" PRId64 " duplicate%s", c->duplicates,
                 plural(c->duplicates));
    progress_set_total(t->progress, s.expected);
    progress_update(t->progress, c->encoded + c->failed, detail);
}

void encode_tally_put(struct encode_tally *t, int part, const struct encode_state *s)
{
    CHECK(part >= 0 && part < t->parts);
    pthread_mutex_lock(&t->shared->mutex);
    t->shared->parts[part] = *s;
    pthread_mutex_unlock(&t->shared->mutex);
    show(t);
}

void encode_count_failed(struct encode_counts *c, const char *reason, int64_t n)
{
    struct encode_reason *r = c->reasons, *last = r + ENCODE_REASONS - 1;
    char text[sizeof r->text];
    if (isdigit((unsigned char)*reason)) /* such as an image's size in pixels */
        reason += strcspn(reason, " ") + strspn(reason + strcspn(reason, " "), " ");
    utf8_cut(text, sizeof text, reason);
    char *remark = strstr(text, " (");
    if (remark)
        *remark = 0;
    while (r < last && r->count > 0 && strcmp(r->text, text) != 0)
        r++;
    if (r->count == 0)
        strcpy(r->text, r == last ? "for other reasons" : text);
    r->count += n;
    c->failed += n;
}

static void add_counts(struct encode_counts *sum, const struct encode_counts *c)
{
    sum->listed += c->listed;
    sum->other_part += c->other_part;
    sum->encoded += c->encoded;
    sum->truncated += c->truncated;
    sum->skipped += c->skipped;
    sum->repeated += c->repeated;
    sum->duplicates += c->duplicates;
    sum->orphans += c->orphans;
    for (int i = 0; i < ENCODE_REASONS && c->reasons[i].count > 0; i++)
        encode_count_failed(sum, c->reasons[i].text, c->reasons[i].count);
    sum->others += c->others;
    sum->links += c->links;
    sum->unread += c->unread;
    sum->bad_latents += c->bad_latents;
    sum->interrupted |= c->interrupted;
    sum->list_failed |= c->list_failed;
}

struct encode_state encode_tally_sum(struct encode_tally *t)
{
    struct encode_state sum = {.ended = true};
    pthread_mutex_lock(&t->shared->mutex);
    for (int i = 0; i < t->parts; i++) {
        const struct encode_state *s = &t->shared->parts[i];
        add_counts(&sum.counts, &s->counts);
        sum.expected = sum.expected < 0 || s->expected < 0 ? -1 : sum.expected + s->expected;
        sum.ended &= s->ended;
        sum.records += s->records;
        latent_statistics_merge(&sum.statistics, &s->statistics);
    }
    pthread_mutex_unlock(&t->shared->mutex);
    return sum;
}

void encode_tally_wait(struct encode_tally *t)
{
    while (!encode_tally_sum(t).ended) {
        show(t);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
}

void encode_tally_free(struct encode_tally *t)
{
    if (!t)
        return;
    progress_finish(t->progress);
    munmap(t->shared, t->bytes);
    free(t);
}
