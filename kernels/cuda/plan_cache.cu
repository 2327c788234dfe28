#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "kernels/cuda/internal.cuh"
#include "kernels/cuda/plan_cache.h"

#define LONGEST_FILE ((size_t)16 << 20)

struct plan_cache {
    char path[PATH_MAX]; /* "": nothing is stored */
    char *text;          /* the file as last read, lines "checksum\tkey\tvalue\n" */
    size_t length;
    char *value; /* returned by get and put */
};

static uint64_t checksum(const char *key, size_t key_length, const char *value, size_t value_length)
{
    uint64_t h = 0xcbf29ce484222325; /* FNV-1a */
    for (size_t i = 0; i < key_length; i++)
        h = (h ^ (unsigned char)key[i]) * 0x100000001b3;
    h = (h ^ '\t') * 0x100000001b3;
    for (size_t i = 0; i < value_length; i++)
        h = (h ^ (unsigned char)value[i]) * 0x100000001b3;
    return h;
}

static void forget_text(struct plan_cache *c)
{
    free(c->text);
    c->text = NULL;
    c->length = 0;
}

static void read_text(struct plan_cache *c)
{
    forget_text(c);
    FILE *f = fopen(c->path, "re");
    if (!f)
        return;
    size_t capacity = 1 << 16, got;
    char *text = (char *)malloc(capacity);
    while (text && (got = fread(text + c->length, 1, capacity - c->length, f))) {
        c->length += got;
        if (c->length < capacity)
            continue;
        char *more = capacity < LONGEST_FILE ? (char *)realloc(text, capacity *= 2) : NULL;
        if (!more)
            break;
        text = more;
    }
    fclose(f);
    c->text = text;
    if (!text)
        c->length = 0;
}

/* The value of the key's last complete line, with its length in *length; or NULL. */
static const char *find(const struct plan_cache *c, const char *key, size_t *length)
{
    const size_t key_length = strlen(key);
    const char *line = c->text, *end = c->text + c->length, *found = NULL;
    while (line && line < end) {
        const char *stop = (const char *)memchr(line, '\n', (size_t)(end - line));
        if (!stop)
            break;
        const char *its_key = line + 17, *value = its_key + key_length + 1;
        if (value <= stop && line[16] == '\t' && value[-1] == '\t' &&
            !memcmp(its_key, key, key_length)) {
            char expected[17];
            const size_t value_length = (size_t)(stop - value);
            snprintf(expected, sizeof expected, "%016" PRIx64,
                     checksum(key, key_length, value, value_length));
            if (!memcmp(line, expected, 16)) {
                found = value;
                *length = value_length;
            }
        }
        line = stop + 1;
    }
    return found;
}

static const char *keep_value(struct plan_cache *c, const char *value, size_t length)
{
    char *copy = (char *)malloc(length + 1);
    if (!copy)
        plugin_host->die("out of memory");
    memcpy(copy, value, length);
    copy[length] = 0;
    free(c->value);
    return c->value = copy;
}

struct plan_cache *plan_cache_new(const char *folder, const char *library, const char *gpu)
{
    struct plan_cache *c = (struct plan_cache *)calloc(1, sizeof *c);
    if (!c)
        plugin_host->die("out of memory");
    if (!folder || access(folder, W_OK))
        return c;
    const size_t used =
        (size_t)snprintf(c->path, sizeof c->path, "%s/plans-%s-%s", folder, library, gpu);
    if (used + 64 > sizeof c->path) { /* room for the names of its companions */
        c->path[0] = 0;
        return c;
    }
    for (char *p = c->path + strlen(folder) + 1; *p; p++)
        if (!isalnum((unsigned char)*p) && *p != '-' && *p != '.')
            *p = '_';
    read_text(c);
    return c;
}

void plan_cache_free(struct plan_cache *c)
{
    if (!c)
        return;
    forget_text(c);
    free(c->value);
    free(c);
}

bool plan_cache_keeps(const struct plan_cache *c)
{
    return c->path[0] != 0;
}

const char *plan_cache_get(struct plan_cache *c, const char *key)
{
    size_t length;
    const char *value = find(c, key, &length);
    return value ? keep_value(c, value, length) : NULL;
}

/* Writes the text and one more line as a complete new file. Returns false with errno set. */
static bool write_text(const struct plan_cache *c, const char *key, const char *value)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s.%ld", c->path, (long)getpid());
    FILE *f = fopen(path, "we");
    if (!f)
        return false;
    size_t whole = c->length; /* drops an incomplete last line */
    while (whole && c->text[whole - 1] != '\n')
        whole--;
    bool good = (!whole || fwrite(c->text, 1, whole, f) == whole) &&
                fprintf(f, "%016" PRIx64 "\t%s\t%s\n",
                        checksum(key, strlen(key), value, strlen(value)), key, value) > 0 &&
                !fflush(f) && !fsync(fileno(f));
    good = !fclose(f) && good && !rename(path, c->path);
    if (!good) {
        const int reason = errno;
        unlink(path);
        errno = reason;
    }
    return good;
}

const char *plan_cache_put(struct plan_cache *c, const char *key, const char *value,
                           const char *stale)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s.lock", c->path);
    const int lock = plan_cache_keeps(c) ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (lock < 0 || flock(lock, LOCK_EX)) {
        if (lock >= 0)
            close(lock);
        return keep_value(c, value, strlen(value));
    }
    read_text(c);
    size_t length;
    const char *earlier = find(c, key, &length);
    if (earlier && !(stale && length == strlen(stale) && !memcmp(earlier, stale, length))) {
        value = keep_value(c, earlier, length);
    } else {
        if (!write_text(c, key, value))
            plugin_host->note("cannot write '%s': %s", c->path, strerror(errno));
        value = keep_value(c, value, strlen(value));
        read_text(c);
    }
    close(lock);
    return value;
}
