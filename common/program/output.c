#include "common/program/output.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/message.h"

void output_begin_binary(const char *instead)
{
    if (isatty(STDOUT_FILENO))
        die_usage("will not write binary data to a terminal: %s", instead);
    signal(SIGPIPE, SIG_IGN);
}

void output_failed(const struct error *e)
{
    if (errno == EPIPE)
        _Exit(1);
    warn("cannot write to standard output: %s", e->text);
    _Exit(1); /* not exit: flushing stdout would fail again */
}

void output_finish(void)
{
    struct error e;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        error_set(&e, "%s", strerror(errno));
        output_failed(&e);
    }
}
