/* The meta record of a shard. */
#include <math.h>
#include <string.h>

#include "common/base/message.h"
#include "formats/shards/shard_internal.h"
#include "tests/fuzz/support/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shard s = {.name = "00000.mdb"};
    struct error e = {""};
    MDB_val value = {.mv_size = size, .mv_data = (void *)(uintptr_t)data};
    if (shard_meta_parse(&s, &value, &e) != 0) {
        CHECK(e.text[0]);
        return 0;
    }
    const struct shard_info *i = &s.info;
    CHECK(i->latent_channels > 0 && i->latent_height > 0 && i->latent_width > 0);
    CHECK(shard_latent_count(i) <= (size_t)1 << 30);
    CHECK(i->embed_size > 0 && i->image_height > 0 && i->image_width > 0);
    CHECK(i->embed_dtype == DTYPE_F32 || i->embed_dtype == DTYPE_F16);
    CHECK(memchr(i->preprocessing, 0, sizeof i->preprocessing));
    CHECK(s.statistics.count >= 0 && isfinite(s.statistics.mean));
    CHECK(shard_info_check(i, i, &e) == 0);
    struct latent_statistics sum = s.statistics;
    latent_statistics_merge(&sum, &s.statistics);
    latent_statistics_scale(&sum);
    return 0;
}
