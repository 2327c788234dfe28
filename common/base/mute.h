#ifndef CCLD_BASE_MUTE_H
#define CCLD_BASE_MUTE_H

#include <stdbool.h>

/* While on, what the calling thread prints to the C library's stderr is dropped: for libraries that
 * comment on damaged files. Our own messages (message.h) do not go through it. Other threads are
 * not affected. Thread-safe; does nothing without glibc. */
void stderr_mute(bool on);

#endif
