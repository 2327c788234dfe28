#include "common/diffusion/schedule.h"

#include <math.h>
#include <string.h>

const char *const schedule_names[] = {"spliced", "ddpm", "log", NULL};

double angle_of_time(float t)
{
    return t * (float)M_PI / 2;
}

struct alpha_sigma alpha_sigma_of_time(float t)
{
    double angle = angle_of_time(t);
    return (struct alpha_sigma){cos(angle), sin(angle)};
}

/* Times are computed in single precision, rounding after each operation as the reference does: the
 * network receives them as input, and samples with few steps are sensitive to their last digit. The
 * elementary functions are evaluated in double, so the result does not depend on the C library. */
float time_of_alpha_sigma(float alpha, float sigma)
{
    return (float)atan2(sigma, alpha) / (float)M_PI * 2;
}

static float sigmoid(float x)
{
    return 1 / (1 + (float)exp(-x));
}

float time_of_log_snr(float log_snr)
{
    return time_of_alpha_sigma(sqrtf(sigmoid(log_snr)), sqrtf(sigmoid(-log_snr)));
}

static float ddpm_time(float u)
{
    float noise_to_signal = (float)expm1(1e-4f + 10 * (u * u));
    return time_of_log_snr(-(float)log(noise_to_signal));
}

/* The position at which DDPM's schedule has the slope of the identity, and its time there. From
 * that point to the clean end, the cosine schedule takes over. */
#define DDPM_CROSSOVER   0.48536712
#define COSINE_CROSSOVER 0.80074257

static float spliced_time(float u)
{
    float t = u * (float)(1 + COSINE_CROSSOVER - DDPM_CROSSOVER);
    if (t < (float)COSINE_CROSSOVER)
        return t;
    return ddpm_time(t + (float)DDPM_CROSSOVER - (float)COSINE_CROSSOVER);
}

#define LOG_SNR_MAX 10

float schedule_time(enum schedule s, float u)
{
    switch (s) {
    case SCHEDULE_DDPM:
        return ddpm_time(u);
    case SCHEDULE_LOG:
        return time_of_log_snr(u * (-2 * LOG_SNR_MAX) + LOG_SNR_MAX);
    case SCHEDULE_SPLICED:
        break;
    }
    return spliced_time(u);
}

/* torch.linspace(1, 0, n + 1) counts from the nearer end. */
static float linspace_to_zero(int n, int i)
{
    float step = -1.0f / (float)n;
    return i < (n + 1) / 2 ? 1 + step * (float)i : -step * (float)(n - i);
}

void schedule_steps(enum schedule s, int n, float *steps)
{
    for (int i = 0; i < n; i++)
        steps[i] = schedule_time(s, linspace_to_zero(n, i));
}

int schedule_cut(float *steps, int n, double starting_time)
{
    int first = 0;
    while (first < n && !(steps[first] < starting_time))
        first++;
    memmove(steps, steps + first, (size_t)(n - first) * sizeof *steps);
    return n - first;
}
