#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cudnn_graph.h"

#define CONFIGURATIONS 64 /* maximum requested from heuristics */

static bool has_note(const cudnnBackendNumericalNote_t *notes, int64_t count,
                     cudnnBackendNumericalNote_t note)
{
    for (int64_t i = 0; i < count; i++)
        if (notes[i] == note)
            return true;
    return false;
}

/* Whether every run gives the same results, as precise as required. Training resumed from a
 * checkpoint must give the same bytes as training that was never interrupted. */
static bool engine_is_exact(const descriptor &engine, const struct convolution_problem *p)
{
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t count = 0;
    if (cudnnBackendGetAttribute(engine.get(), CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                 CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count,
                                 notes) != CUDNN_STATUS_SUCCESS)
        return false;
    if (count > CUDNN_NUMERICAL_NOTE_TYPE_COUNT)
        count = CUDNN_NUMERICAL_NOTE_TYPE_COUNT;
    static const cudnnBackendNumericalNote_t never[] = {
        CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION,
        CUDNN_NUMERICAL_NOTE_FFT, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6,
        CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13};
    for (cudnnBackendNumericalNote_t note : never)
        if (has_note(notes, count, note))
            return false;
    if (p->c.type != DTYPE_F32) /* transformed tiles would be rounded to 16 bits */
        return !has_note(notes, count, CUDNN_NUMERICAL_NOTE_WINOGRAD) &&
               !has_note(notes, count, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4);
    /* Tensor cores treat F32 as TF32; converting inputs means 16 bits. */
    return !has_note(notes, count, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS) &&
           (p->tf32 || !has_note(notes, count, CUDNN_NUMERICAL_NOTE_TENSOR_CORE));
}

/* Compiling a kernel takes seconds per shape and depends on more than cuDNN's version. */
static bool engine_compiles(const descriptor &engine)
{
    cudnnBackendBehaviorNote_t notes[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    int64_t count = 0;
    if (cudnnBackendGetAttribute(engine.get(), CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE,
                                 CUDNN_TYPE_BEHAVIOR_NOTE, CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, &count,
                                 notes) != CUDNN_STATUS_SUCCESS)
        return true;
    for (int64_t i = 0; i < count && i < CUDNN_BEHAVIOR_NOTE_TYPE_COUNT; i++)
        if (notes[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION)
            return true;
    return false;
}

/* The engine's index and knobs as text; empty if unknown. */
static void name_engine(const descriptor &engine, const descriptor &configuration, char *name,
                        size_t size)
{
    int64_t index = 0, count = 0;
    descriptor choices[CUDNN_KNOB_TYPE_COUNTS];
    cudnnBackendDescriptor_t knobs[CUDNN_KNOB_TYPE_COUNTS];
    for (int i = 0; i < CUDNN_KNOB_TYPE_COUNTS; i++) {
        choices[i] = descriptor(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        knobs[i] = choices[i].get();
    }
    name[0] = 0;
    if (cudnnBackendGetAttribute(engine.get(), CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1,
                                 &count, &index) != CUDNN_STATUS_SUCCESS ||
        cudnnBackendGetAttribute(configuration.get(), CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, CUDNN_KNOB_TYPE_COUNTS, &count,
                                 knobs) != CUDNN_STATUS_SUCCESS ||
        count > CUDNN_KNOB_TYPE_COUNTS)
        return;
    size_t used = (size_t)snprintf(name, size, "engine %" PRId64, index);
    for (int64_t i = 0; i < count; i++) {
        cudnnBackendKnobType_t type = CUDNN_KNOB_TYPE_COUNTS;
        int64_t value = 0, one = 0;
        bool told =
            cudnnBackendGetAttribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE,
                                     CUDNN_TYPE_KNOB_TYPE, 1, &one,
                                     &type) == CUDNN_STATUS_SUCCESS &&
            cudnnBackendGetAttribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64,
                                     1, &one, &value) == CUDNN_STATUS_SUCCESS;
        if (told)
            used += (size_t)snprintf(name + used, size - used, " %d=%" PRId64, (int)type, value);
        if (!told || used >= size) {
            name[0] = 0;
            return;
        }
    }
}

static bool make_plan(cudnnHandle_t handle, const descriptor &configuration,
                      struct convolution_plan *plan)
{
    plan->plan = descriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    plan->plan.set_descriptor(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    /* Only earlier releases of cuDNN 9 need this; a failure does not matter. */
    if (handle && plan->plan.status == CUDNN_STATUS_SUCCESS)
        cudnnBackendSetAttribute(plan->plan.get(), CUDNN_ATTR_EXECUTION_PLAN_HANDLE,
                                 CUDNN_TYPE_HANDLE, 1, &handle);
#pragma GCC diagnostic pop
    int64_t count;
    return plan->plan.finalize() &&
           cudnnBackendGetAttribute(plan->plan.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                    CUDNN_TYPE_INT64, 1, &count,
                                    &plan->workspace) == CUDNN_STATUS_SUCCESS;
}

/* Appends the proposals of one kind of heuristics to plans[count ..], either of engines that are
 * compiled on use or of the others. Returns the new count. */
static int propose(cudnnHandle_t handle, const descriptor &graph, cudnnBackendHeurMode_t mode,
                   const struct convolution_problem *p, int64_t workspace_limit, bool compiled,
                   struct convolution_plan *plans, int count, int most)
{
    descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristics.set_descriptor(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (!heuristics.finalize())
        return count;
    descriptor configurations[CONFIGURATIONS];
    cudnnBackendDescriptor_t results[CONFIGURATIONS];
    for (int i = 0; i < CONFIGURATIONS; i++) {
        configurations[i] = descriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        results[i] = configurations[i].get();
    }
    int64_t proposed = 0;
    if (cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, CONFIGURATIONS, &proposed,
                                 results) != CUDNN_STATUS_SUCCESS)
        return count;
    for (int64_t i = 0; i < proposed && i < CONFIGURATIONS && count < most; i++) {
        descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
        cudnnBackendDescriptor_t of_configuration = engine.get();
        struct convolution_plan *plan = &plans[count];
        int64_t one = 0;
        if (cudnnBackendGetAttribute(configurations[i].get(), CUDNN_ATTR_ENGINECFG_ENGINE,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &one,
                                     &of_configuration) != CUDNN_STATUS_SUCCESS ||
            !engine_is_exact(engine, p) || engine_compiles(engine) != compiled ||
            !make_plan(handle, configurations[i], plan) || plan->workspace > workspace_limit)
            continue;
        name_engine(engine, configurations[i], plan->name, sizeof plan->name);
        bool known = false;
        for (int j = 0; j < count && plan->name[0]; j++)
            known = known || !strcmp(plans[j].name, plan->name);
        count += !known;
    }
    return count;
}

int convolution_plans(cudnnHandle_t handle, const descriptor &graph,
                      const struct convolution_problem *p, int64_t workspace_limit,
                      struct convolution_plan *plans, int most)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    int count = 0;
    for (int compiled = 0; compiled < 2 && !count; compiled++)
        for (cudnnBackendHeurMode_t mode : modes)
            count = propose(handle, graph, mode, p, workspace_limit, compiled, plans, count, most);
    return count;
}

bool convolution_plan_named(cudnnHandle_t handle, const descriptor &graph, const char *name,
                            struct convolution_plan *plan)
{
    char *rest;
    if (strncmp(name, "engine ", 7) || strlen(name) >= sizeof plan->name)
        return false;
    const int64_t index = strtoll(name + 7, &rest, 10);
    descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    engine.set_descriptor(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    engine.set_int(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, index);
    if (rest == name + 7 || !engine.finalize())
        return false;
    descriptor choices[CUDNN_KNOB_TYPE_COUNTS];
    cudnnBackendDescriptor_t knobs[CUDNN_KNOB_TYPE_COUNTS];
    int64_t count = 0;
    while (*rest) {
        char *after;
        const cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)strtol(rest, &after, 10);
        if (after == rest || *after != '=' || count == CUDNN_KNOB_TYPE_COUNTS)
            return false;
        const int64_t value = strtoll(after + 1, &rest, 10);
        if (rest == after + 1 || (*rest && *rest != ' '))
            return false;
        descriptor *choice = &choices[count];
        *choice = descriptor(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        choice->set(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        choice->set_int(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, value);
        if (!choice->finalize())
            return false;
        knobs[count++] = choice->get();
    }
    descriptor configuration(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    configuration.set_descriptor(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (count)
        configuration.set(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, count,
                          knobs);
    if (!configuration.finalize() || !make_plan(handle, configuration, plan))
        return false;
    snprintf(plan->name, sizeof plan->name, "%s", name);
    return true;
}
