/* The sums of a tile of products, `vectors` vectors across. Included after isa_vector.h where ROWS
 * and VECTORS are defined. */

/* From init, the same for all rows, or from what c holds if it is NULL. */
INLINE void load_tile(const int rows, const int vectors, vec sum[ROWS][VECTORS], const float *c,
                      int64_t ldc, const float *init)
{
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
        for (int j = 0; j < vectors; j++)
            sum[i][j] = load(init ? init + j * LANES : c + i * ldc + j * LANES);
}

INLINE void store_tile(const int rows, const int vectors, vec sum[ROWS][VECTORS], float *c,
                       int64_t ldc)
{
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
        for (int j = 0; j < vectors; j++)
            store(c + i * ldc + j * LANES, sum[i][j]);
}
