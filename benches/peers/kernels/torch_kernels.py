#!/usr/bin/env python3
"""Runs torch's kernels, and numpy's matrix product (OpenBLAS), in turns with nd-simd's, on one thread or --threads.

Build ours first: `cargo build --release` in this folder. It runs as a second process that answers turns
(`kernel-peers --serve`); both wait while the other works. A turn lasts --turn seconds at least, a row has --rounds rounds,
and what is printed is the median over rounds of ours over theirs (above one ours is faster), with the 95 % interval
of the sign test. With several threads, ours waits a hundredth of a second before its turn, because the peer's idle threads spin for a
while; rows that we do not run on several threads are left out.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
PINNED = dict(line.split("==") for line in (HERE / "requirements.txt").read_text().split() if "==" in line)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def restart_with_threads(count: int) -> None:
    """Starts this script again with the thread counts set: the libraries read them when they are loaded."""
    wanted = {name: str(count) for name in THREADS}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], dict(os.environ) | wanted)


def check_versions() -> None:
    """Figures of another version are figures of another peer."""
    for name, wanted in PINNED.items():
        found = metadata.version(name)
        if found.split("+")[0] != wanted:
            sys.exit(f"{name} {found} is installed, {wanted} is compared with: see requirements.txt")


def interval(values: list[float]) -> tuple[float, float, float]:
    """The median and its 95 % interval by the sign test."""
    ordered, n = sorted(values), len(values)
    tail, cut = 0.0, 0
    while (tail := tail + math.comb(n, cut) / 2**n) <= 0.025:
        cut += 1
    cut = max(cut - 1, 0)
    return statistics.median(ordered), ordered[cut], ordered[n - 1 - cut]


def rows(threads: int):
    """Pairs of a row's name, as ours has it, and the peers' calls."""
    import numpy
    import torch
    from torch.nn import functional as f

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    torch.manual_seed(1)
    for length in (4096, 65_536, 4 << 20):
        x = 6 * torch.rand(length) - 3
        out = torch.empty_like(x)
        y, y_hat = torch.rand(length), torch.rand(length)
        gelu = torch._C._nn.gelu
        for name, call in {
            "relu": lambda: torch.clamp_min(x, 0, out=out),
            "gelu": lambda: gelu(x, out=out),
            "gelu_tanh": lambda: gelu(x, approximate="tanh", out=out),
            "silu": lambda: torch._C._nn.silu(x, out=out),
            "sigmoid": lambda: torch.sigmoid(x, out=out),
            "tanh": lambda: torch.tanh(x, out=out),
            "exp": lambda: torch.exp(x, out=out),
            "sum": lambda: torch.sum(x),
            "dot": lambda: torch.dot(y, y_hat),
            "mse": lambda: f.mse_loss(y_hat, y),
            "mae": lambda: f.l1_loss(y_hat, y),
            "huber": lambda: f.huber_loss(y_hat, y),
        }.items():
            yield f"{name} {length}", {"torch": call}
    for count, width in ((1024, 64), (1024, 1024)):
        x = 6 * torch.rand(count, width) - 3
        gain, bias = torch.rand(width), torch.rand(width)
        out = torch.empty_like(x)
        for name, call in {
            "softmax": lambda: torch.softmax(x, -1, out=out),
            "layer norm": lambda: f.layer_norm(x, (width,), gain, bias),
            "rms norm": lambda: f.rms_norm(x, (width,), gain, 1e-5),
        }.items():
            yield f"{name} {count} x {width}", {"torch": call}
    for m, k, n in (
        (64, 64, 64), (128, 128, 128), (256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048),
        (32, 96, 512), (32, 512, 512), (128, 512, 512), (256, 512, 2048), (1024, 512, 512), (4096, 128, 128),
        (4096, 16, 128), (7, 512, 512), (512, 512, 1), (2048, 2048, 1), (1, 512, 512), (1, 2048, 2048),
    ):  # fmt: skip
        a, b, c = torch.rand(m, k), torch.rand(k, n), torch.empty(m, n)
        yield f"{m} x {k} x {n}", products(numpy, torch, a, b, c)
    for form, m, k, n in (
        ("A^T B", 512, 512, 512), ("A^T B", 1024, 1024, 1024), ("A B^T", 512, 512, 512), ("A B^T", 1024, 1024, 1024),
        ("A^T B", 512, 4096, 128), ("A^T B", 512, 128, 512), ("A B^T", 128, 512, 512), ("A B^T", 4096, 128, 128),
    ):  # fmt: skip
        a = torch.rand(k, m).T if form == "A^T B" else torch.rand(m, k)
        b = torch.rand(n, k).T if form == "A B^T" else torch.rand(k, n)
        yield f"{form} {m} x {k} x {n}", products(numpy, torch, a, b, torch.empty(m, n))
    for m, k, n in (
        (256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (32, 512, 512), (1024, 512, 512),
        (1024, 96, 512), (11264, 128, 128),
    ):  # fmt: skip
        a, b = torch.rand(m, k).bfloat16(), torch.rand(k, n).bfloat16()
        c = torch.empty(m, n, dtype=torch.bfloat16)
        # Torch has no other C; ours has f32 as well.
        yield f"bf16 {m} x {k} x {n}", {"torch": lambda: torch.matmul(a, b, out=c)}
        yield f"bf16 {m} x {k} x {n} into bf16", {"torch": lambda: torch.matmul(a, b, out=c)}


def products(numpy, torch, a, b, c) -> dict:
    """One f32 product by torch and by numpy, over the same memory."""
    return {
        "torch": lambda: torch.matmul(a, b, out=c),
        "numpy": lambda: numpy.matmul(a.numpy(), b.numpy(), out=c.numpy()),
    }


def seconds_of(call, turn: float) -> float:
    """Seconds of one call, over a turn."""
    call()
    calls, start = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - start < turn:
        call()
        calls += 1
    return (time.perf_counter() - start) / calls


class Ours:
    """The process that runs our side of a row."""

    def __init__(self, program: Path, threads: int):
        self.threads = threads
        self.process = subprocess.Popen(
            [str(program), "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, row: str, turn: float) -> float:
        """Seconds of one call of a row."""
        if self.threads > 1:
            time.sleep(0.01)
        answer = self.ask(row, turn)
        if not answer or answer.startswith("error"):
            sys.exit(f"{row}: {answer or 'our process has ended'}")
        return float(answer)

    def has(self, row: str) -> bool:
        """Whether we run a row on so many threads."""
        return not self.ask(row, 0.0).startswith("error: no row")

    def ask(self, row: str, turn: float) -> str:
        """Our process's answer."""
        self.process.stdin.write(f"{row}\t{turn}\t{self.threads}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


def main() -> None:
    """Reads the command line, takes turns and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filter", default="", help="only rows whose name contains this")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--turn", type=float, default=0.002, help="seconds of a turn at least")
    parser.add_argument("--ours", type=Path, default=HERE / "target/release/kernel-peers")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=1, help="1 or 2")
    arguments = parser.parse_args()
    restart_with_threads(arguments.threads)
    check_versions()
    if not arguments.ours.exists():
        parser.error(f"no {arguments.ours}: run `cargo build --release` in {HERE}, or give --ours")
    ours = Ours(arguments.ours, arguments.threads)
    results = []
    print("| row | ours | torch or numpy | ours / theirs | 95 % |\n|---|---|---|---|---|")
    for row, calls in rows(arguments.threads):
        if arguments.filter not in row or not ours.has(row):
            continue
        for peer, call in calls.items():
            times = []
            for _ in range(arguments.rounds):
                theirs = seconds_of(call, arguments.turn)
                times.append((ours.seconds(row, arguments.turn), theirs))
            median, low, high = interval([theirs / mine for mine, theirs in times])
            mine, theirs = (statistics.median(column) * 1e6 for column in zip(*times))
            results.append(
                {"row": row, "peer": peer, "ours_us": mine, "theirs_us": theirs, "ratio": [median, low, high]}
            )
            print(
                f"| {row} | {mine:.4g} us | {peer} {theirs:.4g} us | {median:.2f} | {low:.2f}-{high:.2f} |", flush=True
            )
    if arguments.json:
        record = {"torch": metadata.version("torch"), "numpy": metadata.version("numpy")}
        record |= {"threads": arguments.threads, "rows": results}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
