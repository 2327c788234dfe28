#!/usr/bin/env python3
"""Times PyTorch and bench-nets on the same work by turns: the forward passes of the three networks at
their published sizes, in float32 and in bf16 (PyTorch: weights in bf16, autocast, channels-last). Needs
torch and nothing else.

    bench-torch.py [--bench build/tests/bench/bench-nets] [--precision fp32,bf16] [--threads N]
                   [--runs N] [--items a,b] [--channels-last]
"""

import sys

import racing


def serve(item, options):
    """PyTorch's work, in a process of its own."""
    import torch

    import torch_networks

    in_bf16 = options.precision == "bf16"
    layout = torch.channels_last if in_bf16 or options.channels_last else torch.contiguous_format
    torch.set_num_threads(options.threads)
    if in_bf16:  # never in float32, which would count as peak memory
        torch.set_default_dtype(torch.bfloat16)
    network = torch_networks.network_of(item).to(memory_format=layout)
    torch.set_default_dtype(torch.float32)
    inputs = [torch.rand(shape) for shape in racing.ITEMS[item]]
    inputs[0] = inputs[0].to(memory_format=layout)

    def work():
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
            return float(network(*inputs).float().sum())

    with torch.inference_mode():
        racing.serve(work)


def main():
    parser = racing.parser_of("Time bench-nets and PyTorch by turns.", "bench-nets")
    parser.add_argument("--items", default=",".join(racing.ITEMS), metavar="LIST")
    parser.add_argument("--channels-last", action="store_true",
                        help="PyTorch's other image layout, also in float32")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options)
        return

    def theirs(item, precision):
        return [sys.executable, __file__, "--serve", item, "--precision", precision,
                "--threads", options.threads, *["--channels-last"] * options.channels_last]

    import torch

    racing.print_header(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}", options)
    racing.race_items(parser, options, theirs)


if __name__ == "__main__":
    main()
