#include "tests/support/emulated.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"

char *emulated_plugin(void)
{
    char program[4096];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    CHECK(length > 0);
    program[length] = 0;
    *strrchr(program, '/') = 0;
    return path_join(program, "../cuda-host/libccld-cuda-host.so");
}

void emulated_cuda(void)
{
    char *path = emulated_plugin();
    setenv("CCLD_CUDA_PLUGIN", path, 0);
    free(path);
}
