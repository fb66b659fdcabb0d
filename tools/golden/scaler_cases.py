"""Golden cases of the window scalers: `TemporalNorm`, called as the models call it."""

import json

import numpy as np
import torch
from neuralforecast.common._scalers import TemporalNorm

TYPES = ["identity", "standard", "robust", "minmax", "minmax1", "invariant", "revin"]
CHANNELS = 2
# A negative weight takes part: revin passes it through a ReLU.
REVIN_WEIGHT = [1.25, -0.75]
REVIN_BIAS = [0.125, -2.0]
WINDOWS = ["plain", "large_level", "constant", "mad_zero", "holes_odd", "holes_even", "single"]


def _group(length: int, h: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """The seven kinds of windows; masked values are ordinary numbers that must not be looked at."""
    total = length + h
    t = np.arange(total)[None, :, None]
    spread = np.array([1.0, 0.03])
    x = np.sin(0.5 * t + rng.uniform(0, 6, (len(WINDOWS), 1, CHANNELS)))
    x = (x + 0.4 * rng.standard_normal((len(WINDOWS), total, CHANNELS))) * spread
    mask = np.ones((len(WINDOWS), total, 1))
    x[1] += np.array([1e6, -3e4])
    x[2] = np.array([3.25, 0.0])
    x[3, : length // 2 + 3] = np.array([2.0, -0.5])
    x[3, :length] = rng.permutation(x[3, :length], axis=0)
    for window, holes in ((4, 5), (5, 6)):
        observed = length - holes
        holes += observed % 2 == (window == 5)  # odd count in window 4, even count in window 5
        mask[window, rng.choice(length, holes, replace=False)] = 0.0
    mask[6, :length] = 0.0
    mask[6, length // 3] = 1.0
    mask[:, length:] = 0.0
    return x, mask


def make() -> tuple[dict, dict]:
    """Every scaler type on every group of windows: (tensors, metadata)."""
    rng = np.random.default_rng(20240)
    groups = {}
    tensors = {}
    for name, length, h in (("even", 24, 6), ("odd", 23, 5)):
        x, mask = _group(length, h, rng)
        groups[name] = (x, mask, TYPES, {"input_size": length, "h": h, "windows": WINDOWS})
    x = rng.standard_normal((1, 30, CHANNELS))
    groups["empty"] = (
        x,
        np.zeros((1, 30, 1)),
        [kind for kind in TYPES if not kind.startswith("minmax")],
        {"input_size": 24, "h": 6, "windows": ["nothing_observed"]},
    )
    for name, (x, mask, types, _) in groups.items():
        tensors[f"{name}.x"], tensors[f"{name}.mask"] = x, mask
        for kind in types:
            norm = TemporalNorm(scaler_type=kind, dim=1, num_features=CHANNELS).double()
            if kind == "revin":
                with torch.no_grad():
                    norm.revin_weight[0, 0, :, 0] = torch.tensor(REVIN_WEIGHT).double()
                    norm.revin_bias[0, 0, :, 0] = torch.tensor(REVIN_BIAS).double()
                tensors[f"{name}.revin.weight"] = np.array(REVIN_WEIGHT)
                tensors[f"{name}.revin.bias"] = np.array(REVIN_BIAS)
            with torch.no_grad():
                # [W, L + h, C, n_series] with one series, as the models hold their windows
                z = norm.transform(
                    x=torch.tensor(x).unsqueeze(-1), mask=torch.tensor(mask).unsqueeze(-1)
                )
                inverse = norm.inverse_transform(z)
            for label, value in (
                ("shift", norm.x_shift),
                ("scale", norm.x_scale),
                ("transformed", z),
                ("inverse", inverse),
            ):
                tensors[f"{name}.{kind}.{label}"] = value.squeeze(-1).double().numpy()
            shape = (x.shape[0], 1, CHANNELS)
            assert tensors[f"{name}.{kind}.shift"].shape == shape
    metadata = {
        "groups": json.dumps({name: group[3] for name, group in groups.items()}),
        "layout": "f64 row-major; x, transformed, inverse [B,L+h,C]; mask [B,L+h,1]; shift, scale [B,1,C]",
    }
    return tensors, metadata
