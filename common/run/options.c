#include "common/run/options.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

static const char *const common_names[] = {"device", "threads", "precision", "tf32", NULL};

static bool among(const char *const *names, const char *name)
{
    for (; *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

/* Files and folders that exist become absolute paths. */
static char *value_text(const struct option *o)
{
    char *text = option_text(o), *full = NULL;
    if (text && o->argument &&
        (strcmp(o->argument, "FILE") == 0 || strcmp(o->argument, "DIR") == 0))
        full = realpath(text, NULL);
    if (!full)
        return text;
    free(text);
    return full;
}

static void store(struct training_state *s, const struct option *o)
{
    char *text = value_text(o);
    if (text)
        training_state_set_option(s, o->name, text);
    free(text);
}

void run_options_store(struct training_state *s, const struct program *p, const char *const *except)
{
    for (const struct option *o = p->options; o->name; o++)
        if (!among(except, o->name))
            store(s, o);
    for (int i = 0; common_names[i]; i++)
        store(s, option_find(p, common_names[i]));
}

/* Sets o, or appends to *changes how the command line changes it. */
static void restore(const struct training_state *s, const struct option *o, char **changes)
{
    const char *saved = training_state_option(s, o->name);
    if (!option_given(o->name)) {
        if (saved)
            option_set(o, saved);
        return;
    }
    char *now = value_text(o);
    if (now && (!saved || strcmp(now, saved) != 0)) {
        bool flag = o->kind == OPTION_FLAG;
        xappend(changes, "%s--%s%s%s%s%s", *changes ? ", " : "", o->name, flag ? "" : " ",
                flag ? "" : now, saved ? " instead of " : "", saved ? saved : "");
    }
    free(now);
}

char *run_options_restore(const struct training_state *s, const struct program *p,
                          const char *const *except)
{
    char *changes = NULL;
    for (const struct option *o = p->options; o->name; o++)
        if (!among(except, o->name))
            restore(s, o, &changes);
    for (int i = 0; common_names[i]; i++)
        restore(s, option_find(p, common_names[i]), &changes);
    options_apply_common();
    return changes;
}

void run_paths_store(struct training_state *s, const char *name, int count,
                     const char *const *paths)
{
    for (int i = 0; i < count; i++) {
        char *key = xasprintf("%s-%d", name, i + 1), *full = realpath(paths[i], NULL);
        training_state_set_option(s, key, full ? full : paths[i]);
        free(key);
        free(full);
    }
}

int run_paths_find(const struct training_state *s, const char *name, const char ***paths)
{
    int count = 0;
    *paths = NULL;
    for (;; count++) {
        char *key = xasprintf("%s-%d", name, count + 1);
        const char *path = training_state_option(s, key);
        free(key);
        if (!path)
            return count;
        *paths = xrealloc(*paths, (size_t)(count + 1) * sizeof **paths);
        (*paths)[count] = path;
    }
}
