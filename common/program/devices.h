#ifndef CCLD_PROGRAM_DEVICES_H
#define CCLD_PROGRAM_DEVICES_H

#include <stdbool.h>

/* --devices: which devices the processes of one program use. */

#define DEVICES_MAX 64

struct device_list {
    int count; /* of processes, 1 to DEVICES_MAX */
    bool gpu;  /* process r uses GPU ids[r]; false: all use what --device says */
    int ids[DEVICES_MAX];
};

/* What a program does without --devices. */
enum devices_unsaid {
    DEVICES_ONE, /* one process on the device that --device says */
    DEVICES_ALL, /* one process per GPU, unless --device names a GPU or the CPU */
};

/* text: the value of --devices, or NULL. device: the value of --device.
 *
 *   all        every GPU
 *   N          the first N GPUs; without a GPU or with --device cpu, N processes on the CPU
 *   0,2,5      these GPUs, numbered as CUDA does. A comma makes a list: "2" is a number of GPUs,
 *              "2," the GPU 2
 *
 * With --device auto, GPUs are used if there are any. Exits with a message if the list is invalid,
 * names a GPU that does not exist, or is given together with --device cuda:N. GPUs are counted in a
 * process of its own: CUDA, once started, does not work in processes forked later. */
void devices_parse(struct device_list *out, const char *text, const char *device,
                   enum devices_unsaid unsaid);

/* The device of a process that a launcher has started as number `task` on its host: GPU `task` of
 * those it sees, if --device, which is `device`, leaves the choice. */
void devices_of_task(struct device_list *out, const char *device, int task);

/* Makes --device name the device of this process; call it before program_open_device. */
void devices_select(const struct device_list *l, int process);

#endif
