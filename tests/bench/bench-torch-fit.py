#!/usr/bin/env python3
"""Times PyTorch and bench-fit on the same training step of one of the three networks by turns: noise,
forward, loss, backward, AdamW and EMA, in float32 and in bf16 (PyTorch: autocast, channels-last; both
keep weights and moments in float32). Needs torch and nothing else.

    bench-torch-fit.py [--net unet|autoencoder|cloob] [--base N] [--batch N] [--side N]
                       [--bench build/tests/bench/bench-fit] [--precision fp32,bf16] [--runs N]
                       [--channels-last]
"""

import copy
import math
import sys

import torch
import torch.nn.functional as F

import racing
import torch_networks


class Training:
    """PyTorch's fastest versions: fused AdamW, and the EMA of all tensors in one call."""

    def __init__(self, model, options, lr, betas, eps, weight_decay):
        self.memory_format = options.memory_format
        self.autocast = torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16")
        self.model = model.to(memory_format=self.memory_format)
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

    def __init__(self, options):
        model = torch_networks.UNet(options.base)
        for fourier in (model.mapping_fourier, model.fourier):
            fourier.weight.requires_grad_(False)
        super().__init__(model, options, 3e-5, (0.9, 0.999), 1e-8, 0.01)
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
        with self.autocast:
            v = self.model(noisy, t, torch.where(keep, self.embeds, 0))
        return F.mse_loss(v.float(), noise * alpha - x * sigma)


class AutoencoderTraining(Training):
    base, batch, side = 128, 1, 256

    def __init__(self, options):
        super().__init__(torch_networks.KL(options.base), options, 4.5e-6, (0.5, 0.9), 1e-8, 0)
        self.pictures = 2 * torch.rand(options.batch, 3, options.side, options.side) - 1
        self.pictures = self.pictures.to(memory_format=self.memory_format)

    def loss(self):
        with self.autocast:
            moments = self.model.encoder(self.pictures)
        mean, logvar, z = posterior(moments.float())
        kl = (mean ** 2 + logvar.exp() - 1 - logvar).sum() / (2 * len(mean))
        with self.autocast:
            pictures = self.model.decoder(z)
        return F.l1_loss(pictures.float(), self.pictures) + 1e-6 * kl


class CloobTraining(Training):
    base, batch, side = 64, 8, 224

    def __init__(self, options):
        model = torch_networks.Cloob(options.side, 12 * options.base, 8 * options.base)
        super().__init__(model, options, 1e-5, (0.9, 0.98), 1e-6, 0.1)
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
        with self.autocast:
            image, text = self.model(self.pictures, self.tokens)
        image, text = image.float(), text.float()
        return (self.half(image, text) + self.half(text, image)) / 2


TRAININGS = {"unet": UNetTraining, "autoencoder": AutoencoderTraining, "cloob": CloobTraining}


def serve(kind, options):
    """PyTorch's work, in a process of its own."""
    channels_last = options.channels_last or options.precision == "bf16"
    options.memory_format = torch.channels_last if channels_last else torch.contiguous_format
    torch.set_num_threads(options.threads)
    training = kind(options)
    racing.serve(training.step, sum(p.numel() for p in training.trained))


def main():
    parser = racing.parser_of("Time bench-fit and PyTorch by turns.", "bench-fit")
    parser.add_argument("--net", choices=list(TRAININGS), default="unet")
    for name in ("base", "batch", "side"):
        parser.add_argument(f"--{name}", type=int, metavar="N",
                            help="as in bench-fit; by default its size for this network")
    parser.add_argument("--channels-last", action="store_true",
                        help="PyTorch's other image layout, also in float32")
    options = parser.parse_args()
    kind = TRAININGS[options.net]
    for name in ("base", "batch", "side"):
        if getattr(options, name) is None:
            setattr(options, name, getattr(kind, name))
    if options.serve:
        serve(kind, options)
        return
    sizes = [f"--{name}={getattr(options, name)}"
             for name in ("net", "base", "batch", "side", "threads")]
    racing.print_header(f"torch {torch.__version__}, training steps, side {options.side}", options)
    for precision in racing.chosen(parser, options.precision, racing.PRECISIONS, "precision"):
        common = [*sizes, "--precision", precision]
        theirs = [sys.executable, __file__, "--serve", "step", *common,
                  *["--channels-last"] * options.channels_last]
        counts = racing.race(f"{options.net} {options.base} x {options.batch} {precision}",
                             [options.bench, *common, "--device", "cpu", "--on-request"], theirs,
                             options)
        assert counts[0] == counts[1], f"{counts[1]} parameters, not {counts[0]}"
    print(racing.loads())


if __name__ == "__main__":
    main()
