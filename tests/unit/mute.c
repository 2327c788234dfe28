#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/mute.h"
#include "tests/support/tap.h"

static void *print_elsewhere(void *arg)
{
    fprintf(stderr, "another %s\n", "thread");
    return NULL;
}

int main(void)
{
    message_init("mute");
    char *path = path_join(test_folder(), "printed"), text[200] = "";
    FILE *f = fopen(path, "w+");
    int saved = dup(STDERR_FILENO);
    pthread_t thread;
    CHECK(f && saved >= 0 && dup2(fileno(f), STDERR_FILENO) >= 0);
    fprintf(stderr, "before\n");
    stderr_mute(true);
    fprintf(stderr, "dropped %d\n", 1);
    fputs("dropped 2\n", stderr);
    warn("ours");
    CHECK(pthread_create(&thread, NULL, print_elsewhere, NULL) == 0);
    pthread_join(thread, NULL);
    stderr_mute(false);
    fprintf(stderr, "after\n");
    dup2(saved, STDERR_FILENO);
    rewind(f);
    CHECK(fread(text, 1, sizeof text - 1, f) > 0);
    fclose(f);
    free(path);
    tap_ok(strcmp(text, "before\nmute: ours\nanother thread\nafter\n") == 0,
           "only what this thread prints while muted is dropped");
    return tap_done();
}
