#ifndef CCLD_TESTS_OP_CLASSES_H
#define CCLD_TESTS_OP_CLASSES_H

/* The classes of work in tables of a step's time, measured (profile.h) or modelled (work.h). The
 * parts of a backward op have classes of their own. */
enum op_class {
    OTHER,
    CONV_FORWARD,
    CONV_DGRAD,
    CONV_WGRAD,
    LINEAR_FORWARD,
    LINEAR_DX,
    LINEAR_DW,
    ATTENTION_FORWARD,
    ATTENTION_BACKWARD,
    GROUP_NORM_FORWARD,
    GROUP_NORM_BACKWARD,
    ADD,
    WGRAD_SUM,
    BIAS_GRADIENTS,
    CONCAT_POOL_UPSAMPLE,
    SUM_OF_SQUARES,
    ADAMW_EMA,
    WEIGHT_CONVERSION,
    OP_CLASS_COUNT
};

/* Without blanks, since programs read the tables. */
extern const char *const op_class_names[OP_CLASS_COUNT];

#endif
