/* Ranks as processes that share memory. */
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/train/collective_shared.h"
#include "tests/support/collective_checks.h"
#include "tests/support/tap.h"

static int check_rank(struct shared_room *room, int rank)
{
    struct collective *c = collective_shared(room, rank);
    int failed = collective_check(c);
    collective_close(c);
    return failed;
}

static int run_ranks(int count)
{
    struct shared_room *room = shared_room_new(count);
    int failed = 0, status;
    for (int rank = 0; rank < count; rank++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            _exit(check_rank(room, rank));
    }
    for (int rank = 0; rank < count; rank++) {
        CHECK(wait(&status) > 0);
        failed |= WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    }
    shared_room_free(room);
    return failed;
}

/* A rank that waits for one that does not come is seen to wait. */
static bool shows_waiting(void)
{
    struct shared_room *room = shared_room_new(2);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        collective_barrier(collective_shared(room, 1));
        _exit(0);
    }
    int tries = 0;
    while (!shared_room_waits(room, 1) && tries++ < 2000)
        usleep(5000);
    bool seen = shared_room_waits(room, 1) && !shared_room_waits(room, 0);
    struct collective *c = collective_shared(room, 0);
    collective_barrier(c);
    collective_close(c);
    CHECK(waitpid(pid, NULL, 0) == pid);
    seen &= !shared_room_waits(room, 1) && shared_room_longest_wait(room) > 0;
    shared_room_free(room);
    return seen;
}

int main(void)
{
    threads_init(1);
    for (int ranks = 1; ranks <= COLLECTIVE_RANKS_MAX; ranks++)
        collective_report(ranks, run_ranks(ranks));
    tap_ok(shows_waiting(), "a rank is seen to wait");
    return tap_done();
}
