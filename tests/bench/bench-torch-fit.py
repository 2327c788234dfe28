#!/usr/bin/env python3
"""Times PyTorch and bench-fit on the same training step of the U-Net, by turns in one run: noise,
forward, backward, AdamW and moving average, float32, the same number of threads. One size a run, so
that each program's peak of memory is this size's. Needs torch; nothing else of Python.

    bench-torch-fit.py [--base N] [--batch N] [--bench build/tests/bench/bench-fit] [--runs N]
"""

import argparse
import copy
import importlib.util
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F


def bench_torch():
    """The module beside this one, for its U-Net."""
    path = pathlib.Path(__file__).with_name("bench-torch.py")
    spec = importlib.util.spec_from_file_location("bench_torch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Training:
    """PyTorch's own fast ways: fused AdamW, the moving average in one call for all tensors."""

    def __init__(self, base, batch, memory_format):
        self.model = bench_torch().UNet(base).to(memory_format=memory_format)
        for fourier in (self.model.mapping_fourier, self.model.fourier):
            fourier.weight.requires_grad_(False)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=3e-5, weight_decay=0.01, fused=True)
        self.sobol = torch.quasirandom.SobolEngine(1, scramble=True)
        self.moments, self.embeds = torch.randn(batch, 8, 32, 32), torch.randn(batch, 512)
        self.memory_format = memory_format

    def step(self):
        mean, logvar = self.moments.chunk(2, dim=1)
        x = mean + (logvar.clamp(-30, 20) / 2).exp() * torch.randn_like(mean)
        t = self.sobol.draw(len(x))[:, 0]
        keep = torch.rand(len(x), 1) > 0.2
        angle = t[:, None, None, None] * math.pi / 2
        alpha, sigma, noise = angle.cos(), angle.sin(), torch.randn_like(x)
        noisy = (x * alpha + noise * sigma).to(memory_format=self.memory_format)
        v = self.model(noisy, t, torch.where(keep, self.embeds, 0))
        loss = F.mse_loss(v, noise * alpha - x * sigma)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()),
                                 0.01)
        return loss.item()


class Ours:
    """bench-fit, which makes one step whenever it is asked to."""

    def __init__(self, options):
        self.process = subprocess.Popen(
            [options.bench, "--base", str(options.base), "--batch", str(options.batch),
             "--threads", str(options.threads), "--on-request"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        answer = self.process.stdout.readline().split()
        if not answer or answer[0] != "ready":
            sys.exit(f"bench-torch-fit: {options.bench} failed")
        self.parameters = int(answer[1])

    def step(self):
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        """Peak of resident memory in MiB."""
        self.process.stdin.close()
        peak = int(self.process.stdout.readline())
        self.process.wait()
        return peak


def timed(training):
    begin = time.perf_counter()
    loss = training.step()
    seconds = time.perf_counter() - begin
    assert math.isfinite(loss)
    return seconds


def main():
    parser = argparse.ArgumentParser(description="Time bench-fit and PyTorch by turns.")
    parser.add_argument("--bench", default="build/tests/bench/bench-fit", metavar="PROGRAM")
    parser.add_argument("--base", type=int, default=64, metavar="N")
    parser.add_argument("--batch", type=int, default=8, metavar="N")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), metavar="N")
    parser.add_argument("--runs", type=int, default=5, metavar="N")
    parser.add_argument("--channels-last", action="store_true",
                        help="PyTorch's other layout of pictures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    training = Training(options.base, options.batch, layout)
    for _ in range(2):
        training.step()
    ours = Ours(options)
    count = sum(p.numel() for p in training.trained)
    assert count == ours.parameters, f"{count} parameters, not {ours.parameters}"
    seconds = {"ours": [], "torch": []}
    for _ in range(options.runs):
        for name, run in (("ours", ours.step), ("torch", lambda: timed(training))):
            time.sleep(0.5)  # until the other's idle threads have gone to sleep
            seconds[name].append(run())
    ours_peak = ours.close()
    torch_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    a, b = (statistics.median(seconds[k]) for k in ("ours", "torch"))
    print(f"training step, base {options.base}, batch {options.batch}, {count:,} parameters, "
          f"torch {torch.__version__}, float32, {options.threads} threads, "
          f"median of {options.runs} runs each, by turns")
    print(f"  ours  {a:8.3f} s (least {min(seconds['ours']):.3f}), peak {ours_peak} MiB")
    print(f"  torch {b:8.3f} s (least {min(seconds['torch']):.3f}), peak {torch_peak} MiB, "
          f"{before} of them before it began")
    print(f"  ratio {a / b:8.2f}", flush=True)


if __name__ == "__main__":
    main()
