#ifndef CCLD_BASE_OPTIONS_H
#define CCLD_BASE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* One table drives the parser, --help and (through tests) the man page.
 * Accepted spellings: --name VALUE, --name=VALUE, -xVALUE, -x VALUE, bundled short flags, `--` ends
 * options, a lone `-` is an operand, options and operands may be mixed. Long names must be exact.
 * A bad value, an unknown option or a missing argument ends the program with status 2 and one line
 * that names the option, followed by `try 'PROGRAM --help'`. */

enum option_kind {
    OPTION_FLAG,   /* bool *: set to true */
    OPTION_INT,    /* int64_t *: min..max checked; accepts k/M/G suffixes (powers of 1000) */
    OPTION_SEED,   /* uint64_t * */
    OPTION_FLOAT,  /* double *: min..max checked; NaN and infinity are refused */
    OPTION_STRING, /* const char **: points into argv */
    OPTION_LIST,   /* struct string_list *: repeatable */
    OPTION_CHOICE, /* int *: index into choices */
    OPTION_SIZE,   /* struct size2d *: HxW, or one number for both; min..max checked on each */
};

struct string_list {
    const char **items;
    int count;
};

struct size2d {
    int height, width;
};

struct option {
    const char *name; /* long name without dashes */
    char letter;      /* short name, or 0 */
    enum option_kind kind;
    void *value;                /* holds the default before parsing; printed by --help */
    const char *argument;       /* placeholder in --help, e.g. "DIR"; NULL for flags */
    const char *help;           /* one line, no full stop */
    double min, max;            /* both 0: unchecked */
    const char *const *choices; /* NULL-terminated, OPTION_CHOICE only */
};

struct program {
    const char *name;    /* "ccld-encode" */
    const char *summary; /* for --help, usually one line */
    const char *usage;   /* after the name, e.g. "[OPTION]... -o STORE [PATH]..."; each further line
                            is another way to call the program */
    const struct option *options; /* ends with a NULL name; the common ones are added */
};

/* What every program has. $CCLD_DEVICE and $CCLD_PRECISION are the defaults of their options. */
struct common_options {
    const char *device;    /* "auto", "cpu", "cuda", "cuda:N" */
    int64_t threads;       /* 0: all cores */
    const char *precision; /* "fp32", "bf16", "fp16" or "auto" */
    bool tf32;
};
extern struct common_options common_options;

/* Parses argv into the table's values. Handles --help and --version (print to stdout, exit 0), -q,
 * -v, --device, --threads, --precision, --tf32. Calls message_init. Returns the number of operands,
 * which stand in argv[1..n] afterwards in their given order. */
int options_parse(const struct program *program, int argc, char **argv);

/* For programs that go on with options of an earlier run, after options_parse. */
bool option_given(const char *name); /* on the command line, by its long name */
/* The program's or a common option; NULL when there is none. */
const struct option *option_find(const struct program *program, const char *name);
/* Its value as text that gives the same value again, malloc'ed; NULL for a list, an unset flag and
 * a string that is NULL. */
char *option_text(const struct option *o);
/* As if the command line had said so; does not count as given. text must stay valid for strings. */
void option_set(const struct option *o, const char *text);
/* Checks and applies the common options anew, when some of them were set. */
void options_apply_common(void);

#define CCLD_VERSION "0.1.0"

#endif
