#ifndef CCLD_DIFFUSION_SCHEDULE_H
#define CCLD_DIFFUSION_SCHEDULE_H

/* Time t in [0, 1] is an angle: x_t = alpha x_0 + sigma noise, alpha = cos(pi t / 2), sigma =
 * sin(pi t / 2). A schedule says which times a sampler visits. */

struct alpha_sigma {
    double alpha, sigma;
};
struct alpha_sigma alpha_sigma_of_time(float t);
/* pi t / 2 in the reference's single precision: near t = 1, where alpha is small, its last digits
 * decide the fifth digit of alpha and of a few-step sample. */
double angle_of_time(float t);
float time_of_alpha_sigma(float alpha, float sigma);
/* alpha^2 = sigmoid(log_snr), log_snr = log(alpha^2 / sigma^2). */
float time_of_log_snr(float log_snr);

enum schedule {
    SCHEDULE_SPLICED, /* DDPM's while noisy, cosine (the identity) below their crossing */
    SCHEDULE_DDPM,    /* log_snr = -log(expm1(1e-4 + 10 u^2)) (Ho et al., arXiv 2006.11239) */
    SCHEDULE_LOG,     /* log_snr evenly spaced from -10 to 10 */
};
/* For option tables: in the order of the enum, then NULL. */
extern const char *const schedule_names[];

/* The time at position u in [0, 1]; u = 1 is the noisy end. */
float schedule_time(enum schedule s, float u);

/* steps[i] = schedule_time(1 - i / n) for i < n: decreasing times that end above 0; samplers go
 * from the last one to a clean image. */
void schedule_steps(enum schedule s, int n, float *steps);

/* For a start from an image: drops the leading steps that are not below `starting_time`. Returns
 * how many are left (0: the time is too small for this many steps); they move to steps[0...]. The
 * latent to start from is image * alpha + noise * sigma at the time steps[0]. */
int schedule_cut(float *steps, int n, double starting_time);

#endif
