/* Ranks with other values than the first are named, with both values. */
#include <stdio.h>
#include <string.h>

#include "common/fit/compare.h"
#include "tests/support/tap.h"
#include "tests/support/thread_ranks.h"

#define RANKS 4

struct rank {
    struct collective *collective;
    char host[8];
    struct compared items[2];
    const char *lines;
    int status[2];
    struct error errors[2];
};

static void compare(void *arg)
{
    struct rank *r = arg;
    r->status[0] = compare_ranks(r->collective, r->host, r->items, 2, &r->errors[0]);
    r->status[1] = compare_lines(r->collective, r->host, "options", r->lines, &r->errors[1]);
}

static void run(struct rank *ranks)
{
    struct thread_ranks threads;
    void *args[RANKS];
    thread_ranks_open(&threads, RANKS);
    for (int i = 0; i < RANKS; i++) {
        ranks[i].collective = &threads.collectives[i];
        args[i] = &ranks[i];
    }
    thread_ranks_run(&threads, compare, args);
    thread_ranks_close(&threads);
}

/* All ranks have failed with this reason. */
static bool all_say(const struct rank *ranks, int which, const char *text)
{
    for (int i = 0; i < RANKS; i++)
        if (ranks[i].status[which] != -1 || strcmp(ranks[i].errors[which].text, text) != 0) {
            tap_diag("rank %d: %d, %s", i, ranks[i].status[which], ranks[i].errors[which].text);
            return false;
        }
    return true;
}

int main(void)
{
    struct rank ranks[RANKS];
    memset(ranks, 0, sizeof ranks);
    for (int i = 0; i < RANKS; i++) {
        snprintf(ranks[i].host, sizeof ranks[i].host, "%c", 'a' + i / 2);
        ranks[i].items[0] = (struct compared){"data", "hash 12"};
        ranks[i].items[1] = (struct compared){"precision", "fp32"};
        ranks[i].lines = "--lr 3\nno --flip\n";
    }
    run(ranks);
    bool equal = true;
    for (int i = 0; i < RANKS; i++)
        equal &= ranks[i].status[0] == 0 && ranks[i].status[1] == 0;
    tap_ok(equal, "equal ranks pass");
    strcpy(ranks[2].items[1].value, "bf16");
    strcpy(ranks[3].items[0].value, "hash 13");
    ranks[3].lines = "--lr 3\n--flip true\n--extra 1\n";
    run(ranks);
    tap_ok(all_say(ranks, 0, "rank 2 (b) has other precision: bf16 instead of fp32"),
           "the first rank that differs is named with its host and both values");
    tap_ok(all_say(ranks, 1, "rank 3 (b) has other options: --flip true instead of no --flip"),
           "so is the first line of text that differs");
    for (int i = 0; i < RANKS; i++)
        ranks[i].host[0] = '\0';
    ranks[2].items[1] = ranks[0].items[1];
    ranks[3].lines = "--lr 3\n";
    run(ranks);
    tap_ok(all_say(ranks, 0, "rank 3 has other data: hash 13 instead of hash 12"),
           "ranks of one host are named by number");
    tap_ok(all_say(ranks, 1, "rank 3 has other options: none instead of no --flip"),
           "a missing line is found");
    return tap_done();
}
