/* A file that shrinks while it is mapped ends the program with a message, not with a signal. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/escape.h"
#include "common/base/files.h"
#include "common/base/mapping_faults.h"
#include "common/base/message.h"
#include "formats/weights/weights.h"
#include "tests/support/shards.h"
#include "tests/support/tap.h"

#define TENSOR_BYTES 40000

static char *path_of(const char *name)
{
    return path_join(test_folder(), name);
}

static void write_tensor(const char *path)
{
    char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[10000],\"data_offsets\":[0,40000]}}";
    uint64_t length = strlen(header);
    char *data = xcalloc(1, sizeof length + length + TENSOR_BYTES);
    memcpy(data, &length, sizeof length);
    memcpy(data + sizeof length, header, length);
    struct error e;
    CHECK(file_write(path, data, sizeof length + length + TENSOR_BYTES, &e) == 0);
    free(data);
}

/* Each returns if reading the shrunk file did not end the program. */
static void read_mapped_file(const char *path)
{
    struct mapped_file m;
    struct error e;
    CHECK(file_map(&m, path, &e) == 0 && truncate(path, 100) == 0);
    *(volatile const uint8_t *)(m.data + m.size - 1);
}

static void read_weights(const char *path)
{
    struct weights *w;
    struct error e;
    CHECK(weights_open(&w, path, &e) == 0);
    const struct weight *t = weights_find(w, "a");
    CHECK(t && truncate(path, 100) == 0);
    float *values = xmalloc(TENSOR_BYTES);
    weight_to_f32(t, values);
}

static void read_weights_in_child(const char *path)
{
    struct weights *w;
    struct error e;
    CHECK(weights_open(&w, path, &e) == 0);
    pid_t child = fork();
    if (child == 0) {
        float *values = xmalloc(TENSOR_BYTES);
        CHECK(truncate(path, 100) == 0);
        weight_to_f32(weights_find(w, "a"), values);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 2);
}

static void read_shard(const char *path)
{
    struct shard_store *s;
    struct shard_record r;
    struct error e;
    char *folder = xstrdup(path);
    *strrchr(folder, '/') = 0;
    CHECK(shard_store_open(&s, folder, &e) == 0 && truncate(path, 8192) == 0);
    shard_record_init(&r);
    shard_store_read(s, shard_store_count(s) - 1, &r, &e);
}

static void raise_other(const char *path)
{
    mapping_faults_handle();
    raise(SIGBUS);
}

/* Runs f in a child. *status is waitpid's, text what it wrote to stderr. */
static void run(void (*f)(const char *path), const char *path, int *status, char text[1024])
{
    int fds[2];
    CHECK(pipe(fds) == 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        dup2(fds[1], 2);
        close(fds[0]);
        close(fds[1]);
        f(path);
        _exit(0);
    }
    close(fds[1]);
    size_t length = 0;
    ssize_t n;
    while (length < 1023 && (n = read(fds[0], text + length, 1023 - length)) > 0)
        length += (size_t)n;
    text[length] = 0;
    close(fds[0]);
    CHECK(waitpid(child, status, 0) == child);
}

static void ok_ends(void (*f)(const char *path), const char *path, const char *what)
{
    int status;
    char text[1024], *real = realpath(path, NULL), *escaped = escape_line(real);
    const char *file = escaped ? escaped : real;
    char *expected = xasprintf("ccld: '%s' cannot be read: it was truncated meanwhile, "
                               "or its disk failed\n",
                               file);
    run(f, path, &status, text);
    if (!tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 1 && strcmp(text, expected) == 0,
                "%s that is truncated while mapped ends the program with a message", what))
        tap_diag("status %#x, '%s'", (unsigned)status, text);
    free(expected);
    free(escaped);
    free(real);
}

int main(void)
{
    char *file = path_of("file"), *tensor = path_of("a\tb.safetensors");
    char *zeros = xcalloc(1, TENSOR_BYTES);
    struct error e;
    CHECK(file_write(file, zeros, TENSOR_BYTES, &e) == 0);
    ok_ends(read_mapped_file, file, "a file");
    write_tensor(tensor);
    ok_ends(read_weights, tensor, "a weight file");
    write_tensor(tensor);
    ok_ends(read_weights_in_child, tensor, "a weight file in a forked process");
    CHECK(shards_write("store", 20, 20, 0, 0));
    char *shard = path_join(shards_folder("store"), "00000.mdb");
    ok_ends(read_shard, shard, "a shard");
    int status;
    char text[1024];
    run(raise_other, "", &status, text);
    tap_ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS && !*text,
           "SIGBUS of another cause still ends a program");
    free(zeros);
    free(file);
    free(tensor);
    free(shard);
    return tap_done();
}
