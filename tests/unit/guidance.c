#include <math.h>

#include "common/base/message.h"
#include "common/diffusion/guidance.h"
#include "tests/support/tap.h"

#define COUNT    21 /* more than one linear_combination accepts */
#define ELEMENTS 6

static struct device *device;
static struct tape tape;

static double value(int condition, int element)
{
    return sin(1 + 3 * condition + 0.7 * element);
}

static double worst_error(struct tensor *sum, int count, const float *weights)
{
    float ours[ELEMENTS], expected[ELEMENTS];
    tensor_to_f32(sum, ours);
    for (int j = 0; j < ELEMENTS; j++) {
        double total = 0;
        for (int i = 0; i < count; i++)
            total += weights[i] * value(i, j);
        expected[j] = (float)total;
    }
    tensor_release(sum);
    return max_abs_difference(ours, expected, ELEMENTS);
}

static void test_weights(void)
{
    float weights[4];
    guidance_weights(weights, (double[]){3, -0.5, 1}, 3);
    tap_ok(weights[0] == -2.5f && weights[1] == 3 && weights[2] == -0.5f && weights[3] == 1,
           "the unconditional weight is one minus the others");
    guidance_weights(weights, NULL, 0);
    tap_ok(weights[0] == 1, "no prompts: unconditional");
    double tenths[10];
    float many[11];
    for (int i = 0; i < 10; i++)
        tenths[i] = 0.1;
    guidance_weights(many, tenths, 10);
    tap_ok(fabsf(many[0]) <= 1e-7f, "ten tenths leave no unconditional weight");
}

static void test_unguided_weights(void)
{
    float guided[4], weights[4];
    guidance_weights(guided, (double[]){3, -0.5, 1.5}, 3);
    bool are = guidance_unguided_weights(weights, guided, 3);
    tap_ok(are && weights[0] == 0 && weights[1] == 0.75f && weights[2] == -0.125f &&
               weights[3] == 0.375f,
           "without guidance: the prompts' normalized weights");
    guidance_weights(guided, (double[]){2, -2}, 2);
    tap_ok(!guidance_unguided_weights(weights, guided, 2) &&
               !guidance_unguided_weights(weights, guided, 0),
           "prompts that cancel out, or none, cannot be normalized");
}

/* guidance_combine of slices: v holds the predictions stacked as [count * n, ...]. */
static struct tensor *combine_stacked(int count, struct tensor *v, const float *weights)
{
    int64_t n = v->shape[0] / count;
    struct tensor *parts[COUNT];
    for (int i = 0; i < count; i++)
        parts[i] = tensor_slice(v, i * n, n);
    struct tensor *sum = guidance_combine(&tape, count, parts, weights);
    for (int i = 0; i < count; i++)
        tensor_release(parts[i]);
    return sum;
}

static void test_combine(int count)
{
    float data[COUNT * ELEMENTS], weights[COUNT];
    struct tensor *v[COUNT];
    for (int i = 0; i < count; i++) {
        weights[i] = (float)cos(2 * i);
        for (int j = 0; j < ELEMENTS; j++)
            data[i * ELEMENTS + j] = (float)value(i, j);
        v[i] = tensor_from_f32(device, DIMS(2, 3), data + i * ELEMENTS);
    }
    double error = worst_error(guidance_combine(&tape, count, v, weights), count, weights);
    tap_ok(error <= 3e-6, "%d predictions: %.2g", count, error);
    struct tensor *stacked = tensor_from_f32(device, DIMS(2 * count, 3), data);
    error = worst_error(combine_stacked(count, stacked, weights), count, weights);
    tap_ok(error <= 3e-6, "%d stacked predictions: %.2g", count, error);
    tensor_release(stacked);

    /* Entries of weight 0 are not read. */
    for (int i = 0; count > 1 && i < count; i += 2) {
        weights[i] = 0;
        tensor_replace(&v[i], NULL);
    }
    error = worst_error(guidance_combine(&tape, count, v, weights), count, weights);
    tap_ok(error <= 3e-6, "%d predictions, some of weight 0: %.2g", count, error);
    for (int i = 0; i < count; i++)
        tensor_release(v[i]);
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    struct error e;
    if (device_open(&device, "cpu", &e))
        die("cannot open the CPU: %s", e.text);
    tape_init(&tape, device);
    test_weights();
    test_unguided_weights();
    for (int count = 1; count <= COUNT; count++)
        test_combine(count);
    tape_release(&tape);
    tap_ok(device_memory(device).in_use == 0, "no tensor is leaked");
    device_close(device);
    return tap_done();
}
