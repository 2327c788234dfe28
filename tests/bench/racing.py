"""What the races have in common: two programs that do the same work by turns, each in a process of its
own that waits for requests; their times and peak memory; and what else the machine did meanwhile.
Needs nothing but Python."""

import argparse
import math
import os
import platform
import statistics
import subprocess
import sys
import time

# Shapes of the inputs of bench-nets' items.
ITEMS = {"unet-1": [(1, 4, 32, 32), (1,), (1, 512)], "unet-4": [(4, 4, 32, 32), (4,), (4, 512)],
         "kl-encode": [(1, 3, 256, 256)], "kl-decode": [(1, 4, 32, 32)],
         "cloob-4": [(4, 3, 224, 224)]}
PRECISIONS = ["fp32", "bf16"]
BUSY = 0.3  # processors' worth of other work from which on ratios mean little

# Contestants ---------------------------------------------------------------------------------------


class Contestant:
    """A program that says `ready`, then does its work once per line and prints the seconds."""

    def __init__(self, command):
        command = [str(c) for c in command]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        answer = self.process.stdout.readline().split()
        if not answer or answer[0] != "ready":
            sys.exit(f"{os.path.basename(sys.argv[0])}: {' '.join(command)} failed")
        self.facts = answer[1:]  # what else it says of its work

    def run(self):
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def peak(self):
        """Peak resident memory in MiB."""
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) >> 10 for line in f if line.startswith("VmHWM:"))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def serve(work, *facts):
    """Makes this process a contestant. `work` returns a number that must be finite."""
    for _ in range(2):
        work()
    print("ready", *facts, flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        value = work()
        seconds = time.perf_counter() - begin
        assert math.isfinite(value)
        print(f"{seconds:.6f}", flush=True)


# The machine's other load --------------------------------------------------------------------------


def processor_seconds():
    """Seconds that processors were busy, and that the hypervisor gave them to others."""
    with open("/proc/stat") as f:
        user, nice, system, _, _, irq, softirq, steal = map(int, f.readline().split()[1:9])
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / tick, steal / tick


def process_seconds(pids):
    """Seconds that these processes have used, with all their threads."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as f:
            user, system = f.read().rsplit(")", 1)[1].split()[11:13]
        total += int(user) + int(system)
    return total / os.sysconf("SC_CLK_TCK")


class OtherLoad:
    """Processors that others than these processes use while work runs, stolen time included."""

    def __init__(self, *pids):
        self.pids = [os.getpid(), *pids]
        self.wall = self.busy = 0

    @staticmethod
    def now(pids):
        return time.perf_counter(), sum(processor_seconds()) - process_seconds(pids)

    def during(self, work, *arguments):
        begin = self.now(self.pids)
        result = work(*arguments)
        end = self.now(self.pids)
        self.wall += end[0] - begin[0]
        self.busy += end[1] - begin[1]
        return result

    def processors(self):
        return max(0, self.busy) / self.wall


def other_load_now():
    """While this process and its contestants sleep."""
    load = OtherLoad()
    load.during(time.sleep, 2)
    return load.processors()


def loads():
    with open("/proc/loadavg") as f:
        averages = " ".join(f.read().split()[:3])
    return f"load averages {averages}, stolen since boot {processor_seconds()[1]:.0f} s"


# The race ------------------------------------------------------------------------------------------


def parser_of(description, bench):
    """The options that all races have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bench", default=f"build/tests/bench/{bench}", metavar="PROGRAM")
    parser.add_argument("--precision", default=",".join(PRECISIONS), metavar="LIST",
                        help="fp32, bf16 or both, each for both programs")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), metavar="N")
    parser.add_argument("--runs", type=int, default=5, metavar="N")
    parser.add_argument("--wait", type=int, default=0, metavar="SECONDS",
                        help="wait for other work to end, at most so long before each race")
    parser.add_argument("--serve", help=argparse.SUPPRESS)  # the rival's own process
    return parser


def chosen(parser, given, known, what):
    """The members of a list given with an option."""
    unknown = set(given.split(",")) - set(known)
    if unknown:
        parser.error(f"no such {what}: {', '.join(sorted(unknown))}")
    return given.split(",")


def processor():
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.machine()


def print_header(rival, options):
    print(f"{rival}, {processor()}, {options.threads} threads; medians of {options.runs} runs by turns; "
          "ratio: our time / theirs;\npeak: resident MiB; other load: processors used by other work "
          "before, during and after")
    print(loads())
    print(f"{'':24} {'ours s':>8} {'min':>8} {'theirs s':>8} {'min':>8} {'ratio':>6} {'peak':>6} "
          f"{'theirs':>6}  other load", flush=True)


def race(name, ours_command, theirs_command, options):
    """Prints a row. Returns the facts that both gave, and the medians."""
    load = [other_load_now()]
    patience = time.monotonic() + options.wait
    while load[0] > BUSY and time.monotonic() < patience:
        load = [other_load_now()]
    ours, theirs = Contestant(ours_command), Contestant(theirs_command)
    during = OtherLoad(ours.process.pid, theirs.process.pid)
    seconds = {ours: [], theirs: []}
    for _ in range(options.runs):
        for contestant, times in seconds.items():
            time.sleep(0.5)  # until the other's idle threads sleep
            during.during(contestant.run)  # caches are cold after the other's turn
            times.append(during.during(contestant.run))
    time.sleep(0.5)
    load += [during.processors(), other_load_now()]
    peaks = [contestant.peak() for contestant in seconds]
    for contestant in seconds:
        contestant.close()
    a, b = (statistics.median(times) for times in seconds.values())
    print(f"{name:24} {a:8.3f} {min(seconds[ours]):8.3f} {b:8.3f} {min(seconds[theirs]):8.3f} "
          f"{a / b:6.2f} {peaks[0]:6} {peaks[1]:6}  {' '.join(f'{x:.2f}' for x in load)}"
          f"{'  busy: ratios are not to be trusted' if max(load) > BUSY else ''}", flush=True)
    return ours.facts, theirs.facts


def race_items(parser, options, theirs):
    """Races bench-nets' items against what theirs(item, precision) starts."""
    for item in chosen(parser, options.items, ITEMS, "item"):
        for precision in chosen(parser, options.precision, PRECISIONS, "precision"):
            ours = [options.bench, "--item", item, "--precision", precision, "--device", "cpu",
                    "--threads", options.threads, "--on-request"]
            race(f"{item} {precision}", ours, theirs(item, precision), options)
    print(loads())
