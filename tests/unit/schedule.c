#include <math.h>
#include <string.h>

#include "common/base/message.h"
#include "common/diffusion/schedule.h"
#include "tests/support/tap.h"

static void test_conversions(void)
{
    double worst = 0;
    for (int i = 0; i <= 1000; i++) {
        float t = (float)i / 1000;
        struct alpha_sigma a = alpha_sigma_of_time(t);
        worst = fmax(worst, fabs(a.alpha * a.alpha + a.sigma * a.sigma - 1));
        worst = fmax(worst, fabs(time_of_alpha_sigma((float)a.alpha, (float)a.sigma) - t));
        if (i > 0 && i < 1000)
            worst = fmax(worst, fabs(time_of_log_snr((float)(2 * log(a.alpha / a.sigma))) - t) / 4);
    }
    tap_ok(worst <= 3e-7, "time to alpha and sigma to log SNR and back: %.2g", worst);
}

static void test_steps(void)
{
    for (int s = 0; schedule_names[s]; s++) {
        float steps[1000];
        bool decreasing = true;
        schedule_steps((enum schedule)s, 1000, steps);
        for (int i = 1; i < 1000; i++)
            decreasing = decreasing && steps[i] < steps[i - 1];
        tap_ok(decreasing && steps[0] <= 1 && steps[0] > 0.99f && steps[999] > 0,
               "%s: 1000 steps from %.4f down to %.4f", schedule_names[s], steps[0], steps[999]);
        float one;
        schedule_steps((enum schedule)s, 1, &one);
        tap_ok(one == steps[0], "%s: a single step", schedule_names[s]);
    }
    /* Below the crossover the spliced schedule is a straight line; it meets DDPM's without a jump.
     */
    float u = 0.80074257f / 1.31537545f;
    tap_ok(fabsf(schedule_time(SCHEDULE_SPLICED, 0.3f) - 0.3f * 1.31537545f) <= 1e-6f,
           "spliced: linear at the clean end");
    float jump =
        schedule_time(SCHEDULE_SPLICED, u + 1e-4f) - schedule_time(SCHEDULE_SPLICED, u - 1e-4f);
    tap_ok(fabsf(jump - 2e-4f * 1.31537545f) <= 3e-6f, "spliced: smooth at the crossover");
    tap_ok(fabsf(schedule_time(SCHEDULE_LOG, 0.5f) - 0.5f) <= 1e-6f,
           "log: the middle is log SNR 0");
}

static void test_cut(void)
{
    float steps[] = {0.9f, 0.7f, 0.5f, 0.3f}, all[4], none[4];
    memcpy(all, steps, sizeof steps);
    memcpy(none, steps, sizeof steps);
    tap_ok(schedule_cut(all, 4, 1) == 4 && !memcmp(all, steps, sizeof steps), "no step is cut");
    tap_ok(schedule_cut(none, 4, 0.3f) == 0, "every step is cut");
    tap_ok(schedule_cut(steps, 4, 0.7f) == 2 && steps[0] == 0.5f && steps[1] == 0.3f,
           "a step at the starting time itself is cut");
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    test_conversions();
    test_steps();
    test_cut();
    return tap_done();
}
