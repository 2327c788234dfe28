/* state.json of a checkpoint. What is accepted must print as a document that is read as the same.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/run/checkpoint_internal.h"
#include "tests/fuzz/support/fuzz.h"

static void print_and_parse(const struct training_state *s)
{
    struct training_state again;
    struct error e = {""};
    char *first, *second;
    training_state_print(&first, s);
    if (training_state_parse(&again, first, &e) != 0) {
        fprintf(stderr, "%s\n%s\n", e.text, first);
        CHECK(!"what is printed can be parsed");
    }
    training_state_print(&second, &again);
    CHECK(strcmp(first, second) == 0);
    free(first);
    free(second);
    training_state_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct training_state s;
    struct error e = {""};
    char *text = fuzz_text(data, size);
    int status = training_state_parse(&s, text, &e);
    free(text);
    if (status != 0) {
        CHECK(e.text[0]);
        return 0;
    }
    print_and_parse(&s);
    training_state_release(&s);
    return 0;
}
