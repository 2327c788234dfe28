#include "common/base/options.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/completion.h"
#include "common/base/memory_limit.h"
#include "common/base/message.h"
#include "common/base/option_hints.h"
#include "common/base/standard_streams.h"
#include "common/base/text.h"
#include "common/base/threads.h"

struct common_options common_options = {.device = "auto", .threads = 0, .precision = "auto"};

static bool want_help, want_version, want_quiet, want_verbose;

static const char *const devices[] = {"auto", "cpu", "cuda", NULL};
static const char *const precisions[] = {"auto", "fp32", "bf16", "fp16", NULL};

static struct option common_table[] = {
    {.name = "device",
     .kind = OPTION_STRING,
     .value = &common_options.device,
     .argument = "DEVICE",
     .choices = devices,
     .help = "where to compute: auto, cpu, cuda or cuda:N"},
    {.name = "threads",
     .kind = OPTION_INT,
     .value = &common_options.threads,
     .argument = "N",
     .help = "number of threads, 0 for one per core",
     .min = 0,
     .max = 1024},
    {.name = "precision",
     .kind = OPTION_STRING,
     .value = &common_options.precision,
     .argument = "TYPE",
     .choices = precisions,
     .help = "arithmetic precision: auto, fp32, bf16 or fp16"},
    {.name = "tf32",
     .kind = OPTION_FLAG,
     .value = &common_options.tf32,
     .help = "allow TF32 in fp32 products on a GPU"},
    {.name = "quiet",
     .letter = 'q',
     .kind = OPTION_FLAG,
     .value = &want_quiet,
     .help = "print only warnings and errors"},
    {.name = "verbose",
     .letter = 'v',
     .kind = OPTION_FLAG,
     .value = &want_verbose,
     .help = "print more details"},
    {.name = "help",
     .letter = 'h',
     .kind = OPTION_FLAG,
     .value = &want_help,
     .help = "print this help and exit"},
    {.name = "version",
     .kind = OPTION_FLAG,
     .value = &want_version,
     .help = "print the version and exit"},
    {0},
};

/* Removes those that the program does not use. */
static void choose_common(const struct program *p)
{
    struct option *to = common_table;
    for (const struct option *o = common_table; p->computes_nothing && o->name; o++)
        if (o->value == &want_quiet || o->value == &want_verbose || o->value == &want_help ||
            o->value == &want_version)
            *to++ = *o;
    if (p->computes_nothing)
        *to = (struct option){0};
}

/* "--name" or "-x", as the user spelled it. */
struct spelling {
    char text[80];
};

static struct spelling spell(const struct option *o, bool is_long)
{
    struct spelling s;
    if (is_long)
        snprintf(s.text, sizeof s.text, "--%s", o->name);
    else
        snprintf(s.text, sizeof s.text, "-%c", o->letter);
    return s;
}

static const struct option *find_in(const struct option *table, const char *name, size_t n,
                                    char letter)
{
    for (const struct option *o = table; o && o->name; o++)
        if (letter ? o->letter == letter : strlen(o->name) == n && !strncmp(o->name, name, n))
            return o;
    return NULL;
}

static const struct option *find(const struct program *p, const char *name, size_t n, char letter)
{
    const struct option *o = find_in(p->options, name, n, letter);
    return o ? o : find_in(common_table, name, n, letter);
}

const struct option *option_find(const struct program *p, const char *name)
{
    return find(p, name, strlen(name), 0);
}

const struct option *options_common(void)
{
    return common_table;
}

#define MAX_GIVEN 256

static const struct option *given[MAX_GIVEN];
static int given_count;

static void remember_given(const struct option *o)
{
    for (int i = 0; i < given_count; i++)
        if (given[i] == o)
            return;
    CHECK(given_count < MAX_GIVEN);
    given[given_count++] = o;
}

bool option_given(const char *name)
{
    for (int i = 0; i < given_count; i++)
        if (strcmp(given[i]->name, name) == 0)
            return true;
    return false;
}

void option_requires(const char *name, bool met, const char *other)
{
    if (option_given(name) && !met)
        die_usage("--%s requires %s", name, other);
}

static bool checked(const struct option *o)
{
    return o->min != 0 || o->max != 0;
}

static void check_range(const struct option *o, const char *as, const char *text, double v)
{
    if (checked(o) && !(v >= o->min && v <= o->max))
        die_usage("option '%s': '%s' is not between %.15g and %.15g", as, text, o->min, o->max);
}

static int64_t parse_int(const struct option *o, const char *as, const char *text)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    bool bad = end == text || isspace((unsigned char)text[0]);
    int64_t unit = 1;
    if (*end == 'k' || *end == 'K')
        unit = 1000;
    else if (*end == 'M')
        unit = 1000000;
    else if (*end == 'G')
        unit = 1000000000;
    if (unit > 1)
        end++;
    if (bad || *end)
        die_usage("option '%s': '%s' is not a whole number", as, text);
    int64_t result;
    if (errno == ERANGE || __builtin_mul_overflow((int64_t)v, unit, &result))
        die_usage("option '%s': '%s' is too large", as, text);
    check_range(o, as, text, (double)result);
    return result;
}

static uint64_t parse_seed(const char *as, const char *text)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end)
        die_usage("option '%s': '%s' is not a nonnegative whole number", as, text);
    if (errno == ERANGE)
        die_usage("option '%s': '%s' is too large", as, text);
    return v;
}

static double parse_float(const struct option *o, const char *as, const char *text)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || isspace((unsigned char)text[0]) || !isfinite(v))
        die_usage("option '%s': '%s' is not a number", as, text);
    check_range(o, as, text, v);
    return v;
}

static int parse_choice(const struct option *o, const char *as, const char *text)
{
    char list[300] = "";
    size_t used = 0;
    for (int i = 0; o->choices[i]; i++) {
        if (!strcmp(o->choices[i], text))
            return i;
        int n = snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", o->choices[i]);
        used += (size_t)n;
        if (used >= sizeof list)
            used = sizeof list - 1;
    }
    die_usage("option '%s': '%s' is not one of %s", as, text, list);
}

static int parse_side(const struct option *o, const char *as, const char *text, const char **rest)
{
    char *end;
    errno = 0;
    long v = strtol(*rest, &end, 10);
    if (!isdigit((unsigned char)**rest) || errno == ERANGE || v > INT32_MAX)
        die_usage("option '%s': '%s' is not a size (N or HxW)", as, text);
    check_range(o, as, text, (double)v);
    *rest = end;
    return (int)v;
}

static struct size2d parse_size(const struct option *o, const char *as, const char *text)
{
    struct size2d size;
    const char *rest = text;
    size.height = size.width = parse_side(o, as, text, &rest);
    if (*rest == 'x') {
        rest++;
        size.width = parse_side(o, as, text, &rest);
    }
    if (*rest)
        die_usage("option '%s': '%s' is not a size (N or HxW)", as, text);
    return size;
}

static void assign(const struct option *o, const char *as, const char *text)
{
    switch (o->kind) {
    case OPTION_FLAG:
        *(bool *)o->value = true;
        return;
    case OPTION_INT:
        *(int64_t *)o->value = parse_int(o, as, text);
        return;
    case OPTION_SEED:
        *(uint64_t *)o->value = parse_seed(as, text);
        return;
    case OPTION_FLOAT:
        *(double *)o->value = parse_float(o, as, text);
        return;
    case OPTION_STRING:
        *(const char **)o->value = text;
        return;
    case OPTION_LIST: {
        struct string_list *list = o->value;
        list->items = xrealloc(list->items, (size_t)(list->count + 1) * sizeof *list->items);
        list->items[list->count++] = text;
        return;
    }
    case OPTION_CHOICE:
        *(int *)o->value = parse_choice(o, as, text);
        return;
    case OPTION_SIZE:
        *(struct size2d *)o->value = parse_size(o, as, text);
        return;
    }
}

void option_set(const struct option *o, const char *text)
{
    struct spelling as = spell(o, true);
    assign(o, as.text, text);
}

char *option_text(const struct option *o)
{
    switch (o->kind) {
    case OPTION_FLAG:
        return *(bool *)o->value ? xstrdup("true") : NULL;
    case OPTION_INT:
        return xasprintf("%" PRId64, *(int64_t *)o->value);
    case OPTION_SEED:
        return xasprintf("%" PRIu64, *(uint64_t *)o->value);
    case OPTION_FLOAT:
        return exact_text(*(double *)o->value);
    case OPTION_STRING:
        return *(const char **)o->value ? xstrdup(*(const char **)o->value) : NULL;
    case OPTION_CHOICE:
        return xstrdup(o->choices[*(int *)o->value]);
    case OPTION_SIZE: {
        const struct size2d *s = o->value;
        return xasprintf("%dx%d", s->height, s->width);
    }
    case OPTION_LIST:
        return NULL;
    }
    return NULL;
}

/* A default outside min..max stands for an option that is not given. */
static bool is_preset(const struct option *o)
{
    double v = o->kind == OPTION_INT     ? (double)*(int64_t *)o->value
               : o->kind == OPTION_FLOAT ? *(double *)o->value
                                         : o->min;
    return !checked(o) || (v >= o->min && v <= o->max);
}

static void format_default(const struct option *o, char *buf, size_t size)
{
    buf[0] = '\0';
    if (!is_preset(o))
        return;
    switch (o->kind) {
    case OPTION_INT:
        snprintf(buf, size, "%" PRId64, *(int64_t *)o->value);
        return;
    case OPTION_SEED:
        snprintf(buf, size, "%" PRIu64, *(uint64_t *)o->value);
        return;
    case OPTION_FLOAT:
        if (!isnan(*(double *)o->value))
            snprintf(buf, size, "%.15g", *(double *)o->value);
        return;
    case OPTION_STRING:
        if (*(const char **)o->value)
            snprintf(buf, size, "%s", *(const char **)o->value);
        return;
    case OPTION_CHOICE:
        if (*(int *)o->value >= 0)
            snprintf(buf, size, "%s", o->choices[*(int *)o->value]);
        return;
    case OPTION_SIZE: {
        const struct size2d *s = o->value;
        if (s->height == s->width)
            snprintf(buf, size, "%d", s->height);
        else
            snprintf(buf, size, "%dx%d", s->height, s->width);
        return;
    }
    case OPTION_FLAG:
    case OPTION_LIST:
        return;
    }
}

#define HELP_COLUMN 28

static void print_option(const struct option *o)
{
    char left[120], preset[200];
    int n = o->letter ? snprintf(left, sizeof left, "  -%c, --%s", o->letter, o->name)
                      : snprintf(left, sizeof left, "      --%s", o->name);
    if (o->argument)
        snprintf(left + n, sizeof left - (size_t)n, " %s", o->argument);
    if (strlen(left) + 1 < HELP_COLUMN)
        printf("%-*s%s", HELP_COLUMN, left, o->help);
    else
        printf("%s\n%*s%s", left, HELP_COLUMN, "", o->help);
    if (o->kind == OPTION_CHOICE) {
        for (int i = 0; o->choices[i]; i++)
            printf("%s%s", i ? ", " : " (", o->choices[i]);
        printf(")");
    }
    format_default(o, preset, sizeof preset);
    if (preset[0])
        printf(" [%s]", preset);
    printf("\n");
}

static void print_help(const struct program *p)
{
    const char *lead = "usage:";
    for (const char *form = p->usage; form; lead = "      ") {
        const char *end = strchrnul(form, '\n');
        printf("%s %s %.*s\n", lead, p->name, (int)(end - form), form);
        form = *end ? end + 1 : NULL;
    }
    printf("%s\n\n", p->summary);
    for (const struct option *o = p->options; o && o->name; o++)
        print_option(o);
    for (const struct option *o = common_table; o->name; o++)
        print_option(o);
}

static void finish_stdout(void)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        die("cannot write to standard output: %s", strerror(errno));
    exit(0);
}

static bool next_is_missing(int i, int argc)
{
    return i + 1 >= argc;
}

/* Parses argv[*i], which starts with "--", and advances *i past a separate argument. */
static void parse_long(const struct program *p, int argc, char **argv, int *i)
{
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    size_t n = equals ? (size_t)(equals - name) : strlen(name);
    const struct option *o = find(p, name, n, 0);
    if (!o)
        die_usage("unknown option '--%.*s'%s", (int)n, name, option_hint(p, name, n));
    remember_given(o);
    struct spelling as = spell(o, true);
    if (o->kind == OPTION_FLAG) {
        if (equals)
            die_usage("option '%s' takes no argument", as.text);
        assign(o, as.text, NULL);
    } else if (equals) {
        assign(o, as.text, equals + 1);
    } else {
        if (next_is_missing(*i, argc))
            die_usage("option '%s' needs an argument", as.text);
        assign(o, as.text, argv[++*i]);
    }
}

/* Refuses "-output FILE" and "-steps=5", which mean --output and --steps, and not -o utput. */
static void refuse_long(const struct program *p, const char *word)
{
    size_t n = strcspn(word + 1, "=");
    if (n > 2 && find(p, word + 1, n, 0))
        die_usage("unknown option '-%.*s': did you mean '--%.*s'?", (int)n, word + 1, (int)n,
                  word + 1);
}

/* Parses argv[*i] = "-abc": flags, or a last option whose argument is the rest or the next word. */
static void parse_short(const struct program *p, int argc, char **argv, int *i)
{
    refuse_long(p, argv[*i]);
    for (const char *c = argv[*i] + 1; *c; c++) {
        const struct option *o = find(p, NULL, 0, *c);
        if (!o)
            die_usage("unknown option '-%c'%s", *c, option_hint(p, c, 1));
        remember_given(o);
        struct spelling as = spell(o, false);
        if (o->kind == OPTION_FLAG) {
            assign(o, as.text, NULL);
            continue;
        }
        if (c[1])
            assign(o, as.text, c + 1);
        else if (next_is_missing(*i, argc))
            die_usage("option '%s' needs an argument", as.text);
        else
            assign(o, as.text, argv[++*i]);
        return;
    }
}

static bool valid_device(const char *s)
{
    if (!strcmp(s, "auto") || !strcmp(s, "cpu") || !strcmp(s, "cuda"))
        return true;
    if (strncmp(s, "cuda:", 5) != 0)
        return false;
    size_t digits = strspn(s + 5, "0123456789");
    return digits >= 1 && digits <= 4 && s[5 + digits] == '\0';
}

void options_apply_common(void)
{
    if (want_verbose)
        message_set_verbosity(VERBOSITY_VERBOSE);
    if (want_quiet)
        message_set_verbosity(VERBOSITY_QUIET);
    if (!valid_device(common_options.device))
        die_usage("option '--device': '%s' is not one of auto, cpu, cuda, cuda:N",
                  common_options.device);
    bool known = false;
    for (int i = 0; precisions[i]; i++)
        known |= !strcmp(common_options.precision, precisions[i]);
    if (!known)
        die_usage("option '--precision': '%s' is not one of auto, fp32, bf16, fp16",
                  common_options.precision);
    memory_limit_prepare();
    threads_init((int)common_options.threads);
}

static void take_default(const char *variable, const char **value)
{
    const char *text = getenv(variable);
    if (text && *text)
        *value = text;
}

int options_parse(const struct program *p, int argc, char **argv)
{
    message_init(p->name);
    standard_streams_open();
    choose_common(p);
    if (!p->computes_nothing) {
        take_default("CCLD_DEVICE", &common_options.device);
        take_default("CCLD_PRECISION", &common_options.precision);
    }
    int operands = 0;
    bool options_over = false;
    if (argc == 3 && !strcmp(argv[1], "--completion")) { /* for make install; not in --help */
        if (!completion_print(p, common_table, argv[2]))
            die_usage("option '--completion': '%s' is not one of bash, zsh, fish", argv[2]);
        finish_stdout();
    }
    for (int i = 1; i < argc; i++) {
        char *arg = argv[i];
        if (options_over || arg[0] != '-' || arg[1] == '\0')
            argv[++operands] = arg;
        else if (!strcmp(arg, "--"))
            options_over = true;
        else if (arg[1] == '-')
            parse_long(p, argc, argv, &i);
        else
            parse_short(p, argc, argv, &i);
        if (want_help) {
            print_help(p);
            finish_stdout();
        }
        if (want_version) {
            printf("%s %s\n", p->name, CCLD_VERSION);
            if (p->formats)
                printf("formats: %s\n", p->formats);
            finish_stdout();
        }
    }
    options_apply_common();
    return operands;
}
