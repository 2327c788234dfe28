#!/usr/bin/env python3
"""Writes ops.safetensors: what PyTorch computes, in double and rounded to float32, for small cases
of every op. Tensors are named OP/CASE/OPERAND as tests/op/OP.c names its operands, pictures are
[n, h, w, c], and the metadata give each case's parameters. Needs torch and safetensors."""

import math
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(20221)
tensors, metadata = {}, {}
NONE, RELU, SILU, GELU = range(4)
ACTIVATIONS = {NONE: lambda x: x, RELU: F.relu, SILU: F.silu, GELU: F.gelu}


def rnd(*shape, mean=0.0, sd=1.0, dtype=torch.float32):
    return (torch.randn(*shape, dtype=torch.float64) * sd + mean).to(dtype)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def nchw(x):
    return x.permute(0, 3, 1, 2)


def case(name, parameters, operands, y):
    assert name not in metadata and y.dtype == torch.float64, name
    assert torch.isfinite(y).all(), name
    metadata[name] = " ".join(f"{k}={v}" for k, v in parameters.items())
    for key, value in operands.items():
        tensors[f"{name}/{key}"] = value.contiguous().clone()
    tensors[f"{name}/y"] = y.to(torch.float32).contiguous()


def conv2d(name, n, h, w, ci, co, k, stride, begin, end, bias, dtype=torch.float32, mean=0.0):
    x = rnd(n, h, w, ci, mean=mean)
    weight = rnd(co, ci, k, k, sd=(ci * k * k) ** -0.5, dtype=dtype)
    operands = {"x": x, "weight": weight}
    b = None
    if bias:
        operands["bias"] = rnd(co, sd=0.5)
        b = operands["bias"].double()
    padded = F.pad(nchw(x.double()), (begin, end, begin, end))
    y = F.conv2d(padded, weight.double(), b, stride=stride)
    case(f"conv2d/{name}", dict(n=n, h=h, w=w, ci=ci, co=co, k=k, stride=stride, pad_begin=begin,
                                pad_end=end, bias=int(bias), fill=0), operands, nhwc(y))


def linear(name, n, s, inputs, outputs, dims, wdims, bias, act, dtype=torch.float32):
    x = rnd(n * s, inputs) if dims == 2 else rnd(n, s, inputs)
    weight = rnd(outputs, inputs, sd=inputs ** -0.5, dtype=dtype)
    operands = {"x": x, "weight": weight if wdims == 2 else weight[:, :, None, None]}
    b = None
    if bias:
        operands["bias"] = rnd(outputs, sd=0.5)
        b = operands["bias"].double()
    y = ACTIVATIONS[act](F.linear(x.double(), weight.double(), b))
    parameters = {"n": n, "s": s, "in": inputs, "out": outputs, "dims": dims, "wdims": wdims,
                  "bias": int(bias), "act": act, "fill": 0}
    case(f"linear/{name}", parameters, operands, y)


def group_norm(name, n, h, w, c, groups, eps_exponent, affine, modulation, act, mean=0.0, sd=1.0,
               fill=0):
    x = rnd(n, h, w, c, mean=mean, sd=sd)
    operands = {"x": x}
    gamma = beta = None
    if affine:
        operands["gamma"], operands["beta"] = rnd(c, mean=1, sd=0.3), rnd(c, sd=0.3)
        gamma, beta = operands["gamma"].double(), operands["beta"].double()
    y = F.group_norm(nchw(x.double()), groups, gamma, beta, eps=10.0 ** -eps_exponent)
    if modulation:
        operands["modulation"] = rnd(n, 2 * c, sd=0.5)
        scale, shift = operands["modulation"].double()[:, :, None, None].chunk(2, dim=1)
        y = y * (scale + 1) + shift
    case(f"group_norm/{name}",
         dict(n=n, h=h, w=w, c=c, groups=groups, eps_exponent=eps_exponent, affine=int(affine),
              modulation=int(modulation), act=act, fill=fill), operands, nhwc(ACTIVATIONS[act](y)))


def layer_norm(name, n, s, c, eps_exponent, mean=0.0, sd=1.0, fill=0):
    x, gamma, beta = rnd(n, s, c, mean=mean, sd=sd), rnd(c, mean=1, sd=0.3), rnd(c, sd=0.3)
    y = F.layer_norm(x.double(), (c,), gamma.double(), beta.double(), eps=10.0 ** -eps_exponent)
    case(f"layer_norm/{name}", dict(n=n, s=s, c=c, eps_exponent=eps_exponent, fill=fill),
         {"x": x, "gamma": gamma, "beta": beta}, y)


def attention(name, n, s, heads, d, packed, uniform, sd=1.0, fill=0):
    width = heads * d
    qkv = rnd(n, s, 3 * width, sd=sd)
    parts = qkv.chunk(3, dim=2)
    q, k, v = (t.double().reshape(n, s, heads, d).transpose(1, 2) for t in parts)
    operands = {"qkv": qkv} if packed else dict(zip("qkv", parts))
    y = F.scaled_dot_product_attention(q, k, v)
    if uniform:
        operands["uniform"] = (torch.arange(s)[None] > torch.arange(n)[:, None] + 1).to(torch.int32)
        average = v.mean(dim=2, keepdim=True).expand_as(y)
        y = torch.where(operands["uniform"].bool()[:, None, :, None], average, y)
    case(f"attention/{name}", dict(n=n, s=s, heads=heads, d=d, packed=int(packed),
                                   uniform=int(uniform), fill=fill),
         operands, y.transpose(1, 2).reshape(n, s, width))


def picture(op, y, n, h, w, c, **operands):
    case(op, dict(n=n, h=h, w=w, c=c), operands, nhwc(y))


conv2d("three_by_three", 2, 5, 7, 3, 9, 3, 1, 1, 1, True)
conv2d("even_channels", 1, 8, 8, 16, 16, 3, 1, 1, 1, True)
conv2d("no_bias", 1, 6, 4, 8, 5, 3, 1, 1, 1, False)
conv2d("offset", 1, 9, 6, 6, 8, 3, 1, 1, 1, True, mean=100.0)
conv2d("downsample", 1, 8, 6, 6, 7, 3, 2, 0, 1, True)
conv2d("strided", 1, 7, 7, 4, 6, 3, 2, 1, 1, True)
conv2d("patches", 1, 32, 48, 3, 8, 16, 16, 0, 0, False)
conv2d("pointwise", 2, 3, 5, 20, 12, 1, 1, 0, 0, True)
conv2d("half", 1, 5, 6, 8, 12, 3, 1, 1, 1, True, dtype=torch.float16)
conv2d("brain", 1, 5, 6, 8, 12, 3, 1, 1, 1, True, dtype=torch.bfloat16)

linear("relu", 3, 1, 20, 33, 2, 2, True, RELU)
linear("gelu", 2, 5, 24, 40, 3, 2, True, GELU)
linear("bare", 1, 7, 33, 17, 3, 2, False, NONE)
linear("pointwise", 1, 12, 16, 48, 3, 4, True, NONE)
linear("half", 2, 3, 32, 20, 3, 2, True, NONE, dtype=torch.float16)
linear("brain", 2, 3, 32, 20, 3, 2, True, NONE, dtype=torch.bfloat16)

group_norm("unet", 2, 4, 6, 16, 1, 5, False, True, RELU)
group_norm("unet_affine", 1, 4, 4, 24, 1, 5, True, False, NONE)
group_norm("kl", 1, 6, 4, 64, 32, 6, True, False, SILU)
group_norm("kl_near_constant", 1, 8, 8, 32, 32, 6, True, False, NONE, mean=1000, sd=0.1, fill=1)
group_norm("unet_near_constant", 1, 8, 8, 16, 1, 5, False, True, NONE, mean=1000, sd=0.1, fill=1)
group_norm("kl_epsilon", 1, 4, 4, 64, 32, 6, True, False, SILU, sd=1e-3, fill=3)
group_norm("unet_epsilon", 1, 4, 4, 16, 1, 5, False, True, RELU, sd=1e-3, fill=3)

layer_norm("tokens", 2, 5, 48, 5)
layer_norm("near_constant", 1, 4, 64, 5, mean=1000, sd=0.1, fill=1)
layer_norm("epsilon", 1, 4, 64, 5, sd=1e-3, fill=3)

attention("separate", 2, 7, 2, 16, False, False)
attention("packed", 1, 12, 3, 8, True, False)
attention("uniform", 3, 6, 2, 8, False, True)
attention("one_head", 1, 20, 1, 40, False, False)
attention("wide", 1, 9, 1, 16, True, False, sd=10.0, fill=4)

for kind, name in ((RELU, "relu"), (SILU, "silu"), (GELU, "gelu")):
    x = torch.linspace(-12, 12, 240, dtype=torch.float32).reshape(1, 4, 6, 10)
    case(f"activation/{name}", dict(n=1, h=4, w=6, c=10, kind=kind, fill=0), {"x": x},
         ACTIVATIONS[kind](x.double()))

a, b = rnd(2, 3, 4, 5), rnd(2, 3, 4, 5)
case("add/pictures", dict(n=2, h=3, w=4, c=5), {"a": a, "b": b}, (a + b).double())
x, rows = rnd(2, 5, 6), rnd(5, 6)
case("add_rows/positions", dict(n=2, s=5, d=6), {"x": x, "rows": rows}, (x + rows).double())
a, b = rnd(2, 4, 3, 3), rnd(2, 5, 3, 3)
case("concat/channels", dict(n=2, h=3, w=3, ca=4, cb=5), {"a": nhwc(a), "b": nhwc(b)},
     nhwc(torch.cat([a, b], dim=1)).double())
x, f = rnd(2, 4, 3, 5), rnd(2, 6)
planes = f[:, :, None, None].expand(2, 6, 3, 5)
case("append_planes/timestep", dict(n=2, h=3, w=5, c=4, f=6), {"x": nhwc(x), "features": f},
     nhwc(torch.cat([x, planes], dim=1)).double())
x, row = rnd(2, 4, 6), rnd(6)
case("prepend_row/class_token", dict(n=2, s=4, d=6), {"x": x, "row": row},
     torch.cat([row.expand(2, 1, 6), x], dim=1).double())
case("take_row/first", dict(n=2, s=4, d=6, index=0), {"x": x}, x[:, 0].double())
case("take_row/last", dict(n=2, s=4, d=6, index=3), {"x": x}, x[:, 3].double())
for dtype, name in ((torch.float32, "float"), (torch.float16, "half"), (torch.bfloat16, "brain")):
    tokens, table = torch.randint(0, 12, (2, 5), dtype=torch.int32), rnd(12, 7, dtype=dtype)
    case(f"embedding/{name}", dict(n=2, s=5, d=7, rows=12), {"tokens": tokens, "table": table},
         F.embedding(tokens.long(), table.double()))
x, weight = torch.linspace(0, 1, 6), rnd(16, 1)
angle = 2 * math.pi * x.double()[:, None] @ weight.double().T
case("fourier_features/timesteps", dict(n=6, m=16, fill=0), {"x": x, "weight": weight},
     torch.cat([angle.cos(), angle.sin()], dim=1))
x = rnd(3, 16)
x[1] = 0
case("l2_normalize/zero_row", dict(n=3, d=16, eps_exponent=12, fill=5), {"x": x},
     F.normalize(x.double(), dim=-1, eps=1e-12) * 16 ** 0.5)
x = rnd(2, 8, sd=1e-4)
case("l2_normalize/below_eps", dict(n=2, d=8, eps_exponent=2, fill=3), {"x": x},
     F.normalize(x.double(), dim=-1, eps=1e-2) * 8 ** 0.5)
x = rnd(2, 5, 6, 4)
picture("avg_pool2x2/even", F.avg_pool2d(x.double(), 2), 2, 6, 4, 5, x=nhwc(x))
x = rnd(2, 5, 3, 4)
picture("upsample_nearest2x/odd", F.interpolate(x.double(), scale_factor=2, mode="nearest"),
        2, 3, 4, 5, x=nhwc(x))
for h, w, name in ((3, 4, "odd"), (1, 5, "one_row"), (1, 1, "one_pixel")):
    x = rnd(2, 5, h, w)
    y = F.interpolate(x.double(), scale_factor=2, mode="bilinear", align_corners=False)
    picture(f"upsample_bilinear2x/{name}", y, 2, h, w, 5, x=nhwc(x))
x, scale, shift = rnd(2, 3, 4, 5), rnd(3, mean=2, sd=0.5), rnd(3)
case("to_nhwc/plain", dict(n=2, c=3, h=4, w=5, scaled=0), {"x": x}, nhwc(x).double())
case("to_nhwc/normalised", dict(n=2, c=3, h=4, w=5, scaled=1),
     {"x": x, "scale": scale, "shift": shift},
     nhwc(x).double() * scale.double() + shift.double())
case("to_nchw/plain", dict(n=2, h=4, w=5, c=3), {"x": nhwc(x)}, x.double())
xs, coefficients = [rnd(1, 2, 3, 4) for _ in range(4)], rnd(4)
case("linear_combination/four", dict(n=1, h=2, w=3, c=4, count=4),
     {"coefficients": coefficients, **{f"x{i}": x for i, x in enumerate(xs)}},
     sum(c.double() * x.double() for c, x in zip(coefficients, xs)))

metadata["torch"] = torch.__version__
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ops.safetensors")
save_file(tensors, path, metadata=metadata)
print(f"{path}: {len(metadata) - 1} cases, {os.path.getsize(path)} bytes")
