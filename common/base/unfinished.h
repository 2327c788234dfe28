#ifndef CCLD_BASE_UNFINISHED_H
#define CCLD_BASE_UNFINISHED_H

/* Files under temporary names, which must not stay behind when the process ends.
 *
 * They are removed when it exits, also through die, and when a signal ends it that it does not
 * catch, such as SIGTERM; the process then ends by that signal all the same. Nothing removes them
 * after SIGKILL. Of more than 16 files at once, the others are not removed. */

/* As mkostemp(path, O_CLOEXEC). path must stay valid until unfinished_forget. */
int unfinished_create(char *path);
/* After the file was renamed or removed. Does nothing for other paths. Leaves errno as it is. */
void unfinished_forget(const char *path);
/* Removes all files of this process. Async-signal-safe; for handlers that end the process. */
void unfinished_remove(void);

#endif
