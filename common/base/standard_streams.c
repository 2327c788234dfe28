#include "common/base/standard_streams.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
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

bool standard_streams_fill(int folder, const char *name)
{
    struct stat file, stream;
    if (fstatat(folder, name, &file, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
        if (fstat(fd, &stream) == 0 && stream.st_dev == file.st_dev && stream.st_ino == file.st_ino)
            return true;
    return false;
}
