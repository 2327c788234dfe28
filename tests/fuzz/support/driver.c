/* Runs a harness without libFuzzer, as a test: on every file of its corpus as it is, then on
 * randomly changed ones. Sanitizers make it see more.
 * usage: NAME [ROUNDS [SEED [FILE]...]] */
#include <glob.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/rng.h"
#include "tests/fuzz/support/fuzz.h"
#include "tests/support/tap.h"

#define MOST_BYTES ((size_t)64 << 10) /* of a changed file */

extern __attribute__((weak)) size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size,
                                                            size_t max_size, unsigned int seed);

static uint64_t seed = 1, drawn;

static uint32_t draw(void)
{
    uint32_t out[4];
    philox4x32_10(out, (uint32_t[4]){(uint32_t)drawn, (uint32_t)(drawn >> 32), 0, 13},
                  (uint32_t[2]){(uint32_t)seed, (uint32_t)(seed >> 32)});
    drawn++;
    return out[0];
}

static size_t insert_or_remove(uint8_t *data, size_t size, size_t max_size, size_t at,
                               size_t length)
{
    if (draw() & 1 && length <= max_size - size && at + length <= size) {
        memmove(data + at + length, data + at, size - at);
        memmove(data + at, data + draw() % (size - length + 1), length);
        return size + length;
    }
    if (length < size - at) {
        memmove(data + at, data + at + length, size - at - length);
        return size - length;
    }
    return size;
}

/* Flips bits, puts special bytes (opcodes, sizes, brackets) and extreme numbers, moves pieces. */
static size_t change(uint8_t *data, size_t size, size_t max_size)
{
    static const uint8_t special[] =
        "\0\1\x7f\x80\xff(t)]}edusabRQhjqr.0129NKMJX\x8c\x94\x93\"{[,:\n #&;";
    static const uint64_t limits[] = {0,          1,         UINT32_MAX,        INT32_MAX,
                                      UINT64_MAX, INT64_MAX, (uint64_t)1 << 62, 0x10000};
    /* headers come first, so half of the damage goes there */
    size_t at = draw() & 1 && size > 200 ? draw() & 127 : draw() % size, length = 1 + draw() % 16;
    switch (draw() % 6) {
    case 0:
        data[at] ^= (uint8_t)(1u << draw() % 8);
        return size;
    case 1:
        data[at] = special[draw() % (sizeof special - 1)];
        return size;
    case 2:
        data[at] = (uint8_t)draw();
        return size;
    case 3:
        length = (size_t)1 << draw() % 4;
        if (length <= size - at)
            memcpy(data + at, &limits[draw() % 8], length);
        return size;
    case 4: /* copies a piece from elsewhere */
        if (length <= size - at)
            memmove(data + at, data + draw() % (size - length + 1), length);
        return size;
    default:
        return insert_or_remove(data, size, max_size, at, length);
    }
}

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size)
{
    if (size == 0 || max_size < size)
        return size;
    for (uint32_t i = 0, changes = 1 + draw() % 6; i < changes; i++)
        size = change(data, size, max_size);
    return draw() % 8 ? size : 1 + draw() % size;
}

struct input {
    uint8_t *data;
    size_t size;
};

static void run_changed(const struct input *in)
{
    size_t room = in->size + 128;
    uint8_t *copy = xmalloc(room);
    memcpy(copy, in->data, in->size);
    size_t left = LLVMFuzzerCustomMutator ? LLVMFuzzerCustomMutator(copy, in->size, room, draw())
                                          : LLVMFuzzerMutate(copy, in->size, room);
    uint8_t *exact = xmalloc(left + !left); /* so that overreads are detected */
    memcpy(exact, copy, left);
    free(copy);
    LLVMFuzzerTestOneInput(exact, left);
    free(exact);
}

/* The corpus is beside the tests: BUILD/corpus for BUILD/tests/fuzz. */
static void find_corpus(glob_t *found, const char *program)
{
    const char *slash = strrchr(program, '/');
    char *name = path_join("corpus", slash ? slash + 1 : program);
    char *folder = find_beside_program(name, "../..");
    if (!folder)
        die("there is no %s in the build folder: run 'make tests'", name);
    char *pattern = path_join(folder, "*");
    glob(pattern, 0, NULL, found);
    free(pattern);
    free(folder);
    free(name);
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 3000;
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    glob_t found = {0};
    char **paths = argv + 3;
    int count = argc > 3 ? argc - 3 : 0;
    if (count == 0) {
        find_corpus(&found, argv[0]);
        paths = found.gl_pathv;
        count = (int)found.gl_pathc;
    }
    struct input *inputs = xcalloc((size_t)count + 1, sizeof *inputs);
    int changed = 0;
    for (int i = 0; i < count; i++) {
        struct input in;
        struct error e;
        if (file_read(&in.data, &in.size, paths[i], SIZE_MAX / 2, &e) != 0)
            die("cannot read '%s': %s", paths[i], e.text);
        LLVMFuzzerTestOneInput(in.data, in.size);
        if (in.size > 0 && (argc > 3 || in.size <= MOST_BYTES))
            inputs[changed++] = in;
        else
            free(in.data);
    }
    for (uint64_t round = 0; changed > 0 && round < rounds; round++)
        run_changed(&inputs[round % (uint64_t)changed]);
    for (int i = 0; i < changed; i++)
        free(inputs[i].data);
    free(inputs);
    globfree(&found);
    tap_ok(count > 0, "%d files intact, %d small ones changed %" PRIu64 " times in all", count,
           changed, rounds);
    return tap_done();
}
