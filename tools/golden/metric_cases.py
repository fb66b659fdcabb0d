"""Golden cases of the evaluation metrics: utilsforecast per series, neuralforecast's numpy ones."""

import json

import numpy as np
import pandas as pd
from neuralforecast.losses import numpy as nf_metrics
from utilsforecast import losses as uf_metrics

SERIES, H, TRAIN = 4, 12, 60
SEASONALITY, Q, LEVEL = 6, 0.1, 80
QUANTILES = [0.1, 0.5, 0.9]


def make() -> tuple[dict, dict]:
    """All metrics on one small panel: (tensors, metadata)."""
    rng = np.random.default_rng(77)
    t = np.arange(TRAIN + H)
    level = np.array([3.0, -20.0, 500.0, 0.5])[:, None]
    whole = level + np.sin(t / 3)[None, :] * np.abs(level) / 2 + rng.standard_normal((SERIES, TRAIN + H))
    y_train, y = whole[:, :TRAIN], whole[:, TRAIN:].copy()
    y_hat = y + rng.standard_normal((SERIES, H))
    y[0, 2] = 0.0
    y[3, :2] = 0.0
    y_hat[3, 1] = 0.0  # both zero: SMAPE's own convention
    y_hat[1, 4] = y[1, 4]
    lo, hi = y_hat - rng.uniform(0.2, 2, y.shape), y_hat + rng.uniform(0.2, 2, y.shape)
    hi[2, 5] = y[2, 5]  # on the border counts as inside
    lo[2, 6] = y[2, 6]
    quantile_hat = np.stack([lo, y_hat, hi], axis=-1)

    ids = np.repeat(np.arange(SERIES), H)
    columns = {"unique_id": ids, "ds": np.tile(np.arange(TRAIN, TRAIN + H), SERIES), "y": y.ravel()}
    columns |= {"m": y_hat.ravel(), f"m-lo-{LEVEL}": lo.ravel(), f"m-hi-{LEVEL}": hi.ravel()}
    frame = pd.DataFrame(columns)
    train = pd.DataFrame(
        {
            "unique_id": np.repeat(np.arange(SERIES), TRAIN),
            "ds": np.tile(np.arange(TRAIN), SERIES),
            "y": y_train.ravel(),
        }
    )
    triple = {"m": [f"m-lo-{LEVEL}", "m", f"m-hi-{LEVEL}"]}
    quantiles = np.array(QUANTILES)
    results = {
        "mae": uf_metrics.mae(frame, ["m"]),
        "mse": uf_metrics.mse(frame, ["m"]),
        "rmse": uf_metrics.rmse(frame, ["m"]),
        "bias": uf_metrics.bias(frame, ["m"]),
        "mape": uf_metrics.mape(frame, ["m"]),
        "smape": uf_metrics.smape(frame, ["m"]),
        "nd": uf_metrics.nd(frame, ["m"]),
        "mase": uf_metrics.mase(frame, ["m"], SEASONALITY, train),
        "coverage": uf_metrics.coverage(frame, ["m"], LEVEL),
        "quantile_loss": uf_metrics.quantile_loss(frame, {"m": f"m-lo-{LEVEL}"}, q=Q),
        "mqloss": uf_metrics.mqloss(frame, triple, quantiles),
        "scaled_crps": uf_metrics.scaled_crps(frame, triple, quantiles),
    }
    tensors = {
        "uf.y": y,
        "uf.y_hat": y_hat,
        "uf.lo": lo,
        "uf.hi": hi,
        "uf.y_train": y_train,
        "uf.quantile_hat": quantile_hat,
        "uf.quantiles": quantiles,
    }
    for name, result in results.items():
        tensors[f"uf.{name}"] = result.sort_values("unique_id")["m"].to_numpy(dtype=float)

    weights = rng.choice([0.0, 0.5, 1.0, 2.0], size=y.shape)
    tensors |= {
        "np.y": y,
        "np.y_hat": y_hat,
        "np.weights": weights,
        "np.quantile_hat": quantile_hat,
        "np.y_train": y_train[0],
        "np.mase": nf_metrics.mase(y[0], y_hat[0], y_train[0], SEASONALITY),
    }
    for suffix, weight in (("", None), ("_weighted", weights)):
        for name in ("mae", "mse", "rmse", "mape", "smape"):
            with np.errstate(divide="ignore", invalid="ignore"):
                value = getattr(nf_metrics, name)(y, y_hat, weights=weight)
            tensors[f"np.{name}{suffix}"] = value
        tensors[f"np.quantile_loss{suffix}"] = nf_metrics.quantile_loss(y, lo, q=Q, weights=weight)
        tensors[f"np.mqloss{suffix}"] = nf_metrics.mqloss(y, quantile_hat, quantiles, weights=weight)
    metadata = {
        "seasonality": json.dumps(SEASONALITY),
        "q": json.dumps(Q),
        "level": json.dumps(LEVEL),
        "layout": "f64 row-major; per-series results [S]; results over one array [1]",
    }
    return {name: np.asarray(value, dtype=float) for name, value in tensors.items()}, metadata
