/* usage: make-corpus FOLDER   (run in the top folder of the source) */
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "tests/fuzz/corpus/corpus.h"

static const char *top;

const char *corpus_folder(const char *harness)
{
    static char *folder;
    struct error e;
    free(folder);
    folder = path_join(top, harness);
    if (make_directories(folder, &e) != 0)
        die("cannot create '%s': %s", folder, e.text);
    return folder;
}

void corpus_write(const char *harness, const char *name, const void *data, size_t size)
{
    char *path = path_join(corpus_folder(harness), name);
    struct error e;
    if (file_write(path, data, size, &e) != 0)
        die("cannot write '%s': %s", path, e.text);
    free(path);
}

void corpus_write_text(const char *harness, const char *name, const char *text)
{
    corpus_write(harness, name, text, strlen(text));
}

void corpus_copy(const char *harness, const char *pattern, size_t limit)
{
    glob_t found = {0};
    if (glob(pattern, 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        uint8_t *data;
        size_t size;
        struct error e;
        if (file_read(&data, &size, found.gl_pathv[i], SIZE_MAX / 2, &e) != 0)
            die("cannot read '%s': %s", found.gl_pathv[i], e.text);
        if (size <= limit)
            corpus_write(harness, strrchr(found.gl_pathv[i], '/') + 1, data, size);
        free(data);
    }
    globfree(&found);
}

/* Inputs that were found to matter, by harness. */
static void copy_found(void)
{
    glob_t found = {0};
    if (glob("tests/fuzz/found/*", 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char *pattern = path_join(found.gl_pathv[i], "*");
        corpus_copy(strrchr(found.gl_pathv[i], '/') + 1, pattern, SIZE_MAX);
        free(pattern);
    }
    globfree(&found);
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    if (argc != 2)
        die_usage("one folder is needed");
    top = argv[1];
    corpus_weights();
    corpus_images();
    corpus_shards();
    corpus_networks();
    corpus_texts();
    corpus_archives();
    copy_found();
    return 0;
}
