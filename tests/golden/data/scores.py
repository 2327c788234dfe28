#!/usr/bin/env python3
"""Makes scores.safetensors: sets of unit vectors and what numpy and scipy say about their distances, in double
precision, written from the papers' formulas (common/score/*.h name them).

usage: scores.py OUT           needs numpy, scipy, safetensors
       scores.py --peers       also compares with prdc, torchmetrics and clean-fid, which must be installed
"""
import sys

import numpy as np
import scipy.linalg

FRECHET_POINTS, BALL, DENSE = 15, 3, 5


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def clustered(rng, count, width, shift):
    centers = np.random.default_rng(5).normal(size=(7, width))
    return unit(centers[rng.integers(7, size=count)] + shift + 0.6 * rng.normal(size=(count, width)))


def cases():
    rng = np.random.default_rng(1)
    yield "plain", clustered(rng, 320, 24, 0.1), clustered(rng, 480, 24, 0)
    yield "few", clustered(rng, 40, 64, 0.2), clustered(rng, 50, 64, 0)
    x = clustered(rng, 60, 24, 0)
    yield "same", x, x[::-1].copy()
    x = np.repeat(unit(rng.normal(size=(1, 8))), 12, axis=0)
    yield "constant", x, x[:9].copy()
    y = clustered(rng, 90, 24, 0)
    yield "copied", np.concatenate([y[:20], clustered(rng, 20, 24, 0)]), y


def root(c):
    values, vectors = np.linalg.eigh(c)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def frechet(x, y):
    cx, cy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = x.mean(axis=0) - y.mean(axis=0)
    return shift @ shift + np.trace(cx) + np.trace(cy) - 2 * np.linalg.svd(root(cx) @ root(cy), compute_uv=False).sum()


def frechet_infinite(x, y):
    count, width = x.shape
    first = max(count // 10, min(2 * width, count // 2), 2)
    n = np.array([first + (count - first) * i // (FRECHET_POINTS - 1) for i in range(FRECHET_POINTS)])
    return np.polyfit(1 / n, [frechet(x[:k], y) for k in n], 1)[1]


def kernel_distance(x, y):
    k = lambda a, b: (a @ b.T + 1) ** 3
    within = lambda a: (k(a, a).sum() - np.diag(k(a, a)).sum()) / (len(a) * (len(a) - 1))
    return within(x) + within(y) - 2 * k(x, y).mean()


def distances(a, b):
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))


def neighbours(x, y):
    """precision, recall, density, coverage, memorised; x: samples, y: reference"""
    cross = distances(x, y)
    xs, ys = np.sort(distances(x, x), axis=1), np.sort(distances(y, y), axis=1)  # column 0: the row itself
    precision = (cross <= ys[:, BALL]).any(axis=1).mean()
    recall = (cross <= xs[:, BALL][:, None]).any(axis=0).mean()
    inside = cross <= ys[:, DENSE]
    nearest = cross.argmin(axis=1)
    memorised = cross.min(axis=1) < ys[nearest, 1]
    return [precision, recall, inside.sum() / (DENSE * len(x)), inside.any(axis=0).mean(), memorised.mean()]


def expected(x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)
    return np.array([frechet(x, y), frechet_infinite(x, y), kernel_distance(x, y)] + neighbours(x, y))


def peers():
    import cleanfid.fid
    import prdc
    import torch
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    for name, x32, y32 in cases():
        x, y = x32.astype(np.float64), y32.astype(np.float64)
        ours = expected(x, y)

        def compare(what, theirs, mine):
            print(f"{name:10} {what:36} {theirs:.12g} {mine:.12g} relative {abs(theirs - mine) / max(abs(mine), 1e-12):.1e}")

        tx, ty = torch.from_numpy(x), torch.from_numpy(y)
        compare("clean-fid frechet_distance",
                cleanfid.fid.frechet_distance(x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False)), ours[0])
        compare("torchmetrics fid", _compute_fid(tx.mean(0), tx.T.cov(), ty.mean(0), ty.T.cov()).item(), ours[0])
        compare("scipy sqrtm", ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x, rowvar=False) + np.cov(y, rowvar=False) -
                2 * scipy.linalg.sqrtm(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False)).real), ours[0])
        if len(x) == len(y):
            k = lambda a, b: (a @ b.T + 1) ** 3
            compare("torchmetrics poly_mmd", poly_mmd(tx, ty, degree=3, gamma=1.0, coef=1.0).item(), ours[2])
        n = min(len(x), len(y))  # both want sets of equal size; clean-fid's kernel divides by the dimensions
        compare("torchmetrics poly_mmd, equal sizes", poly_mmd(tx[:n], ty[:n], degree=3, gamma=1.0, coef=1.0).item(),
                kernel_distance(x[:n], y[:n]))
        d = x.shape[1] ** 0.5
        compare("clean-fid kernel_distance, one subset",
                cleanfid.fid.kernel_distance(y[:n] * d, x[:n] * d, num_subsets=1, max_subset_size=n), kernel_distance(x[:n], y[:n]))
        three, five = (prdc.compute_prdc(real_features=y, fake_features=x, nearest_k=k) for k in (BALL, DENSE))
        for i, (what, theirs) in enumerate([("precision", three), ("recall", three), ("density", five), ("coverage", five)]):
            compare("prdc " + what, theirs[what], ours[3 + i])


if __name__ == "__main__":
    if sys.argv[1:] == ["--peers"]:
        peers()
    elif len(sys.argv) == 2:
        from safetensors.numpy import save_file
        tensors = {}
        for case, samples, reference in cases():
            tensors[f"{case}.samples"], tensors[f"{case}.reference"] = samples, reference
            tensors[f"{case}.expected"] = expected(samples, reference)
        save_file(tensors, sys.argv[1])
    else:
        sys.exit(__doc__)
