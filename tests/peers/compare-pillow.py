#!/usr/bin/env python3
"""Compares what ccld reads of image files under --pil-compat with Pillow's convert("RGB").

    compare-pillow.py [--decode build/tests/peers/decode] [--seconds N] [--memory MIB] [--jobs N] FOLDER_OR_FILE...

Reads every file of the folders with both, of several frames the first. Prints a line for each file on which they
disagree, and for each one that ends the program by a signal, takes longer than N seconds or more memory than 256 MiB
and 64 bytes per pixel, or is refused with anything but one line and status 1; then counts by format and folder.
--memory 0 sets no limit of the address space, which sanitizers need. Needs Pillow and numpy, and for HEIC and JPEG XL
pillow-heif and pillow-jxl-plugin.
"""

import argparse
import collections
import concurrent.futures
import io
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
import warnings

import numpy
from PIL import Image

warnings.simplefilter("ignore")
Image.MAX_IMAGE_PIXELS = 200_000_000
READ = {"JPEG", "MPO", "PNG", "WEBP", "PPM", "BMP", "GIF", "TIFF", "HEIF", "AVIF", "JXL"}
KINDS = ["equal", "within 2", "differs", "ccld refuses", "Pillow refuses", "both refuse", "another format", "FAULT"]
MIB = 1 << 20

try:
    import pillow_heif

    pillow_heif.register_heif_opener()
except ImportError:
    READ.discard("HEIF")
try:
    import pillow_jxl  # noqa: F401 registers itself
except ImportError:
    READ.discard("JXL")


def read_with_pillow(path):
    """In the child: writes "FORMAT MODE WIDTH HEIGHT" and the pixels, or "- REASON" or "FORMAT REASON"."""
    name = "-"
    try:
        with Image.open(path) as image:
            name = image.format
            mode = image.mode
            image = image.convert("RGB")
        head = f"{name} ok {mode} {image.width} {image.height}\n"
        return head.encode() + image.tobytes()
    except BaseException as e:  # also of plugins in Rust
        return f"{name} {type(e).__name__}: {' '.join(str(e).split())}\n".encode()


def pillow(path, seconds):
    """(format, mode, pixels) or (format, reason, None). A crash or a hang of Pillow ends a child only."""
    with tempfile.TemporaryFile() as out:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            resource.setrlimit(resource.RLIMIT_AS, (6144 * MIB, 6144 * MIB))
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            out.write(read_with_pillow(path))
            out.flush()
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status != 0:
            return "-", f"Pillow ended with status {status}", None
        out.seek(0)
        words = out.readline().decode().split()
        if words[1] != "ok":
            return words[0], " ".join(words[1:]), None
        width, height = int(words[3]), int(words[4])
        pixels = numpy.frombuffer(out.read(), numpy.uint8).reshape(height, width, 3)
        return words[0], words[2], pixels


def ccld(path, args, *options):
    """(pixels or None, message, fault or None)"""

    def limit():
        if args.memory:
            resource.setrlimit(resource.RLIMIT_AS, (args.memory * MIB, args.memory * MIB))

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        child = subprocess.Popen([args.decode, *options, path], stdout=out, stderr=err, preexec_fn=limit)
        fault, usage = None, None
        while usage is None:
            pid, status, rusage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                usage = rusage
                child.returncode = status
            elif time.monotonic() - start > 10 * args.seconds:
                child.kill()
            else:
                time.sleep(0.002)
        out.seek(0)
        err.seek(0)
        message = err.read().decode("utf-8", "replace")
        seconds = usage.ru_utime + usage.ru_stime
        if seconds > args.seconds:
            fault = f"{seconds:.1f} seconds"
        elif os.WIFSIGNALED(status):
            fault = f"signal {os.WTERMSIG(status)}"
        elif os.WEXITSTATUS(status) not in (0, 1):
            fault = f"status {os.WEXITSTATUS(status)}"
        elif message.count("\n") > 1 or (status != 0) != ("cannot " in message):
            fault = f"{message.count(chr(10))} lines"
        if status != 0:
            return None, message, fault
        magic, size, _ = out.readline(), out.readline().split(), out.readline()
        pixels = numpy.frombuffer(out.read(), numpy.uint8).reshape(int(size[1]), int(size[0]), 3)
        most = 256 * MIB + 64 * pixels.size // 3
        if args.memory and usage.ru_maxrss * 1024 > most:
            fault = f"{usage.ru_maxrss // 1024} MiB for {size} pixels"
        return pixels, message, fault


def compare(path, args):
    """(format, kind, details)"""
    name, reason, theirs = pillow(path, 6 * args.seconds)
    ours, message, fault = ccld(path, args)
    message = " ".join(message.replace(str(path), "").split())
    if fault:
        return name, "FAULT", f"{fault}: {message[:300]}"
    if theirs is None and ours is None:
        return name, "both refuse", message
    if name != "-" and (name not in READ or (name == "PPM" and reason == "F")):  # PFM
        return name, "another format", "" if ours is None else "ccld reads it"
    if ours is None:
        allowed = ccld(path, args, "--allow-truncated")[0] if "truncated" in message else None
        same = allowed is not None and numpy.array_equal(allowed, theirs)
        message += "; equal with --allow-truncated" if same else ""
        return name, "ccld refuses", f"{reason}, {theirs.shape[1]}x{theirs.shape[0]}: {message}"
    if theirs is None:
        return name, "Pillow refuses", f"{reason} / {message}"
    if ours.shape != theirs.shape:
        return name, "differs", f"{reason}: {ours.shape[1::-1]}, Pillow {theirs.shape[1::-1]} {message}"
    most, differing = 0, 0
    for row in range(0, ours.shape[0], 256):
        d = numpy.abs(ours[row : row + 256].astype(numpy.int16) - theirs[row : row + 256])
        most = max(most, int(d.max()))
        differing += int(d.any(axis=2).sum())
    kind = "equal" if most == 0 else "within 2" if most <= 2 else "differs"
    share = differing / (ours.shape[0] * ours.shape[1])
    return name, kind, f"{reason}: up to {most} of 255 in {100 * share:.1f}% of pixels {message}" if most else ""


def table(title, counts):
    kinds = [k for k in KINDS if any(c[k] for c in counts.values())]
    print(f"\n| {title} | files | " + " | ".join(kinds) + " |")
    print("|---|---" + "|---" * len(kinds) + "|")
    for name in sorted(counts):
        c = counts[name]
        print(f"| {name} | {sum(c.values())} | " + " | ".join(str(c[k]) for k in kinds) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--decode", default="build/tests/peers/decode")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--memory", type=int, default=4096)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    formats = collections.defaultdict(collections.Counter)
    folders = collections.defaultdict(collections.Counter)
    jobs = [(f, p) for f in args.folders for p in ([f] if f.is_file() else sorted(f.rglob("*"))) if p.is_file()]
    pool = concurrent.futures.ProcessPoolExecutor(args.jobs)
    found = pool.map(compare, [p for _, p in jobs], [args] * len(jobs), chunksize=8)
    for (folder, path), (name, kind, details) in zip(jobs, found):
        formats[name][kind] += 1
        folders[(folder.parent if folder.is_file() else folder).name][kind] += 1
        if kind not in ("equal", "both refuse", "another format"):
            print(kind, name, path, details, sep="\t", flush=True)
        elif kind == "both refuse" or details:
            print(kind, name, path, details, sep="\t", file=sys.stderr)
    table("format", formats)
    table("folder", folders)


if __name__ == "__main__":
    main()
