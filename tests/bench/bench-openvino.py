#!/usr/bin/env python3
"""Times OpenVINO and bench-nets on the same work by turns: the forward passes of the three networks at
their published sizes, in float32 and in bf16 (INFERENCE_PRECISION_HINT). The models are PyTorch's
networks, converted once and kept, 5.4 GB. Needs openvino, and torch to convert.

    bench-openvino.py [--bench build/tests/bench/bench-nets] [--models build/openvino]
                      [--precision fp32,bf16] [--threads N] [--runs N] [--items a,b] [--convert-only]
"""

import argparse
import pathlib
import subprocess
import sys

import racing


def model_file(options, item):
    """unet-1 and unet-4 are one model, whose shapes are set when it is loaded."""
    name = "unet" if item.startswith("unet") else item
    return pathlib.Path(options.models) / f"{name}.xml"


def convert(item, options):
    """Converts PyTorch's network, in a process of its own so that none counts PyTorch's memory."""
    import warnings

    import openvino
    import torch

    import torch_networks

    warnings.simplefilter("ignore", FutureWarning)  # of torch.jit, which OpenVINO uses
    target = model_file(options, item)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"unfinished-{target.name}")
    shapes = racing.ITEMS[item]
    with torch.inference_mode():
        model = openvino.convert_model(torch_networks.network_of(item),
                                       example_input=tuple(torch.rand(s) for s in shapes))
    openvino.save_model(model, unfinished, compress_to_fp16=False)
    unfinished.with_suffix(".bin").rename(target.with_suffix(".bin"))
    unfinished.rename(target)


def is_converted(options, item):
    target = model_file(options, item)
    source = pathlib.Path(__file__).with_name("torch_networks.py")
    return target.exists() and target.stat().st_mtime > source.stat().st_mtime


def serve(item, options):
    """OpenVINO's work, in a process of its own."""
    import numpy
    import openvino

    core = openvino.Core()
    model = core.read_model(model_file(options, item))
    shapes = racing.ITEMS[item]
    model.reshape({i: openvino.PartialShape(shape) for i, shape in enumerate(shapes)})
    hints = {"INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[options.precision],
             "INFERENCE_NUM_THREADS": options.threads, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", hints).create_infer_request()
    del model
    inputs = dict(enumerate(numpy.random.rand(*shape).astype(numpy.float32) for shape in shapes))

    def work():
        return float(request.infer(inputs, share_inputs=True, share_outputs=True)[0].sum())

    racing.serve(work)


def main():
    parser = racing.parser_of("Time bench-nets and OpenVINO by turns.", "bench-nets")
    parser.add_argument("--items", default=",".join(racing.ITEMS), metavar="LIST")
    parser.add_argument("--models", default="build/openvino", metavar="DIR")
    parser.add_argument("--convert-only", action="store_true", help="time nothing")
    parser.add_argument("--convert", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve or options.convert:
        (serve if options.serve else convert)(options.serve or options.convert, options)
        return

    def again(what, item, *more):
        return [sys.executable, __file__, what, item, "--models", options.models, *more]

    for item in racing.chosen(parser, options.items, racing.ITEMS, "item"):
        if not is_converted(options, item):
            subprocess.run(again("--convert", item), check=True)
    if options.convert_only:
        return

    import openvino

    racing.print_header(f"openvino {openvino.__version__}", options)
    racing.race_items(parser, options,
                      lambda item, precision: again("--serve", item, "--precision", precision,
                                                    "--threads", options.threads))


if __name__ == "__main__":
    main()
