#!/usr/bin/env python3
"""Runs torch's flash attention in turns with ours.

Build ours first: `cargo build --release -p nd-bench` in the root. It runs as a second process that answers turns
(`attention --serve`); both wait while the other works. What is printed is the median over rounds of ours over theirs (above one
ours is faster), with the 95 % interval of the sign test. Inputs are f32 (bf16 where --bf16 says so, on both sides), head by head.
"""

import argparse
import json
import statistics
from importlib import metadata
from pathlib import Path

from torch_kernels import Ours, check_versions, interval, restart_with_threads, seconds_of

ROOT = Path(__file__).resolve().parents[3]
SHAPES = ((32, 8, 64, 64), (32, 8, 96, 64), (8, 8, 336, 64), (4, 8, 1024, 64), (1, 8, 4096, 64), (1, 1, 16384, 64))


def cases(torch, kind):
    """Triples of a case's name, as ours has it, its number of tokens, and the call."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention as attention

    torch.manual_seed(1)
    for shape in SHAPES:
        q, k, v, dy = (2 * torch.rand(shape) - 1 for _ in range(4))
        q, k, v, dy = (x.to(kind).requires_grad_(x is not dy) for x in (q, k, v, dy))

        def forward(causal):
            with torch.no_grad(), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                attention(q, k, v, is_causal=causal)

        def both(causal):
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                y = attention(q, k, v, is_causal=causal)
            torch.autograd.grad(y, (q, k, v), dy)

        for words, call in (("forward", forward), ("forward and backward", both)):
            for causal in (False, True):
                mask = "causal " if causal else ""
                yield f"{' x '.join(map(str, shape))} {mask}{words}", shape[2], lambda call=call, causal=causal: call(causal)


def main() -> None:
    """Reads the command line, takes turns and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filter", default="", help="only cases whose name contains this")
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1)
    parser.add_argument("--bf16", action="store_true", help="inputs in bf16 instead of f32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turn", type=float, default=0.05, help="seconds of a turn at least")
    parser.add_argument("--longest", type=int, default=4096, help="leave out longer sequences")
    parser.add_argument("--ours", type=Path, default=ROOT / "target/release/attention")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    restart_with_threads(arguments.threads)
    check_versions()
    if not arguments.ours.exists():
        parser.error(f"no {arguments.ours}: run `cargo build --release -p nd-bench` in {ROOT}, or give --ours")
    import torch

    torch.set_num_threads(arguments.threads)
    kind = torch.bfloat16 if arguments.bf16 else torch.float32
    suffix = " bf16" if arguments.bf16 else ""
    ours, results = Ours(arguments.ours, arguments.threads), []
    print("| case | ours, ms | torch, ms | ours / torch | 95 % |\n|---|---|---|---|---|")
    for case, tokens, call in cases(torch, kind):
        name = case + suffix
        if arguments.filter not in name or tokens > arguments.longest:
            continue
        times = []
        for _ in range(arguments.rounds):
            theirs = seconds_of(call, arguments.turn)
            times.append((ours.seconds(name, arguments.turn), theirs))
        median, low, high = interval([theirs / mine for mine, theirs in times])
        mine, theirs = (statistics.median(column) * 1e3 for column in zip(*times))
        results.append(
            {"case": name, "threads": arguments.threads, "ours_ms": mine, "theirs_ms": theirs, "ratio": [median, low, high]}
        )
        print(f"| {name} | {mine:.4g} | {theirs:.4g} | {median:.2f} | {low:.2f}-{high:.2f} |", flush=True)
    if arguments.json:
        record = {"torch": metadata.version("torch"), "cases": results}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
