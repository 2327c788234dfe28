#include "common/program/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/text.h"
#include "common/base/write_all.h"
#include "kernels/plugin.h"

struct answer {
    int count; /* of GPUs; -1: e says why it is unknown */
    struct error e;
};

_Noreturn static void ask(int to)
{
    struct answer a = {0};
    if (plugin_count_gpus(&a.count, &a.e) != 0)
        a.count = -1;
    bool written = write_all(to, &a, sizeof a, NULL) == 0;
    _exit(written ? 0 : 1); /* without CUDA's exit handlers */
}

/* Returns -1 if they cannot be counted. */
static int count_gpus(struct error *e)
{
    struct answer a;
    int ends[2], status;
    ssize_t n;
    if (pipe(ends) != 0)
        die("cannot make a pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0)
        die("cannot start a process that counts GPUs: %s", strerror(errno));
    if (child == 0)
        ask(ends[1]);
    close(ends[1]);
    while ((n = read(ends[0], &a, sizeof a)) < 0 && errno == EINTR) {
    }
    close(ends[0]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (n != sizeof a) {
        error_set(e, "the process that counts GPUs failed");
        return -1;
    }
    *e = a.e;
    return a.count;
}

/* Reads a number from *at; -1 if there is none below 10,000. */
static int take_number(const char **at)
{
    size_t digits = strspn(*at, "0123456789");
    if (digits < 1 || digits > 4)
        return -1;
    int number = atoi(*at);
    *at += digits;
    return number;
}

_Noreturn static void refuse(const char *text)
{
    die_usage("option '--devices': '%s' is not 'all', a number from 1 to %d or a list of GPUs",
              text, DEVICES_MAX);
}

static void add_gpu(struct device_list *l, int gpu, int gpus)
{
    if (gpu >= gpus && gpus == 1)
        die_usage("option '--devices': there is no GPU %d: the only one is 0", gpu);
    if (gpu >= gpus)
        die_usage("option '--devices': there is no GPU %d: they are 0 to %d", gpu, gpus - 1);
    for (int i = 0; i < l->count; i++)
        if (l->ids[i] == gpu)
            die_usage("option '--devices': GPU %d is listed twice", gpu);
    if (l->count == DEVICES_MAX)
        die_usage("option '--devices': more than %d GPUs", DEVICES_MAX);
    l->ids[l->count++] = gpu;
}

static void parse_list(struct device_list *l, const char *text, int gpus)
{
    l->count = 0;
    for (const char *at = text; *at;) {
        int gpu = take_number(&at);
        if (gpu < 0 || (*at && *at != ','))
            refuse(text);
        add_gpu(l, gpu, gpus);
        at += *at == ',';
    }
}

static int parse_count(const char *text)
{
    const char *at = text;
    int count = take_number(&at);
    if (count < 1 || count > DEVICES_MAX || *at)
        refuse(text);
    return count;
}

static void first_gpus(struct device_list *l, int count)
{
    l->gpu = true;
    l->count = count < DEVICES_MAX ? count : DEVICES_MAX;
    for (int i = 0; i < l->count; i++)
        l->ids[i] = i;
}

static void parse_gpus(struct device_list *l, const char *text, int gpus)
{
    if (!text || !strcmp(text, "all")) {
        first_gpus(l, gpus);
    } else if (strchr(text, ',')) {
        l->gpu = true;
        parse_list(l, text, gpus);
    } else {
        int count = parse_count(text);
        if (count > gpus)
            die_usage("option '--devices': there %s only %d GPU%s", gpus == 1 ? "is" : "are", gpus,
                      plural(gpus));
        first_gpus(l, count);
    }
}

void devices_parse(struct device_list *out, const char *text, const char *device,
                   enum devices_unsaid unsaid)
{
    bool automatic = !strcmp(device, "auto"), cuda = !strcmp(device, "cuda");
    struct error why;
    *out = (struct device_list){.count = 1};
    if (!text && (unsaid == DEVICES_ONE || (!automatic && !cuda)))
        return;
    if (!strncmp(device, "cuda:", 5))
        die_usage("--devices and --device %s cannot be combined: list GPUs with --devices", device);
    int gpus = automatic || cuda ? count_gpus(&why) : 0;
    if (cuda && gpus < 0)
        die("cannot use device 'cuda': %s", why.text);
    if (gpus > 0) {
        parse_gpus(out, text, gpus);
    } else if (text && (!strcmp(text, "all") || strchr(text, ','))) {
        if (automatic)
            die("cannot use GPUs: %s", why.text);
        die_usage("option '--devices': '%s' names GPUs: with --device %s, give a number of "
                  "processes",
                  text, device);
    } else if (text) {
        out->count = parse_count(text);
    }
}

void devices_of_task(struct device_list *out, const char *device, int task)
{
    struct error why;
    *out = (struct device_list){.count = 1};
    bool cuda = !strcmp(device, "cuda");
    if (!cuda && strcmp(device, "auto") != 0)
        return;
    int gpus = count_gpus(&why);
    if (cuda && gpus < 0)
        die("cannot use device 'cuda': %s", why.text);
    out->gpu = gpus > 0;
    if (out->gpu)
        out->ids[0] = task % gpus; /* a launcher may show each task its own one only */
}

void devices_select(const struct device_list *l, int process)
{
    static char spec[32];
    CHECK(process >= 0 && process < l->count);
    if (!l->gpu)
        return;
    snprintf(spec, sizeof spec, "cuda:%d", l->ids[process]);
    common_options.device = spec;
}
