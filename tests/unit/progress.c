/* Lines of progress, as they are without a terminal. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "tests/support/tap.h"

static char last[512]; /* what the update printed */

static void update(struct progress *p, int64_t done, const char *detail)
{
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    CHECK(file && saved >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    progress_update(p, done, detail);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    last[fread(last, 1, sizeof last - 1, file)] = 0;
    fclose(file);
}

int main(void)
{
    setenv("CCLD_PROGRESS", "1e-9", 1);
    struct progress *p = progress_start("sampling", "evaluations", 59);
    update(p, 1, "0 of 1 image done");
    tap_ok(strstr(last, "sampling: 1 of 59 evaluations, 0 of 1 image done\n"),
           "neither rate nor time left before a second has passed: %s", last);
    nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 1000000}, NULL);
    update(p, 40, "0 of 1 image done");
    tap_ok(strstr(last, "sampling: 40 of 59 evaluations, ") && strstr(last, "/s, ") &&
               strstr(last, " left, 0 of 1 image done\n"),
           "both after it: %s", last);
    progress_finish(p);
    return tap_done();
}
