#include "common/score/search.h"

#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/score/embeddings.h"

struct search {
    const float *direction;
    int64_t width;
    double least;
    struct hits *hits; /* [threads] */
};

/* An embeds_visit. */
static void score_rows(void *context, const float *rows, int64_t first, int64_t n, int worker)
{
    const struct search *s = context;
    for (int64_t i = 0; i < n; i++) {
        double score = embeddings_cosine(rows + i * s->width, s->direction, s->width);
        if (score >= s->least) /* not NaN */
            hits_offer(&s->hits[worker], score, first + i);
    }
}

void search_stores(struct hits *out, struct embed_stores *s, const float *direction, double least)
{
    int threads = threads_count();
    struct search search = {.direction = direction, .width = s->width, .least = least};
    search.hits = xcalloc((size_t)threads, sizeof *search.hits);
    for (int i = 0; i < threads; i++)
        search.hits[i].most = out->most;
    embed_stores_scan(s, score_rows, &search);
    for (int i = 0; i < threads; i++) {
        for (int64_t k = 0; k < search.hits[i].count; k++)
            hits_offer(out, search.hits[i].items[k].score, search.hits[i].items[k].at);
        hits_release(&search.hits[i]);
    }
    free(search.hits);
    hits_sort(out);
}
