#!/usr/bin/env python3
"""Writes reconstruction.safetensors: what PyTorch computes, in double and rounded to float32, of the
losses that common/train/reconstruction_loss.h describes, for small networks of random weights.
  loss.perceptual_loss.NAME, loss.discriminator.NAME   weights, as autoencoder checkpoints name them
  pictures, last, last_weight, last_bias   last: what the decoder's last convolution gets, [n, h, w, c]
  reconstructions                  made of these
  distances, logits, fake_logits   of LPIPS and the discriminator
  dreconstructions.perceptual, .generator, .total   gradients by reconstructions: of the sum over images
                                   of LPIPS, of the generator's loss, of all with the adaptive weight
  d.NAME                           gradients of the discriminator's loss by its parameters
Numbers are in the metadata. Needs torch and safetensors."""

import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(20223)
N, HEIGHT, WIDTH, CHANNELS = 3, 24, 32, 4
PERCEPTUAL, DISC = 0.7, 0.5
WIDTHS = [6, 8, 10, 12, 9]
PLACES = [[0, 2], [5, 7], [10, 12, 14], [17, 19, 21], [24, 26, 28]]
tensors = {}


def draw(name, *shape, sd=1.0, mean=0.0):
    t = (torch.randn(*shape, dtype=torch.float64) * sd + mean).to(torch.float32)
    tensors[name] = t
    return t.double()


vgg, channels = [], 3
for number, (places, width) in enumerate(zip(PLACES, WIDTHS)):
    stage, prefix = [], f"loss.perceptual_loss.net.slice{number + 1}"
    for place in places:
        sd = (2 / (9 * channels)) ** 0.5
        stage.append((draw(f"{prefix}.{place}.weight", width, channels, 3, 3, sd=sd),
                      draw(f"{prefix}.{place}.bias", width, sd=0.1)))
        channels = width
    vgg.append(stage)
lins = [draw(f"loss.perceptual_loss.lin{i}.model.1.weight", 1, w, 1, 1, sd=0.2, mean=0.5)
        for i, w in enumerate(WIDTHS)]
for i, lin in enumerate(lins):
    tensors[f"loss.perceptual_loss.lin{i}.model.1.weight"] = lin.abs().float()
    lins[i] = lin.abs()


def features(x):
    mean = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64)[None, :, None, None]
    deviation = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64)[None, :, None, None]
    x, found = (x - mean) / deviation, []
    for i, stage in enumerate(vgg):
        if i > 0:
            x = F.max_pool2d(x, 2)
        for weight, bias in stage:
            x = F.relu(F.conv2d(x, weight, bias, padding=1))
        found.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
    return found


def lpips(x, y):
    return sum(F.conv2d((a - b) ** 2, lin).mean(dim=(1, 2, 3))
               for a, b, lin in zip(features(x), features(y), lins))


def kernel(place, out, inputs, gain=1):
    return draw(f"loss.discriminator.main.{place}.weight", out, inputs, 4, 4, sd=gain * (2 / (16 * inputs)) ** 0.5)


C = 4
discriminator = {"main.0.weight": kernel(0, C, 3), "main.0.bias": draw("loss.discriminator.main.0.bias", C, sd=0.1)}
widths = [C, 2 * C, 4 * C, 8 * C]
for i in range(1, 4):
    discriminator[f"main.{3 * i - 1}.weight"] = kernel(3 * i - 1, widths[i], widths[i - 1])
    for what, mean in (("weight", 1), ("bias", 0)):
        discriminator[f"main.{3 * i}.{what}"] = draw(f"loss.discriminator.main.{3 * i}.{what}", widths[i],
                                                     sd=0.2, mean=mean)
discriminator["main.11.weight"] = kernel(11, 1, widths[3], 2)  # some logits are beyond the hinge
discriminator["main.11.bias"] = draw("loss.discriminator.main.11.bias", 1, sd=0.1)
for p in discriminator.values():
    p.requires_grad_()


def logits_of(x):
    d = discriminator
    x = F.leaky_relu(F.conv2d(x, d["main.0.weight"], d["main.0.bias"], stride=2, padding=1), 0.2)
    for i in range(1, 4):
        x = F.conv2d(x, d[f"main.{3 * i - 1}.weight"], stride=2 if i < 3 else 1, padding=1)
        x = F.batch_norm(x, None, None, d[f"main.{3 * i}.weight"], d[f"main.{3 * i}.bias"],
                         training=True, eps=1e-5)
        x = F.leaky_relu(x, 0.2)
    return F.conv2d(x, d["main.11.weight"], d["main.11.bias"], padding=1)


pictures = F.interpolate(torch.randn(N, 3, HEIGHT // 4, WIDTH // 4, dtype=torch.float64), scale_factor=4,
                         mode="bilinear").tanh().float()
tensors["pictures"] = pictures
pictures = pictures.double()
last = draw("last", N, HEIGHT, WIDTH, CHANNELS)
weight = draw("last_weight", 3, CHANNELS, 3, 3, sd=(9 * CHANNELS) ** -0.5 / 2).requires_grad_()
bias = draw("last_bias", 3, sd=0.1)
made = F.conv2d(last.permute(0, 3, 1, 2), weight, bias, padding=1)
y = made.detach().float()
tensors["reconstructions"] = y
y = y.double().requires_grad_()
# The same rounded numbers, as made of the last kernel.
made = made + (y - made).detach()

distances = lpips(pictures, made)
error = (pictures - made).abs()
nll = (error + PERCEPTUAL * distances[:, None, None, None]).sum() / N
fake = logits_of(made)
generator = -fake.mean()
by_nll = torch.autograd.grad(nll, weight, retain_graph=True)[0]
by_generator = torch.autograd.grad(generator, weight, retain_graph=True)[0]
w = (by_nll.norm() / (by_generator.norm() + 1e-4)).clamp(0, 1e4) * DISC
numbers = 3 * HEIGHT * WIDTH
total = (nll + w * generator) / numbers

tensors["distances"] = distances.detach().float()
tensors["fake_logits"] = fake.detach().float()
for name, loss in (("perceptual", lpips(pictures, y).sum()), ("generator", -logits_of(y).mean())):
    tensors[f"dreconstructions.{name}"] = torch.autograd.grad(loss, y)[0].float()
y_error = (pictures - y).abs()
y_total = ((y_error + PERCEPTUAL * lpips(pictures, y)[:, None, None, None]).sum() / N
           - w.detach() * logits_of(y).mean()) / numbers
tensors["dreconstructions.total"] = torch.autograd.grad(y_total, y)[0].float()

logits, fake = logits_of(pictures), logits_of(y.detach())
tensors["logits"] = logits.detach().float()
assert (logits > 1).any() and (fake < -1).sum() != (logits > 1).sum()
hinge = 0.5 * (F.relu(1 - logits).mean() + F.relu(1 + fake).mean())
for name, gradient in zip(discriminator, torch.autograd.grad(hinge, list(discriminator.values()))):
    tensors[f"d.{name}"] = gradient.float()

metadata = {"perceptual_weight": repr(PERCEPTUAL), "disc_weight": repr(DISC),
            "generator": repr(generator.item()), "weight": repr(w.item() / numbers),
            "discriminator": repr(hinge.item()), "logit": repr(logits.mean().item()),
            "fake_logit": repr(fake.mean().item())}
print(metadata)
save_file({k: v.detach().contiguous() for k, v in tensors.items()},
          os.path.join(os.path.dirname(os.path.abspath(__file__)), "reconstruction.safetensors"), metadata)
