#include <stdlib.h>
#include <sys/mman.h>

#include "tests/cuda-host/count.h"

static count_listener *the_listener;

void ccld_cuda_count_work(count_listener *listener)
{
    the_listener = listener;
}

bool cuda_host::counts()
{
    static const char *asked = getenv("CCLD_EMULATED_COUNT");
    return asked && *asked == '1';
}

bool cuda_host::counted(const char *name, double flop, double bytes)
{
    if (!counts())
        return false;
    if (the_listener)
        the_listener(name, flop, bytes);
    return true;
}

void *cuda_host::reserve(size_t bytes)
{
    void *p = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? nullptr : p;
}

void cuda_host::give_back(void *p, size_t bytes)
{
    munmap(p, bytes);
}
