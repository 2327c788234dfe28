#!/usr/bin/env python3
"""Plants copies among images, and counts which of them ccld-find --duplicates finds.

    bench-duplicates.py plant [--seed N] [-n N] FOLDER COPIES
    bench-duplicates.py count [--find build/ccld-find] [--options OPTIONS] STORE T...

plant copies N (500) images of FOLDER to COPIES, a third each: NAME-jpeg.jpg, of quality 30 to 90; NAME-size.webp, of 0.5 to 2
times the size, or NAME-size.bmp, so and back again; NAME-mirror.png or .jpg, with left and right exchanged. It needs Pillow.
STORE must hold both (ccld-encode -o STORE FOLDER COPIES). count prints a row for each T: copies in the group of their
original, by kind, and false alarms: other records that are listed as duplicates, which --to-remove would print.
"""

import argparse
import collections
import json
import pathlib
import random
import re
import subprocess


def resized(image, rng, stem):
    from PIL import Image

    factor = 2 ** rng.uniform(-1, 1)
    size = [max(1, round(s * factor)) for s in image.size]
    path = stem.with_name(stem.name + "-size.webp")
    image.resize(size, Image.Resampling.LANCZOS).save(path, quality=80)
    if rng.random() < 0.5:
        back = Image.open(path).convert("RGB").resize(image.size, Image.Resampling.LANCZOS)
        path.unlink()
        back.save(path.with_suffix(".bmp"))


def mirrored(image, rng, stem):
    from PIL import ImageOps

    image = ImageOps.mirror(image)
    if rng.random() < 0.5:
        image.save(stem.with_name(stem.name + "-mirror.png"))
    else:
        image.save(stem.with_name(stem.name + "-mirror.jpg"), quality=rng.randint(30, 90))


def reencoded(image, rng, stem):
    image.save(stem.with_name(stem.name + "-jpeg.jpg"), quality=rng.randint(30, 90))


def plant(args):
    from PIL import Image

    rng = random.Random(args.seed)
    images = sorted(p for p in args.folder.iterdir() if p.suffix != ".txt")
    args.copies.mkdir(parents=True, exist_ok=True)
    for i, path in enumerate(sorted(rng.sample(images, args.n))):
        make = (reencoded, resized, mirrored)[i % 3]
        make(Image.open(path).convert("RGB"), rng, args.copies / path.stem)


def split(path):
    """The name of the image or of the original, and the kind of copy or None."""
    stem = pathlib.PurePath(path).stem
    found = re.fullmatch(r"(.*)-(jpeg|size|mirror)", stem)
    return (found[1], found[2]) if found else (stem, None)


def count_at(args, limit):
    command = [args.find, "-q", "--json", "--duplicates", limit, *args.options.split(), args.store]
    groups = collections.defaultdict(list)
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        hit = json.loads(line)
        groups[hit["group"]].append(split(hit["path"]))
    found, false = collections.Counter(), 0
    for members in groups.values():
        originals = {name for name, kind in members if kind is None}
        for place, (name, kind) in enumerate(members):
            if kind and name in originals:
                found[kind] += 1
            elif place > 0:
                false += 1
    return found, false


def count(args):
    print("| T | found | JPEG | resized | mirrored | false alarms |\n|---|---|---|---|---|---|")
    for limit in args.limits:
        found, false = count_at(args, limit)
        kinds = " | ".join(str(found[k]) for k in ("jpeg", "size", "mirror"))
        print(f"| {limit} | {sum(found.values())} | {kinds} | {false} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True)
    p = commands.add_parser("plant")
    p.add_argument("folder", type=pathlib.Path)
    p.add_argument("copies", type=pathlib.Path)
    p.add_argument("-n", type=int, default=500)
    p.add_argument("--seed", type=int, default=0)
    p.set_defaults(run=plant)
    p = commands.add_parser("count")
    p.add_argument("store")
    p.add_argument("limits", nargs="+", metavar="T")
    p.add_argument("--find", default="build/ccld-find")
    p.add_argument("--options", default="")
    p.set_defaults(run=count)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
