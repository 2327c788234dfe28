#!/usr/bin/env python3
"""Compares PyTorch and our programs on one GPU, in bf16, on the same work:

    train   a training step of the U-Net: noise, forward, backward, AdamW, EMA
    encode  256x256 images through the KL encoder and CLOOB's image tower
    sample  noise to 256x256 images: the U-Net for every PLMS evaluation, twice per image for
            guidance, then the decoder

PyTorch runs eagerly and compiled, with its fast options: channels_last, bf16 (autocast in training),
fused AdamW, CUDA graphs. Each program has the GPU to itself, in its own process; ours runs first and
last, to reveal a GPU that slows down, or not at all with --rivals-only. Needs torch.

    bench-torch-gpu.py [--build build] [--work train,encode,sample] [--modes eager,reduce-overhead] [--rivals-only]
                       [--base N] [--batch N] [--runs N] [--device cuda]
"""

import argparse
import copy
import json
import math
import pathlib
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

import torch_networks


def compiled(f, mode):
    return f if mode == "eager" else torch.compile(f, mode=mode, dynamic=False)


# PyTorch's work. Each of these returns a function that does the work once and returns a value that
# must be finite.


def training(options, device):
    model = torch_networks.UNet(options.base).to(device, memory_format=torch.channels_last)
    for fourier in (model.mapping_fourier, model.fourier):
        fourier.weight.requires_grad_(False)
    average = copy.deepcopy(model).requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-5, weight_decay=0.01, fused=True)
    sobol = torch.quasirandom.SobolEngine(1, scramble=True)
    moments = torch.randn(options.batch, 8, 32, 32).pin_memory() if device == "cuda" \
        else torch.randn(options.batch, 8, 32, 32)
    embeds = torch.randn(options.batch, 512)

    def loss_of(moments, embeds, t):
        mean, logvar = moments.chunk(2, dim=1)
        x = mean + (logvar.clamp(-30, 20) / 2).exp() * torch.randn_like(mean)
        keep = torch.rand(len(x), 1, device=x.device) > 0.2
        angle = t[:, None, None, None] * math.pi / 2
        alpha, sigma, noise = angle.cos(), angle.sin(), torch.randn_like(x)
        noisy = (x * alpha + noise * sigma).to(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
            v = model(noisy, t, torch.where(keep, embeds, 0))
        return F.mse_loss(v.float(), noise * alpha - x * sigma)

    loss_of = compiled(loss_of, options.mode)
    ours, theirs = list(average.parameters()), list(model.parameters())

    def step():
        t = sobol.draw(options.batch)[:, 0].to(device, non_blocking=True)
        loss = loss_of(moments.to(device, non_blocking=True), embeds.to(device, non_blocking=True),
                       t)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0, foreach=True)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(ours, theirs, 0.01)
        return loss.detach()

    return step


def in_bf16(model, device):
    return model.eval().to(device, torch.bfloat16, memory_format=torch.channels_last)


def encoding(options, device):
    kl, tower = in_bf16(torch_networks.KL().encoder, device), in_bf16(torch_networks.ImageTower(), device)
    pictures = torch.rand(options.batch, 3, 256, 256) * 2 - 1
    squares = torch.rand(options.batch, 3, 224, 224)
    if device == "cuda":
        pictures, squares = pictures.cuda(), squares.cuda()

    def both(pictures, squares):
        x = pictures.to(torch.bfloat16, memory_format=torch.channels_last)
        return kl(x).float(), tower(squares.to(torch.bfloat16)).float()

    both = compiled(both, options.mode)

    def run():
        moments, embeds = both(pictures, squares)
        return moments.sum() + embeds.sum()

    return run


def sampling(options, device):
    unet = in_bf16(torch_networks.UNet(options.base), device)
    decoder = in_bf16(torch_networks.KL().decoder, device)
    n = options.batch
    embeds = torch.cat([torch.zeros(n, 512), F.normalize(torch.randn(n, 512), dim=-1)])
    embeds = embeds.to(device, torch.bfloat16)

    def guided(x, t):
        both = torch.cat([x, x]).to(torch.bfloat16, memory_format=torch.channels_last)
        v = unet(both, t.to(torch.bfloat16), embeds).float()
        return -2 * v[:n] + 3 * v[n:]

    guided, decode = compiled(guided, options.mode), compiled(decoder, options.mode)

    def run():
        x, old = torch.randn(n, 4, 32, 32, device=device), []
        for i in range(options.evaluations):
            if options.mode != "eager":
                torch.compiler.cudagraph_mark_step_begin()
            t = torch.full((2 * n,), 1 - i / options.evaluations, device=device)
            v = guided(x, t).clone()
            old = (old + [v])[-4:]
            angle = math.pi / 2 * (1 - i / options.evaluations)
            next_angle = math.pi / 2 * (1 - (i + 1) / options.evaluations)
            weights = {1: [1], 2: [-0.5, 1.5], 3: [5 / 12, -16 / 12, 23 / 12],
                       4: [-9 / 24, 37 / 24, -59 / 24, 55 / 24]}[len(old)]
            v = sum(w * o for w, o in zip(weights, old))
            picture = x * math.cos(angle) - v * math.sin(angle)
            noise = x * math.sin(angle) + v * math.cos(angle)
            x = picture * math.cos(next_angle) + noise * math.sin(next_angle)
        if options.mode != "eager":
            torch.compiler.cudagraph_mark_step_begin()
        z = (8 * x / x.std()).to(torch.bfloat16, memory_format=torch.channels_last)
        pixels = (decode(z).float().clamp(-1, 1) + 1) * 127.5
        return pixels.round().to(torch.uint8).cpu().float().sum()

    return run


def work_of_torch(options):
    """Runs in its own process and prints the seconds of every run."""
    device = options.device
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    make = {"train": training, "encode": encoding, "sample": sampling}[options.one]

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    def timed(run):
        wait()
        begin = time.perf_counter()
        y = run()
        wait()
        seconds = time.perf_counter() - begin
        assert torch.isfinite(y).all()
        return seconds

    begin = time.perf_counter()
    if options.one == "train":
        run = make(options, device)
        for _ in range(5):
            timed(run)
        started = time.perf_counter() - begin
        seconds = [timed(run) for _ in range(options.runs)]
    else:
        with torch.inference_mode():
            run = make(options, device)
            for _ in range(5 if options.one == "encode" else 2):
                timed(run)
            started = time.perf_counter() - begin
            seconds = [timed(run) for _ in range(options.runs)]
    peak = torch.cuda.max_memory_allocated() >> 20 if device == "cuda" else 0
    print(json.dumps({"seconds": seconds, "started": started, "peak": peak}))


def torch_seconds(options, work, mode, evaluations):
    command = [sys.executable, __file__, "--one", work, "--mode", mode,
               "--evaluations", str(evaluations)]
    for name in ("device", "base", "batch", "runs"):
        command += ["--" + name, str(getattr(options, name))]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=options.patience)
    except subprocess.TimeoutExpired:
        return None, f"not ready after {options.patience} s"
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or ["failed"])[-1][:150]
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return said["seconds"], f"ready after {said['started']:.0f} s, peak {said['peak']} MiB"


# Our programs' work.


def our_seconds(options, work):
    """Returns the seconds of every run and the number of U-Net evaluations of a sample."""
    programs = options.build / "tests" / "bench"
    where = ["--device", options.device,
             "--precision", "bf16" if options.device == "cuda" else "fp32"]
    if work == "train":
        command = [programs / "bench-fit", *where, "--base", options.base]
    else:
        command = [programs / "bench-nets", *where, "--item", work, "--steps", options.steps]
    process = subprocess.Popen([str(c) for c in command + ["--batch", options.batch,
                                                           "--on-request"]],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    answer = process.stdout.readline().split()
    if not answer or answer[0] != "ready":
        sys.exit(f"bench-torch-gpu: {' '.join(map(str, command))} failed")
    seconds = []
    for i in range(options.runs + 3):
        process.stdin.write("run\n")
        process.stdin.flush()
        seconds.append(float(process.stdout.readline()))
    process.stdin.close()
    process.wait()
    return seconds[3:], int(answer[2]) if work == "sample" else 1


def race(options, work):
    options.batch = options.batch_of[work]
    begin, evaluations = ([], 1) if options.rivals_only else our_seconds(options, work)
    rivals = [(mode, *torch_seconds(options, work, mode, evaluations))
              for mode in options.modes.split(",")]
    end, _ = ([], 0) if options.rivals_only else our_seconds(options, work)
    ours = statistics.median(begin + end) if begin else math.nan

    def line(name, seconds, remark):
        if seconds:
            middle = statistics.median(seconds)
            ratio = f"{ours / middle:.2f}" if begin else "-"
            print(f"{work:8} {options.batch:5} {name:24} {middle * 1e3:10.2f} {min(seconds) * 1e3:10.2f} "
                  f"{options.batch / middle:10.2f} {ratio:>8}  {remark}", flush=True)

    line("ours-first", begin, "")
    for mode, seconds, remark in rivals:
        if seconds:
            line("torch-" + mode, seconds, remark)
        else:
            print(f"{work:8} {options.batch:5} torch-{mode}: {remark}", flush=True)
    line("ours-last", end, "")


def main():
    parser = argparse.ArgumentParser(description="Compare PyTorch and our programs on a GPU.")
    parser.add_argument("--build", default="build", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--work", default="train,encode,sample", metavar="LIST")
    parser.add_argument("--modes", default="eager,reduce-overhead", metavar="LIST",
                        help="eager, and modes of torch.compile such as max-autotune")
    parser.add_argument("--base", type=int, default=192, metavar="N")
    parser.add_argument("--batch", type=int, default=0, metavar="N",
                        help="0: 64 to train, 32 to encode, 4 to sample")
    parser.add_argument("--steps", type=int, default=50, metavar="N")
    parser.add_argument("--runs", type=int, default=20, metavar="N")
    parser.add_argument("--patience", type=int, default=900, metavar="SECONDS",
                        help="seconds per PyTorch run, including compilation")
    parser.add_argument("--rivals-only", action="store_true", help="time PyTorch only")
    parser.add_argument("--device", default="cuda", metavar="cuda|cpu")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    parser.add_argument("--evaluations", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        work_of_torch(options)
        return
    if options.rivals_only and "sample" in options.work:
        parser.error("--rivals-only cannot be combined with sample: our program counts its evaluations")
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("bench-torch-gpu: PyTorch sees no GPU")
    options.batch_of = {work: options.batch or n
                        for work, n in {"train": 64, "encode": 32, "sample": 4}.items()}
    card = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"{card}, torch {torch.__version__}, bf16, median and minimum of {options.runs} runs each; "
          "ratio: our time / this time")
    print(f"{'work':8} {'batch':>5} {'program':24} {'ms':>10} {'min-ms':>10} {'images/s':>10} {'ratio':>8}")
    for work in options.work.split(","):
        race(options, work)


if __name__ == "__main__":
    main()
