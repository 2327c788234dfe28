#include "tests/op/checker.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "tests/support/tap.h"

static const struct op_test *find_test(const char *name, size_t length)
{
    for (int i = 0; op_tests[i]; i++)
        if (strlen(op_tests[i]->name) == length && !memcmp(op_tests[i]->name, name, length))
            return op_tests[i];
    return NULL;
}

const struct weight *golden_operand(const struct check *c, const char *name, int64_t count)
{
    char full[200];
    snprintf(full, sizeof full, "%s/%s", c->golden_case, name);
    const struct weight *w = weights_find(c->golden, full);
    if (!w)
        die("the golden file has no '%s'", full);
    if (weight_count(w) != count)
        die("'%s' of the golden file has %" PRId64 " elements, not %" PRId64, full, weight_count(w),
            count);
    return w;
}

/* Metadata holds, for each case "OP/NAME", its parameters. */
static void check_golden(struct check *c, const char *key, const char *parameters)
{
    static const char *const sides[SIDES] = {"ref", "device"};
    int64_t p[MAX_PARAMETERS] = {0};
    c->test = find_test(key, strcspn(key, "/"));
    c->golden_case = key;
    if (!c->test || !parse_parameters(c->test, parameters, p)) {
        tap_ok(false, "golden %s: no op has the parameters %s", key, parameters);
        return;
    }
    for (enum side side = REF; side < SIDES; side++) {
        c->judged = side;
        if (!tap_ok(check_case(c, p, 1), "golden %s: %s against PyTorch", key, sides[side]))
            tap_diag("%s (%s)", c->failure, parameters);
    }
}

void check_goldens(struct check *c, const char *path, const char *only_op)
{
    struct weights *golden;
    struct error e;
    if (!file_exists(path)) {
        tap_skip("no such file", "golden %s", path);
        return;
    }
    if (weights_open(&golden, path, &e) != 0)
        die("cannot read '%s': %s", path, e.text);
    c->mode = MODE_GOLDEN;
    c->golden = golden;
    for (int i = 0; i < weights_metadata_count(golden); i++) {
        const char *key, *value;
        weights_metadata_at(golden, i, &key, &value);
        size_t length = strcspn(key, "/");
        if (key[length] &&
            (!only_op || (strlen(only_op) == length && !memcmp(key, only_op, length))))
            check_golden(c, key, value);
    }
    c->mode = MODE_COMPARE;
    c->judged = DEVICE;
    weights_close(golden);
}
