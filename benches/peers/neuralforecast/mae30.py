#!/usr/bin/env python3
"""The 30-window MAE of NeuralForecast's models on ETTh1; prints one line of JSON for each model and seed.

Trained on all but the last 720 hours; 30 windows of h = 24 at stride 24 over those, all 7 series; the
absolute error is divided by the (population) standard deviation of each series' training part, then averaged.
"""

import argparse
import json
import time
from pathlib import Path

import peer

# Steps after which each model's accuracy is recorded: what about 20 s of training gave on two cores.
STEPS = {
    "NLinear": 100,
    "DLinear": 100,
    "MLP": 100,
    "NBEATS": 100,
    "NHITS": 93,
    "LSTM": 80,
    "PatchTST": 23,
}


def evaluate(name: str, steps: int, seed: int, threads: int, frame) -> dict:
    """Trains one model once and scores its 30 windows."""
    import pytorch_lightning
    import torch
    from neuralforecast import NeuralForecast

    torch.set_num_threads(threads)

    # Not an attribute of the callback: NeuralForecast trains a deep copy of the model it is given.
    moments = []

    class Stopwatch(pytorch_lightning.Callback):
        """Measures training alone, without the evaluation that follows."""

        def on_train_start(self, *_):
            moments.append(time.perf_counter())

        def on_train_end(self, *_):
            moments.append(time.perf_counter())

    forecast = NeuralForecast([peer.build(name, steps, seed, [Stopwatch()])], freq="h")
    # Fits once on everything before the first cutoff, then forecasts from the 30 cutoffs.
    result = forecast.cross_validation(
        frame, n_windows=peer.HELD_OUT // peer.H, step_size=peer.H, refit=False
    )
    rows = len(result)
    if rows != 7 * peer.HELD_OUT:
        raise AssertionError(f"{name}: expected {7 * peer.HELD_OUT} forecasts, got {rows}")
    training = frame.groupby("unique_id").head(len(frame) // 7 - peer.HELD_OUT)
    spread = training.groupby("unique_id")["y"].std(ddof=0)
    error = (result["y"] - result[name]).abs() / result["unique_id"].map(spread)
    by_series = error.groupby(result["unique_id"]).mean()
    return {
        "model": name,
        "steps": steps,
        "seed": seed,
        "mae30": round(float(error.mean()), 5),
        "mae30_by_series": {key: round(float(value), 5) for key, value in by_series.items()},
        "train_seconds": round(moments[1] - moments[0], 2),
    }


def main() -> None:
    """Reads the command line, evaluates and prints; --save also writes one file with all results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(STEPS), help=f"default: {' '.join(STEPS)}")
    parser.add_argument("--steps", type=int, help="training steps (default: the model's own)")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 1..N (default 1)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default 2)")
    parser.add_argument("--tuned", action="store_true", help="tell glibc to keep freed memory")
    parser.add_argument("--data", type=Path, default=peer.ETTH1, help="ETTh1.csv")
    parser.add_argument("--save", type=Path, help="also write all results to this JSON file")
    arguments = parser.parse_args()
    for name in arguments.models:
        if arguments.steps is None and name not in STEPS:
            parser.error(f"{name} has no recorded number of steps; give --steps")
    peer.restart_with(arguments.tuned, arguments.threads)
    peer.quiet()
    frame = peer.read_etth1(arguments.data)
    results = []
    # Seeds outside: a run that is stopped early has every model.
    for seed in range(1, arguments.seeds + 1):
        for name in arguments.models:
            steps = arguments.steps or STEPS[name]
            results.append(evaluate(name, steps, seed, arguments.threads, frame))
            print(json.dumps(results[-1]), flush=True)
            if arguments.save:
                save(arguments.save, results, arguments.threads)


def save(path: Path, results: list[dict], threads: int) -> None:
    """Writes all results so far, with mean and spread over the seeds of each model."""
    import statistics

    summary = {}
    for name in dict.fromkeys(result["model"] for result in results):
        runs = [result for result in results if result["model"] == name]
        values = [run["mae30"] for run in runs]
        summary[name] = {
            "steps": runs[0]["steps"],
            "seeds": len(values),
            "mae30_mean": round(statistics.fmean(values), 5),
            "mae30_min": min(values),
            "mae30_max": max(values),
            "mae30_std": round(statistics.stdev(values), 5) if len(values) > 1 else None,
        }
    protocol = " ".join(__doc__.split("\n\n", 1)[1].split())
    record = {
        "peer": "neuralforecast",
        "data": "ETTh1",
        "protocol": protocol,
        "h": peer.H,
        "input_size": peer.INPUT_SIZE,
        "threads": threads,
        **peer.facts(),
        "summary": summary,
        "runs": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
