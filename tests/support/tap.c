#include "tests/support/tap.h"

#include <ftw.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int tests_run, tests_failed, tests_skipped;

static void print_name(const char *format, va_list args)
{
    vprintf(format, args);
    putchar('\n');
    fflush(stdout);
}

bool tap_ok(bool passed, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    tests_run++;
    tests_failed += !passed;
    printf("%sok %d - ", passed ? "" : "not ", tests_run);
    print_name(format, args);
    va_end(args);
    return passed;
}

void tap_skip(const char *why, const char *format, ...)
{
    bool wanted = getenv("CCLD_EXPECT_GPU");
    va_list args;
    va_start(args, format);
    tests_run++;
    tests_skipped += !wanted;
    tests_failed += wanted;
    printf("%sok %d - ", wanted ? "not " : "", tests_run);
    vprintf(format, args);
    printf(wanted ? ": %s, but nothing may be skipped here\n" : " # SKIP %s\n", why);
    fflush(stdout);
    va_end(args);
}

void tap_diag(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("# ");
    print_name(format, args);
    va_end(args);
}

int tap_done(void)
{
    printf("1..%d\n", tests_run);
    if (tests_skipped)
        printf("# %d skipped\n", tests_skipped);
    return tests_failed || tests_run == 0;
}

double relative_l2(const float *a, const float *b, size_t n)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(a[i]) || !isfinite(b[i]))
            return INFINITY;
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return norm > 0 ? sqrt(difference / norm) : (difference > 0 ? INFINITY : 0);
}

double max_abs_difference(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        if (!isfinite(d))
            return INFINITY;
        worst = d > worst ? d : worst;
    }
    return worst;
}

static char folder[4096];

static int remove_entry(const char *path, const struct stat *s, int type, struct FTW *ftw)
{
    return remove(path);
}

static void remove_folder(void)
{
    nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *test_folder(void)
{
    if (!folder[0]) {
        const char *base = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/ccld-test-XXXXXX", base ? base : "/tmp");
        if (!mkdtemp(folder)) {
            perror("mkdtemp");
            exit(99);
        }
        atexit(remove_folder);
    }
    return folder;
}
