#include "common/diffusion/schedule.h"

#include <math.h>
#include <string.h>

const char *const schedule_names[] = {"spliced", "ddpm", "log", NULL};

struct alpha_sigma alpha_sigma_of_time(double t)
{
    return (struct alpha_sigma){cos(t * M_PI_2), sin(t * M_PI_2)};
}

double time_of_alpha_sigma(double alpha, double sigma)
{
    return atan2(sigma, alpha) * M_2_PI;
}

double time_of_log_snr(double log_snr)
{
    return atan(exp(-log_snr / 2)) * M_2_PI;
}

static double ddpm_time(double u)
{
    return time_of_log_snr(-log(expm1(1e-4 + 10 * u * u)));
}

/* Where DDPM's schedule has the slope of the identity, and its time there: from that point on
 * towards the clean end the cosine schedule goes on. */
#define DDPM_CROSSOVER   0.48536712
#define COSINE_CROSSOVER 0.80074257

static double spliced_time(double u)
{
    double t = u * (1 + COSINE_CROSSOVER - DDPM_CROSSOVER);
    return t < COSINE_CROSSOVER ? t : ddpm_time(t + DDPM_CROSSOVER - COSINE_CROSSOVER);
}

#define LOG_SNR_MAX 10

double schedule_time(enum schedule s, double u)
{
    switch (s) {
    case SCHEDULE_DDPM:
        return ddpm_time(u);
    case SCHEDULE_LOG:
        return time_of_log_snr(LOG_SNR_MAX - 2 * LOG_SNR_MAX * u);
    case SCHEDULE_SPLICED:
        break;
    }
    return spliced_time(u);
}

void schedule_steps(enum schedule s, int n, float *steps)
{
    for (int i = 0; i < n; i++)
        steps[i] = (float)schedule_time(s, 1 - (double)i / n);
}

int schedule_cut(float *steps, int n, double starting_time)
{
    int first = 0;
    while (first < n && !(steps[first] < starting_time))
        first++;
    memmove(steps, steps + first, (size_t)(n - first) * sizeof *steps);
    return n - first;
}
