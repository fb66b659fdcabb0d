"""What both measurements share: the panel, the models and the facts that belong beside a figure."""

import logging
import os
import resource
import sys
import warnings
from importlib import metadata
from pathlib import Path

H, INPUT_SIZE, HELD_OUT = 24, 96, 720
REPOSITORY = Path(__file__).resolve().parents[3]
ETTH1 = REPOSITORY.parent / "shared" / "data" / "ETTh1.csv"
# glibc then keeps freed memory instead of handing it back to the system after every step.
MALLOC_TUNING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}


def restart_with(tuned: bool, threads: int) -> None:
    """Starts this script again with the allocator and the threads set: both are read at start-up only."""
    wanted = dict(os.environ)
    for name in MALLOC_TUNING:
        wanted.pop(name, None)
    wanted |= MALLOC_TUNING if tuned else {}
    wanted |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.argv], wanted)


def quiet() -> None:
    """Switches the libraries' messages off, so that standard output is JSON alone."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)


def read_etth1(path: Path):
    """ETTh1 in the long format: 7 series with unique_id, ds, y, sorted."""
    import pandas as pd

    if not path.exists():
        sys.exit(f"no ETTh1 data at {path}; give its place with --data")
    wide = pd.read_csv(path, parse_dates=["date"]).rename(columns={"date": "ds"})
    long = wide.melt(id_vars="ds", var_name="unique_id", value_name="y")
    return long[["unique_id", "ds", "y"]].sort_values(["unique_id", "ds"]).reset_index(drop=True)


def build(name: str, max_steps: int, seed: int, callbacks: list):
    """A NeuralForecast model with its default hyper-parameters, without logger and progress bar."""
    from neuralforecast import models

    return getattr(models, name)(
        h=H,
        input_size=INPUT_SIZE,
        max_steps=max_steps,
        random_seed=seed,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )


def facts() -> dict:
    """Versions, machine and load: what a reader needs to judge a figure."""
    packages = ("neuralforecast", "torch", "pytorch-lightning", "numpy", "pandas")
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        cpu = next((line.split(":")[1].strip() for line in file if "model name" in line), "unknown")
    return {
        "versions": {name: metadata.version(name) for name in packages}
        | {"python": sys.version.split()[0]},
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "niceness": os.nice(0),
        "malloc_tuned": all(os.environ.get(name) == value for name, value in MALLOC_TUNING.items()),
    }


def peak_rss_mb() -> float:
    """Largest resident size of this process so far, in MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
