/* The last checkpoint survives kills at any moment and full disks. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/rng.h"
#include "tests/support/checkpoints.h"
#include "tests/support/disk_calls.h"
#include "tests/support/tap.h"

static int64_t file_size(const char *path)
{
    struct stat st;
    CHECK(stat(path, &st) == 0);
    return st.st_size;
}

/* Limits the size of files, so that saving fails at various points. */
static void test_full_disk(void)
{
    char run[4200];
    snprintf(run, sizeof run, "%s", checkpoints_folder("full"));
    struct error e = {""};
    tap_ok(checkpoint_check_space(test_folder(), INT64_MAX / 2, &e) != 0 &&
               strstr(e.text, "free") && checkpoint_check_space(test_folder(), 1, NULL) == 0,
           "too little space is reported: %s", e.text);
    float value = 1;
    struct parameters *p = checkpoints_parameters(64);
    checkpoints_each(p, checkpoints_set, &value);
    struct run *r = checkpoints_run(run);
    CHECK(checkpoints_save(r, p, 1, 1));
    char *before = xstrdup(checkpoints_entries(run));
    char *large = xasprintf("%s/step-00000001/optimizer.safetensors", run);
    int64_t size = file_size(large);
    bool failed = true, told = true, intact = true;
    for (int64_t limit = 0; limit < size; limit += size / 12) {
        pid_t child = fork();
        if (child == 0) {
            signal(SIGXFSZ, SIG_IGN);
            setrlimit(RLIMIT_FSIZE, &(struct rlimit){(rlim_t)limit, RLIM_INFINITY});
            struct training_state s;
            training_state_init(&s);
            s.step = limit % 2 ? 1 : 2; /* replaces the old one, or not */
            value = 2;
            checkpoints_each(p, checkpoints_set, &value);
            int status = checkpoint_save(r, p, &s, 1, &e);
            _exit(status == 0 ? 1 : strstr(e.text, "File too large") ? 0 : 2);
        }
        int status;
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        failed &= WIFEXITED(status) && WEXITSTATUS(status) != 1;
        told &= status == 0;
        struct parameters *back = NULL;
        struct checkpoints_comparison c = {.value = 1, .same = true};
        int64_t step = 0;
        intact &= strcmp(before, checkpoints_entries(run)) == 0 &&
                  checkpoints_load(&back, &step, run, &e) == 0 && step == 1;
        if (back) {
            checkpoints_each(back, checkpoints_compare, &c);
            parameters_free(back);
        }
        intact &= c.same;
    }
    tap_ok(failed && told, "a full disk makes saving fail, wherever it happens");
    tap_ok(intact, "the last checkpoint is intact, and nothing else remains");

    value = NAN;
    const struct parameter *t = parameters_find(p, "net.0.main.0.bias");
    parameters_write(p, ARRAY_V, t->offset + t->count - 1, 1, &value);
    struct training_state s;
    training_state_init(&s);
    s.step = 3;
    tap_ok(checkpoint_save(r, p, &s, 1, &e) != 0 && strstr(e.text, "optimizer.safetensors") &&
               strstr(e.text, "net.0.main.0.bias") && strcmp(before, checkpoints_entries(run)) == 0,
           "non-finite values are not saved: %s", e.text);
    run_close(r);
    parameters_free(p);
    free(before);
    free(large);
}

/* Saves steps first, first + 1 and so on, every third one twice, and writes each step to the pipe
 * `report`. All parameters equal the step. Never returns. */
static void save_forever(const char *run, int64_t first, int report)
{
    struct run *r;
    struct error e;
    if (run_open(&r, run, &e) != 0)
        _exit(1);
    struct parameters *p = checkpoints_parameters(256);
    for (int64_t step = first;; step++) {
        float value = (float)step;
        checkpoints_each(p, checkpoints_set, &value);
        for (int again = 0; again <= (step % 3 == 0); again++) {
            struct training_state s;
            training_state_init(&s);
            s.step = step;
            if (checkpoint_save(r, p, &s, 2, &e) != 0 || write(report, &step, sizeof step) < 0)
                _exit(1);
        }
    }
}

static bool has_leftovers(const char *run)
{
    const char *entries = checkpoints_entries(run);
    return strstr(entries, ".tmp-") || strstr(entries, ".gone-");
}

static void test_kill(void)
{
    enum { KILLS = 40 };
    const char *seed = getenv("SEED");
    uint64_t draws = seed ? strtoull(seed, NULL, 10) : (uint64_t)getpid();
    tap_diag("SEED=%" PRIu64, draws);
    char run[4200];
    snprintf(run, sizeof run, "%s", checkpoints_folder("kill"));
    int64_t last = 0, saved = 0, died = 0, leftovers = 0;
    bool loadable = true, forward = true;
    struct error e = {""};
    for (int kill_number = 0; kill_number < KILLS && loadable && forward; kill_number++) {
        int ends[2];
        CHECK(pipe(ends) == 0);
        pid_t child = fork();
        if (child == 0)
            save_forever(run, last + 1, ends[1]);
        close(ends[1]);
        int64_t reported = 0, step = 0;
        if (last == 0 || kill_number % 4 == 0) /* wait for a checkpoint, else kill at any time */
            CHECK(read(ends[0], &reported, sizeof reported) == sizeof reported);
        float fraction;
        rng_uniform(&fraction, 1, draws, RNG_INITIAL_WEIGHTS, 0, (uint64_t)kill_number, 0);
        usleep((useconds_t)(fraction * 60000));
        kill(child, SIGKILL);
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        died += WIFSIGNALED(status);
        while (read(ends[0], &step, sizeof step) == sizeof step)
            reported = step;
        close(ends[0]);
        leftovers += has_leftovers(run);

        struct parameters *p = NULL;
        char *latest = path_join(run, "latest");
        loadable = file_exists(latest) && checkpoints_load(&p, &step, latest, &e) == 0;
        free(latest);
        if (loadable) {
            struct checkpoints_comparison c = {.value = (float)step, .same = true};
            checkpoints_each(p, checkpoints_compare, &c);
            parameters_free(p);
            loadable = c.same;
            forward = step >= last && step >= reported;
            saved += step - last;
            last = step;
        }
    }
    tap_ok(died == KILLS && loadable,
           "latest loads after each of %d kills, %" PRId64 " checkpoints %s", KILLS, saved, e.text);
    tap_ok(forward, "and never goes back");
    tap_diag("%" PRId64 " of the kills interrupted writing", leftovers);
    struct run *r = checkpoints_run(run);
    tap_ok(!strchr(checkpoints_entries(run), '.'), "opening the run cleans up: %s",
           checkpoints_entries(run));
    run_close(r);
}

/* Saves step new_step after step 1 in a process that is killed before its nth call that changes the
 * disk, for every n. */
static void test_every_moment(int64_t new_step, bool exchange)
{
    char run[4200];
    snprintf(run, sizeof run, "%s",
             checkpoints_folder(new_step > 1 ? "beside"
                                : exchange   ? "exchanged"
                                             : "replaced"));
    struct parameters *p = checkpoints_parameters(4);
    struct error e = {""};
    bool loadable = true, whole = true, finished = false;
    int64_t olds = 0, news = 0, leftovers = 0;
    for (long n = 1; !finished && loadable && whole; n++) {
        struct run *r = checkpoints_run(run);
        float value = 1;
        checkpoints_each(p, checkpoints_set, &value);
        CHECK(checkpoints_save(r, p, 1, 1));
        run_close(r);
        pid_t child = fork();
        if (child == 0) {
            r = checkpoints_run(run);
            value = 2;
            checkpoints_each(p, checkpoints_set, &value);
            disk.calls = 0;
            disk.killed_at = n;
            disk.cannot_exchange = !exchange;
            _exit(checkpoints_save(r, p, new_step, 1) ? 0 : 1);
        }
        int status;
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        finished = WIFEXITED(status);
        whole &= !finished || WEXITSTATUS(status) == 0;
        leftovers += has_leftovers(run);
        struct parameters *back = NULL;
        int64_t step = 0;
        if (!exchange || n % 2) /* between two renames there is none until the run is opened */
            run_close(checkpoints_run(run));
        whole &= (exchange && n % 2 == 0) || !has_leftovers(run);
        char *latest = path_join(run, "latest");
        loadable = checkpoints_load(&back, &step, latest, &e) == 0;
        free(latest);
        if (loadable) {
            struct checkpoints_comparison old = {.value = 1, .same = true},
                                          new = {.value = 2, .same = true};
            checkpoints_each(back, checkpoints_compare, &old);
            checkpoints_each(back, checkpoints_compare, &new);
            whole &= step == 1 || step == new_step;
            whole &= new_step == 1 ? old.same || new.same : step == 1 ? old.same : new.same;
            whole &= !finished || new.same;
            olds += old.same;
            news += new.same;
            parameters_free(back);
        }
        if (new_step > 1 && news > 0) { /* start over: step 1 must be the last one */
            run_close(checkpoints_run(run));
            char *command = xasprintf("rm -rf '%s'", run);
            CHECK(system(command) == 0);
            free(command);
        }
    }
    tap_ok(loadable && whole && finished && olds > 10 && news > 1 && leftovers > 10,
           "killed before each of %" PRId64 " calls %s: %" PRId64
           " times the old one is left, %" PRId64 " times the new one %s",
           olds + news - 1,
           new_step > 1 ? "that save another step"
           : exchange   ? "that replace a checkpoint"
                        : "without exchanging folders",
           olds, news, loadable ? "" : e.text);
    parameters_free(p);
}

int main(void)
{
    struct error e;
    CHECK(device_open(&checkpoints_device, "ref", &e) == 0);
    test_kill();
    test_full_disk();
    test_every_moment(2, true);
    test_every_moment(1, true);
    test_every_moment(1, false);
    device_close(checkpoints_device);
    return tap_done();
}
