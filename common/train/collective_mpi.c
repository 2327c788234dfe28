#include "common/train/collective_mpi.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/train/mpi/plugin.h"
#include "common/train/watchdog.h"

#define PLUGIN_NAME "libccld-mpi.so"
#define INSTALLED   "../lib/ccld"      /* relative to the program */
#define STAGE       ((int64_t)1 << 19) /* floats received at a time, from all ranks */
#define PART        16384              /* the least from each */
#define GRAIN       16384              /* floats */

struct rank {
    struct collective collective;
    const struct mpi_functions *mpi;
    int64_t part;             /* floats of a slice that are exchanged at a time */
    float *stage;             /* [size * part] */
    struct mpi_piece *pieces; /* [2 * size]: to others, from others */
};

static const struct mpi_functions *mpi_of(const struct collective *c)
{
    return ((const struct rank *)c)->mpi;
}

static void gather(struct collective *c, const void *own, void *all, size_t bytes)
{
    watchdog_enter("a gather");
    mpi_of(c)->gather(own, all, bytes);
    watchdog_leave();
}

static void broadcast(struct collective *c, int root, void *data, size_t bytes)
{
    watchdog_enter("a broadcast");
    mpi_of(c)->broadcast(root, data, bytes);
    watchdog_leave();
}

static void barrier(struct collective *c)
{
    watchdog_enter("a barrier");
    mpi_of(c)->barrier();
    watchdog_leave();
}

static void exchange(const struct rank *r, const char *what)
{
    watchdog_enter(what);
    r->mpi->exchange(r->pieces, r->pieces + r->collective.size);
    watchdog_leave();
}

/* Elements `at` and following, at most `part` of each slice. */
struct summation {
    const struct rank *r;
    const struct sum_slices_args *args;
    int64_t at, part;
};

static int64_t part_of(const struct summation *j, int slice)
{
    int64_t left = j->args->bounds[slice + 1] - j->args->bounds[slice] - j->at;
    return left < 0 ? 0 : left < j->part ? left : j->part;
}

static void add_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct summation *j = arg;
    const struct collective *c = &j->r->collective;
    float *total = j->args->total + j->at;
    for (int r = 0; r < c->size; r++) {
        const float *x = r == c->rank ? j->args->own + j->args->bounds[c->shard] + j->at
                                      : j->r->stage + r * j->part;
        if (j->args->first && r == 0)
            memcpy(total + begin, x + begin, (size_t)(end - begin) * sizeof *x);
        else
            for (int64_t i = begin; i < end; i++)
                total[i] += x[i];
    }
}

/* Each rank sends the others their slices' part, and gets its own's from them. */
static void exchange_parts(const struct summation *j)
{
    const struct rank *r = j->r;
    const struct collective *c = &r->collective;
    for (int s = 0; s < c->size; s++) {
        r->pieces[s] = (struct mpi_piece){(float *)j->args->own + j->args->bounds[s] + j->at,
                                          (size_t)part_of(j, s) * sizeof(float)};
        r->pieces[c->size + s] = (struct mpi_piece){r->stage + s * j->part,
                                                    (size_t)part_of(j, c->shard) * sizeof(float)};
    }
    exchange(r, "a sum");
}

static void sum_slices(struct collective *c, struct device *d, const struct sum_slices_args *a)
{
    int64_t longest = 0;
    CHECK(d->host_memory);
    for (int s = 0; s < c->shards; s++)
        longest =
            a->bounds[s + 1] - a->bounds[s] > longest ? a->bounds[s + 1] - a->bounds[s] : longest;
    struct summation j = {.r = (struct rank *)c, .args = a, .part = ((struct rank *)c)->part};
    for (; j.at < longest; j.at += j.part) {
        exchange_parts(&j);
        parallel_for(part_of(&j, c->shard), GRAIN, add_some, &j);
    }
}

static void share_slices(struct collective *c, struct device *d, const struct share_slices_args *a)
{
    const struct rank *r = (const struct rank *)c;
    CHECK(d->host_memory);
    for (int s = 0; s < c->size; s++)
        for (int from = 0; from < 2; from++) {
            int slice = from ? s : c->shard;
            r->pieces[from * c->size + s] =
                (struct mpi_piece){(char *)a->whole + (size_t)a->bounds[slice] * a->element,
                                   (size_t)(a->bounds[slice + 1] - a->bounds[slice]) * a->element};
        }
    exchange(r, "an exchange of weights");
}

static void waiting(struct collective *c, bool on)
{
    if (on)
        watchdog_enter("work of their devices");
    else
        watchdog_leave();
}

static void patient(struct collective *c, bool on)
{
    watchdog_patient(on);
}

static void close_rank(struct collective *c)
{
    struct rank *r = (struct rank *)c;
    watchdog_enter("the end");
    r->mpi->close();
    watchdog_leave();
    free(r->stage);
    free(r->pieces);
    free(r);
}

static int load(const struct mpi_functions **mpi, struct error *e)
{
    const char *named = getenv("CCLD_MPI_PLUGIN");
    char *path = named && *named ? xstrdup(named) : find_beside_program(PLUGIN_NAME, INSTALLED);
    if (!path)
        return error_set(e,
                         "this build has no MPI (%s is not beside the program): build it with "
                         "'make MPI=1'",
                         PLUGIN_NAME);
    /* MPI's own plugins expect its symbols to be global. */
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    free(path);
    if (!library)
        return error_set(e, "cannot load MPI: %s", dlerror());
    mpi_plugin_entry *entry = (mpi_plugin_entry *)dlsym(library, "ccld_mpi");
    *mpi = entry ? entry() : NULL;
    if (!*mpi || (*mpi)->contract != MPI_PLUGIN_CONTRACT)
        return error_set(e, "cannot use %s: it is of another version than the program",
                         PLUGIN_NAME);
    return 0; /* stays loaded until the program ends */
}

/* Slurm's tasks find one another through what --mpi selects. */
static bool is_without_pmi(const struct mpi_functions *mpi)
{
    if (!getenv("SLURM_PROCID") || getenv("OMPI_COMM_WORLD_SIZE"))
        return false;
    return !getenv("PMIX_RANK") && (mpi->open_mpi || !getenv("PMI_RANK"));
}

static int cannot_join(int tasks, struct error *e)
{
    return error_set(e, "the %d tasks cannot find one another: %s", tasks,
                     getenv("SLURM_PROCID") ? "use srun --mpi=pmix"
                                            : "start them with the mpirun of the MPI library that "
                                              "libccld-mpi.so was built with");
}

int collective_mpi_open(struct collective **out, int tasks, struct error *e)
{
    static const struct collective_functions functions = {
        .name = "mpi",
        .gather = gather,
        .broadcast = broadcast,
        .sum_slices = sum_slices,
        .share_slices = share_slices,
        .barrier = barrier,
        .patient = patient,
        .waiting = waiting,
        .close = close_rank,
    };
    const struct mpi_functions *mpi = NULL;
    int rank, size;
    if (load(&mpi, e) != 0)
        return -1;
    if (is_without_pmi(mpi))
        return cannot_join(tasks, e);
    const char *problem = mpi->open(&rank, &size);
    if (problem)
        return error_set(e, "cannot use MPI: %s", problem);
    if (size == 1 && tasks > 1)
        return cannot_join(tasks, e);
    struct rank *r = xcalloc(1, sizeof *r);
    r->mpi = mpi;
    r->part = STAGE / size > PART ? STAGE / size : PART;
    r->stage = xcalloc((size_t)(r->part * size), sizeof *r->stage);
    r->pieces = xcalloc(2 * (size_t)size, sizeof *r->pieces);
    r->collective = (struct collective){
        .functions = &functions, .rank = rank, .size = size, .shard = rank, .shards = size};
    *out = &r->collective;
    return 0;
}
