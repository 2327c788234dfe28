/* What tests of the emulator share. */
#ifndef CCLD_TESTS_CUDA_HOST_TESTING_H
#define CCLD_TESTS_CUDA_HOST_TESTING_H

#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "kernels/cuda/cuda.cuh"

extern "C" {
#include "tests/support/tap.h"
}

static cudaStream_t stream; /* made by main */

template <typename T> struct device_array {
    T *data;
    size_t n;
    explicit device_array(size_t count) : n(count)
    {
        cuda_check(cudaMalloc(&data, n * sizeof(T)));
    }
    explicit device_array(const std::vector<T> &x) : device_array(x.size())
    {
        cuda_check(cudaMemcpy(data, x.data(), n * sizeof(T), cudaMemcpyHostToDevice));
    }
    ~device_array()
    {
        cuda_check(cudaFree(data));
    }
    std::vector<T> read() const
    {
        std::vector<T> x(n);
        cuda_check(cudaStreamSynchronize(stream));
        cuda_check(cudaMemcpy(x.data(), data, n * sizeof(T), cudaMemcpyDeviceToHost));
        return x;
    }
};

/* f's error message, or the empty string if it succeeds. */
static inline std::string refusal(const std::function<void()> &f)
{
    int ends[2];
    if (pipe(ends))
        return "";
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        f();
        _exit(cudaDeviceSynchronize() == cudaSuccess ? 0 : 2);
    }
    close(ends[1]);
    std::string said;
    char text[1024];
    for (ssize_t n; (n = read(ends[0], text, sizeof text)) > 0;)
        said.append(text, (size_t)n);
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : said;
}

static inline void refused(const char *title, const char *text, const std::function<void()> &f)
{
    const std::string said = refusal(f);
    if (!tap_ok(said.find(text) != std::string::npos, "refused: %s", title))
        tap_diag("%s", said.c_str());
}

#endif
