#include <cublasLt.h>
#include <inttypes.h>

#include "kernels/cuda/bias.cuh"
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/library_plans.cuh"
#include "kernels/cuda/plain_product.cuh"

#define WORKSPACE_MOST   ((size_t)64 << 20)
#define ALGORITHMS_TIMED 8

/* The problem an algorithm is chosen for; compared as bytes. */
struct matrix_problem {
    int64_t rows, columns, inner, ld_a, ld_b, ld_c;
    enum dtype type, c_type;
    int transpose_a, transpose_b, adds, bias, relu, tf32;
    int align_a, align_b, align_c;
    int sums; /* of a's columns */
};

struct matrix_choice {
    struct matrix_problem key;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c; /* a: the library's first operand, our b */
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace; /* bytes */
    bool rest_apart;  /* no algorithm adds the bias and applies ReLU, or sums: done separately */
    bool plain;       /* no algorithm: plain_product */
    struct matrix_choice *next;
};

struct matrix_plans {
    cublasLtHandle_t handle;
    struct plan_cache *cache;
    struct matrix_choice *slots[PLAN_SLOTS];
};

static void check(cublasStatus_t status, const char *call)
{
    if (status != CUBLAS_STATUS_SUCCESS)
        plugin_host->die("cuBLASLt: %.*s: %s", (int)strcspn(call, "("), call,
                         cublasLtGetStatusName(status));
}
#define CHECK_BLAS(call) check(call, #call)

struct matrix_plans *matrix_plans_new(struct device *d, const char *gpu)
{
    struct matrix_plans *p = (struct matrix_plans *)calloc(1, sizeof *p);
    char library[32];
    if (!p)
        plugin_host->die("out of memory");
    CHECK_BLAS(cublasLtCreate(&p->handle));
    snprintf(library, sizeof library, "cublaslt-%zu", cublasLtGetVersion());
    p->cache = plan_cache_new(plugin_host->cache_folder, library, gpu);
    return p;
}

static void free_choice(struct matrix_choice *c)
{
    cublasLtMatmulDescDestroy(c->operation);
    cublasLtMatrixLayoutDestroy(c->a);
    cublasLtMatrixLayoutDestroy(c->b);
    cublasLtMatrixLayoutDestroy(c->c);
    free(c);
}

void matrix_plans_free(struct matrix_plans *p)
{
    if (!p)
        return;
    for (struct matrix_choice *slot : p->slots) {
        while (slot) {
            struct matrix_choice *next = slot->next;
            free_choice(slot);
            slot = next;
        }
    }
    cublasLtDestroy(p->handle);
    plan_cache_free(p->cache);
    free(p);
}

static cudaDataType_t data_type(enum dtype type)
{
    return type == DTYPE_F32 ? CUDA_R_32F : type == DTYPE_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

static void describe(const struct matrix_problem *p, char *text, size_t size)
{
    snprintf(text, size,
             "product %s%s to %s [%" PRId64 ",%" PRId64 "]%s [%" PRId64 ",%" PRId64
             "]%s pitch %" PRId64 ",%" PRId64 ",%" PRId64 " add %d bias %d "
             "relu %d alignment %d,%d,%d",
             type_name(p->type), p->tf32 ? " tf32" : "", type_name(p->c_type), p->rows, p->inner,
             p->transpose_a ? "t" : "", p->inner, p->columns, p->transpose_b ? "t" : "", p->ld_a,
             p->ld_b, p->ld_c, p->adds, p->bias, p->relu, p->align_a, p->align_b, p->align_c);
    if (p->sums)
        snprintf(text + strlen(text), size - strlen(text), " with sums");
}

/* A row-major matrix is a column-major one transposed, so the library is asked for
 * c^T [columns, rows] = b^T a^T. `rows` and `columns` are those of our matrix as stored. */
static cublasLtMatrixLayout_t layout(enum dtype type, int64_t rows, int64_t columns, int64_t pitch)
{
    cublasLtMatrixLayout_t l;
    CHECK_BLAS(
        cublasLtMatrixLayoutCreate(&l, data_type(type), (uint64_t)columns, (uint64_t)rows, pitch));
    return l;
}

template <typename V>
static void set_operation(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t name,
                          V value)
{
    CHECK_BLAS(cublasLtMatmulDescSetAttribute(operation, name, &value, sizeof value));
}

/* vector: the bias that is added, or where the sums of our a, the library's b, go. */
static void set_epilogue(const struct matrix_choice *c, const struct matrix_problem *p,
                         const void *vector)
{
    set_operation(c->operation, CUBLASLT_MATMUL_DESC_EPILOGUE,
                  p->sums   ? CUBLASLT_EPILOGUE_BGRADB
                  : p->bias ? p->relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS
                  : p->relu ? CUBLASLT_EPILOGUE_RELU
                            : CUBLASLT_EPILOGUE_DEFAULT);
    if (p->sums)
        set_operation(c->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_32F);
    if (p->sums || p->bias)
        set_operation(c->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
}

static struct matrix_choice *new_choice(const struct matrix_problem *p)
{
    struct matrix_choice *c = (struct matrix_choice *)calloc(1, sizeof *c);
    if (!c)
        plugin_host->die("out of memory");
    c->key = *p;
    CHECK_BLAS(cublasLtMatmulDescCreate(
        &c->operation, p->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set_operation(c->operation, CUBLASLT_MATMUL_DESC_TRANSA,
                  p->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set_operation(c->operation, CUBLASLT_MATMUL_DESC_TRANSB,
                  p->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    c->a = p->transpose_b ? layout(p->type, p->columns, p->inner, p->ld_b)
                          : layout(p->type, p->inner, p->columns, p->ld_b);
    c->b = p->transpose_a ? layout(p->type, p->inner, p->rows, p->ld_a)
                          : layout(p->type, p->rows, p->inner, p->ld_a);
    c->c = layout(p->c_type, p->rows, p->columns, p->ld_c);
    return c;
}

static cublasStatus_t multiply(struct device *d, const struct matrix_choice *c,
                               const cublasLtMatmulAlgo_t *algorithm, size_t workspace_bytes,
                               const struct matrix_product *p, void *to)
{
    const float one = 1;
    scratch workspace(d, workspace_bytes ? workspace_bytes : 1);
    return cublasLtMatmul(cuda_of(d)->plans->matrices->handle, c->operation, &one, p->b, c->a, p->a,
                          c->b, &p->beta, p->addend ? p->addend : to, c->c, to, c->c, algorithm,
                          workspace.data, workspace_bytes, stream_of(d));
}

/* The library's proposals, its preferred one first. Split sums are added in F32 and in order, so
 * that every run gives the same bits. */
static int propose(struct matrix_plans *all, const struct matrix_choice *c,
                   cublasLtMatmulHeuristicResult_t *results)
{
    const struct matrix_problem *p = &c->key;
    cublasLtMatmulPreference_t preference;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        uint32_t value;
    } settings[] = {
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, (uint32_t)p->align_b},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, (uint32_t)p->align_a},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, (uint32_t)p->align_c},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, (uint32_t)p->align_c},
    };
    const uint64_t workspace = WORKSPACE_MOST;
    int proposed = 0, count = 0;
    CHECK_BLAS(cublasLtMatmulPreferenceCreate(&preference));
    CHECK_BLAS(cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
    for (const auto &s : settings)
        CHECK_BLAS(
            cublasLtMatmulPreferenceSetAttribute(preference, s.name, &s.value, sizeof s.value));
    if (cublasLtMatmulAlgoGetHeuristic(all->handle, c->operation, c->a, c->b, c->c, c->c,
                                       preference, ALGORITHMS_TIMED, results,
                                       &proposed) != CUBLAS_STATUS_SUCCESS)
        proposed = 0;
    CHECK_BLAS(cublasLtMatmulPreferenceDestroy(preference));
    for (int i = 0; i < proposed; i++)
        if (results[i].state == CUBLAS_STATUS_SUCCESS)
            results[count++] = results[i];
    return count;
}

/* An algorithm as text and back; the library allows storing it for the same version. */
static void write_algorithm(const cublasLtMatmulAlgo_t *algorithm, char *text)
{
    for (size_t i = 0; i < sizeof algorithm->data / sizeof algorithm->data[0]; i++)
        text += sprintf(text, "%016" PRIx64, algorithm->data[i]);
}

static bool read_algorithm(struct matrix_plans *all, struct matrix_choice *c, const char *text)
{
    cublasLtMatmulHeuristicResult_t result;
    const size_t words = sizeof c->algorithm.data / sizeof c->algorithm.data[0];
    memset(&result, 0, sizeof result);
    if (strlen(text) != words * 16)
        return false;
    for (size_t i = 0; i < words; i++) {
        char word[17], *end;
        memcpy(word, text + i * 16, 16);
        word[16] = 0;
        c->algorithm.data[i] = strtoull(word, &end, 16);
        if (*end)
            return false;
    }
    if (cublasLtMatmulAlgoCheck(all->handle, c->operation, c->a, c->b, c->c, c->c, &c->algorithm,
                                &result) != CUBLAS_STATUS_SUCCESS ||
        result.state != CUBLAS_STATUS_SUCCESS || result.workspaceSize > WORKSPACE_MOST)
        return false;
    c->workspace = result.workspaceSize;
    return true;
}

/* c is in scratch memory: timing must not add to the real one repeatedly. */
static int fastest(struct device *d, const struct matrix_choice *c,
                   const cublasLtMatmulHeuristicResult_t *results, int count,
                   const struct matrix_product *p)
{
    scratch output(d, (size_t)(p->rows * p->ld_c) * size_of(p->c_type));
    int best = -1;
    float least = -1;
    for (int i = 0; i < count; i++) {
        const float milliseconds = time_of(d, least, [&] {
            return multiply(d, c, &results[i].algo, results[i].workspaceSize, p, output.data) ==
                   CUBLAS_STATUS_SUCCESS;
        });
        if (milliseconds >= 0 && (best < 0 || milliseconds < least)) {
            best = i;
            least = milliseconds;
        }
    }
    return best;
}

/* Sets c's algorithm; false if the library has none. */
static bool choose_algorithm(struct device *d, struct matrix_choice *c,
                             const struct matrix_product *p, const char *key)
{
    struct matrix_plans *all = cuda_of(d)->plans->matrices;
    cublasLtMatmulHeuristicResult_t results[ALGORITHMS_TIMED];
    char text[sizeof c->algorithm * 2 + 1], stale[sizeof text];
    const char *known = plan_cache_get(all->cache, key);
    if (known && read_algorithm(all, c, known))
        return true;
    const int count = propose(all, c, results);
    int best = count ? 0 : -1;
    const bool timed = count && plan_cache_keeps(all->cache) && !cuda_of(d)->recording;
    if (timed)
        best = fastest(d, c, results, count, p);
    if (best < 0)
        return false;
    if (timed) {
        snprintf(stale, sizeof stale, "%s", known ? known : "");
        write_algorithm(&results[best].algo, text);
        known = plan_cache_put(all->cache, key, text, stale);
        plugin_host->note("cuBLASLt: %s: algorithm %d of %d", key, best + 1, count);
        if (strcmp(known, text) && read_algorithm(all, c, known))
            return true;
    }
    c->algorithm = results[best].algo;
    c->workspace = results[best].workspaceSize;
    return true;
}

static void sum_apart(struct device *d, const struct matrix_product *p)
{
    add_column_sums(d, p->a_sums, p->type, p->a, p->inner, p->rows, p->ld_a, true);
}

/* Whether a product and its sums take less time as two launches. `apart` is the product alone. */
static bool apart_is_faster(struct device *d, const struct matrix_choice *together,
                            const struct matrix_choice *apart, const struct matrix_product *p,
                            const char *key)
{
    struct matrix_plans *all = cuda_of(d)->plans->matrices;
    char name[300];
    snprintf(name, sizeof name, "%s: the sums", key);
    const char *known = plan_cache_get(all->cache, name);
    if (!known && plan_cache_keeps(all->cache) && !cuda_of(d)->recording) {
        scratch output(d, (size_t)(p->rows * p->ld_c) * size_of(p->c_type));
        const auto run = [&](const struct matrix_choice *c) {
            return multiply(d, c, &c->algorithm, c->workspace, p, output.data) ==
                   CUBLAS_STATUS_SUCCESS;
        };
        const float least = time_of(d, -1, [&] { return run(together); });
        const float in_turn = time_of(d, least, [&] {
            sum_apart(d, p);
            return run(apart);
        });
        const bool faster = in_turn >= 0 && (least < 0 || in_turn < least);
        known = plan_cache_put(all->cache, name, faster ? "apart" : "fused", NULL);
    }
    return known && !strcmp(known, "apart");
}

/* The product alone, of which the rest is done separately; sets c->plain if there is no algorithm
 * for that either. */
static void choose_without_rest(struct device *d, struct matrix_choice *c,
                                const struct matrix_product *p)
{
    struct matrix_problem without = c->key;
    char what[256];
    without.bias = without.relu = without.sums = 0;
    describe(&without, what, sizeof what);
    c->rest_apart = true;
    set_epilogue(c, &without, nullptr);
    c->plain = !choose_algorithm(d, c, p, what);
}

/* c, which sums as well, or the product alone. */
static struct matrix_choice *faster_of(struct device *d, struct matrix_choice *c,
                                       const struct matrix_product *p, const char *key)
{
    struct matrix_choice *apart = new_choice(&c->key);
    choose_without_rest(d, apart, p);
    const bool alone = !apart->plain && apart_is_faster(d, c, apart, p, key);
    free_choice(alone ? c : apart);
    return alone ? apart : c;
}

static struct matrix_choice *choose(struct device *d, const struct matrix_problem *key,
                                    const struct matrix_product *p, const void *vector)
{
    struct matrix_plans *all = cuda_of(d)->plans->matrices;
    struct matrix_choice **slot = &all->slots[plan_slot(key, sizeof *key)];
    for (struct matrix_choice *c = *slot; c; c = c->next)
        if (!memcmp(&c->key, key, sizeof *key))
            return c;
    outside_recording recording_rests;
    struct matrix_choice *c = new_choice(key);
    char what[256];
    describe(key, what, sizeof what);
    set_epilogue(c, key, vector);
    if (!choose_algorithm(d, c, p, what)) {
        if (key->bias || key->relu || key->sums)
            choose_without_rest(d, c, p);
        else
            c->plain = true;
        if (c->plain)
            plugin_host->note("cuBLASLt: %s: no algorithm, using a slow kernel", what);
    } else if (key->sums) {
        c = faster_of(d, c, p, what);
    }
    c->next = *slot;
    return *slot = c;
}

static struct matrix_problem problem_of(const struct device *d, const struct matrix_product *p)
{
    struct matrix_problem key;
    memset(&key, 0, sizeof key);
    key.rows = p->rows, key.columns = p->columns, key.inner = p->inner;
    key.ld_a = p->ld_a, key.ld_b = p->ld_b, key.ld_c = p->ld_c;
    key.type = p->type, key.c_type = p->c_type;
    key.transpose_a = p->transpose_a, key.transpose_b = p->transpose_b;
    key.adds = p->beta != 0, key.bias = p->bias != nullptr, key.relu = p->relu;
    key.sums = p->a_sums && address_alignment(p->a_sums) >= 16;
    key.tf32 = d->tf32 && p->type == DTYPE_F32;
    key.align_a = address_alignment(p->a);
    key.align_b = address_alignment(p->b);
    key.align_c = address_alignment(p->c);
    if (p->addend && address_alignment(p->addend) < key.align_c)
        key.align_c = address_alignment(p->addend);
    return key;
}

void matrix_product(struct device *d, const struct matrix_product *p)
{
    if (!p->rows || !p->columns)
        return;
    /* The alignment of the bias is part of the choice. */
    const library_bias converted(d, p->bias, p->c_type, MATRIX_BIAS_ALIGNMENT);
    const struct matrix_problem key = problem_of(d, p);
    const void *vector = key.sums ? p->a_sums : converted.data;
    struct matrix_choice *c = choose(d, &key, p, vector);
    if (p->a_sums && (c->rest_apart || !key.sums))
        sum_apart(d, p);
    if (c->plain) {
        plain_product(d, p);
        return;
    }
    if (vector && !c->rest_apart)
        set_operation(c->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
    const cublasStatus_t status = multiply(d, c, &c->algorithm, c->workspace, p, p->c);
    if (status != CUBLAS_STATUS_SUCCESS) {
        char what[256];
        describe(&key, what, sizeof what);
        plugin_host->die("cuBLASLt: %s: %s", what, cublasLtGetStatusString(status));
    }
    if (c->rest_apart && (p->bias || p->relu))
        bias_activate(d, p->c_type, p->rows, p->columns, vector_of(p->bias),
                      p->relu ? ACTIVATION_RELU : ACTIVATION_NONE, p->c);
}
