"""Golden cases of the losses: the value and its gradient with respect to the forecast."""

import json

import torch
from model_cases import QUANTILES
from neuralforecast.losses import pytorch as nf_losses

# name -> (class, arguments)
LOSSES = {
    "mae": ("MAE", {}),
    "mse": ("MSE", {}),
    "rmse": ("RMSE", {}),
    "mape": ("MAPE", {}),
    "smape": ("SMAPE", {}),
    "mase": ("MASE", {"seasonality": 4}),
    "huber": ("HuberLoss", {"delta": 0.75}),
    "tukey": ("TukeyLoss", {"c": 4.685, "normalize": True}),
    "tukey_raw": ("TukeyLoss", {"c": 4.685, "normalize": False}),
    "quantile_10": ("QuantileLoss", {"q": 0.1}),
    "quantile_50": ("QuantileLoss", {"q": 0.5}),
    "mqloss": ("MQLoss", {"level": [80, 90]}),
    "huberq": ("HuberQLoss", {"q": 0.3, "delta": 0.5}),
    "hubermq": ("HuberMQLoss", {"level": [80, 90], "delta": 0.25}),
    "fredf": ("FreDF", {"alpha": 0.5}),
}
KINKED = ["mae", "mape", "smape", "mase", "quantile_10", "quantile_50", "mqloss", "fredf"]
B, H, L = 3, 6, 14


def _data(name: str, h: int, batch: int, generator):
    outputs = len(QUANTILES) if name in ("mqloss", "hubermq") else 1
    y = torch.randn(batch, h, 1, generator=generator).double() * 2
    # Tukey with normalisation divides by 0.01: only errors of that size reach its curved part.
    spread = 0.04 if name == "tukey" else 6.0 if name == "tukey_raw" else 1.0
    y_hat = y + spread * torch.randn(batch, h, outputs, generator=generator).double()
    y_insample = torch.randn(batch, L, 1, generator=generator).double().cumsum(1)
    return y, y_hat, y_insample


def _mask(shape, generator):
    mask = (torch.rand(shape, generator=generator) > 0.3).double()
    mask[1] = 0.0
    mask[0, 0] = 1.0
    return mask


def _edge(name: str, y, y_hat, y_insample) -> bool:
    """Puts the special values of a loss into its data; false where it has none."""
    if name in ("mape", "smape"):
        y[0, :3] = 0.0
        y_hat[0, 1:3] = 0.0
        y_hat[2, 0] = 0.0
    elif name == "mase":
        y_insample[1] = 2.5
    elif name in ("huber", "huberq", "hubermq"):
        delta = LOSSES[name][1]["delta"]
        y[0], y_hat[0, ::2], y_hat[0, 1::2] = 0.0, delta, -delta
    elif name == "tukey_raw":
        y[0], y_hat[0, ::2], y_hat[0, 1::2] = 0.0, 4.685, -4.685
    else:
        return False
    return True


def make() -> tuple[dict, dict]:
    """Every variant of every loss: (tensors, metadata)."""
    generator = torch.Generator().manual_seed(31)
    tensors, cases = {}, {}

    def add(name, variant, y, y_hat, y_insample, mask, horizon_weight=None):
        kind, arguments = LOSSES[name]
        extra = {} if horizon_weight is None else {"horizon_weight": horizon_weight}
        loss = getattr(nf_losses, kind)(**arguments, **extra).double()
        case = f"{name}.{variant}"
        if hasattr(loss, "quantiles"):
            exact = torch.tensor(QUANTILES, dtype=torch.float64)
            assert torch.equal(exact.float().double(), loss.quantiles.data)
            loss.quantiles.data = exact
            tensors[f"{case}.quantiles"] = exact
        y_hat = y_hat.clone().requires_grad_(True)
        value = loss(
            y=y, y_hat=loss.domain_map(y_hat), mask=mask, y_insample=y_insample
        )
        value.backward()
        tensors[f"{case}.y"], tensors[f"{case}.y_hat"] = y, y_hat.detach()
        tensors[f"{case}.mask"] = mask
        tensors[f"{case}.loss"], tensors[f"{case}.grad"] = value.detach().reshape(1), y_hat.grad
        if name == "mase":
            tensors[f"{case}.y_insample"] = y_insample
        if horizon_weight is not None:
            tensors[f"{case}.horizon_weight"] = horizon_weight.double()
        cases[case] = {"loss": kind, "args": arguments}

    for name in LOSSES:
        y, y_hat, y_insample = _data(name, H, B, generator)
        ones = torch.ones_like(y)
        add(name, "plain", y, y_hat, y_insample, ones)
        mask = _mask(y.shape, generator)
        add(name, "masked", y, y_hat, y_insample, mask)
        if not name.startswith("tukey"):
            # Multiples of 1/8 are exact in the f32 that the library keeps the weights in.
            weight = torch.tensor([1.0, 0.5, 2.0, 0.125, 0.0, 3.0])
            add(name, "weighted", y, y_hat, y_insample, mask, weight)
        fractions = torch.tensor([0.5, 1.0, 2.0, 0.0, 0.25, 1.5])
        if not name.startswith("tukey"):
            add(name, "fractional", y, y_hat, y_insample, mask * fractions.double()[None, :, None])
        if name != "rmse":
            add(name, "empty", y, y_hat, y_insample, torch.zeros_like(y))
        odd = _data(name, 7, 1, generator)
        add(name, "odd", *odd, torch.ones_like(odd[0]))
        y, y_hat, y_insample = _data(name, H, B, generator)
        if _edge(name, y, y_hat, y_insample):
            add(name, "edge", y, y_hat, y_insample, ones)
        if name in KINKED:
            y, y_hat, y_insample = _data(name, H, B, generator)
            y_hat[0] = y[0]
            y_hat[2, ::3] = y[2, ::3]
            add(name, "ties", y, y_hat, y_insample, ones)

    metadata = {
        "cases": json.dumps(cases),
        "layout": "f64 row-major; y, mask [B,h,1]; y_hat, grad [B,h,Q]; y_insample [B,L,1]; loss [1]",
    }
    return {name: tensor.numpy() for name, tensor in tensors.items()}, metadata
