/* Records of shards. The first byte tells what follows: a value, or the blob that this compresses
 * and labels, since changed frames and labels hardly ever have the right checksums. */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/base/message.h"
#include "formats/shards/shard_internal.h"
#include "tests/fuzz/support/fuzz.h"
#include "tests/support/shards.h"

static void read_value(const void *data, size_t size)
{
    struct shard_record r;
    struct error e = {""};
    MDB_val value = {.mv_size = size, .mv_data = (void *)(uintptr_t)data};
    shard_record_init(&r);
    if (shard_value_read(&r, &value, &shards_info, &e) == 0) {
        const uint8_t *end = r.blob + r.blob_size;
        CHECK((const uint8_t *)(r.moments + 2 * SHARDS_LATENT) <= end);
        CHECK((const uint8_t *)r.embed + SHARDS_EMBED * sizeof(float) <= end);
        CHECK(!r.thumbnail || r.thumbnail + SHARD_THUMBNAIL_BYTES <= end);
        CHECK(r.path[0] && r.width > 0 && r.height > 0);
        if (shard_record_check_values(&r, &shards_info, &e) != 0)
            CHECK(e.text[0]);
    } else {
        CHECK(e.text[0] && (!r.path || r.path[0]));
    }
    shard_record_release(&r);
}

static void read_blob(const uint8_t *data, size_t size)
{
    static ZSTD_CCtx *zstd;
    if (!zstd)
        zstd = ZSTD_createCCtx();
    size_t bound = ZSTD_compressBound(size);
    uint8_t *frame = xmalloc(bound);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, -5);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 1);
    size_t n = ZSTD_compress2(zstd, frame, bound, data, size);
    CHECK(!ZSTD_isError(n));
    shard_label_append(&frame, &n, "photos/1.jpg");
    read_value(frame, n);
    free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] & 1)
        read_value(data + 1, size - 1);
    else
        read_blob(data + 1, size - 1);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    if (size > 1 && !(data[0] & 1) && seed % 2) {
        size_t changed = mutate_safetensors(data + 1, size - 1, max_size - 1);
        if (changed > 0)
            return changed + 1;
    }
    return LLVMFuzzerMutate(data, size, max_size);
}
