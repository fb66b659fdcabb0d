"""Reading, writing and comparing golden files.

The writer lays out the safetensors format itself (8-byte header length, JSON header, data): the
library keeps metadata in a hash map, so its files differ from run to run, and a golden file that is
made twice must come out the same.
"""

import json
import struct
from pathlib import Path

import numpy as np
from safetensors import safe_open

# Sums of a few hundred f64 terms in another order, carried through ten optimizer steps.
CHECK_TOLERANCE = 1e-10


def save(path: Path, tensors: dict, metadata: dict) -> int:
    """Writes f64 tensors in name order and returns the size of the file in bytes."""
    header = {"__metadata__": {key: metadata[key] for key in sorted(metadata)}}
    blobs, offset = [], 0
    for name in sorted(tensors):
        array = np.ascontiguousarray(np.atleast_1d(tensors[name]), dtype="<f8")
        if not np.isfinite(array).all():
            raise ValueError(f"{path.name}: tensor {name} has a NaN or an infinity")
        blob = array.tobytes()
        header[name] = {
            "dtype": "F64",
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensor data starts on a multiple of 8
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    load(path)  # the official reader must accept it
    return path.stat().st_size


def load(path: Path) -> tuple[dict, dict]:
    """Reads a golden file with the official library: (tensors, metadata)."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def differences(path: Path, tensors: dict, metadata: dict) -> list[str]:
    """Says in words where the file at `path` differs from freshly computed values."""
    if not path.exists():
        return [f"{path}: missing"]
    old, old_metadata = load(path)
    found = []
    for key in sorted(set(old_metadata) | set(metadata)):
        if old_metadata.get(key) != metadata.get(key):
            found.append(
                f"{path.name}: metadata {key}: {old_metadata.get(key)!r} in the file, "
                f"{metadata.get(key)!r} now"
            )
    for name in sorted(set(old) | set(tensors)):
        if name not in old or name not in tensors:
            found.append(f"{path.name}: tensor {name} only {'now' if name in tensors else 'in the file'}")
            continue
        new = np.atleast_1d(tensors[name])
        if old[name].shape != new.shape:
            found.append(f"{path.name}: {name}: shape {old[name].shape} in the file, {new.shape} now")
            continue
        error = np.abs(old[name] - new).max(initial=0.0)
        if not error <= CHECK_TOLERANCE * max(1.0, np.abs(new).max(initial=0.0)):
            found.append(f"{path.name}: {name}: differs by {error:.3e}")
    return found
