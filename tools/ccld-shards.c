/* Inspects shard stores. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/program/output.h"
#include "formats/shards/shard_store.h"

static const struct option option_table[] = {{0}};

static const struct program program = {
    .name = "ccld-shards",
    .summary = "Inspects a shard store: shows its statistics, verifies it, lists its records or "
               "extracts one.",
    .usage = "[OPTION]... stat STORE\n"
             "verify STORE\n"
             "ls STORE\n"
             "cat STORE INDEX",
    .options = option_table,
};

static struct shard_store *open_store(const char *folder)
{
    struct shard_store *s;
    struct error e;
    if (shard_store_open(&s, folder, &e) != 0)
        die("cannot read store '%s': %s", folder, e.text);
    return s;
}

static void finish_output(void)
{
    struct error e;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        error_set(&e, "%s", strerror(errno));
        output_failed(&e);
    }
}

static int do_stat(const char *folder)
{
    struct shard_store *s = open_store(folder);
    const struct shard_info *i = shard_store_info(s);
    struct latent_statistics statistics = shard_store_statistics(s);
    int shards = shard_store_shards(s);
    uint64_t bytes = 0;
    for (int k = 0; k < shards; k++)
        bytes += shard_store_shard(s, k).bytes;
    char size[32];
    printf("records        %" PRId64 "\n", shard_store_count(s));
    printf("shards         %d\n", shards);
    printf("bytes          %" PRIu64 " (%s)\n", bytes, format_bytes(size, (double)bytes));
    printf("finished       %s\n", shard_store_finished(s) ? "yes" : "no");
    printf("latents        %dx%dx%d\n", i->latent_channels, i->latent_height, i->latent_width);
    printf("embeds         %d %s\n", i->embed_size, dtype_name(i->embed_dtype));
    printf("images         %dx%d\n", i->image_height, i->image_width);
    printf("preprocessing  %s\n", i->preprocessing);
    printf("autoencoder    %s %s\n", i->autoencoder.hash, i->autoencoder.name);
    printf("cloob          %s %s\n", i->cloob.hash, i->cloob.name);
    printf("latent mean    %.6g\n", statistics.mean);
    printf("scale factor   %.6g\n", latent_statistics_scale(&statistics));
    for (int k = 0; k < shards; k++) {
        struct shard_summary x = shard_store_shard(s, k);
        printf("%s      %" PRId64 " records, %s\n", x.name, x.count,
               format_bytes(size, (double)x.bytes));
    }
    shard_store_close(s);
    finish_output();
    return 0;
}

struct verification {
    const char *folder;
    struct progress *progress;
};

static void print_problem(void *arg, const char *text)
{
    const struct verification *v = arg;
    warn("store '%s': %s", v->folder, text);
}

static void print_progress(void *arg, int64_t done, int64_t total)
{
    struct verification *v = arg;
    if (!v->progress)
        v->progress = progress_start("verifying", "records", total);
    progress_update(v->progress, done, NULL);
}

static int do_verify(const char *folder)
{
    struct verification v = {.folder = folder};
    int64_t records;
    int64_t problems = shard_store_verify(folder, print_problem, print_progress, &v, &records);
    progress_finish(v.progress);
    if (problems > 0) {
        warn("store '%s': %" PRId64 " problem%s in %" PRId64 " records", folder, problems,
             problems == 1 ? "" : "s", records);
        return 1;
    }
    inform("store '%s': %" PRId64 " record%s, no problems", folder, records,
           records == 1 ? "" : "s");
    return 0;
}

static int do_ls(const char *folder)
{
    struct shard_store *s = open_store(folder);
    struct shard_record r;
    struct error e;
    int status = 0;
    shard_record_init(&r);
    for (int64_t i = 0; i < shard_store_count(s); i++) {
        if (shard_store_read(s, i, &r, &e) != 0) {
            warn("cannot read record %" PRId64 " of store '%s': %s", i, folder, e.text);
            status = 1;
            continue;
        }
        printf("%" PRId64 "\t%s\t%dx%d\n", i, r.path, r.width, r.height);
        if (ferror(stdout))
            break;
    }
    finish_output();
    shard_record_release(&r);
    shard_store_close(s);
    return status;
}

static int do_cat(const char *folder, const char *index_text)
{
    char *end;
    int64_t index = strtoll(index_text, &end, 10);
    if (end == index_text || *end || index < 0)
        die_usage("'%s' is not a record index", index_text);
    output_begin_binary("redirect it to a file");
    struct shard_store *s = open_store(folder);
    if (index >= shard_store_count(s)) {
        die("store '%s' has no record %" PRId64 ": it has %" PRId64 " records", folder, index,
            shard_store_count(s));
    }
    struct shard_record r;
    struct error e;
    shard_record_init(&r);
    if (shard_store_read(s, index, &r, &e) != 0)
        die("cannot read record %" PRId64 " of store '%s': %s", index, folder, e.text);
    if (write_all(STDOUT_FILENO, r.blob, r.blob_size, &e) != 0)
        output_failed(&e);
    shard_record_release(&r);
    shard_store_close(s);
    return 0;
}

int main(int argc, char **argv)
{
    int operands = options_parse(&program, argc, argv);
    const char *command = operands > 0 ? argv[1] : "";
    bool cat = strcmp(command, "cat") == 0;
    int (*f)(const char *) = strcmp(command, "stat") == 0     ? do_stat
                             : strcmp(command, "verify") == 0 ? do_verify
                             : strcmp(command, "ls") == 0     ? do_ls
                                                              : NULL;
    if (!f && !cat) {
        die_usage(*command ? "unknown command '%s': use stat, verify, ls or cat"
                           : "no command given: use stat, verify, ls or cat",
                  command);
    }
    if (operands != (cat ? 3 : 2))
        die_usage("'%s' needs %s", command, cat ? "a store and an index" : "one store");
    return cat ? do_cat(argv[2], argv[3]) : f(argv[2]);
}
