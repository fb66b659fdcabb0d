#!/usr/bin/env python3
"""Makes the golden files from NeuralForecast 3.3.0; see README.md beside this file."""

import argparse
import logging
import sys
import warnings
from importlib import metadata
from pathlib import Path

NEURALFORECAST = "3.3.0"
TORCH = "2.15.0"
REPOSITORY = Path(__file__).resolve().parents[2]
MODELS_FOLDER = Path("crates/nd-models/tests/golden")
DATA_FOLDER = Path("crates/nd-data/tests/golden")
ATTENTION_FOLDER = Path("crates/nd-attention/tests/golden")


def check_versions() -> dict:
    """Stops unless the pinned libraries are installed; a golden file of another version proves nothing."""
    for package, wanted in (("neuralforecast", NEURALFORECAST), ("torch", TORCH)):
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            sys.exit(
                f"make_golden: {package} {wanted} is not installed; "
                "pip install -r tools/golden/requirements.txt"
            )
        if found.split("+")[0] != wanted:  # "+cpu" names a build, not a version
            sys.exit(
                f"make_golden: needs {package} {wanted}, found {found}; "
                "pip install -r tools/golden/requirements.txt"
            )
    return {"neuralforecast": NEURALFORECAST, "torch": TORCH}


def cases(versions: dict) -> dict:
    """Every golden file: name -> (path in the repository, function giving (tensors, metadata))."""
    import attention_cases
    import loss_cases
    import metric_cases
    import model_cases
    import scaler_cases

    found = {
        "attention": (ATTENTION_FOLDER / "attention.safetensors", attention_cases.make),
        "losses": (MODELS_FOLDER / "losses.safetensors", loss_cases.make),
        "scalers": (DATA_FOLDER / "scalers.safetensors", scaler_cases.make),
        "metrics": (DATA_FOLDER / "metrics.safetensors", metric_cases.make),
    }
    for case in model_cases.CASES:
        path = MODELS_FOLDER / f"{case.name}.safetensors"
        found[case.name] = (path, lambda case=case: model_cases.make(case))

    def with_versions(make):
        tensors, meta = make()
        return tensors, {**meta, **versions}

    return {
        name: (path, lambda make=make: with_versions(make)) for name, (path, make) in found.items()
    }


def main() -> None:
    """Reads the command line and makes or checks what it names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out",
        type=Path,
        default=REPOSITORY,
        help="folder that stands for the repository's root (default: this repository)",
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="make this file only (repeatable)"
    )
    parser.add_argument(
        "--check", action="store_true", help="compare with the files in --out and write nothing"
    )
    parser.add_argument("--list", action="store_true", help="print the names of all files and stop")
    arguments = parser.parse_args()

    versions = check_versions()
    warnings.filterwarnings("ignore")  # Lightning's advice on logging and data loaders
    logging.disable(logging.CRITICAL)
    import torch

    import store

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    table = cases(versions)
    if arguments.list:
        print("\n".join(table))
        return
    unknown = sorted(set(arguments.only or []) - set(table))
    if unknown:
        sys.exit(f"make_golden: no such file: {', '.join(unknown)}; --list prints the names")

    wrong, total = [], 0
    for name in arguments.only or table:
        path, make = table[name]
        tensors, meta = make()
        if arguments.check:
            found = store.differences(arguments.out / path, tensors, meta)
            wrong += found
            print(f"{name:20} {'ok' if not found else 'DIFFERS'}")
        else:
            size = store.save(arguments.out / path, tensors, meta)
            total += size
            print(f"{name:20} {size / 1024:8.1f} KiB  {len(tensors):4} tensors  {path}")
    if wrong:
        sys.exit("\n".join(wrong))
    if not arguments.check:
        print(f"{'together':20} {total / 1024:8.1f} KiB")


if __name__ == "__main__":
    main()
