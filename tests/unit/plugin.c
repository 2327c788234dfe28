#include "kernels/plugin.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "tests/support/emulated.h"
#include "tests/support/tap.h"

/* A process loads its backend once, so every attempt runs in its own process. */
struct attempt {
    const char *plugin, *variable, *value; /* plugin, or NULL for none; an environment variable */
    const char *spec;
    bool verbose;
};

/* Writes "opened NAME" or "refused: REASON", and what goes to stderr. */
static void attempt_child(const struct attempt *a, int to)
{
    struct device *d;
    struct error e;
    if (a->plugin)
        setenv("CCLD_CUDA_PLUGIN", a->plugin, 1);
    else
        unsetenv("CCLD_CUDA_PLUGIN");
    if (a->variable)
        setenv(a->variable, a->value, 1);
    if (a->verbose)
        message_set_verbosity(VERBOSITY_VERBOSE);
    fflush(NULL);
    dup2(to, STDERR_FILENO);
    if (device_open(&d, a->spec, &e) != 0) {
        dprintf(to, "refused: %s\n", e.text);
    } else {
        dprintf(to, "opened %s\n", d->backend->name);
        device_close(d);
    }
    _exit(0);
}

/* Returns what the attempt wrote; valid until the next one. */
static const char *attempt(struct attempt a)
{
    static char said[4096];
    int ends[2], status;
    size_t length = 0;
    ssize_t n;
    CHECK(pipe(ends) == 0);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(ends[0]);
        attempt_child(&a, ends[1]);
    }
    close(ends[1]);
    while ((n = read(ends[0], said + length, sizeof said - 1 - length)) > 0)
        length += (size_t)n;
    said[length] = 0;
    close(ends[0]);
    CHECK(waitpid(child, &status, 0) == child);
    if (status != 0)
        tap_ok(false, "the attempt ended with status %d", status);
    return said;
}

/* Expects one line that contains `why`. */
static void refused(struct attempt a, const char *why, const char *what)
{
    const char *said = attempt(a);
    const char *end = strchr(said, '\n');
    if (!tap_ok(!strncmp(said, "refused: ", 9) && strstr(said, why) && end && !end[1], "%s", what))
        tap_diag("%s", said);
}

static void opened(struct attempt a, const char *said_wanted, const char *what)
{
    const char *said = attempt(a);
    if (!tap_ok(!strcmp(said, said_wanted), "%s", what))
        tap_diag("%s", said);
}

static void absent_or_broken(void)
{
    refused((struct attempt){.spec = "cuda"}, "no CUDA backend", "no plugin");
    opened((struct attempt){.spec = "auto"}, "opened cpu\n",
           "without a plugin, auto silently uses the CPU");
    const char *said = attempt((struct attempt){.spec = "auto", .verbose = true});
    tap_ok(strstr(said, "no CUDA backend") && strstr(said, "opened cpu\n"),
           "without a plugin, auto with -v uses the CPU and says why");
    char *path = path_join(test_folder(), "libnone.so");
    refused((struct attempt){.plugin = path, .spec = "cuda"}, "cannot load the CUDA backend",
            "a named plugin that does not exist");
    opened((struct attempt){.plugin = path, .spec = "auto"}, "opened cpu\n",
           "the same with auto uses the CPU");
    FILE *f = fopen(path, "w");
    CHECK(f && fputs("This is not a shared object, but as long as the header of one.\n", f) >= 0);
    CHECK(fclose(f) == 0);
    refused((struct attempt){.plugin = path, .spec = "cuda"}, "cannot load the CUDA backend",
            "a plugin that is not a shared object");
    refused((struct attempt){.plugin = "libm.so.6", .spec = "cuda:0"}, "another version",
            "a shared object without the entry points");
    free(path);
}

static void swap(struct plugin_op *ops, const char *first, const char *second)
{
    size_t i = 0, j = 0;
    while (strcmp(ops[i].name, first) != 0)
        i++;
    while (strcmp(ops[j].name, second) != 0)
        j++;
    CHECK(ops[i].args_size == ops[j].args_size);
    struct plugin_op op = ops[i];
    ops[i] = ops[j];
    ops[j] = op;
}

/* Calls the plugin as a program with this contract would. */
static void contract(plugin_entry *entry, uint64_t contract, bool accepted, const char *what)
{
    struct plugin_host host = {.contract = contract};
    struct backend b = {0};
    const char *why = entry ? entry(&host, &b) : "the plugin has no entry";
    if (!tap_ok(accepted ? !why : why && strstr(why, "another version"), "%s", what))
        tap_diag("%s", why ? why : "accepted");
}

static void contracts(const char *plugin)
{
    void *library = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
    plugin_entry *entry = library ? (plugin_entry *)dlsym(library, "ccld_cuda_backend") : NULL;
    struct plugin_op ops[PLUGIN_OP_COUNT];
    memcpy(ops, plugin_ops, sizeof ops);
    contract(entry, plugin_contract(PLUGIN_BUILD_ID, ops, PLUGIN_OP_COUNT), true,
             "a program of the same build");
    contract(entry, plugin_contract(PLUGIN_BUILD_ID + 1, ops, PLUGIN_OP_COUNT), false,
             "a program of another build");
    contract(entry, plugin_contract(PLUGIN_BUILD_ID, ops, PLUGIN_OP_COUNT - 1), false,
             "a program with one op fewer");
    swap(ops, "upsample_nearest2x", "avg_pool2x2");
    contract(entry, plugin_contract(PLUGIN_BUILD_ID, ops, PLUGIN_OP_COUNT), false,
             "a program with two ops of equal size swapped");
    swap(ops, "upsample_nearest2x", "avg_pool2x2");
    ops[0].args_size += 8;
    contract(entry, plugin_contract(PLUGIN_BUILD_ID, ops, PLUGIN_OP_COUNT), false,
             "a program with other arguments of an op");
}

static void machines(const char *plugin)
{
    struct attempt a = {.plugin = plugin, .spec = "cuda"};
    opened(a, "opened cuda\n", "cuda");
    a.spec = "auto";
    opened(a, "opened cuda\n", "auto uses the GPU");
    a.spec = "cuda:0";
    opened(a, "opened cuda\n", "cuda:0");
    a.spec = "cuda:1";
    refused(a, "no GPU 1", "cuda:1 with one GPU");
    a.variable = "CCLD_EMULATED_GPUS", a.value = "2";
    opened(a, "opened cuda\n", "cuda:1 with two GPUs");
    a.spec = "cuda:2";
    refused(a, "0 to 1", "cuda:2 with two GPUs");
    a.spec = "cuda", a.value = "0";
    refused(a, "there is no GPU", "a driver without a GPU");
    a.spec = "auto";
    opened(a, "opened cpu\n", "auto with a driver but no GPU");
    a.spec = "cuda", a.variable = "CCLD_EMULATED_DRIVER", a.value = "0";
    refused(a, "no NVIDIA driver", "no driver");
    a.value = "11040";
    refused(a, "driver is too old: it is for CUDA 11.4", "an old driver");
    a.variable = "CCLD_EMULATED_CAPABILITY", a.value = "75";
    refused(a, "capability is 7.5", "an old GPU");
}

static unsigned char byte_at(size_t i)
{
    return (unsigned char)((uint64_t)i * UINT64_C(0x9E3779B97F4A7C15) >> 56);
}

/* Copies of all sizes and alignments, some larger than the staging buffers. */
static void copies(struct device *d)
{
    static const size_t sizes[] = {1,
                                   3,
                                   4,
                                   255,
                                   256,
                                   257,
                                   65537,
                                   1000003,
                                   (2 << 20) - 1,
                                   2 << 20,
                                   (2 << 20) + 1,
                                   (8 << 20) + 5,
                                   33333333};
    size_t most = 33333333 + 64, granted;
    unsigned char *here = xmalloc(most), *back = xmalloc(most);
    unsigned char *there = device_allocate(d, most, &granted);
    for (size_t i = 0; i < most; i++)
        here[i] = byte_at(i);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t n = sizes[k], at = k % 5;
        memset(back, 0, most);
        d->backend->upload(d, there, back, n + 16);
        d->backend->upload(d, there + at, here + k, n);
        d->backend->download(d, back, there, n + 16);
        bool ok = !memcmp(back + at, here + k, n);
        for (size_t i = 0; i < 16; i++)
            ok &= back[i < at ? i : n + i] == 0;
        tap_ok(ok, "%zu bytes go there and back, and no others change", n);
    }
    bool ok = true;
    for (size_t i = 0; i < 6000; i++) { /* the source changes as soon as the call returns */
        memset(back, (int)i, 3001);
        d->backend->upload(d, there + i * 5001, back, 3001);
    }
    d->backend->download(d, back, there, 6000 * 5001);
    for (size_t i = 0; i < 6000; i++)
        for (size_t j = 0; j < 3001; j += 1000)
            ok &= back[i * 5001 + j] == (unsigned char)i;
    tap_ok(ok, "6000 copies without waiting");
    memset(back, 0, most);
    for (size_t i = 0; i < 3; i++) {
        d->backend->upload(d, there, here + i, 9000001);
        d->backend->upload(d, there + 9000001, here, 7);
    }
    d->backend->download(d, back, there, 9000008);
    tap_ok(!memcmp(back, here + 2, 9000001) && !memcmp(back + 9000001, here, 7),
           "long and short copies alternate");
    device_release(d, there, granted);
    free(here);
    free(back);
}

static void memory(struct device *d)
{
    size_t before, after, total;
    d->backend->memory(d, &before, &total);
    void *p = d->backend->allocate(d, 100 << 20);
    d->backend->memory(d, &after, &total);
    tap_ok(p && before <= total && after + (100 << 20) <= before,
           "allocating 100 MiB of %zu MiB reduces free memory", total >> 20);
    tap_ok((uintptr_t)p % 256 == 0, "memory is aligned to 256 bytes");
    if (p)
        d->backend->deallocate(d, p);
    tap_ok(device_memory_left(d) >= before, "freed memory is available again");
    tap_ok(!d->backend->allocate(d, total + 1), "allocating more than the device has returns NULL");
    p = d->backend->allocate(d, 1000);
    tap_ok(p != NULL, "and later allocations succeed");
    if (p)
        d->backend->deallocate(d, p);
}

static void precisions(struct device *d)
{
    static const struct {
        const char *name, *is;
        enum dtype compute;
    } known[] = {{"fp32", "fp32", DTYPE_F32},
                 {"fp16", "fp16", DTYPE_F16},
                 {"bf16", "bf16", DTYPE_BF16},
                 {"auto", "bf16", DTYPE_BF16}};
    struct error e;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        tap_ok(device_set_precision(d, known[i].name, false, &e) == 0 &&
                   d->compute == known[i].compute && !strcmp(device_precision(d), known[i].is),
               "--precision %s", known[i].name);
    tap_ok(device_set_precision(d, "fp8", false, &e) == -1, "--precision fp8 is refused");
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    char *plugin = emulated_plugin();
    struct device *d;
    struct error e;
    absent_or_broken();
    machines(plugin);
    emulated_cuda();
    if (device_open(&d, "cuda", &e) != 0)
        die("%s", e.text);
    tap_ok(!d->host_memory, "the CPU cannot read its memory");
    copies(d);
    memory(d);
    precisions(d);
    device_close(d);
    contracts(plugin);
    free(plugin);
    return tap_done();
}
