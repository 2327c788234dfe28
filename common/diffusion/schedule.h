#ifndef CCLD_DIFFUSION_SCHEDULE_H
#define CCLD_DIFFUSION_SCHEDULE_H

/* Time t in [0, 1] is an angle: x_t = alpha x_0 + sigma noise, alpha = cos(pi t / 2), sigma =
 * sin(pi t / 2). A schedule determines the timesteps of a sampler. */

struct alpha_sigma {
    double alpha, sigma;
};
struct alpha_sigma alpha_sigma_of_time(float t);
/* pi t / 2 in single precision, as in the reference: near t = 1, where alpha is small, its last
 * digits determine the fifth digit of alpha and of samples with few steps. */
double angle_of_time(float t);
float time_of_alpha_sigma(float alpha, float sigma);
/* alpha^2 = sigmoid(log_snr), log_snr = log(alpha^2 / sigma^2). */
float time_of_log_snr(float log_snr);

enum schedule {
    SCHEDULE_SPLICED, /* DDPM's at the noisy end, cosine (the identity) below their crossover */
    SCHEDULE_DDPM,    /* log_snr = -log(expm1(1e-4 + 10 u^2)) (Ho et al., arXiv 2006.11239) */
    SCHEDULE_LOG,     /* log_snr evenly spaced from -10 to 10 */
};
/* For option tables: in the order of the enum, then NULL. */
extern const char *const schedule_names[];

/* The time at position u in [0, 1]; u = 1 is the noisy end. */
float schedule_time(enum schedule s, float u);

/* steps[i] = schedule_time(1 - i / n) for i < n: decreasing times that end above 0. Samplers go
 * from the last one to a clean image. */
void schedule_steps(enum schedule s, int n, float *steps);

/* For sampling from an image: drops the leading steps that are not below `starting_time`, moves the
 * others to the beginning and returns their number (0: the time is too low for this many steps).
 * The initial latent is image * alpha + noise * sigma at steps[0]. */
int schedule_cut(float *steps, int n, double starting_time);

#endif
