#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/map.cuh"

/* Ops that join and split tensors. Every element is read and written once, as part of the largest
 * word that the rows allow: 8 bytes for the 4 + 16 input channels of a BF16 network, 16 elsewhere.
 * Below, `a`, `b` and `c` count words of a row. */

template <typename W> struct word {
    static constexpr int UNROLL = sizeof(W) < 16 ? 4 : 2;
    typedef W loaded;
};

template <typename W> struct concat_items : word<W> {
    const W *a, *b;
    W *y;
    unsigned from_a, from_b;
    divisor both;

    concat_items(const void *left, const void *right, void *to, int64_t row, int64_t ca, int64_t cb)
        : a((const W *)left + row * ca), b((const W *)right + row * cb),
          y((W *)to + row * (ca + cb)), from_a((unsigned)ca), from_b((unsigned)cb), both(ca + cb)
    {
    }
    __device__ __forceinline__ W load(unsigned i) const
    {
        unsigned row, column;
        both.split(i, &row, &column);
        return column < from_a ? a[row * from_a + column] : b[row * from_b + column - from_a];
    }
    __device__ __forceinline__ void store(unsigned i, const W &x) const
    {
        y[i] = x;
    }
};

template <typename W> struct split_items : word<W> {
    const W *dy;
    W *da, *db;
    unsigned to_a, to_b;
    divisor both;

    split_items(const void *from, void *left, void *right, int64_t row, int64_t ca, int64_t cb)
        : dy((const W *)from + row * (ca + cb)), da((W *)left + row * ca),
          db((W *)right + row * cb), to_a((unsigned)ca), to_b((unsigned)cb), both(ca + cb)
    {
    }
    __device__ __forceinline__ W load(unsigned i) const
    {
        return dy[i];
    }
    __device__ __forceinline__ void store(unsigned i, const W &x) const
    {
        unsigned row, column;
        both.split(i, &row, &column);
        if (column < to_a)
            da[row * to_a + column] = x;
        else
            db[row * to_b + column - to_a] = x;
    }
};

/* y[row, :c] = x[row, :c], whose rows are from_words and to_words long. */
template <typename W> struct columns_items : word<W> {
    const W *x;
    W *y;
    size_t from_words, to_words;
    divisor columns;

    __device__ __forceinline__ W load(unsigned i) const
    {
        unsigned row, column;
        columns.split(i, &row, &column);
        return x[row * from_words + column];
    }
    __device__ __forceinline__ void store(unsigned i, const W &in) const
    {
        unsigned row, column;
        columns.split(i, &row, &column);
        y[row * to_words + column] = in;
    }
};

template <typename W> struct append_items : word<W> {
    const W *x, *features;
    W *y;
    unsigned c, f;
    divisor both, pixels;

    append_items(const struct append_planes_args *a, int64_t row, int64_t words_c, int64_t words_f,
                 int64_t area)
        : x((const W *)a->x->data + row * words_c),
          features((const W *)a->features->data + row / area * words_f),
          y((W *)a->y->data + row * (words_c + words_f)), c((unsigned)words_c),
          f((unsigned)words_f), both(words_c + words_f), pixels(area)
    {
    }
    __device__ __forceinline__ W load(unsigned i) const
    {
        unsigned row, column;
        both.split(i, &row, &column);
        if (column < c)
            return x[row * c + column];
        return features[pixels.quotient(row) * f + column - c];
    }
    __device__ __forceinline__ void store(unsigned i, const W &in) const
    {
        y[i] = in;
    }
};

static uintptr_t row_bytes(const struct tensor *t)
{
    return t ? (uintptr_t)t->shape[t->ndim - 1] * size_of(t->dtype) : 0;
}

void cuda_concat(struct device *d, const struct concat_args *a)
{
    const unsigned bytes = alignment_of(address(a->a) | row_bytes(a->a),
                                        address(a->b) | row_bytes(a->b), address(a->y));
    const int64_t ca = (int64_t)row_bytes(a->a) / bytes, cb = (int64_t)row_bytes(a->b) / bytes;
    with_word(bytes, [&](auto w) {
        map_rows(d, "concat", rows_of(a->y), ca + cb, [&](int64_t row) {
            return concat_items<decltype(w)>(a->a->data, a->b->data, a->y->data, row, ca, cb);
        });
    });
}

/* Copies a row's columns: `columns` of them, from column from_first to column to_first. */
static void copy_columns(struct device *d, const char *name, const struct tensor *to,
                         int64_t to_first, const struct tensor *from, int64_t from_first,
                         int64_t columns)
{
    const int64_t size = size_of(from->dtype);
    const unsigned bytes =
        alignment_of(address(to) | row_bytes(to), address(from) | row_bytes(from),
                     (uintptr_t)(to_first * size) | (uintptr_t)(from_first * size) |
                         (uintptr_t)(columns * size));
    const int64_t c = columns * size / bytes;
    const int64_t from_words = (int64_t)row_bytes(from) / bytes;
    const int64_t to_words = (int64_t)row_bytes(to) / bytes;
    with_word(bytes, [&](auto w) {
        typedef decltype(w) W;
        const W *x = (const W *)from->data + from_first * size / bytes;
        W *y = (W *)to->data + to_first * size / bytes;
        map_rows(d, name, rows_of(to), c, [&](int64_t row) {
            columns_items<W> items = {{},
                                      x + row * from_words,
                                      y + row * to_words,
                                      (size_t)from_words,
                                      (size_t)to_words,
                                      divisor(c)};
            return items;
        });
    });
}

void take_columns(struct device *d, const struct tensor *to, const struct tensor *from,
                  int64_t first)
{
    copy_columns(d, "take_columns", to, 0, from, first, to->shape[to->ndim - 1]);
}

void put_columns(struct device *d, const struct tensor *to, int64_t first,
                 const struct tensor *from)
{
    copy_columns(d, "put_columns", to, first, from, 0, from->shape[from->ndim - 1]);
}

void cuda_concat_backward(struct device *d, const struct concat_backward_args *a)
{
    if (a->da && a->db) {
        const unsigned bytes = alignment_of(address(a->da) | row_bytes(a->da),
                                            address(a->db) | row_bytes(a->db), address(a->dy));
        const int64_t ca = (int64_t)row_bytes(a->da) / bytes,
                      cb = (int64_t)row_bytes(a->db) / bytes;
        with_word(bytes, [&](auto w) {
            map_rows(d, "concat_backward", rows_of(a->dy), ca + cb, [&](int64_t row) {
                return split_items<decltype(w)>(a->dy->data, a->da->data, a->db->data, row, ca, cb);
            });
        });
    } else if (a->da) {
        take_columns(d, a->da, a->dy, 0);
    } else if (a->db) {
        const int64_t last = a->dy->shape[a->dy->ndim - 1];
        take_columns(d, a->db, a->dy, last - a->db->shape[a->db->ndim - 1]);
    }
}

void cuda_append_planes(struct device *d, const struct append_planes_args *a)
{
    const unsigned bytes =
        alignment_of(address(a->x) | row_bytes(a->x), address(a->features) | row_bytes(a->features),
                     address(a->y));
    const int64_t c = (int64_t)row_bytes(a->x) / bytes, f = (int64_t)row_bytes(a->features) / bytes;
    const int64_t n = a->x->shape[0], area = a->x->shape[1] * a->x->shape[2];
    with_word(bytes, [&](auto w) {
        map_rows(d, "append_planes", n, area * (c + f), [&](int64_t image) {
            return append_items<decltype(w)>(a, image * area, c, f, area);
        });
    });
}

void cuda_append_planes_backward(struct device *d, const struct append_planes_backward_args *a)
{
    take_columns(d, a->dx, a->dy, 0);
}

/* Item i is a vector of y. The class token is always F32. */
template <typename T, int N> struct prepend_items {
    static constexpr int UNROLL = 2;
    typedef vec<T, N> loaded;
    const T *x;
    const float *first;
    T *y;
    unsigned c;
    divisor columns, rows;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        unsigned row, column, image, at;
        columns.split(i, &row, &column);
        rows.split(row, &image, &at);
        if (at == 0)
            return from_floats<T, N>(load_vec<N>(first + column * N));
        return load_vec<N>(x + (size_t)(i - (image + 1) * c) * N);
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &in) const
    {
        store_vec(y + (size_t)i * N, in);
    }
};

template <typename T, int N>
static void run_prepend_row(struct device *d, const struct prepend_row_args *a)
{
    const int64_t n = a->x->shape[0], s = a->x->shape[1], c = a->x->shape[2];
    map_rows(d, "prepend_row", n, (s + 1) * c / N, [&](int64_t image) {
        return prepend_items<T, N>{(const T *)a->x->data + image * s * c,
                                   (const float *)a->row->data,
                                   (T *)a->y->data + image * (s + 1) * c,
                                   (unsigned)(c / N),
                                   divisor(c / N),
                                   divisor(s + 1)};
    });
}

void cuda_prepend_row(struct device *d, const struct prepend_row_args *a)
{
    WITH_TYPE(
        a->y->dtype, T,
        {
            if (alignment_of(address(a->x), address(a->row), address(a->y), row_bytes(a->x)) == 16)
                run_prepend_row<T, wide_n<T>>(d, a);
            else
                run_prepend_row<T, 1>(d, a);
        });
}

void cuda_prepend_row_backward(struct device *d, const struct prepend_row_backward_args *a)
{
    const int64_t n = a->dy->shape[0], s = a->dy->shape[1] - 1, c = a->dy->shape[2];
    if (a->dx) {
        /* Images as rows, without their first c columns. */
        struct tensor from = *a->dy, to = *a->dx;
        from.ndim = to.ndim = 2;
        from.shape[1] = (s + 1) * c;
        to.shape[1] = s * c;
        take_columns(d, &to, &from, c);
    }
    if (a->drow)
        add_column_sums(d, (float *)a->drow->data, a->dy->dtype, a->dy->data, n, c, (s + 1) * c);
}

void cuda_take_row(struct device *d, const struct take_row_args *a)
{
    struct tensor from = *a->x;
    from.ndim = 2;
    from.shape[1] *= from.shape[2];
    take_columns(d, a->y, &from, a->index * a->x->shape[2]);
}

/* Item i is a word of dx. */
template <typename W> struct untake_items : word<W> {
    const W *dy;
    W *dx;
    unsigned first, c; /* of an image, in words */
    divisor image_words;

    untake_items(const struct take_row_backward_args *a, int64_t image, int64_t words, int64_t s)
        : dy((const W *)a->dy->data + image * words), dx((W *)a->dx->data + image * s * words),
          first((unsigned)(a->index * words)), c((unsigned)words), image_words(s * words)
    {
    }
    __device__ __forceinline__ W load(unsigned i) const
    {
        unsigned image, at;
        image_words.split(i, &image, &at);
        return at - first < c ? dy[image * c + at - first] : W();
    }
    __device__ __forceinline__ void store(unsigned i, const W &x) const
    {
        dx[i] = x;
    }
};

void cuda_take_row_backward(struct device *d, const struct take_row_backward_args *a)
{
    const unsigned bytes = alignment_of(address(a->dx), address(a->dy), row_bytes(a->dx));
    const int64_t n = a->dx->shape[0], s = a->dx->shape[1];
    const int64_t words = (int64_t)row_bytes(a->dx) / bytes;
    with_word(bytes, [&](auto w) {
        map_rows(d, "take_row_backward", n, s * words,
                 [&](int64_t image) { return untake_items<decltype(w)>(a, image, words, s); });
    });
}
