#!/usr/bin/env python3
"""Times PyTorch and bench-fit on the same training step of one of the three networks, alternating: noise,
forward, loss, backward, AdamW and EMA, in float32, with the same number of threads. Each run has one
size, so that the programs' peak memory belongs to it. Needs torch and nothing else.

    bench-torch-fit.py [--net unet|autoencoder|cloob] [--base N] [--batch N] [--side N]
                       [--bench build/tests/bench/bench-fit] [--runs N]
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


def load_networks():
    """Imports the module in this folder."""
    path = pathlib.Path(__file__).with_name("bench-torch.py")
    spec = importlib.util.spec_from_file_location("bench_torch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


networks = load_networks()


class Training:
    """PyTorch's fastest versions: fused AdamW, and the EMA of all tensors in one call."""

    def __init__(self, model, memory_format, lr, betas, eps, weight_decay):
        self.model = model.to(memory_format=memory_format)
        self.memory_format = memory_format
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=lr, betas=betas, eps=eps,
                                           weight_decay=weight_decay, fused=True)

    def step(self):
        loss = self.loss()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()),
                                 0.01)
        return loss.item()


def posterior(moments):
    mean, logvar = moments.chunk(2, dim=1)
    logvar = logvar.clamp(-30, 20)
    return mean, logvar, mean + (logvar / 2).exp() * torch.randn_like(mean)


class UNetTraining(Training):
    base, batch, side = 64, 8, 32

    def __init__(self, options, memory_format):
        model = networks.UNet(options.base)
        for fourier in (model.mapping_fourier, model.fourier):
            fourier.weight.requires_grad_(False)
        super().__init__(model, memory_format, 3e-5, (0.9, 0.999), 1e-8, 0.01)
        self.sobol = torch.quasirandom.SobolEngine(1, scramble=True)
        self.moments = torch.randn(options.batch, 8, options.side, options.side)
        self.embeds = torch.randn(options.batch, 512)

    def loss(self):
        _, _, x = posterior(self.moments)
        t = self.sobol.draw(len(x))[:, 0]
        keep = torch.rand(len(x), 1) > 0.2
        angle = t[:, None, None, None] * math.pi / 2
        alpha, sigma, noise = angle.cos(), angle.sin(), torch.randn_like(x)
        noisy = (x * alpha + noise * sigma).to(memory_format=self.memory_format)
        v = self.model(noisy, t, torch.where(keep, self.embeds, 0))
        return F.mse_loss(v, noise * alpha - x * sigma)


class AutoencoderTraining(Training):
    base, batch, side = 128, 1, 256

    def __init__(self, options, memory_format):
        super().__init__(networks.KL(options.base), memory_format, 4.5e-6, (0.5, 0.9), 1e-8, 0)
        self.pictures = 2 * torch.rand(options.batch, 3, options.side, options.side) - 1
        self.pictures = self.pictures.to(memory_format=memory_format)

    def loss(self):
        mean, logvar, z = posterior(self.model.encoder(self.pictures))
        kl = (mean ** 2 + logvar.exp() - 1 - logvar).sum() / (2 * len(mean))
        return F.l1_loss(self.model.decoder(z), self.pictures) + 1e-6 * kl


class CloobTraining(Training):
    base, batch, side = 64, 8, 224

    def __init__(self, options, memory_format):
        model = networks.Cloob(options.side, 12 * options.base, 8 * options.base)
        super().__init__(model, memory_format, 1e-5, (0.9, 0.98), 1e-6, 0.1)
        self.optimizer.param_groups[0]["params"] = [p for p in self.trained if p.ndim >= 2]
        self.optimizer.add_param_group({"params": [p for p in self.trained if p.ndim < 2],
                                        "weight_decay": 0})
        self.pictures = torch.rand(options.batch, 3, options.side, options.side)
        self.tokens = torch.zeros(options.batch, 77, dtype=torch.long)
        self.tokens[:, :12] = torch.randint(0, 49406, (options.batch, 12))

    @staticmethod
    def half(stored, other, inv_tau=30, scale=15):
        own, cross = (F.normalize((scale * state @ stored.T).softmax(dim=1) @ stored, dim=-1)
                      for state in (stored, other))
        k = inv_tau * own @ cross.T
        others = k.masked_fill(torch.eye(len(k), dtype=torch.bool), -math.inf)
        return (others.logsumexp(dim=1) - k.diagonal()).mean()

    def loss(self):
        image, text = self.model(self.pictures, self.tokens)
        return (self.half(image, text) + self.half(text, image)) / 2


TRAININGS = {"unet": UNetTraining, "autoencoder": AutoencoderTraining, "cloob": CloobTraining}


class Ours:
    """bench-fit, which runs one step per request."""

    def __init__(self, options):
        self.process = subprocess.Popen(
            [options.bench, "--net", options.net, "--base", str(options.base),
             "--batch", str(options.batch), "--side", str(options.side),
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
        """Peak resident memory in MiB."""
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
    parser = argparse.ArgumentParser(description="Time bench-fit and PyTorch, alternating.")
    parser.add_argument("--bench", default="build/tests/bench/bench-fit", metavar="PROGRAM")
    parser.add_argument("--net", choices=list(TRAININGS), default="unet")
    for name in ("base", "batch", "side"):
        parser.add_argument(f"--{name}", type=int, metavar="N",
                            help="as in bench-fit; by default its size for this network")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), metavar="N")
    parser.add_argument("--runs", type=int, default=5, metavar="N")
    parser.add_argument("--channels-last", action="store_true",
                        help="PyTorch's other image layout")
    options = parser.parse_args()
    kind = TRAININGS[options.net]
    for name in ("base", "batch", "side"):
        if getattr(options, name) is None:
            setattr(options, name, getattr(kind, name))
    torch.set_num_threads(options.threads)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    training = kind(options, layout)
    for _ in range(2):
        training.step()
    ours = Ours(options)
    count = sum(p.numel() for p in training.trained)
    assert count == ours.parameters, f"{count} parameters, not {ours.parameters}"
    seconds = {"ours": [], "torch": []}
    for _ in range(options.runs):
        for name, run in (("ours", ours.step), ("torch", lambda: timed(training))):
            time.sleep(0.5)  # until the other's idle threads sleep
            seconds[name].append(run())
    ours_peak = ours.close()
    torch_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    a, b = (statistics.median(seconds[k]) for k in ("ours", "torch"))
    print(f"training step, {options.net}, base {options.base}, side {options.side}, "
          f"batch {options.batch}, {count:,} parameters, torch {torch.__version__}, "
          f"float32, {options.threads} threads, median of {options.runs} runs each, alternating")
    print(f"  ours  {a:8.3f} s (minimum {min(seconds['ours']):.3f}), peak {ours_peak} MiB")
    print(f"  torch {b:8.3f} s (minimum {min(seconds['torch']):.3f}), peak {torch_peak} MiB, "
          f"{before} of them before the first step")
    print(f"  ratio {a / b:8.2f}", flush=True)


if __name__ == "__main__":
    main()
