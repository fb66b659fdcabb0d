#!/usr/bin/env python3
"""Recomputes every model case with plain numpy from what its file holds, following README.md alone.

It proves two things: the tables of names, shapes and layouts are true, and the files need nothing that is
not in them. Needs numpy, scipy and safetensors, but neither torch nor neuralforecast.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import store
from scipy.special import erf

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "crates/nd-models/tests/golden"
TOLERANCE = 1e-13  # f64, a few dozen terms per sum, values near 1


class File:
    """One golden file: its tensors, its arguments and parameters by torch name."""

    def __init__(self, path: Path, prefix: str, buffers: str):
        self.tensors, metadata = store.load(path)
        self.args = json.loads(metadata["args"])
        self.model = metadata["model"]
        self.prefix, self.buffers = prefix, buffers

    def get(self, name: str) -> np.ndarray:
        """The parameter with this torch name."""
        return self.tensors[self.prefix + name]

    def has(self, name: str) -> bool:
        """Whether there is a parameter with this torch name."""
        return self.prefix + name in self.tensors

    def exogenous(self, kind: str) -> np.ndarray:
        """Variables `[B, L, X]`, `[B, L + h, F]` or `[B, S]`; with none of them the last axis is empty."""
        found = self.tensors.get(f"in.{kind}_exog")
        if found is not None:
            return found
        batch, length = self.tensors["in.insample_y"].shape[:2]
        steps = {"hist": (length,), "futr": (length + self.args["h"],), "stat": ()}[kind]
        return np.zeros((batch, *steps, 0))

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        """x W^T + b on the last axis."""
        return x @ self.get(f"{name}.weight").T + self.get(f"{name}.bias")


def relu(x):
    """max(x, 0)."""
    return np.maximum(x, 0.0)


def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-x))


def nlinear(file: File, y, mask, h):
    """Linear in the distance from the last value."""
    last = y[:, -1:]
    return file.linear(y - last, "linear").reshape(len(y), h, -1) + last[:, :, None]


def dlinear(file: File, y, mask, h):
    """Moving average with repeated ends; one Linear for it, one for the rest."""
    width = file.args["moving_avg_window"]
    padded = np.pad(y, ((0, 0), (width // 2, width // 2)), mode="edge")
    trend = np.stack([padded[:, t : t + width].mean(1) for t in range(y.shape[1])], axis=1)
    out = file.linear(trend, "linear_trend") + file.linear(y - trend, "linear_season")
    return out.reshape(len(y), h, -1)


def mlp(file: File, y, mask, h):
    """Linear and ReLU, num_layers times, then Linear."""
    known = [file.exogenous(kind).reshape(len(y), -1) for kind in ("hist", "futr", "stat")]
    x = np.concatenate([y, *known], axis=1)
    for layer in range(file.args["num_layers"]):
        x = relu(file.linear(x, f"mlp.{layer}"))
    return file.linear(x, "out").reshape(len(y), h, -1)


def interpolate(knots, h):
    """Linear interpolation of the last axis to h points (torch: align_corners=False)."""
    n = knots.shape[-1]
    source = np.clip((np.arange(h) + 0.5) * n / h - 0.5, 0.0, None)
    left = source.astype(int)
    right, weight = np.minimum(left + 1, n - 1), source - left
    return knots[..., left] * (1.0 - weight) + knots[..., right] * weight


def residual_blocks(file: File, y, mask, h, block):
    """The doubly residual stack of NBEATS and NHITS; `block` maps (index, residual) to both casts."""
    residual, mask = y[:, ::-1], mask[:, ::-1]
    forecast = y[:, -1:, None]
    for index in range(3):
        backcast, part = block(index, residual)
        forecast = forecast + part
        residual = (residual - backcast) * mask
    return forecast


def block_mlp(file: File, index, x):
    """A Linear without activation, three with ReLU, and the Linear to theta."""
    name = f"blocks.{index}.layers"
    x = file.linear(x, f"{name}.0")
    for layer in (1, 3, 5):
        x = relu(file.linear(x, f"{name}.{layer}"))
    return file.linear(x, f"{name}.7")


def nhits(file: File, y, mask, h):
    """Pooled input, knots interpolated to the horizon."""
    length, batch = y.shape[1], len(y)
    reduce = np.max if file.args["pooling_mode"] == "MaxPool1d" else np.mean

    def block(index, residual):
        kernel = file.args["n_pool_kernel_size"][index]

        def pool(x):
            starts = range(0, x.shape[1], kernel)
            return np.stack([reduce(x[:, s : s + kernel], axis=1) for s in starts], axis=1)

        known = [pool(file.exogenous(kind)).reshape(batch, -1) for kind in ("hist", "futr")]
        pooled = np.concatenate([pool(residual), *known, file.exogenous("stat")], axis=1)
        theta = block_mlp(file, index, pooled)
        n_knots = max(h // file.args["n_freq_downsample"][index], 1)
        knots = theta[:, length:].reshape(batch, -1, n_knots)  # [B, Q, knots]
        return theta[:, :length], interpolate(knots, h).transpose(0, 2, 1)

    return residual_blocks(file, y, mask, h, block)


def nbeats(file: File, y, mask, h):
    """Identity, trend and seasonality stacks."""
    length, batch = y.shape[1], len(y)

    def block(index, residual):
        theta = block_mlp(file, index, residual)
        if index == 0:
            return theta[:, :length], theta[:, length:].reshape(batch, h, -1)
        backward = file.get(f"blocks.{index}.basis.backcast_basis")
        forward = file.get(f"blocks.{index}.basis.forecast_basis")
        size = len(backward)
        coefficients = theta[:, size:].reshape(batch, size, -1)  # [B, P, Q]
        return theta[:, :size] @ backward, np.einsum("bpq,pt->btq", coefficients, forward)

    return residual_blocks(file, y, mask, h, block)


def lstm(file: File, y, mask, h):
    """Stacked LSTM from zeros; the last h states (or a Linear over time) through an MLP."""
    length, future = y.shape[1], file.exogenous("futr")
    fixed = np.repeat(file.exogenous("stat")[:, None], length, axis=1)
    x = np.concatenate([y[:, :, None], file.exogenous("hist"), fixed, future[:, :length]], axis=2)
    for layer in range(file.args["encoder_n_layers"]):
        w_ih = file.get(f"hist_encoder.weight_ih_l{layer}")
        w_hh = file.get(f"hist_encoder.weight_hh_l{layer}")
        bias = file.get(f"hist_encoder.bias_ih_l{layer}") + file.get(f"hist_encoder.bias_hh_l{layer}")
        state = cell = np.zeros((len(y), w_hh.shape[1]))
        states = []
        for t in range(y.shape[1]):
            i, f, g, o = np.split(x[:, t] @ w_ih.T + state @ w_hh.T + bias, 4, axis=1)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            state = sigmoid(o) * np.tanh(cell)
            states.append(state)
        x = np.stack(states, axis=1)
    if file.has("upsample_sequence.weight"):
        x = file.linear(x.transpose(0, 2, 1), "upsample_sequence").transpose(0, 2, 1)
    else:
        x = x[:, -h:]
    x = np.concatenate([x, future[:, -h:]], axis=2)
    last = 3 * (file.args["decoder_layers"] - 1)
    for layer in range(0, last, 3):
        x = relu(file.linear(x, f"mlp_decoder.layers.{layer}"))
    return file.linear(x, f"mlp_decoder.layers.{last}")


def patchtst(file: File, y, mask, h, train=False):
    """RevIN around the last value, patches, post-norm encoder with residual attention scores."""
    args, batch = file.args, len(y)
    spread, last = np.sqrt(y.var(axis=1, keepdims=True) + 1e-5), y[:, -1:]
    z = (y - last) / spread
    z = np.concatenate([z, np.repeat(z[:, -1:], args["stride"], axis=1)], axis=1)
    n = (z.shape[1] - args["patch_len"]) // args["stride"] + 1
    starts = [i * args["stride"] for i in range(n)]
    patches = np.stack([z[:, s : s + args["patch_len"]] for s in starts], axis=1)
    u = file.linear(patches, "model.backbone.W_P") + file.get("model.backbone.W_pos")

    def batch_norm(x, name):
        if train:
            mean, variance = x.mean((0, 1)), x.var((0, 1))
        else:
            mean = file.tensors[f"{file.buffers}{name}.running_mean"]
            variance = file.tensors[f"{file.buffers}{name}.running_var"]
        scaled = (x - mean) / np.sqrt(variance + 1e-5)
        return scaled * file.get(f"{name}.weight") + file.get(f"{name}.bias")

    scores = 0.0
    for layer in range(args["encoder_layers"]):
        name = f"model.backbone.encoder.layers.{layer}"
        q, k, v = (
            file.linear(u, f"{name}.self_attn.W_{part}")
            .reshape(batch, n, args["n_heads"], -1)
            .transpose(0, 2, 1, 3)
            for part in "QKV"
        )
        scale = file.get(f"{name}.self_attn.sdp_attn.scale")
        scores = q @ k.transpose(0, 1, 3, 2) * scale + scores
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = (weights @ v).transpose(0, 2, 1, 3).reshape(batch, n, -1)
        u = batch_norm(u + file.linear(mixed, f"{name}.self_attn.to_out.0"), f"{name}.norm_attn.1")
        wide = file.linear(u, f"{name}.ff.0")
        wide = 0.5 * wide * (1.0 + erf(wide / np.sqrt(2.0)))
        u = batch_norm(u + file.linear(wide, f"{name}.ff.3"), f"{name}.norm_ffn.1")
    out = file.linear(u.transpose(0, 2, 1).reshape(batch, -1), "model.head.linear")
    return (out * spread + last).reshape(batch, h, -1)


FORWARD = {
    "NLinear": nlinear,
    "DLinear": dlinear,
    "MLP": mlp,
    "NHITS": nhits,
    "NBEATS": nbeats,
    "LSTM": lstm,
    "PatchTST": patchtst,
}


def worst_error(path: Path) -> float:
    """The largest difference between numpy and the file over its three forecasts."""
    trained = "adamw10." if path.stem.endswith("_adamw") else "adam10."
    worst = 0.0
    for prefix, buffers, output, options in (
        ("param.", "buffer.", "out.y_hat_eval", {}),
        (trained, "buffer_after.", "out.y_hat_eval10", {}),
        ("param.", "", "out.y_hat", {"train": True}),
    ):
        file = File(path, prefix, buffers)
        y, mask = (file.tensors[f"in.insample_{part}"][..., 0] for part in ("y", "mask"))
        if file.model != "PatchTST":
            options = {}  # train and eval mode are the same
        y_hat = FORWARD[file.model](file, y, mask, file.args["h"], **options)
        if y_hat.shape != file.tensors[output].shape:
            found = file.tensors[output].shape
            raise ValueError(f"{path.name}: {output} has shape {found}, not {y_hat.shape}")
        worst = max(worst, np.abs(y_hat - file.tensors[output]).max())
    return worst


def main() -> None:
    """Verifies all model cases of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER, help="folder of model cases")
    paths = sorted(parser.parse_args().folder.glob("*.safetensors"))
    paths = [path for path in paths if path.stem != "losses"]
    if not paths:
        sys.exit("verify: no golden files there; run make_golden.py first")
    failed = []
    for path in paths:
        error = worst_error(path)
        print(f"{path.stem:20} {error:.1e}")
        if not error <= TOLERANCE:
            failed.append(path.stem)
    if failed:
        sys.exit(f"verify: numpy disagrees on {', '.join(failed)} (tolerance {TOLERANCE:.0e})")


if __name__ == "__main__":
    main()
