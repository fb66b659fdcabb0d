#!/usr/bin/env python3
"""Times NeuralForecast's training steps inside a real `fit` on ETTh1; prints one line of JSON."""

import argparse
import json
import statistics
import time
from pathlib import Path

import peer


def measure(name: str, steps: int, warmup: int, threads: int, data: Path) -> dict:
    """Fits one model for `warmup + steps` steps and reports the time of the last `steps`."""
    import pytorch_lightning
    import torch
    from neuralforecast import NeuralForecast

    torch.set_num_threads(threads)

    # Not attributes of the callback: NeuralForecast trains a deep copy of the model it is given.
    starts, ends = [], []

    class Stopwatch(pytorch_lightning.Callback):
        """Notes when Lightning starts and ends every training batch."""

        def on_train_batch_start(self, *_):
            starts.append(time.perf_counter())

        def on_train_batch_end(self, *_):
            ends.append(time.perf_counter())

    frame = peer.read_etth1(data)
    frame = frame.groupby("unique_id").head(len(frame) // 7 - peer.HELD_OUT).reset_index(drop=True)
    forecast = NeuralForecast([peer.build(name, warmup + steps, 1, [Stopwatch()])], freq="h")
    begin = time.perf_counter()
    forecast.fit(frame)
    fit_seconds = time.perf_counter() - begin

    # From the end of one step to the end of the next: the loader, the epoch hooks and the logging of
    # a fit belong to its step. Between start and end lie windows, forward, backward and optimizer.
    whole = [1e3 * (b - a) for a, b in zip(ends[warmup - 1 :], ends[warmup:])]
    inside = [1e3 * (b - a) for a, b in zip(starts[warmup:], ends[warmup:])]
    return {
        "model": name,
        "h": peer.H,
        "input_size": peer.INPUT_SIZE,
        "threads": torch.get_num_threads(),
        "warmup_steps": warmup,
        "steps": len(whole),
        "ms_per_step_median": round(statistics.median(whole), 2),
        "ms_per_step_mean": round(statistics.fmean(whole), 2),
        "ms_per_step_min": round(min(whole), 2),
        "ms_per_step_p90": round(statistics.quantiles(whole, n=10)[-1], 2) if len(whole) > 1 else None,
        "ms_per_step_max": round(max(whole), 2),
        "ms_inside_step_median": round(statistics.median(inside), 2),
        "fit_seconds": round(fit_seconds, 2),
        "peak_rss_mb": peer.peak_rss_mb(),
        **peer.facts(),
    }


def main() -> None:
    """Reads the command line, sets the process up and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="class name in neuralforecast.models, for example NHITS")
    parser.add_argument("--steps", type=int, default=50, help="timed steps (default 50)")
    parser.add_argument("--warmup", type=int, default=5, help="steps before them (default 5, at least 1)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default 2)")
    parser.add_argument("--tuned", action="store_true", help="tell glibc to keep freed memory")
    parser.add_argument("--data", type=Path, default=peer.ETTH1, help="ETTh1.csv")
    arguments = parser.parse_args()
    if arguments.warmup < 1 or arguments.steps < 1:
        parser.error("--warmup and --steps must be at least 1")
    peer.restart_with(arguments.tuned, arguments.threads)
    peer.quiet()
    result = measure(
        arguments.model, arguments.steps, arguments.warmup, arguments.threads, arguments.data
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
