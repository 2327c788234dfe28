#include "common/base/standard_streams.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/base/message.h"

void standard_streams_open(void)
{
    static const int access[] = {
        [STDIN_FILENO] = O_RDONLY,
        [STDOUT_FILENO] = O_RDONLY, /* a program whose results are lost must fail */
        [STDERR_FILENO] = O_WRONLY,
    };
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", access[fd]) != fd)
            die("cannot open '/dev/null': %s", strerror(errno));
}
