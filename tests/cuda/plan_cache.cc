/* The cache keeps choices, the first one for all processes, and survives damage. TAP. */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "kernels/cuda/internal.cuh"
#include "kernels/cuda/plan_cache.h"

extern "C" {
#include "tests/support/tap.h"
}

static void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static void keep_quiet(const char *format, ...)
{
}

static struct plugin_host host;
const struct plugin_host *plugin_host = &host;

static struct plan_cache *open_cache(const char *folder)
{
    return plan_cache_new(folder, "library-1", "GPU 9/x");
}

static bool is(const char *value, const char *expected)
{
    return value && expected ? !strcmp(value, expected) : value == expected;
}

/* Whether a new process finds this value. */
static bool finds(const char *folder, const char *key, const char *expected)
{
    struct plan_cache *c = open_cache(folder);
    const bool good = is(plan_cache_get(c, key), expected);
    plan_cache_free(c);
    return good;
}

static std::string read_file(const std::string &path)
{
    std::string text;
    char buffer[4096];
    size_t got;
    FILE *f = fopen(path.c_str(), "r");
    if (!f)
        fail("cannot open '%s'", path.c_str());
    while ((got = fread(buffer, 1, sizeof buffer, f)))
        text.append(buffer, got);
    fclose(f);
    return text;
}

static void write_file(const std::string &path, const std::string &text)
{
    FILE *f = fopen(path.c_str(), "w");
    if (!f || fwrite(text.data(), 1, text.size(), f) != text.size() || fclose(f))
        fail("cannot write '%s'", path.c_str());
}

static void test_keeping(const char *folder)
{
    struct plan_cache *c = open_cache(folder), *other = open_cache(folder);
    tap_ok(plan_cache_keeps(c) && !plan_cache_get(c, "a"), "a new cache is empty");
    tap_ok(is(plan_cache_put(c, "a", "1", nullptr), "1") && is(plan_cache_get(c, "a"), "1"),
           "a stored value is found");
    tap_ok(is(plan_cache_put(other, "a", "2", nullptr), "1"), "the first choice stays");
    tap_ok(is(plan_cache_put(other, "aa", "3", nullptr), "3") &&
               is(plan_cache_get(other, "a"), "1"),
           "a key that is a prefix of another is distinct");
    tap_ok(is(plan_cache_put(c, "a", "4", "1"), "4") && finds(folder, "a", "4"),
           "a stale value is replaced");
    tap_ok(is(plan_cache_put(other, "a", "5", "1"), "4"), "but only once");
    tap_ok(finds(folder, "aa", "3") && finds(folder, "b", nullptr),
           "another process finds the same values");
    plan_cache_free(c);
    plan_cache_free(other);
}

static void test_damage(const char *folder, const std::string &path)
{
    const std::string whole = read_file(path);
    bool good = true;
    for (size_t length = 0; length < whole.size(); length++) {
        write_file(path, whole.substr(0, length));
        struct plan_cache *c = open_cache(folder);
        const char *value = plan_cache_get(c, "a");
        good = good && (!value || is(value, "1") || is(value, "4"));
        plan_cache_free(c);
    }
    tap_ok(good, "a truncated file yields no wrong value");
    good = true;
    for (size_t i = 0; i < whole.size(); i++) {
        std::string damaged = whole;
        damaged[i] = (char)(damaged[i] ^ 1);
        write_file(path, damaged);
        struct plan_cache *c = open_cache(folder);
        const char *value = plan_cache_get(c, "aa");
        good = good && (!value || is(value, "3"));
        plan_cache_free(c);
    }
    tap_ok(good, "a line with a flipped bit is ignored");
    write_file(path, whole + "half a li");
    struct plan_cache *c = open_cache(folder);
    plan_cache_put(c, "after", "6", nullptr);
    plan_cache_free(c);
    tap_ok(finds(folder, "after", "6") && finds(folder, "a", "4"), "a truncated line is dropped");
}

#define WRITERS 8
#define KEYS    20

static void test_processes(const char *folder)
{
    for (int writer = 0; writer < WRITERS; writer++) {
        if (fork())
            continue;
        struct plan_cache *c = open_cache(folder);
        for (int i = 0; i < KEYS; i++)
            plan_cache_put(c, ("key " + std::to_string(i)).c_str(), std::to_string(writer).c_str(),
                           nullptr);
        _exit(0);
    }
    bool good = true;
    for (int status, writer = 0; writer < WRITERS; writer++)
        good = wait(&status) > 0 && !status && good;
    struct plan_cache *c = open_cache(folder);
    for (int i = 0; i < KEYS; i++) {
        const std::string key = "key " + std::to_string(i);
        const char *value = plan_cache_get(c, key.c_str());
        const std::string found = value ? value : "";
        good = good && !found.empty() &&
               is(plan_cache_put(c, key.c_str(), "x", nullptr), found.c_str());
    }
    plan_cache_free(c);
    tap_ok(good, "%d processes agree on %d choices", WRITERS, KEYS);
}

int main()
{
    host.die = (decltype(host.die))fail;
    host.note = host.warn = keep_quiet;
    const char *folder = test_folder();
    test_keeping(folder);
    test_damage(folder, std::string(folder) + "/plans-library-1-GPU_9_x");
    test_processes(folder);
    struct plan_cache *none = open_cache(nullptr);
    tap_ok(!plan_cache_keeps(none) && is(plan_cache_put(none, "a", "1", nullptr), "1") &&
               !plan_cache_get(none, "a"),
           "nothing is kept without a folder");
    plan_cache_free(none);
    return tap_done();
}
