#ifndef CCLD_BASE_MAPPING_FAULTS_H
#define CCLD_BASE_MAPPING_FAULTS_H

/* Reading a mapped file beyond its end, because it has been truncated, or where its disk fails,
 * raises SIGBUS. From the first call on, the program then ends with status 1 and a message that
 * names the file. SIGBUS of other causes ends it as before. Whoever maps a file calls this; it is
 * cheap, thread-safe, and holds in forked processes. */
void mapping_faults_handle(void);

#endif
