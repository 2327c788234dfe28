#include "common/program/devices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "tests/support/emulated.h"
#include "tests/support/tap.h"

/* devices_parse may end the program, so every case runs in a process of its own. */
struct attempt {
    const char *gpus; /* that the emulator has; NULL: there is no plugin */
    const char *text, *device;
    enum devices_unsaid unsaid;
};

/* Writes the devices' names, and what goes to stderr. */
_Noreturn static void attempt_child(const struct attempt *a, int to)
{
    struct device_list l;
    char *plugin = emulated_plugin();
    setenv("CCLD_CUDA_PLUGIN", a->gpus ? plugin : "/no/such/plugin.so", 1);
    free(plugin);
    setenv("CCLD_EMULATED_GPUS", a->gpus ? a->gpus : "0", 1);
    fflush(NULL);
    dup2(to, STDERR_FILENO);
    devices_parse(&l, a->text, a->device, a->unsaid);
    for (int i = 0; i < l.count; i++) {
        common_options.device = a->device;
        devices_select(&l, i);
        dprintf(to, "%s%s", i ? " " : "", common_options.device);
    }
    _exit(0);
}

/* Expects what the attempt writes to begin like this, and its status. */
static void gives(struct attempt a, const char *wanted, int wanted_status)
{
    char said[4096];
    int ends[2], status;
    size_t length = 0;
    ssize_t n;
    CHECK(pipe(ends) == 0);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        attempt_child(&a, ends[1]);
    close(ends[1]);
    while ((n = read(ends[0], said + length, sizeof said - 1 - length)) > 0)
        length += (size_t)n;
    said[length] = 0;
    close(ends[0]);
    CHECK(waitpid(child, &status, 0) == child);
    bool good = WIFEXITED(status) && WEXITSTATUS(status) == wanted_status &&
                (wanted_status == 0 ? !strcmp(said, wanted) : strstr(said, wanted) != NULL);
    if (!tap_ok(good, "%s GPUs, --device %s --devices %s: %s", a.gpus ? a.gpus : "no", a.device,
                a.text ? a.text : "(none)", wanted))
        tap_diag("%s", said);
}

static void lists(void)
{
    gives((struct attempt){"4", "all", "auto", DEVICES_ONE}, "cuda:0 cuda:1 cuda:2 cuda:3", 0);
    gives((struct attempt){"4", "all", "cuda", DEVICES_ONE}, "cuda:0 cuda:1 cuda:2 cuda:3", 0);
    gives((struct attempt){"4", "2", "auto", DEVICES_ONE}, "cuda:0 cuda:1", 0);
    gives((struct attempt){"4", "2,", "auto", DEVICES_ONE}, "cuda:2", 0);
    gives((struct attempt){"4", "3,0", "cuda", DEVICES_ONE}, "cuda:3 cuda:0", 0);
    gives((struct attempt){"99", "all", "cuda", DEVICES_ALL} /* DEVICES_MAX */,
          "cuda:0 cuda:1 cuda:2 cuda:3 cuda:4 cuda:5 cuda:6 cuda:7 cuda:8 cuda:9 cuda:10 cuda:11 "
          "cuda:12 cuda:13 cuda:14 cuda:15 cuda:16 cuda:17 cuda:18 cuda:19 cuda:20 cuda:21 cuda:22 "
          "cuda:23 cuda:24 cuda:25 cuda:26 cuda:27 cuda:28 cuda:29 cuda:30 cuda:31 cuda:32 cuda:33 "
          "cuda:34 cuda:35 cuda:36 cuda:37 cuda:38 cuda:39 cuda:40 cuda:41 cuda:42 cuda:43 cuda:44 "
          "cuda:45 cuda:46 cuda:47 cuda:48 cuda:49 cuda:50 cuda:51 cuda:52 cuda:53 cuda:54 cuda:55 "
          "cuda:56 cuda:57 cuda:58 cuda:59 cuda:60 cuda:61 cuda:62 cuda:63",
          0);
    gives((struct attempt){"4", "3", "cpu", DEVICES_ALL}, "cpu cpu cpu", 0);
    gives((struct attempt){"0", "2", "auto", DEVICES_ONE}, "auto auto", 0);
    gives((struct attempt){NULL, "2", "auto", DEVICES_ONE}, "auto auto", 0);
}

static void unsaid(void)
{
    static const char *const devices[] = {"auto", "cpu", "cuda", "cuda:1", "ref"};
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        gives((struct attempt){"2", NULL, devices[i], DEVICES_ONE}, devices[i], 0);
    gives((struct attempt){"2", NULL, "auto", DEVICES_ALL}, "cuda:0 cuda:1", 0);
    gives((struct attempt){"2", NULL, "cuda", DEVICES_ALL}, "cuda:0 cuda:1", 0);
    gives((struct attempt){"2", NULL, "cuda:1", DEVICES_ALL}, "cuda:1", 0);
    gives((struct attempt){"2", NULL, "cpu", DEVICES_ALL}, "cpu", 0);
    gives((struct attempt){NULL, NULL, "auto", DEVICES_ALL}, "auto", 0);
    gives((struct attempt){NULL, NULL, "cuda", DEVICES_ALL}, "cannot load the CUDA backend", 1);
}

static void refused(void)
{
    gives((struct attempt){"2", "3", "auto", DEVICES_ONE}, "there are only 2 GPUs", 2);
    gives((struct attempt){"1", "2", "auto", DEVICES_ONE}, "there is only 1 GPU\n", 2);
    gives((struct attempt){"2", "0,2", "auto", DEVICES_ONE}, "no GPU 2: they are 0 to 1", 2);
    gives((struct attempt){"1", "1,", "auto", DEVICES_ONE}, "no GPU 1: the only one is 0", 2);
    gives((struct attempt){"2", "1,1", "auto", DEVICES_ONE}, "GPU 1 is listed twice", 2);
    gives((struct attempt){"2", "all", "cpu", DEVICES_ONE}, "'all' names GPUs: with --device cpu",
          2);
    gives((struct attempt){"2", "0,1", "cpu", DEVICES_ONE}, "'0,1' names GPUs", 2);
    gives((struct attempt){"2", "2", "cuda:1", DEVICES_ONE}, "cannot be combined", 2);
    gives((struct attempt){"0", "all", "auto", DEVICES_ONE}, "cannot use GPUs: there is no GPU", 1);
    gives((struct attempt){"0", "all", "cuda", DEVICES_ONE}, "there is no GPU", 1);
    gives((struct attempt){NULL, "0,1", "auto", DEVICES_ONE}, "cannot use GPUs: cannot load", 1);
    static const char *const wrong[] = {"", "0", "65", "two", "-1", "1.5", "2x", "+2", "99999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        gives((struct attempt){"2", wrong[i], "cpu", DEVICES_ONE}, "is not 'all', a number from 1",
              2);
    static const char *const wrong_lists[] = {",", "0,,1", ",1", "0,x", "0, 1", "all,"};
    for (size_t i = 0; i < sizeof wrong_lists / sizeof *wrong_lists; i++)
        gives((struct attempt){"2", wrong_lists[i], "cuda", DEVICES_ONE}, "is not 'all'", 2);
}

int main(void)
{
    lists();
    unsaid();
    refused();
    return tap_done();
}
