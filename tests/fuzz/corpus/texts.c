#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/run/checkpoint_internal.h"
#include "tests/fuzz/corpus/corpus.h"

static const char *const texts[] = {
    "a photo of a caf\xc3\xa9 &amp; a &notit; &#x20AC; &#1114112; &#128;",
    "<p>&NTILDE;&ntilde;</p>\r\n\xEF\xAC\x81 \xE2\x80\x9Cquoted\xE2\x80\x9D \xEF\xBC\xA1",
    "don't we'll \x1B[3;31mred\x1B[m \xF0\x9F\x8E\xA8 1234 <|endoftext|> \xCE\xA3 \xC4\xB0",
    "\xC2 \xE0\xA0 \xF4\x90 \xFF e\xCC\x81 \xC2\x85\xE2\x80\xA8\xEF\xBF\xBD",
};

static const char *const prompts[] = {
    "a city in the rain\nrain:2\nhttp://host/a.jpg\n12:30\na: b:-1.5e+0\n",
    "\xef\xbb\xbf"
    "first:1e6\r\n\t \n:3\nlast: 0x10 ",
};

static const char *const lists[] = {
    "\n"
    "a.jpg\nb/c d.png\n\n./e\r\n/f",
    "\n"
    "//a/../b.webp\n\xff\xe4.jpg\n",
};

static void write_all(const char *harness, const char *const *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "%zu.txt", i);
        corpus_write_text(harness, name, items[i]);
    }
}
#define WRITE_ALL(harness, items) write_all(harness, items, sizeof(items) / sizeof *(items))

static void write_state(void)
{
    struct training_state s;
    char *text;
    training_state_init(&s);
    corpus_write_text("state", "null.json", "null");
    s.step = s.updates = 12;
    s.loss = 0.25;
    s.autoencoder_scale = 8.07;
    s.dataset_count = 100;
    s.holdout_count = 10;
    s.store.latent_channels = 4;
    strcpy(s.version, "0.1.0");
    strcpy(s.store.preprocessing, "display");
    strcpy(s.store.autoencoder.name, "r\xc3\xa4in.ckpt");
    training_state_set_option(&s, "batch-size", "8");
    training_state_set_option(&s, "learning-rate", "3e-05");
    training_state_set_option(&s, "prompts", "a \"b\" \\ c");
    for (int files = CHECKPOINT_FILES; files <= CHECKPOINT_FILES_MAX; files += 2) {
        s.file_count = files;
        for (int i = 0; i < files; i++) {
            snprintf(s.files[i].name, sizeof s.files[i].name, "%d.safetensors", i);
            memset(s.files[i].hash, 'a', sizeof s.files[i].hash - 1);
            s.files[i].bytes = 1000;
        }
        training_state_print(&text, &s);
        corpus_write_text("state", files == CHECKPOINT_FILES ? "state.json" : "gan.json", text);
        /* as older programs wrote it, which changes do not make invalid */
        char *hash = strstr(text, ",\n\t\"hash\":");
        if (hash)
            strcpy(hash, "\n}");
        corpus_write_text("state", files == CHECKPOINT_FILES ? "old.json" : "old-gan.json", text);
        free(text);
    }
    training_state_release(&s);
}

void corpus_texts(void)
{
    WRITE_ALL("text", texts);
    WRITE_ALL("prompts", prompts);
    WRITE_ALL("lists", lists);
    corpus_write("lists", "zeros", "\1a.jpg\0\0b/c d.png\0e", 19);
    write_state();
}
