#include "kernels/plugin.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"

#define PLUGIN_NAME "libccld-cuda.so"
#define INSTALLED   "../lib/ccld" /* relative to the program */

/* The plugin's path, or NULL. */
static char *find_plugin(void)
{
    const char *named = getenv("CCLD_CUDA_PLUGIN");
    if (named && *named)
        return xstrdup(named);
    return find_beside_program(PLUGIN_NAME, INSTALLED);
}

/* $XDG_CACHE_HOME/ccld, else ~/.cache/ccld; NULL if it cannot be created. */
static char *cache_folder(void)
{
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *folder = NULL;
    struct error e;
    if (base && *base)
        folder = path_join(base, "ccld");
    else if (home && *home)
        folder = path_join(home, ".cache/ccld");
    if (folder && make_directories(folder, &e) != 0) {
        free(folder);
        folder = NULL;
    }
    return folder;
}

/* What the plugin exports besides its table. */
struct entries {
    plugin_open *open;
    plugin_count *count;
};

static int load(struct backend *b, struct entries *x, struct error *e)
{
    char *path = find_plugin();
    if (!path)
        return error_set(e, "this build has no CUDA backend (%s is not beside the program)",
                         PLUGIN_NAME);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    free(path);
    if (!library)
        return error_set(e, "cannot load the CUDA backend: %s", dlerror());
    plugin_entry *entry = (plugin_entry *)dlsym(library, "ccld_cuda_backend");
    x->open = (plugin_open *)dlsym(library, "ccld_cuda_open");
    x->count = (plugin_count *)dlsym(library, "ccld_cuda_count");
    if (!entry || !x->open || !x->count)
        return error_set(e, "cannot load the CUDA backend: it is of another version");
    static struct plugin_host host; /* the plugin keeps a pointer to it */
    host = (struct plugin_host){
        .contract = plugin_contract(PLUGIN_BUILD_ID, plugin_ops, PLUGIN_OP_COUNT),
        .die = die,
        .warn = warn,
        .note = note,
        .allocate = device_allocate,
        .release = device_release,
        .cache_folder = cache_folder(),
    };
    const char *problem = entry(&host, b);
    if (problem)
        return error_set(e, "cannot use the CUDA backend: %s", problem);
    return 0; /* stays loaded until the program ends */
}

static int load_once(const struct backend **table, const struct entries **x, struct error *e)
{
    static struct backend its_table;
    static struct entries its_entries;
    static struct error failure;
    static enum { NOT_TRIED, LOADED, FAILED } state;
    if (state == NOT_TRIED)
        state = load(&its_table, &its_entries, &failure) == 0 ? LOADED : FAILED;
    if (state == FAILED)
        return error_set(e, "%s", failure.text);
    *table = &its_table;
    *x = &its_entries;
    return 0;
}

int plugin_backend(const struct backend **out, plugin_open **open, struct error *e)
{
    const struct entries *x;
    if (load_once(out, &x, e) != 0)
        return -1;
    *open = x->open;
    return 0;
}

int plugin_count_gpus(int *count, struct error *e)
{
    const struct backend *table;
    const struct entries *x;
    if (load_once(&table, &x, e) != 0)
        return -1;
    const char *problem = x->count(count);
    return problem ? error_set(e, "%s", problem) : 0;
}
