#include "kernels/cuda/nccl.h"

#include <dlfcn.h>

#ifdef CUDA_ON_HOST
#define NCCL_NAME "libccld-cuda-host.so" /* the emulator has its own */
#else
#define NCCL_NAME "libnccl.so.2"
#endif

static const char *load(struct nccl *out)
{
    static char why[600];
    const char *named = getenv("CCLD_NCCL");
    void *library = dlopen(named && *named ? named : NCCL_NAME, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(why, sizeof why,
                 "cannot load NCCL, which several GPUs need: %s; install libnccl2 or the PyPI "
                 "package nvidia-nccl-cu%d, or set CCLD_NCCL to the library's path",
                 dlerror(), CUDART_VERSION / 1000);
        return why;
    }
    const char *missing = NULL;
#define FUNCTION(name, result, parameters)                                                         \
    out->name = (result(*) parameters)dlsym(library, #name);                                       \
    if (!out->name)                                                                                \
        missing = #name;
    NCCL_FUNCTIONS
#undef FUNCTION
    if (missing) {
        snprintf(why, sizeof why, "NCCL has no %s: version 2.13 or later is needed", missing);
        return why;
    }
    return NULL;
}

const struct nccl *nccl_load(const char **problem)
{
    static struct nccl nccl;
    static const char *failure;
    static bool tried;
    if (!tried) {
        /* Sums made in the switch differ from call to call. */
        setenv("NCCL_NVLS_ENABLE", "0", 0);
        failure = load(&nccl);
    }
    tried = true;
    *problem = failure;
    return failure ? NULL : &nccl;
}
