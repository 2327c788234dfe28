#!/usr/bin/env python3
"""Writes ops.safetensors and gradients.safetensors: what PyTorch computes, in double and rounded to
float32, for small cases of every op, of its backward direction and of the steps of training. Tensors
are named OP/CASE/OPERAND as tests/op/OP.c names its operands (NAME.after: what becomes of one that is
updated), pictures are [n, h, w, c], and the metadata give each case's parameters. Needs torch and
safetensors."""

import math
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(20221)
tensors, metadata = {}, {}
NONE, RELU, SILU, GELU, LEAKY_RELU = range(5)
ACTIVATIONS = {NONE: lambda x: x, RELU: F.relu, SILU: F.silu, GELU: F.gelu,
               LEAKY_RELU: lambda x: F.leaky_relu(x, 0.2)}


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



def save(name):
    metadata["torch"] = torch.__version__
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    save_file(tensors, path, metadata=metadata)
    print(f"{path}: {len(metadata) - 1} cases, {os.path.getsize(path)} bytes")
    tensors.clear()
    metadata.clear()


def feature_distance(a, b, weight):
    a, b = (x / (x.square().sum(dim=3, keepdim=True).sqrt() + 1e-10) for x in (a, b))
    return ((a - b) ** 2 * weight).sum(dim=3).mean(dim=(1, 2))


state = torch.get_rng_state()
torch.manual_seed(20224)
group_norm("batch_norm", 1, 12, 5, 6, 6, 5, True, False, LEAKY_RELU)
x = torch.linspace(-12, 12, 240, dtype=torch.float32).reshape(1, 4, 6, 10)
case("activation/leaky_relu", dict(n=1, h=4, w=6, c=10, kind=LEAKY_RELU, fill=0), {"x": x},
     ACTIVATIONS[LEAKY_RELU](x.double()))
for h, w, name in ((6, 4, "even"), (5, 7, "odd")):
    x = rnd(2, h, w, 5)
    case(f"max_pool2x2/{name}", dict(n=2, h=h, w=w, c=5, fill=0), {"x": x},
         nhwc(F.max_pool2d(nchw(x.double()), 2)))
a, b, weight = rnd(2, 3, 5, 10), rnd(2, 3, 5, 10), rnd(10, mean=0.5, sd=0.3)
case("feature_distance/layer", dict(n=2, h=3, w=5, c=10, fill=0), {"a": a, "b": b, "weight": weight},
     feature_distance(a.double(), b.double(), weight.double()))
torch.set_rng_state(state)

save("ops.safetensors")
torch.manual_seed(20223)


def gradients(name, parameters, f, operands, fixed=None):
    """Gradients by all operands of sum(dy * f(operands)), for a random dy."""
    fixed = fixed or {}
    leaves = {key: value.double().requires_grad_() for key, value in operands.items()}
    y = f(**leaves, **fixed)
    dy = rnd(*y.shape)
    y.backward(dy.double())
    metadata[name] = " ".join(f"{k}={v}" for k, v in parameters.items())
    for key, value in {**operands, **fixed, "dy": dy}.items():
        tensors[f"{name}/{key}"] = value.contiguous().clone()
    for key, value in leaves.items():
        assert torch.isfinite(value.grad).all(), name
        tensors[f"{name}/d{key}"] = value.grad.to(torch.float32).contiguous()


def conv2d_backward(name, n, h, w, ci, co, k, stride, begin, end, bias, mean=0.0):
    operands = {"x": rnd(n, h, w, ci, mean=mean),
                "weight": rnd(co, ci, k, k, sd=(ci * k * k) ** -0.5)}
    if bias:
        operands["bias"] = rnd(co, sd=0.5)
    gradients(f"conv2d_backward/{name}",
              dict(n=n, h=h, w=w, ci=ci, co=co, k=k, stride=stride, pad_begin=begin, pad_end=end,
                   bias=int(bias), fill=0, wanted=7),
              lambda x, weight, bias=None: nhwc(F.conv2d(
                  F.pad(nchw(x), (begin, end, begin, end)), weight, bias, stride=stride)), operands)


def linear_backward(name, n, s, inputs, outputs, dims, wdims, bias, act):
    operands = {"x": rnd(n * s, inputs) if dims == 2 else rnd(n, s, inputs),
                "weight": rnd(outputs, inputs, *[1] * (wdims - 2), sd=inputs ** -0.5)}
    if bias:
        operands["bias"] = rnd(outputs, sd=0.5)
    gradients(f"linear_backward/{name}",
              {"n": n, "s": s, "in": inputs, "out": outputs, "dims": dims, "wdims": wdims,
               "bias": int(bias), "act": act, "fill": 0, "wanted": 7},
              lambda x, weight, bias=None: ACTIVATIONS[act](
                  F.linear(x, weight.reshape(outputs, inputs), bias)), operands)


def group_norm_backward(name, n, h, w, c, groups, eps_exponent, affine, modulation, act, mean=0.0,
                        sd=1.0, fill=0):
    def f(x, gamma=None, beta=None, modulation=None):
        y = F.group_norm(nchw(x), groups, gamma, beta, eps=10.0 ** -eps_exponent)
        if modulation is not None:
            scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
            y = y * (scale + 1) + shift
        return nhwc(ACTIVATIONS[act](y))

    operands = {"x": rnd(n, h, w, c, mean=mean, sd=sd)}
    if affine:
        operands["gamma"], operands["beta"] = rnd(c, mean=1, sd=0.3), rnd(c, sd=0.3)
    if modulation:
        operands["modulation"] = rnd(n, 2 * c, sd=0.5)
    gradients(f"group_norm_backward/{name}",
              dict(n=n, h=h, w=w, c=c, groups=groups, eps_exponent=eps_exponent, affine=int(affine),
                   modulation=int(modulation), act=act, fill=fill, wanted=15), f, operands)


def layer_norm_backward(name, n, s, c, eps_exponent, mean=0.0, sd=1.0, fill=0):
    gradients(f"layer_norm_backward/{name}",
              dict(n=n, s=s, c=c, eps_exponent=eps_exponent, fill=fill, wanted=7),
              lambda x, gamma, beta: F.layer_norm(x, (c,), gamma, beta, eps=10.0 ** -eps_exponent),
              {"x": rnd(n, s, c, mean=mean, sd=sd), "gamma": rnd(c, mean=1, sd=0.3),
               "beta": rnd(c, sd=0.3)})


def attention_backward(name, n, s, heads, d, packed, uniform, sd=1.0, fill=0):
    def f(q=None, k=None, v=None, qkv=None, uniform=None):
        parts = (q, k, v) if qkv is None else qkv.chunk(3, dim=2)
        q, k, v = (t.reshape(n, s, heads, d).transpose(1, 2) for t in parts)
        y = F.scaled_dot_product_attention(q, k, v)
        if uniform is not None:
            average = v.mean(dim=2, keepdim=True).expand_as(y)
            y = torch.where(uniform.bool()[:, None, :, None], average, y)
        return y.transpose(1, 2).reshape(n, s, heads * d)

    width = heads * d
    operands = ({"qkv": rnd(n, s, 3 * width, sd=sd)} if packed else
                {key: rnd(n, s, width, sd=sd) for key in "qkv"})
    rows = (torch.arange(s)[None] > torch.arange(n)[:, None] + 1).to(torch.int32)
    gradients(f"attention_backward/{name}",
              dict(n=n, s=s, heads=heads, d=d, packed=int(packed), uniform=int(uniform), fill=fill),
              f, operands, {"uniform": rows} if uniform else None)


conv2d_backward("three_by_three", 2, 5, 7, 3, 9, 3, 1, 1, 1, True)
conv2d_backward("even_channels", 1, 8, 8, 16, 16, 3, 1, 1, 1, True)
conv2d_backward("no_bias", 1, 6, 4, 8, 5, 3, 1, 1, 1, False)
conv2d_backward("offset", 1, 9, 6, 6, 8, 3, 1, 1, 1, True, mean=100.0)
conv2d_backward("downsample", 1, 8, 6, 6, 7, 3, 2, 0, 1, True)
conv2d_backward("strided", 1, 7, 7, 4, 6, 3, 2, 1, 1, True)
conv2d_backward("patches", 1, 16, 24, 3, 8, 8, 8, 0, 0, False)
conv2d_backward("pointwise", 2, 3, 5, 20, 12, 1, 1, 0, 0, True)

linear_backward("relu", 3, 1, 20, 33, 2, 2, True, RELU)
linear_backward("bare", 1, 7, 33, 17, 3, 2, False, NONE)
linear_backward("pointwise", 1, 12, 16, 48, 3, 4, True, NONE)

group_norm_backward("unet", 2, 4, 6, 16, 1, 5, False, True, RELU)
group_norm_backward("unet_affine", 1, 4, 4, 24, 1, 5, True, False, NONE)
group_norm_backward("kl", 1, 6, 4, 64, 32, 6, True, False, SILU)
group_norm_backward("kl_near_constant", 1, 8, 8, 32, 32, 6, True, False, NONE, 1000, 0.1, fill=1)
group_norm_backward("unet_near_constant", 1, 8, 8, 16, 1, 5, False, True, NONE, 1000, 0.1, fill=1)
group_norm_backward("kl_epsilon", 1, 4, 4, 64, 32, 6, True, False, SILU, sd=1e-3, fill=3)
group_norm_backward("everything", 2, 3, 4, 12, 3, 5, True, True, GELU)

layer_norm_backward("tokens", 2, 5, 48, 5)
layer_norm_backward("near_constant", 1, 4, 64, 5, mean=1000, sd=0.1, fill=1)
layer_norm_backward("epsilon", 1, 4, 64, 5, sd=1e-3, fill=3)

attention_backward("separate", 2, 7, 2, 16, False, False)
attention_backward("packed", 1, 12, 3, 8, True, False)
attention_backward("uniform", 3, 6, 2, 8, False, True)
attention_backward("wide", 1, 9, 1, 16, True, False, sd=10.0, fill=4)

for kind, name in ((RELU, "relu"), (SILU, "silu"), (GELU, "gelu")):
    x = torch.linspace(-12, 12, 240, dtype=torch.float32).reshape(1, 4, 6, 10)
    gradients(f"activation_backward/{name}", dict(n=1, h=4, w=6, c=10, kind=kind, fill=0),
              lambda x: ACTIVATIONS[kind](x), {"x": x})


def picture_backward(op, f, n, h, w, c):
    gradients(op, dict(n=n, h=h, w=w, c=c), lambda x: nhwc(f(nchw(x))), {"x": rnd(n, h, w, c)})


picture_backward("avg_pool2x2_backward/even", lambda x: F.avg_pool2d(x, 2), 2, 6, 4, 5)
picture_backward("upsample_nearest2x_backward/odd",
                 lambda x: F.interpolate(x, scale_factor=2, mode="nearest"), 2, 3, 4, 5)
for h, w, name in ((3, 4, "odd"), (1, 5, "one_row"), (1, 1, "one_pixel")):
    picture_backward(f"upsample_bilinear2x_backward/{name}",
                     lambda x: F.interpolate(x, scale_factor=2, mode="bilinear",
                                             align_corners=False), 2, h, w, 5)
gradients("add_rows_backward/positions", dict(n=2, s=5, d=6), lambda x, rows: x + rows,
          {"x": rnd(2, 5, 6), "rows": rnd(5, 6)})
gradients("concat_backward/channels", dict(n=2, h=3, w=3, ca=4, cb=5, wanted=3),
          lambda a, b: torch.cat([a, b], dim=3), {"a": rnd(2, 3, 3, 4), "b": rnd(2, 3, 3, 5)})
gradients("append_planes_backward/timestep", dict(n=2, h=3, w=5, c=4, f=6),
          lambda x, features: torch.cat([x, features[:, None, None].expand(2, 3, 5, 6)], dim=3),
          {"x": rnd(2, 3, 5, 4)}, {"features": rnd(2, 6)})
gradients("prepend_row_backward/class_token", dict(n=2, s=4, d=6, wanted=3),
          lambda x, row: torch.cat([row.expand(2, 1, 6), x], dim=1),
          {"x": rnd(2, 4, 6), "row": rnd(6)})
gradients("take_row_backward/last", dict(n=2, s=4, d=6, index=3), lambda x: x[:, 3],
          {"x": rnd(2, 4, 6)})
gradients("embedding_backward/repeated", dict(n=2, s=9, d=7, rows=6),
          lambda table, tokens: F.embedding(tokens.long(), table), {"table": rnd(6, 7)},
          {"tokens": torch.randint(0, 6, (2, 9), dtype=torch.int32)})
for name, eps_exponent, sd, fill in (("embed", 12, 1.0, 0), ("below_eps", 2, 1e-4, 3)):
    gradients(f"l2_normalize_backward/{name}",
              dict(n=3, d=16, eps_exponent=eps_exponent, fill=fill),
              lambda x: F.normalize(x, dim=-1, eps=10.0 ** -eps_exponent) * 4, {"x": rnd(3, 16, sd=sd)})
gradients("to_nhwc_backward/plain", dict(n=2, c=3, h=4, w=5, scaled=0), nhwc, {"x": rnd(2, 3, 4, 5)})
gradients("to_nhwc_backward/normalised", dict(n=2, c=3, h=4, w=5, scaled=1),
          lambda x, scale, shift: nhwc(x) * scale + shift, {"x": rnd(2, 3, 4, 5)},
          {"scale": rnd(3, mean=2, sd=0.5), "shift": rnd(3)})
gradients("to_nchw_backward/plain", dict(n=2, h=4, w=5, c=3), nchw, {"x": rnd(2, 4, 5, 3)})


def adamw(name, count, step, rate_exponent, eps_exponent, decay, scale, ema, sd=1.0, fill=0):
    """One step of torch.optim.AdamW from a state as it is before step `step`."""
    before = {"parameter": rnd(count), "m": rnd(count, sd=sd), "v": rnd(count, sd=sd) ** 2,
              "ema": rnd(count)}
    gradient = rnd(count, sd=sd)
    p, m, v, average = (before[key].double() for key in ("parameter", "m", "v", "ema"))
    p.grad = gradient.double() * (scale / 100)
    optimizer = torch.optim.AdamW([p], lr=10.0 ** -rate_exponent, betas=(0.9, 0.999),
                                  eps=10.0 ** -eps_exponent, weight_decay=decay / 100)
    optimizer.state[p] = {"step": torch.tensor(float(step - 1)), "exp_avg": m, "exp_avg_sq": v}
    optimizer.step()
    average = average.lerp(p, 10.0 ** -ema)
    key = f"adamw/{name}"
    metadata[key] = (f"count={count} step={step} rate_exponent={rate_exponent} "
                     f"eps_exponent={eps_exponent} decay={decay} scale={scale} ema={ema} fill={fill}")
    after = {"parameter": p, "m": m, "v": v, "ema": average}
    tensors[f"{key}/gradient"] = gradient
    for operand in before:
        tensors[f"{key}/{operand}"] = before[operand]
        tensors[f"{key}/{operand}.after"] = after[operand].to(torch.float32)


adamw("first_step", 50, 1, 1, 8, 1, 100, 2)
adamw("scaled", 50, 7, 2, 8, 10, 25, 1)
adamw("epsilon", 50, 3, 1, 3, 0, 100, 2, sd=1e-3, fill=3)

n, z, h, w, scale = 2, 4, 3, 5, 8078
moments = torch.cat([rnd(n, z, h, w, sd=5.0), rnd(n, z, h, w, mean=-3, sd=20.0)], dim=1)
posterior, noise, alpha, sigma = rnd(n, z, h, w), rnd(n, z, h, w), rnd(n), rnd(n)
mean, logvar = moments.double().chunk(2, dim=1)
deviation = torch.exp(logvar.clamp(-30, 20) / 2)
latent = (mean + deviation * posterior.double()) / (scale / 1000)
a, s = alpha.double()[:, None, None, None], sigma.double()[:, None, None, None]
metadata["noised_latents/clamped"] = f"n={n} z={z} h={h} w={w} scale={scale} fill=0"
for key, value in {"moments": moments, "posterior_noise": posterior, "noise": noise,
                   "alpha": alpha, "sigma": sigma, "noisy": a * latent + s * noise,
                   "target": a * noise - s * latent}.items():
    tensors[f"noised_latents/clamped/{key}"] = value.to(torch.float32).contiguous()

x, target = rnd(3, 4, 3, 5).double().requires_grad_(), rnd(3, 4, 3, 5).double()
F.mse_loss(x, target).backward()
metadata["mse/batch"] = "n=3 c=4 h=3 w=5 fill=0 wanted=1"
for key, value in {"x": x, "target": target, "dx": x.grad,
                   "loss": ((x - target) ** 2).mean(dim=(1, 2, 3))}.items():
    tensors[f"mse/batch/{key}"] = value.detach().to(torch.float32).contiguous()

torch.manual_seed(20225)
group_norm_backward("batch_norm", 1, 12, 5, 6, 6, 5, True, False, LEAKY_RELU)
x = torch.linspace(-12, 12, 240, dtype=torch.float32).reshape(1, 4, 6, 10)
gradients("activation_backward/leaky_relu", dict(n=1, h=4, w=6, c=10, kind=LEAKY_RELU, fill=0),
          lambda x: ACTIVATIONS[LEAKY_RELU](x), {"x": x})
for h, w, name in ((6, 4, "even"), (5, 7, "odd")):
    gradients(f"max_pool2x2_backward/{name}", dict(n=2, h=h, w=w, c=5, fill=0),
              lambda x: nhwc(F.max_pool2d(nchw(x), 2)), {"x": rnd(2, h, w, 5)})
gradients("feature_distance_backward/layer", dict(n=2, h=3, w=5, c=10, fill=0),
          lambda b, a, weight: feature_distance(a.double(), b, weight.double()),
          {"b": rnd(2, 3, 5, 10)}, {"a": rnd(2, 3, 5, 10), "weight": rnd(10, mean=0.5, sd=0.3)})

save("gradients.safetensors")
