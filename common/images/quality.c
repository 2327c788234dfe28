#include "common/images/quality.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"

#define WINDOW_MAX 11
#define SIGMA      1.5
#define K1         0.01
#define K2         0.03

static double unit(float x)
{
    return x < -1 ? 0 : x > 1 ? 1 : (x + 1.0) / 2; /* NaN stays NaN */
}

double image_psnr(const float *a, const float *b, int height, int width)
{
    size_t n = 3 * (size_t)height * (size_t)width;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double d = unit(a[i]) - unit(b[i]);
        sum += d * d;
    }
    return -10 * log10(sum / (double)n);
}

static double luma(const float *x, size_t pixels, size_t i)
{
    return 0.299 * unit(x[i]) + 0.587 * unit(x[pixels + i]) + 0.114 * unit(x[2 * pixels + i]);
}

static void make_window(double *w, int side)
{
    double sum = 0;
    for (int i = 0; i < side; i++) {
        double x = i - side / 2;
        sum += w[i] = exp(-x * x / (2 * SIGMA * SIGMA));
    }
    for (int i = 0; i < side; i++)
        w[i] /= sum;
}

/* Weighted means of x at the positions where the window fits: [height - side + 1, width - side +
 * 1]. scratch: [height, width]. */
static void blur(double *out, double *scratch, const double *x, int height, int width,
                 const double *w, int side)
{
    int columns = width - side + 1;
    for (int y = 0; y < height; y++)
        for (int i = 0; i < columns; i++) {
            double sum = 0;
            for (int k = 0; k < side; k++)
                sum += w[k] * x[y * width + i + k];
            scratch[y * columns + i] = sum;
        }
    for (int y = 0; y + side <= height; y++)
        for (int i = 0; i < columns; i++) {
            double sum = 0;
            for (int k = 0; k < side; k++)
                sum += w[k] * scratch[(y + k) * columns + i];
            out[y * columns + i] = sum;
        }
}

enum { A, B, AA, BB, AB, SCRATCH, PLANES };

double image_ssim(const float *a, const float *b, int height, int width)
{
    int side = height < width ? height : width;
    side = side >= WINDOW_MAX ? WINDOW_MAX : side - (side % 2 == 0);
    CHECK(side >= 1);
    double w[WINDOW_MAX], *x[PLANES], *mean[SCRATCH];
    size_t pixels = (size_t)height * (size_t)width;
    make_window(w, side);
    for (int i = 0; i < PLANES; i++)
        x[i] = xmalloc(pixels * sizeof *x[i]);
    for (size_t i = 0; i < pixels; i++) {
        x[A][i] = luma(a, pixels, i);
        x[B][i] = luma(b, pixels, i);
        x[AA][i] = x[A][i] * x[A][i];
        x[BB][i] = x[B][i] * x[B][i];
        x[AB][i] = x[A][i] * x[B][i];
    }
    for (int i = 0; i < SCRATCH; i++) {
        mean[i] = xmalloc(pixels * sizeof *mean[i]);
        blur(mean[i], x[SCRATCH], x[i], height, width, w, side);
    }
    size_t positions = (size_t)(height - side + 1) * (size_t)(width - side + 1);
    double sum = 0;
    for (size_t i = 0; i < positions; i++) {
        double ma = mean[A][i], mb = mean[B][i];
        double va = mean[AA][i] - ma * ma, vb = mean[BB][i] - mb * mb;
        double covariance = mean[AB][i] - ma * mb;
        sum += (2 * ma * mb + K1 * K1) * (2 * covariance + K2 * K2) /
               ((ma * ma + mb * mb + K1 * K1) * (va + vb + K2 * K2));
    }
    for (int i = 0; i < PLANES; i++)
        free(x[i]);
    for (int i = 0; i < SCRATCH; i++)
        free(mean[i]);
    return sum / (double)positions;
}
