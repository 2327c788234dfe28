/* Asks the real cuDNN for engines for the networks' convolutions, without a GPU: since 9.8 it plans
 * for a GPU given by a description. Nothing is run. TAP. */
#include <dlfcn.h>
#include <string.h>

#include "kernels/cuda/cudnn_graph.h"

extern "C" {
#include "tests/support/tap.h"
}

#define PLANS_MOST 8

#if CUDNN_VERSION >= 90800
typedef cudnnStatus_t set_attribute(cudnnBackendDescriptor_t, cudnnBackendAttributeName_t,
                                    cudnnBackendAttributeType_t, int64_t, const void *);

static cudnnBackendDescriptor_t gpu;

/* Called instead of the library's function, which it then calls: passes the description where the
 * backend would have queried the handle's GPU. */
extern "C" cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor,
                                                  cudnnBackendAttributeName_t name,
                                                  cudnnBackendAttributeType_t type, int64_t count,
                                                  const void *values)
{
    static set_attribute *const real =
        (set_attribute *)dlsym(RTLD_NEXT, "cudnnBackendSetAttribute");
    if (type == CUDNN_TYPE_HANDLE)
        return CUDNN_STATUS_SUCCESS;
    cudnnStatus_t status = real(descriptor, name, type, count, values);
    if (status == CUDNN_STATUS_SUCCESS && name == CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)
        status = real(descriptor, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                      1, &gpu);
    if (status == CUDNN_STATUS_SUCCESS && name == CUDNN_ATTR_ENGINE_OPERATION_GRAPH)
        status =
            real(descriptor, CUDNN_ATTR_ENGINE_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &gpu);
    return status;
}

/* As cuDNN describes a device, with the numbers of data sheets. */
static const struct {
    const char *name, *json;
} gpus[] = {
    {"H200", R"({"deviceName": "NVIDIA H200", "cudaDeviceId": 0, "deviceVer": 900,
        "driverVer": 13000, "multiProcessorCount": 132, "maxSharedMemoryPerBlockOptin": 232448,
        "l2CacheSize": 52428800, "smClockRateKHz": 1980000, "memClockRateKHz": 2619000,
        "totalGlobalMem": 150000000000, "maxGridSize": [2147483647, 65535, 65535],
        "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536, "warpSize": 32,
        "maxSharedMemoryPerBlock": 49152, "reservedSharedMemoryPerBlock": 1024,
        "maxRegistersPerSM": 65536, "pciDeviceId": 0, "maxCtasPerSM": 32,
        "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "isTccDriver": 0,
        "supportCoopLaunch": 1})"},
    {"A100", R"({"deviceName": "NVIDIA A100-SXM4-80GB", "cudaDeviceId": 0, "deviceVer": 800,
        "driverVer": 13000, "multiProcessorCount": 108, "maxSharedMemoryPerBlockOptin": 166912,
        "l2CacheSize": 41943040, "smClockRateKHz": 1410000, "memClockRateKHz": 1593000,
        "totalGlobalMem": 85000000000, "maxGridSize": [2147483647, 65535, 65535],
        "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536, "warpSize": 32,
        "maxSharedMemoryPerBlock": 49152, "reservedSharedMemoryPerBlock": 1024,
        "maxRegistersPerSM": 65536, "pciDeviceId": 0, "maxCtasPerSM": 32,
        "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "isTccDriver": 0,
        "supportCoopLaunch": 1})"},
};

/* n, h = w, ci, co, kernel, stride, padding at the beginning and end. */
static const int shapes[][8] = {
    {8, 32, 20, 128, 3, 1, 1, 1},   {8, 32, 256, 256, 3, 1, 1, 1}, {8, 8, 512, 512, 3, 1, 1, 1},
    {8, 32, 128, 4, 3, 1, 1, 1},    {1, 256, 3, 128, 3, 1, 1, 1},  {1, 256, 128, 3, 3, 1, 1, 1},
    {1, 128, 128, 128, 3, 2, 0, 1}, {1, 64, 64, 64, 4, 2, 1, 1},   {3, 7, 5, 3, 3, 1, 1, 1},
    {2, 13, 33, 31, 5, 3, 2, 1},
};

/* Finds plans for one problem; each must be found again by its name. */
static bool has_plans(const struct convolution_problem *p)
{
    static struct convolution_plan plans[PLANS_MOST];
    const descriptor graph = convolution_graph(nullptr, p);
    if (graph.status != CUDNN_STATUS_SUCCESS) {
        tap_diag("no graph: %s", cudnnGetErrorString(graph.status));
        return false;
    }
    const int count = convolution_plans(nullptr, graph, p, (int64_t)1 << 30, plans, PLANS_MOST);
    bool good = count > 0;
    for (int i = 0; i < count; i++) {
        struct convolution_plan again;
        if (convolution_plan_named(nullptr, graph, plans[i].name, &again) &&
            again.workspace == plans[i].workspace && !strcmp(again.name, plans[i].name))
            continue;
        tap_diag("'%s' was not found again", plans[i].name);
        good = false;
    }
    return good;
}

/* adds: to the output, forward a residual. */
static void test_direction(const char *name, enum dtype type, enum convolution_direction direction,
                           int bias, int adds, int tf32, int alignment)
{
    static const char *const types[] = {"F32", "F16", "BF16"};
    static const char *const directions[] = {"forward", "backward data", "backward weight"};
    int planned = 0;
    for (const auto &s : shapes) {
        const int out = (s[1] + s[6] + s[7] - s[4]) / s[5] + 1;
        struct convolution_problem p;
        memset(&p, 0, sizeof p);
        p.c = {type, s[0], s[1], s[1], s[2], out, out, s[3], s[4], s[4], s[5], s[6], s[7]};
        p.direction = direction;
        p.bias = bias;
        p.adds = adds;
        p.tf32 = tf32;
        p.alignment = alignment;
        if (has_plans(&p))
            planned++;
        else
            tap_diag("%d images of %dx%d, %d to %d channels, kernel %d", s[0], s[1], s[1], s[2],
                     s[3], s[4]);
    }
    const int count = (int)(sizeof shapes / sizeof *shapes);
    tap_ok(planned == count, "%s, %s%s, %s%s%s, alignment %d: %d of %d convolutions have plans",
           name,
           types[type == DTYPE_F32   ? 0
                 : type == DTYPE_F16 ? 1
                                     : 2],
           tf32 ? " as TF32" : "", directions[direction], bias ? " with bias" : "",
           !adds                              ? ""
           : direction == CONVOLUTION_FORWARD ? " and residual"
                                              : " added",
           alignment, planned, count);
}

static void test_gpu(const char *name, const char *json)
{
    descriptor described(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    described.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(json),
                  json);
    if (!described.finalize()) {
        tap_skip("this cuDNN describes GPUs differently", "%s", name);
        return;
    }
    gpu = described.get();
    for (enum dtype type : {DTYPE_F32, DTYPE_F16, DTYPE_BF16}) {
        const int element = type == DTYPE_F32 ? 4 : 2;
        test_direction(name, type, CONVOLUTION_FORWARD, 0, 0, 0, 16);
        test_direction(name, type, CONVOLUTION_FORWARD, 1, 0, 0, 16);
        test_direction(name, type, CONVOLUTION_FORWARD, 1, 0, 0, element);
        test_direction(name, type, CONVOLUTION_FORWARD, 1, 1, 0, 16);
        test_direction(name, type, CONVOLUTION_BACKWARD_DATA, 0, 0, 0, 16);
        test_direction(name, type, CONVOLUTION_BACKWARD_DATA, 0, 1, 0, 16);
        test_direction(name, type, CONVOLUTION_BACKWARD_WEIGHT, 0, 0, 0, 16);
        test_direction(name, type, CONVOLUTION_BACKWARD_WEIGHT, 0, 0, 0, element);
    }
    test_direction(name, DTYPE_F32, CONVOLUTION_FORWARD, 1, 0, 1, 16);
}
#endif

int main()
{
#if CUDNN_VERSION >= 90800
    for (const auto &g : gpus)
        test_gpu(g.name, g.json);
#else
    tap_skip("needs cuDNN 9.8", "plans without a GPU");
#endif
    return tap_done();
}
