#!/usr/bin/env python3
"""Runs NeuralForecast's training steps and ours in turns on ETTh1, and prints the ratios.

Build ours first: `cargo build --release -p nd-bench`. Every round runs the peer with the allocator as it comes, the peer
with glibc told to keep freed memory, and ours, each in a process of its own; the better of the peer's two
medians is the bar. The result goes to standard output as a table and, with --save, to a JSON file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import peer

HERE = Path(__file__).resolve().parent


def run(command: list[str]) -> dict:
    """The JSON line that a measuring program prints."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Reads the command line, measures in turns and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["DLinear", "NHITS"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=25, help="timed steps of the peer in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ours", type=Path, default=peer.REPOSITORY / "target/release/etth1")
    parser.add_argument("--data", type=Path, default=peer.ETTH1)
    parser.add_argument("--save", type=Path)
    arguments = parser.parse_args()
    if not arguments.ours.exists():
        parser.error(f"no {arguments.ours}: run `cargo build --release -p nd-bench`, or give --ours")
    common = ["--threads", str(arguments.threads), "--data", str(arguments.data)]
    results = []
    for model in arguments.models:
        times = {"default": [], "tuned": [], "ours": []}
        memory = {"default": [], "tuned": [], "ours": []}
        for _ in range(arguments.rounds):
            theirs = [sys.executable, str(HERE / "step_time.py"), model, "--steps", str(arguments.steps)]
            ours = [str(arguments.ours), "step", model, "--steps", str(4 * arguments.steps)]
            for name, command in {
                "default": theirs + common,
                "tuned": theirs + ["--tuned"] + common,
                "ours": ours + common,
            }.items():
                found = run(command)
                times[name].append(found["ms_per_step_median"])
                memory[name].append(found["peak_rss_mb"])
        medians = {name: statistics.median(values) for name, values in times.items()}
        bar = min(medians["default"], medians["tuned"])
        result = {
            "model": model,
            "rounds": arguments.rounds,
            "threads": arguments.threads,
            "ms_per_step": times,
            "ms_per_step_median": medians,
            "ratio": round(bar / medians["ours"], 2),
            "peak_rss_mb": {name: max(values) for name, values in memory.items()},
        }
        results.append(result)
        print(
            f"{model:9} NeuralForecast {medians['default']:8.2f} ms, tuned {medians['tuned']:8.2f} ms, "
            f"ours {medians['ours']:8.3f} ms: {result['ratio']:.1f}x; peak memory "
            f"{result['peak_rss_mb']['tuned']:.0f} and {result['peak_rss_mb']['ours']:.0f} MB",
            flush=True,
        )
        if arguments.save:
            record = {"load_average_1min": round(os.getloadavg()[0], 2), **peer.facts(), "results": results}
            del record["malloc_tuned"]
            arguments.save.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
