#include "common/base/options.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/threads.h"
#include "tests/support/tap.h"

static const char *const colours[] = {"red", "green", NULL};

static struct {
    bool force, zero;
    int64_t count;
    uint64_t seed;
    int64_t top;
    double scale, limit;
    const char *output;
    struct string_list prompts;
    int colour;
    struct size2d size;
} v;

static const struct option table[] = {
    {.name = "force", .letter = 'f', .kind = OPTION_FLAG, .value = &v.force, .help = "overwrite"},
    {.name = "null",
     .letter = '0',
     .kind = OPTION_FLAG,
     .value = &v.zero,
     .help = "names end with NUL"},
    {.name = "count",
     .letter = 'n',
     .kind = OPTION_INT,
     .value = &v.count,
     .argument = "N",
     .help = "images",
     .min = 1,
     .max = 1e6},
    {.name = "seed",
     .kind = OPTION_SEED,
     .value = &v.seed,
     .argument = "S",
     .help = "seed of the noise"},
    {.name = "scale",
     .kind = OPTION_FLOAT,
     .value = &v.scale,
     .argument = "X",
     .help = "guidance",
     .min = -10,
     .max = 10},
    {.name = "top",
     .kind = OPTION_INT,
     .value = &v.top,
     .argument = "K",
     .help = "none without it",
     .min = 1,
     .max = 10},
    {.name = "limit",
     .kind = OPTION_FLOAT,
     .value = &v.limit,
     .argument = "X",
     .help = "of nothing",
     .min = 0.5,
     .max = 1},
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_STRING,
     .value = &v.output,
     .argument = "FILE",
     .help = "where to"},
    {.name = "prompt",
     .letter = 'p',
     .kind = OPTION_LIST,
     .value = &v.prompts,
     .argument = "TEXT",
     .help = "a prompt"},
    {.name = "colour",
     .kind = OPTION_CHOICE,
     .value = &v.colour,
     .argument = "NAME",
     .help = "paint",
     .choices = colours},
    {.name = "size",
     .letter = 's',
     .kind = OPTION_SIZE,
     .value = &v.size,
     .argument = "HxW",
     .help = "of the image",
     .min = 8,
     .max = 4096},
    {0},
};
static const struct program program = {.name = "test-tool",
                                       .summary = "does nothing",
                                       .usage = "[OPTION]... [FILE]...\nlist FILE",
                                       .options = table};

/* The outcome of a parse in a child process: all values in one line, or what it printed. */
struct outcome {
    int status;
    char out[4000], err[4000];
};

static void read_all(int fd, char *buffer, size_t size)
{
    size_t n = 0;
    for (ssize_t got; n + 1 < size && (got = read(fd, buffer + n, size - 1 - n)) > 0;)
        n += (size_t)got;
    buffer[n] = '\0';
    close(fd);
}

static void print_values(int operands, char **argv)
{
    printf("f%d 0%d n%" PRId64 " S%" PRIu64 " X%g o%s c%d s%dx%d", v.force, v.zero, v.count, v.seed,
           v.scale, v.output ? v.output : "-", v.colour, v.size.height, v.size.width);
    for (int i = 0; i < v.prompts.count; i++)
        printf(" p%s", v.prompts.items[i]);
    for (int i = 1; i <= operands; i++)
        printf(" [%s]", argv[i]);
    printf(" %s %d %s %d", common_options.device, threads_count(), common_options.precision,
           (int)message_verbosity());
}

/* '|' separates the words of the command line, so they can contain spaces or be empty. */
static struct outcome parse(const char *line)
{
    char *copy = strdup(line), *argv[40] = {(char *)"some/where/test-tool"};
    int argc = 1, out[2], err[2];
    for (char *rest = copy, *word; *line && (word = strsep(&rest, "|"));)
        argv[argc++] = word;
    fflush(stdout);
    if (pipe(out) < 0 || pipe(err) < 0)
        exit(1);
    pid_t child = fork();
    if (child == 0) {
        dup2(out[1], 1);
        dup2(err[1], 2);
        close(out[0]);
        close(err[0]);
        v.count = 4;
        v.scale = 3;
        v.size = (struct size2d){256, 256};
        int operands = options_parse(&program, argc, argv);
        print_values(operands, argv);
        fflush(stdout);
        _exit(0);
    }
    close(out[1]);
    close(err[1]);
    struct outcome o;
    read_all(out[0], o.out, sizeof o.out);
    read_all(err[0], o.err, sizeof o.err);
    waitpid(child, &o.status, 0);
    o.status = WIFEXITED(o.status) ? WEXITSTATUS(o.status) : -1;
    free(copy);
    return o;
}

static void accepts(const char *line, const char *values)
{
    struct outcome o = parse(line);
    if (!tap_ok(o.status == 0 && !strncmp(o.out, values, strlen(values)) && !*o.err,
                "'%s' is accepted", line))
        tap_diag("status %d, got '%s', wanted '%s', stderr '%s'", o.status, o.out, values, o.err);
}

static void refuses(const char *line, const char *reason)
{
    struct outcome o = parse(line);
    char want[4000];
    snprintf(want, sizeof want, "test-tool: %s\ntry 'test-tool --help'\n", reason);
    if (!tap_ok(o.status == 2 && !*o.out && !strcmp(o.err, want), "'%s' is rejected", line))
        tap_diag("status %d, stdout '%s', stderr '%s'", o.status, o.out, o.err);
}

static void test_spellings(void)
{
    accepts("", "f0 00 n4 S0 X3 o- c0 s256x256 auto");
    accepts("--count|7", "f0 00 n7");
    accepts("--count=7", "f0 00 n7");
    accepts("-n7", "f0 00 n7");
    accepts("-n|7", "f0 00 n7");
    accepts("-f0n7", "f1 01 n7");
    accepts("-f0n|7", "f1 01 n7");
    accepts("-fofile", "f1 00 n4 S0 X3 ofile");
    accepts("--output=", "f0 00 n4 S0 X3 o c0");
    accepts("-o|-", "f0 00 n4 S0 X3 o- c0");
    accepts("-o|--force", "f0 00 n4 S0 X3 o--force c0");
    accepts("a|-f|b c|-|-n|2|d", "f1 00 n2 S0 X3 o- c0 s256x256 [a] [b c] [-] [d] auto");
    accepts("a|--|-f|--count|--", "f0 00 n4 S0 X3 o- c0 s256x256 [a] [-f] [--count] [--] auto");
    accepts("|x", "f0 00 n4 S0 X3 o- c0 s256x256 [] [x] auto");
    accepts("-pone|--prompt|two words|--prompt=a=b", "f0 00 n4 S0 X3 o- c0 s256x256 pone ptwo "
                                                     "words pa=b auto");
    accepts("-n1|-n2", "f0 00 n2");
    accepts("--threads|3|--device=cuda:1|--precision|fp32|-v",
            "f0 00 n4 S0 X3 o- c0 s256x256 cuda:1 3 fp32 1");
    accepts("-q|--device|cpu|--threads=1", "f0 00 n4 S0 X3 o- c0 s256x256 cpu 1 auto -1");
}

static void test_values(void)
{
    accepts("-n|2k", "f0 00 n2000");
    accepts("-n|1M", "f0 00 n1000000");
    accepts("--seed=18446744073709551615", "f0 00 n4 S18446744073709551615");
    accepts("--scale=-2.5e0", "f0 00 n4 S0 X-2.5");
    accepts("--colour=green", "f0 00 n4 S0 X3 o- c1");
    accepts("--size=512", "f0 00 n4 S0 X3 o- c0 s512x512");
    accepts("-s256x512", "f0 00 n4 S0 X3 o- c0 s256x512");

    refuses("-n|0", "option '-n': '0' is not between 1 and 1000000");
    refuses("--count=2M", "option '--count': '2M' is not between 1 and 1000000");
    refuses("--count=9999999999999G", "option '--count': '9999999999999G' is too large");
    refuses("--count=99999999999999999999",
            "option '--count': '99999999999999999999' is too large");
    refuses("--count=", "option '--count': '' is not a whole number");
    refuses("--count= 7", "option '--count': ' 7' is not a whole number");
    refuses("--count=7x", "option '--count': '7x' is not a whole number");
    refuses("--count=7kk", "option '--count': '7kk' is not a whole number");
    refuses("--count=1.5", "option '--count': '1.5' is not a whole number");
    refuses("--seed=-1", "option '--seed': '-1' is not a nonnegative whole number");
    refuses("--seed=18446744073709551616", "option '--seed': '18446744073709551616' is too large");
    refuses("--scale=nan", "option '--scale': 'nan' is not a number");
    refuses("--scale=inf", "option '--scale': 'inf' is not a number");
    refuses("--scale=1e999", "option '--scale': '1e999' is not a number");
    refuses("--scale=", "option '--scale': '' is not a number");
    refuses("--scale=3,5", "option '--scale': '3,5' is not a number");
    refuses("--scale=11", "option '--scale': '11' is not between -10 and 10");
    refuses("--colour=blue", "option '--colour': 'blue' is not one of red, green");
    refuses("--size=256x", "option '--size': '256x' is not a size (N or HxW)");
    refuses("--size=x256", "option '--size': 'x256' is not a size (N or HxW)");
    refuses("--size=256x256x3", "option '--size': '256x256x3' is not a size (N or HxW)");
    refuses("--size=-8", "option '--size': '-8' is not a size (N or HxW)");
    refuses("--size=256x7", "option '--size': '256x7' is not between 8 and 4096");
    refuses("--size=99999999999", "option '--size': '99999999999' is not a size (N or HxW)");
}

static void test_mistakes(void)
{
    refuses("--nosuch", "unknown option '--nosuch'");
    refuses("--nosuch=3", "unknown option '--nosuch'");
    refuses("--coun=3", "unknown option '--coun': did you mean '--count'?");
    refuses("-fx", "unknown option '-x'");
    refuses("--count", "option '--count' needs an argument");
    refuses("-fn", "option '-n' needs an argument");
    refuses("--force=yes", "option '--force' takes no argument");
    refuses("--device=gpu", "option '--device': 'gpu' is not one of auto, cpu, cuda, cuda:N");
    refuses("--device=cuda:", "option '--device': 'cuda:' is not one of auto, cpu, cuda, cuda:N");
    refuses("--precision=fp8", "option '--precision': 'fp8' is not one of auto, fp32, bf16, fp16");
    refuses("--threads=-1", "option '--threads': '-1' is not between 0 and 1024");
}

static void test_help(void)
{
    struct outcome o = parse("-f|--help|--nosuch");
    bool all = o.status == 0 && !*o.err;
    static const char *const lines[] = {
        "usage: test-tool [OPTION]... [FILE]...\n       test-tool list FILE\n",
        "does nothing\n",
        "  -n, --count N             images [4]\n",
        "      --top K               none without it\n",
        "      --limit X             of nothing\n",
        "      --colour NAME         paint (red, green) [red]\n",
        "  -s, --size HxW            of the image [256]\n",
        "  -f, --force               overwrite\n",
        "      --device DEVICE ",
        "  -h, --help                print this help and exit\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(o.out, lines[i])) {
            all = false;
            tap_diag("not in --help: %s", lines[i]);
        }
    tap_ok(all, "--help lists every option with its default");
    o = parse("--version");
    tap_ok(o.status == 0 && !strcmp(o.out, "test-tool " CCLD_VERSION "\n") && !*o.err, "--version");
}

int main(void)
{
    unsetenv("CCLD_DEVICE");
    unsetenv("CCLD_PRECISION");
    test_spellings();
    test_values();
    test_mistakes();
    test_help();
    return tap_done();
}
