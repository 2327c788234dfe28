#include "common/base/completion.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum values { VALUES_NONE, VALUES_LISTED, VALUES_FOLDERS, VALUES_FILES };

static enum values values_of(const struct option *o)
{
    static const char *const folders[] = {"DIR", "STORE", "RUN"}, *const files[] = {"FILE",
                                                                                    "IMAGE"};
    if (o->choices)
        return VALUES_LISTED;
    if (o->kind != OPTION_STRING && o->kind != OPTION_LIST)
        return VALUES_NONE;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (!strcmp(o->argument, folders[i]))
            return VALUES_FOLDERS;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (!strncmp(o->argument, files[i], strlen(files[i])))
            return VALUES_FILES;
    return !strcmp(o->argument, "RUN|CKPT") ? VALUES_FILES : VALUES_NONE;
}

/* Prints text within single quotes, with a backslash before special characters. */
static void print_quoted(const char *text, const char *special, const char *quote)
{
    for (; *text; text++)
        if (*text == '\'')
            fputs(quote, stdout);
        else if (strchr(special, *text))
            printf("\\%c", *text);
        else
            putchar(*text);
}

static void print_words(const char *const *words)
{
    for (int i = 0; words[i]; i++)
        printf("%s%s", i ? " " : "", words[i]);
}

/* The words that begin a line of the usage after options: "ls" of "[OPTION]... ls FILE". */
static void print_subcommands(const struct program *p)
{
    static const char options[] = "[OPTION]... ";
    int n = 0;
    for (const char *line = p->usage; line;) {
        const char *word = line;
        if (!strncmp(word, options, sizeof options - 1))
            word += sizeof options - 1;
        size_t length = strcspn(word, " \n");
        if (islower((unsigned char)*word))
            printf("%s%.*s", n++ ? " " : "", (int)length, word);
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
}

/* "ccld_fit_cloob", for names of functions. */
static void print_identifier(const struct program *p)
{
    for (const char *c = p->name; *c; c++)
        putchar(*c == '-' ? '_' : *c);
}

typedef void option_printer(const struct program *p, const struct option *o);

static void print_each(const struct program *p, const struct option *common, option_printer *print)
{
    const struct option *tables[] = {p->options, common};
    for (int t = 0; t < 2; t++)
        for (const struct option *o = tables[t]; o && o->name; o++)
            print(p, o);
}

static void bash_values(const struct program *p, const struct option *o)
{
    static const char *const actions[] = {"", NULL, "-d", "-f"};
    if (o->kind == OPTION_FLAG)
        return;
    printf("    --%s", o->name);
    if (o->letter)
        printf("|-%c", o->letter);
    enum values v = values_of(o);
    if (v == VALUES_NONE) {
        printf(") return ;;\n");
        return;
    }
    printf(") mapfile -t COMPREPLY < <(compgen ");
    if (v == VALUES_LISTED) {
        printf("-W '");
        print_words(o->choices);
        printf("'");
    } else {
        printf("%s", actions[v]);
    }
    printf(" -- \"$cur\"); return ;;\n");
}

static void bash_name(const struct program *p, const struct option *o)
{
    printf(" --%s", o->name);
}

static void print_bash(const struct program *p, const struct option *common)
{
    printf("# bash completion of %s\n_", p->name);
    print_identifier(p);
    printf("()\n{\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
           "    COMPREPLY=()\n"
           "    # --name=value is three words\n"
           "    if [[ $cur == = ]]; then cur=; elif [[ $prev == = ]]; then "
           "prev=${COMP_WORDS[COMP_CWORD - 2]}; fi\n"
           "    case $prev in\n");
    print_each(p, common, bash_values);
    printf("    esac\n    if [[ $cur == -* ]]; then\n"
           "        mapfile -t COMPREPLY < <(compgen -W '");
    print_each(p, common, bash_name);
    printf("' -- \"$cur\")\n    else\n        mapfile -t COMPREPLY < <(compgen -f -W '");
    print_subcommands(p);
    printf("' -- \"$cur\")\n    fi\n}\ncomplete -o filenames -F _");
    print_identifier(p);
    printf(" %s\n", p->name);
}

static void zsh_option(const struct program *p, const struct option *o)
{
    const char *repeated = o->kind == OPTION_LIST ? "*" : "", *value = o->argument ? "=" : "";
    if (o->letter && o->kind == OPTION_LIST)
        printf("    '*'{-%c+,--%s%s}'[", o->letter, o->name, value);
    else if (o->letter)
        printf("    '(-%c --%s)'{-%c%s,--%s%s}'[", o->letter, o->name, o->letter,
               o->argument ? "+" : "", o->name, value);
    else
        printf("    '%s--%s%s[", repeated, o->name, value);
    print_quoted(o->help, "[]\\", "'\\''");
    printf("]");
    if (o->argument) {
        static const char *const actions[] = {" ", NULL, "_files -/", "_files"};
        enum values v = values_of(o);
        printf(":");
        print_quoted(o->argument, ":[]\\", "'\\''");
        printf(":");
        if (v == VALUES_LISTED) {
            printf("(");
            print_words(o->choices);
            printf(")");
        } else {
            printf("%s", actions[v]);
        }
    }
    printf("' \\\n");
}

static void print_zsh(const struct program *p, const struct option *common)
{
    printf("#compdef %s\nlocal -a commands=(", p->name);
    print_subcommands(p);
    printf(")\n_arguments -s -S \\\n");
    print_each(p, common, zsh_option);
    printf("    '*:file:_alternative \"commands:command:compadd -a commands\" "
           "\"files:file:_files\"'\n");
}

static void fish_option(const struct program *p, const struct option *o)
{
    printf("complete -c %s -l %s", p->name, o->name);
    if (o->letter)
        printf(" -s %c", o->letter);
    if (o->argument) {
        enum values v = values_of(o);
        printf(v == VALUES_FILES ? " -r -F" : " -x");
        if (v == VALUES_FOLDERS)
            printf(" -a '(__fish_complete_directories)'");
        if (v == VALUES_LISTED) {
            printf(" -a '");
            print_words(o->choices);
            printf("'");
        }
    }
    printf(" -d '");
    print_quoted(o->help, "\\", "\\'");
    printf("'\n");
}

static void print_fish(const struct program *p, const struct option *common)
{
    printf("# fish completion of %s\ncomplete -c %s -n __fish_use_subcommand -a '", p->name,
           p->name);
    print_subcommands(p);
    printf("'\n");
    print_each(p, common, fish_option);
}

bool completion_print(const struct program *p, const struct option *common, const char *shell)
{
    if (!strcmp(shell, "bash"))
        print_bash(p, common);
    else if (!strcmp(shell, "zsh"))
        print_zsh(p, common);
    else if (!strcmp(shell, "fish"))
        print_fish(p, common);
    else
        return false;
    return true;
}
