#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/archives/tar_writer.h"
#include "tests/fuzz/corpus/corpus.h"

static void write_tar(const char *name, int members)
{
    char *path = path_join(corpus_folder("archive"), name);
    struct error e;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    CHECK(fd >= 0);
    for (int i = 0; i < members; i++) {
        char member[32], text[700];
        snprintf(member, sizeof member, "a/%d.%s", i, i % 2 ? "txt" : "ppm");
        memset(text, 'x', sizeof text);
        memcpy(text, "P6 1 1 255 ", 11);
        CHECK(tar_write_member(fd, member, text, (size_t)(i * 230 % 700), &e) == 0);
    }
    CHECK(tar_write_end(fd, &e) == 0 && close(fd) == 0);
    free(path);
}

void corpus_archives(void)
{
    write_tar("empty.tar", 0);
    write_tar("one.tar", 1);
    write_tar("four.tar", 4);
    /* Zips: torch's checkpoints are some. */
    char *pattern = path_join(corpus_folder("weights"), "*.pt");
    corpus_copy("archive", pattern, 4096);
    free(pattern);
}
