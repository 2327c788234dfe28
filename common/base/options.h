#ifndef CCLD_BASE_OPTIONS_H
#define CCLD_BASE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

_Static_assert(sizeof(void *) == 8, "ccld runs on 64-bit machines only");

/* One table drives the parser, --help and (through tests) the man page.
 * Accepted: --name VALUE, --name=VALUE, -xVALUE, -x VALUE, bundled short flags. `--` ends the
 * options, a lone `-` is an operand, and options and operands may be mixed. Long names must not be
 * abbreviated. A bad value, an unknown option or a missing argument ends the program with status 2
 * and one line that names the option and, if it can, the right one, followed by `try 'PROGRAM
 * --help'`. */

enum option_kind {
    OPTION_FLAG,   /* bool *: set to true */
    OPTION_INT,    /* int64_t *: within min..max; the suffixes k, M, G are powers of 1000 */
    OPTION_SEED,   /* uint64_t * */
    OPTION_FLOAT,  /* double *: finite and within min..max */
    OPTION_STRING, /* const char **: set to point into argv */
    OPTION_LIST,   /* struct string_list *: appended to each time */
    OPTION_CHOICE, /* int *: an index into choices */
    OPTION_SIZE,   /* struct size2d *: HxW, or one number for both; each within min..max */
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
    void *value;          /* holds the default before parsing, which --help prints */
    const char *argument; /* placeholder for --help, e.g. "DIR"; NULL for flags */
    const char *help;     /* one line, no full stop */
    double min, max;      /* both 0: unchecked; --help shows no default outside them */
    /* NULL-terminated: all values of OPTION_CHOICE; what shells offer of OPTION_STRING */
    const char *const *choices;
};

struct program {
    const char *name;    /* "ccld-encode" */
    const char *summary; /* for --help, usually one line */
    const char *usage;   /* what follows the name, e.g. "[OPTION]... -o STORE [PATH]..."; one line
                            per synopsis */
    const struct option *options; /* ends with a NULL name; the common options are added to it */
    bool computes_nothing;        /* it has none of the options about devices and arithmetic */
    const char *formats;          /* of files it reads, for --version; NULL: not told */
};

/* Options of every program that computes. $CCLD_DEVICE and $CCLD_PRECISION override the defaults.
 */
struct common_options {
    const char *device;    /* "auto", "cpu", "cuda", "cuda:N" */
    int64_t threads;       /* 0: all cores */
    const char *precision; /* "fp32", "bf16", "fp16" or "auto" */
    bool tf32;
};
extern struct common_options common_options;

/* Parses argv into the table's values. Handles --help and --version (prints to stdout and exits
 * with status 0) and applies the common options. Calls message_init and standard_streams_open.
 * Returns the number of operands n, which it moves to argv[1..n] in their original order. */
int options_parse(const struct program *program, int argc, char **argv);

/* For programs that resume a run with its saved options; to be called after options_parse. */
bool option_given(const char *name); /* whether the command line set it; name is the long name */
/* Ends the program if the command line has an option without the one that it belongs to, "--force
 * requires -o". met: whether that one is there; other: it, as it is written. */
void option_requires(const char *name, bool met, const char *other);
/* Finds an option of the program or a common one by its long name; NULL if there is none. */
const struct option *option_find(const struct program *program, const char *name);
/* Those that every program has; ends with a NULL name. */
const struct option *options_common(void);
/* Its value as text from which option_set restores the same value, malloc'ed; NULL for a list, an
 * unset flag or a NULL string. */
char *option_text(const struct option *o);
/* Sets the value as the command line would, without making option_given true. For strings, text
 * must stay valid. */
void option_set(const struct option *o, const char *text);
/* Checks and applies the common options again after option_set changed some of them. */
void options_apply_common(void);

#define CCLD_VERSION "0.1.0"

#endif
