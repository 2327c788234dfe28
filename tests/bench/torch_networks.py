"""The three networks at their published sizes in PyTorch, for the programs that race against it."""

import math

import torch
import torch.nn.functional as F
from torch import nn

# U-Net -------------------------------------------------------------------------------------------


class Fourier(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features // 2, 1))

    def forward(self, t):
        angle = 2 * math.pi * t[:, None] @ self.weight.T
        return torch.cat([angle.cos(), angle.sin()], dim=1)


class LinearBlock(nn.Module):
    def __init__(self, inputs, outputs, last):
        super().__init__()
        self.first, self.second = nn.Linear(inputs, outputs), nn.Linear(outputs, outputs)
        self.skip = nn.Linear(inputs, outputs, bias=False) if inputs != outputs else nn.Identity()
        self.last = last

    def forward(self, x):
        h = self.second(F.relu(self.first(x)))
        return (h if self.last else F.relu(h)) + self.skip(x)


class ConvBlock(nn.Module):
    def __init__(self, cond, inputs, middle, outputs, last=False):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(inputs, middle, 3, padding=1),
                                    nn.Conv2d(middle, outputs, 3, padding=1)])
        widths = [middle] if last else [middle, outputs]
        self.modulations = nn.ModuleList([nn.Linear(cond, 2 * w, bias=False) for w in widths])
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x, cond):
        h = x
        for i, conv in enumerate(self.convs):
            h = conv(h)
            if i < len(self.modulations):
                scale, shift = self.modulations[i](cond)[..., None, None].chunk(2, dim=1)
                h = F.relu(torch.addcmul(shift, F.group_norm(h, 1), scale + 1), inplace=True)
        return h + self.skip(x)


class UNetAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm = nn.GroupNorm(1, c)
        self.qkv, self.out = nn.Conv2d(c, 3 * c, 1), nn.Conv2d(c, c, 1)
        self.heads = c // 64

    def forward(self, x, cond):
        n, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).view(n, 3, self.heads, 64, h * w).transpose(3, 4)
        y = F.scaled_dot_product_attention(qkv[:, 0], qkv[:, 1], qkv[:, 2])
        return x + self.out(y.transpose(2, 3).reshape(n, c, h, w))


class Level(nn.Module):
    """One resolution: blocks, the next lower resolution with a skip connection, blocks."""

    def __init__(self, cond, inputs, width, outputs, inner, attention, blocks, last=False):
        super().__init__()

        def run(first, final, is_last):
            modules = []
            for i in range(blocks):
                end = i == blocks - 1
                c = final if end else width
                modules.append(ConvBlock(cond, first if i == 0 else width, width, c,
                                         is_last and end))
                if attention:
                    modules.append(UNetAttention(c))
            return nn.ModuleList(modules)

        self.inner = inner
        self.down = run(inputs, width if inner else outputs, False)
        self.up = run(2 * width, outputs, last) if inner else nn.ModuleList()

    def forward(self, x, cond):
        for module in self.down:
            x = module(x, cond)
        if self.inner:
            h = self.inner(F.avg_pool2d(x, 2), cond)
            h = F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False)
            x = torch.cat([h, x], dim=1)
        for module in self.up:
            x = module(x, cond)
        return x


class UNet(nn.Module):
    def __init__(self, base=192, multipliers=(4, 4, 8, 8), cond=1024):
        super().__init__()
        c = [base * m for m in multipliers]
        self.mapping_fourier, self.fourier = Fourier(128), Fourier(16)
        self.mapping = nn.Sequential(LinearBlock(512 + 128, cond, False),
                                     LinearBlock(cond, cond, True))
        level = Level(cond, c[2], c[3], c[2], None, True, 8)
        level = Level(cond, c[1], c[2], c[1], level, True, 4)
        level = Level(cond, c[0], c[1], c[0], level, True, 4)
        self.net = Level(cond, 4 + 16, c[0], 4, level, False, 4, last=True)

    def forward(self, x, t, embed):
        embed = F.normalize(embed, dim=-1) * embed.shape[-1] ** 0.5
        cond = self.mapping(torch.cat([embed, self.mapping_fourier(t)], dim=1))
        planes = self.fourier(t)[..., None, None].expand(-1, -1, *x.shape[2:])
        return self.net(torch.cat([x, planes], dim=1), cond)


# KL autoencoder ----------------------------------------------------------------------------------


def kl_norm(c):
    return nn.GroupNorm(32, c, eps=1e-6)


class KLBlock(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norms = nn.ModuleList([kl_norm(inputs), kl_norm(outputs)])
        self.convs = nn.ModuleList([nn.Conv2d(inputs, outputs, 3, padding=1),
                                    nn.Conv2d(outputs, outputs, 3, padding=1)])
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x):
        h = x
        for norm, conv in zip(self.norms, self.convs):
            h = conv(F.silu(norm(h)))
        return h + self.skip(x)


class KLAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm = kl_norm(c)
        self.q, self.k, self.v, self.out = (nn.Conv2d(c, c, 1) for _ in range(4))

    def forward(self, x):
        n, c, h, w = x.shape
        y = self.norm(x)
        q, k, v = (p(y).view(n, 1, c, h * w).transpose(2, 3) for p in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(2, 3).reshape(n, c, h, w))


class KLDown(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class KLHead(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm, self.conv = kl_norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x):
        return self.conv(F.silu(self.norm(x)))


def kl_middle(c):
    return [KLBlock(c, c), KLAttention(c), KLBlock(c, c)]


class KL(nn.Module):
    def __init__(self, ch=128, multipliers=(1, 2, 4, 4), blocks=2, z=4):
        super().__init__()
        widths = [ch * m for m in multipliers]
        c, encoder = ch, [nn.Conv2d(3, ch, 3, padding=1)]
        for i, width in enumerate(widths):
            for _ in range(blocks):
                encoder.append(KLBlock(c, width))
                c = width
            if i < len(widths) - 1:
                encoder.append(KLDown(c))
        self.encoder = nn.Sequential(*encoder, *kl_middle(c), KLHead(c, 2 * z),
                                     nn.Conv2d(2 * z, 2 * z, 1))
        decoder = [nn.Conv2d(z, z, 1), nn.Conv2d(z, c, 3, padding=1), *kl_middle(c)]
        for i, width in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                decoder.append(KLBlock(c, width))
                c = width
            if i > 0:
                decoder += [nn.Upsample(scale_factor=2), nn.Conv2d(c, c, 3, padding=1)]
        self.decoder = nn.Sequential(*decoder, KLHead(c, 3))


# CLOOB ---------------------------------------------------------------------------------------------


class TransformerLayer(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.heads = d // 64
        self.norms = nn.ModuleList([nn.LayerNorm(d), nn.LayerNorm(d)])
        self.q, self.k, self.v, self.out = (nn.Linear(d, d) for _ in range(4))
        self.wide, self.narrow = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x):
        n, s, d = x.shape
        y = self.norms[0](x)
        q, k, v = (p(y).view(n, s, self.heads, 64).transpose(1, 2)
                   for p in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).reshape(n, s, d))
        return x + self.narrow(F.gelu(self.wide(self.norms[1](x))))


class ImageTower(nn.Module):
    def __init__(self, size=224, patch=16, d=768, layers=12, embed=512):
        super().__init__()
        self.patches = nn.Conv2d(3, d, patch, stride=patch, bias=False)
        self.class_token = nn.Parameter(torch.randn(d))
        self.positions = nn.Parameter(torch.randn((size // patch) ** 2 + 1, d))
        self.layers = nn.Sequential(*[TransformerLayer(d) for _ in range(layers)])
        self.projection = nn.Linear(d, embed)
        self.register_buffer("mean", torch.tensor([0.48145466, 0.4578275, 0.40821073]))
        self.register_buffer("std", torch.tensor([0.26862954, 0.26130258, 0.27577711]))

    def forward(self, rgb):
        x = (rgb - self.mean[:, None, None]) / self.std[:, None, None]
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1) + self.positions
        return F.normalize(self.projection(self.layers(x)[:, 0]), dim=-1)


class TextTower(nn.Module):
    """Without the reference's padding mask, which costs a little more."""

    def __init__(self, vocabulary=49408, context=77, d=512, layers=12, embed=512):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, d)
        self.positions = nn.Parameter(torch.randn(context, d))
        self.layers = nn.Sequential(*[TransformerLayer(d) for _ in range(layers)])
        self.projection = nn.Linear(d, embed)

    def forward(self, tokens):
        x = self.layers(self.tokens(tokens) + self.positions)
        return F.normalize(self.projection(x[:, 0]), dim=-1)


class Cloob(nn.Module):
    def __init__(self, size=224, image_width=768, text_width=512):
        super().__init__()
        self.image, self.text = ImageTower(size, d=image_width), TextTower(d=text_width)

    def forward(self, rgb, tokens):
        return self.image(rgb), self.text(tokens)


# What bench-nets calls items -----------------------------------------------------------------------

PARAMETERS = {UNet: 1174321228, KL: 83653863, ImageTower: 86190080}


def network_of(item):
    """The network that bench-nets runs for an item, with random weights."""
    kind = {"unet": UNet, "kl": KL, "cloob": ImageTower}[item.split("-")[0]]
    network = kind().eval()
    count = sum(p.numel() for p in network.parameters())
    assert count == PARAMETERS[kind], f"{kind.__name__} has {count} parameters"
    return {"kl-encode": lambda: network.encoder,
            "kl-decode": lambda: network.decoder}.get(item, lambda: network)()
