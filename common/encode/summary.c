#include "common/encode/summary.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/images/folder_walk.h"

/* " (2 truncated PNG; 1 empty file)", " (empty file)" for a single reason, or "" if none failed. */
static char *format_reasons(const struct encode_counts *c)
{
    char *text;
    size_t size;
    FILE *memory = xallocated(open_memstream(&text, &size));
    if (c->failed > 0 && c->reasons[1].count == 0)
        fprintf(memory, " (%s)", c->reasons[0].text);
    for (int i = 0; c->reasons[1].count > 0 && i < ENCODE_REASONS && c->reasons[i].count > 0; i++)
        fprintf(memory, "%s%" PRId64 " %s", i == 0 ? " (" : "; ", c->reasons[i].count,
                c->reasons[i].text);
    if (c->reasons[1].count > 0)
        fputc(')', memory);
    if (fclose(memory) != 0)
        die("out of memory");
    return text;
}

void encode_summary_print(const struct encode_summary *y, const struct encode_state *s,
                          double seconds)
{
    const struct encode_counts *c = &s->counts;
    if (c->others > 0)
        inform("%" PRId64 " file%s in the folders and archives left out: not an image", c->others,
               plural(c->others));
    if (c->links > 0)
        inform(FOLDER_LINKS_LEFT_OUT, c->links, plural(c->links));
    if (c->orphans > 0)
        inform("duplicates of records that have been replaced since: %" PRId64
               "; run again to encode them",
               c->orphans);
    char *reasons = format_reasons(c);
    char duration[32], scale[48] = "", part[80] = "", parts[32] = "", truncated[48] = "";
    char duplicates[48] = "";
    if (s->statistics.count > 0)
        snprintf(scale, sizeof scale, ", scale factor %.4f",
                 latent_statistics_scale(&s->statistics));
    if (y->part)
        snprintf(part, sizeof part, "part %.60s: ", y->part);
    if (c->truncated > 0)
        snprintf(truncated, sizeof truncated, " (%" PRId64 " truncated)", c->truncated);
    if (y->unique)
        snprintf(duplicates, sizeof duplicates, " %" PRId64 " duplicate%s,", c->duplicates,
                 plural(c->duplicates));
    if (y->parts > 1)
        snprintf(parts, sizeof parts, " in %d parts", y->parts);
    inform("%s%s%" PRId64 " encoded%s, %" PRId64 " skipped,%s %" PRId64
           " failed%s in %s (%.2f images/s); "
           "'%s' has %" PRId64 " record%s%s%s",
           c->interrupted ? "interrupted: " : "", part, c->encoded, truncated,
           c->skipped + c->repeated, duplicates, c->failed, reasons,
           format_duration(duration, seconds), seconds > 0 ? (double)c->encoded / seconds : 0.0,
           y->store, s->records, plural(s->records), parts, scale);
    free(reasons);
}

int encode_summary_judge(const struct encode_summary *y, const struct encode_counts *c)
{
    double percent = 100.0 * (double)c->failed / (double)c->listed;
    if (c->interrupted)
        return 1;
    if (c->listed + c->other_part == 0) {
        if (c->others > 0)
            warn("none of the files is an image");
        else if (c->links > 0)
            warn("there are no files to encode, only links, which are not followed");
        else
            warn("there are no files to encode");
        return 1;
    }
    if (c->unread > 0) {
        warn("%" PRId64 " folder%s, archive%s or argument%s could not be read completely",
             c->unread, plural(c->unread), plural(c->unread), plural(c->unread));
        return 1;
    }
    if (c->listed == 0)
        return 0; /* all paths are of other parts */
    if (c->encoded == 0 && c->skipped == 0 && c->duplicates == 0) {
        warn("none of the files could be encoded");
        return 1;
    }
    if (c->bad_latents > 0) {
        warn("%" PRId64 " file%s latents that cannot be stored: the model may be damaged",
             c->bad_latents, c->bad_latents == 1 ? " has" : "s have");
        return 1;
    }
    if (percent > y->max_failures) {
        warn("%" PRId64 " of %" PRId64
             " file%s failed, more than %g%%: '%s' is usable without them; --max-failures sets the "
             "limit",
             c->failed, c->listed, plural(c->listed), y->max_failures, y->store);
        return 1;
    }
    return 0;
}
