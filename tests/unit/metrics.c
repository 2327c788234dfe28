/* metrics.jsonl has complete lines only, and none of steps that a resumed run repeats. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/run/metrics.h"
#include "formats/images/image.h"
#include "tests/support/tap.h"

static char folder[4200], path[4300];

static void new_folder(const char *name)
{
    snprintf(folder, sizeof folder, "%s/%s", test_folder(), name);
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    CHECK(mkdir(folder, 0777) == 0);
}

static struct metrics *open_metrics(int64_t resumed_step)
{
    struct metrics *m = NULL;
    struct error e;
    if (metrics_open(&m, folder, resumed_step, &e) != 0)
        tap_diag("%s", e.text);
    CHECK(m);
    return m;
}

static char *content(void)
{
    uint8_t *data;
    size_t size;
    struct error e;
    CHECK(file_read(&data, &size, path, 1 << 20, &e) == 0);
    return (char *)data;
}

static void set_content(const char *text)
{
    FILE *f = fopen(path, "wb");
    CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void ok_content(const char *expected, const char *what)
{
    char *got = content();
    if (!tap_ok(strcmp(got, expected) == 0, "%s", what))
        tap_diag("got: %s", got);
    free(got);
}

static double number(const cJSON *line, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(line, key);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

static bool string_is(const cJSON *line, const char *key, const char *expected)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(line, key);
    return cJSON_IsString(item) && strcmp(item->valuestring, expected) == 0;
}

static void test_lines(void)
{
    new_folder("lines");
    struct metrics *m = open_metrics(-1);
    struct error e = {""};
    const struct metric metrics[] = {{"loss", 1.0 / 3}, {"loss/t-quartile-1", 1e-30}, {"bad", NAN}};
    const char *paths[] = {"a.jpg", "b \"c\"\n.jpg", "caf\xe9.jpg"};
    struct image image;
    uint8_t *png;
    size_t size;
    CHECK(image_new(&image, 4, 4, 3, 8, &e) == 0 &&
          png_encode(&png, &size, &image, NULL, 0, -1, &e) == 0);
    image_release(&image);
    CHECK(metrics_scalars(m, 7, metrics, 3, &e) == 0 &&
          metrics_image(m, 8, "demo", "demo/00000008.png", png, size, &e) == 0 &&
          metrics_text(m, 9, "prompts", "one\ntwo", &e) == 0 &&
          metrics_paths(m, 10, "bad batch", "not finite", paths, 3, &e) == 0);
    free(png);
    metrics_close(m);

    char *text = content(), *end;
    cJSON *lines[4];
    for (int i = 0; i < 4; i++) {
        lines[i] = cJSON_ParseWithOpts(i ? end + 1 : text, (const char **)&end, false);
        CHECK(lines[i] && *end == '\n' && number(lines[i], "step") == 7 + i &&
              number(lines[i], "time") > 1.6e9);
    }
    tap_ok(end[1] == 0, "four objects, one per line");
    tap_ok(number(lines[0], "loss") == 1.0 / 3 && number(lines[0], "loss/t-quartile-1") == 1e-30 &&
               cJSON_IsNull(cJSON_GetObjectItem(lines[0], "bad")),
           "numbers are exact, null if not finite");
    tap_ok(string_is(lines[1], "event", "demo") &&
               string_is(lines[1], "image", "demo/00000008.png"),
           "an image and its path");
    tap_ok(string_is(lines[2], "event", "prompts") && string_is(lines[2], "text", "one\ntwo"),
           "a text with a line break");
    const cJSON *list = cJSON_GetObjectItem(lines[3], "paths");
    tap_ok(cJSON_GetArraySize(list) == 3 &&
               strcmp(cJSON_GetArrayItem(list, 1)->valuestring, paths[1]) == 0 &&
               strcmp(cJSON_GetArrayItem(list, 2)->valuestring, "caf\xef\xbf\xbd.jpg") == 0,
           "paths, made valid UTF-8");
    for (int i = 0; i < 4; i++)
        cJSON_Delete(lines[i]);
    free(text);
}

static void test_resume(void)
{
    new_folder("resume");
    struct stat before, after;
    set_content("{\"step\":1}\n{\"step\":2,\"x\":{\"step\":9}}\n{\"step\":3}\n{\"step\":2}\n");
    CHECK(stat(path, &before) == 0);
    metrics_close(open_metrics(3));
    CHECK(stat(path, &after) == 0);
    ok_content("{\"step\":1}\n{\"step\":2,\"x\":{\"step\":9}}\n{\"step\":3}\n{\"step\":2}\n",
               "lines of earlier steps stay");
    tap_ok(before.st_ino == after.st_ino, "and the file is not rewritten");
    metrics_close(open_metrics(2));
    ok_content("{\"step\":1}\n{\"step\":2,\"x\":{\"step\":9}}\n{\"step\":2}\n",
               "lines of later steps are removed");
    metrics_close(open_metrics(-1));
    ok_content("", "a new run starts with an empty file");

    set_content("{\"step\":1}\n{\"step\":2,\"lo");
    metrics_close(open_metrics(5));
    ok_content("{\"step\":1}\n", "an incomplete last line is removed");
    set_content("{\"step\":1}\n{\"step\":2}");
    metrics_close(open_metrics(5));
    ok_content("{\"step\":1}\n", "even if only its newline is missing");
    set_content("{\"step\":1}\nnonsense\n\n{\"step\":\"2\"}\n{\"step\":2}\n");
    metrics_close(open_metrics(5));
    ok_content("{\"step\":1}\n{\"step\":2}\n", "lines that are not metrics are removed");

    struct metrics *m = open_metrics(1);
    struct error e;
    CHECK(metrics_scalars(m, 2, NULL, 0, &e) == 0);
    metrics_close(m);
    char *text = content();
    tap_ok(strncmp(text, "{\"step\":1}\n{\"step\":2,\"time\":", 28) == 0 &&
               text[strlen(text) - 1] == '\n',
           "a resumed run appends");
    free(text);
}

static void test_errors(void)
{
    struct metrics *m;
    struct error e = {""};
    snprintf(folder, sizeof folder, "%s/nowhere", test_folder());
    tap_ok(metrics_open(&m, folder, 0, &e) != 0 && strstr(e.text, "metrics.jsonl"),
           "a missing folder is reported: %s", e.text);

    /* A limit on file sizes acts as a disk that is full in the middle of a line. */
    new_folder("full");
    pid_t child = fork();
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){300, RLIM_INFINITY});
        const char *paths[20];
        for (int i = 0; i < 20; i++)
            paths[i] = "a-path-of-some-length.jpg";
        if (metrics_open(&m, folder, -1, &e) != 0)
            _exit(2);
        bool first = metrics_scalars(m, 1, NULL, 0, &e) == 0;
        bool second = metrics_paths(m, 2, "bad", "text", paths, 20, &e) == 0;
        bool reported = strstr(e.text, "metrics.jsonl") != NULL;
        bool third = metrics_scalars(m, 3, NULL, 0, &e) == 0;
        _exit(first && !second && reported && third ? 0 : 1);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    char *text = content(), *second = strchr(text, '\n');
    tap_ok(status == 0 && strncmp(text, "{\"step\":1,", 10) == 0 && second &&
               strncmp(second, "\n{\"step\":3,", 11) == 0 && strchr(second + 1, '\n')[1] == 0,
           "a line that does not fit leaves nothing behind (status %d)", status);
    free(text);
}

int main(void)
{
    test_lines();
    test_resume();
    test_errors();
    return tap_done();
}
