"""Golden cases of the models: one batch, one forward, gradients, ten optimizer steps, all in f64."""

import contextlib
import inspect
import json
import zlib
from dataclasses import dataclass, field

import torch
from neuralforecast import models as nf_models
from neuralforecast.losses import pytorch as nf_losses
from neuralforecast.models import nbeats as nf_nbeats

STEPS = 10
BATCH = 5  # odd and no multiple of a vector: the tails of every kernel take part
QUANTILES = [0.5, 0.05, 0.1, 0.9, 0.95]  # MQLoss(level=[80, 90]): the median first, then ascending

ADAM = {"name": "Adam", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0}
ADAMW = {
    "name": "AdamW",
    "lr": 1e-3,
    "betas": [0.9, 0.999],
    "eps": 1e-8,
    "weight_decay": 0.01,
    "clip_norm": 0.5,
    "scheduler": {"name": "StepLR", "step_size": 3, "gamma": 0.5},
}
LAYOUT = (
    "f64 row-major; in.* [B,L,1] or [B,h,1]; out.y_hat* [B,h,Q]; param/grad/adam10 as in torch "
    "(Linear [out,in]); tools/golden/README.md has the table"
)
# Of each kind another number of variables, so that no two can be exchanged unnoticed.
EXOGENOUS = {
    "hist_exog_list": ["load", "wind"],
    "futr_exog_list": ["hour", "day", "year"],
    "stat_exog_list": ["place"],
}


@dataclass(frozen=True)
class Case:
    """One golden file: a model, its arguments, a loss and an optimizer."""

    name: str
    model: str
    args: dict
    loss: str = "MAE"
    loss_args: dict = field(default_factory=dict)
    masked: bool = False
    seed: int = 0
    optimizer: dict = field(default_factory=lambda: ADAM)


def _cases() -> list[Case]:
    short = {"h": 8, "input_size": 32}
    long = {"h": 8, "input_size": 64}
    tiny = {"h": 6, "input_size": 18}  # shorter than the moving average of 25, too
    tiny_long = {"h": 6, "input_size": 36}
    odd = {"h": 7, "input_size": 31}
    stack = {"mlp_units": [[9, 9]] * 3}
    narrow = {"mlp_units": [[8, 8]] * 3}
    uneven = {"mlp_units": [[9, 11], [11, 6], [6, 7]]}
    recurrent = {"encoder_hidden_size": 8, "decoder_hidden_size": 8}
    no_dropout = {"dropout": 0.0, "fc_dropout": 0.0}
    patches = {"hidden_size": 12, "n_heads": 3, "linear_hidden_size": 24, "encoder_layers": 2}
    few = {"hidden_size": 8, "n_heads": 2, "linear_hidden_size": 16, "encoder_layers": 2}
    plain = {
        "dlinear": ("DLinear", short),
        "nlinear": ("NLinear", short),
        "mlp": ("MLP", {**short, "num_layers": 2, "hidden_size": 16}),
        "nhits": ("NHITS", {**short, **stack}),
        "nbeats": ("NBEATS", {**short, **stack}),
        "lstm": ("LSTM", {**short, **recurrent}),
        "patchtst": ("PatchTST", {**long, **patches, **no_dropout}),
    }
    small = {
        "dlinear": ("DLinear", tiny),
        "nlinear": ("NLinear", tiny),
        "mlp": ("MLP", {**tiny, "num_layers": 2, "hidden_size": 16}),
        "nhits": ("NHITS", {**tiny, **narrow}),
        "nbeats": ("NBEATS", {**tiny, **narrow}),
        "lstm": ("LSTM", {**tiny, **recurrent}),
        "patchtst": ("PatchTST", {**tiny_long, **few, **no_dropout}),
    }
    uneven_sizes = {
        "dlinear": ("DLinear", {**odd, "moving_avg_window": 25}),
        "nlinear": ("NLinear", odd),
        "mlp": ("MLP", {**odd, "num_layers": 3, "hidden_size": 13}),
        "nhits": ("NHITS", {**odd, **uneven}),
        "nbeats": ("NBEATS", {**odd, **uneven}),
        "lstm": (
            "LSTM",
            {**odd, "encoder_n_layers": 1, "encoder_hidden_size": 7, "decoder_layers": 3}
            | {"decoder_hidden_size": 5},
        ),
        "patchtst": (
            "PatchTST",
            {"h": 7, "input_size": 61, "patch_len": 12, "stride": 5, "hidden_size": 8}
            | {"n_heads": 2, "linear_hidden_size": 13, "encoder_layers": 2, **no_dropout},
        ),
    }
    cases = [Case(name, *case) for name, case in plain.items()]
    cases += [
        Case(f"{name}_mq", *case, "MQLoss", {"level": [80, 90]}) for name, case in small.items()
    ]
    # With seed 0 all ReLUs of the LSTM's decoder are dead and most gradients 0.
    cases += [
        Case(f"{name}_masked", *case, masked=True, seed=int(name == "lstm"))
        for name, case in small.items()
    ]
    cases += [Case(f"{name}_odd", *case) for name, case in uneven_sizes.items()]
    cases += [
        Case("dlinear_mse", "DLinear", short, "MSE"),
        Case("nlinear_huber", "NLinear", short, "HuberLoss", {"delta": 1.0}),
        Case("mlp_rmse", "MLP", plain["mlp"][1], "RMSE", masked=True),
        Case("nhits_h1", "NHITS", {"h": 1, "input_size": 12, **narrow}),
        Case("nhits_avgpool", "NHITS", {"h": 6, "input_size": 17, **narrow, "pooling_mode": "AvgPool1d"}),
        Case("lstm_long", "LSTM", {"h": 20, "input_size": 12, **recurrent}),
        Case("patchtst_deep", "PatchTST", {**tiny_long, **few, "encoder_layers": 3, **no_dropout}),
        Case("dlinear_adamw", "DLinear", short, "MSE", optimizer=ADAMW),
        Case("mlp_adamw", "MLP", plain["mlp"][1], "MSE", optimizer={**ADAMW, "clip_norm": 0.76}),
        Case("nhits_adamw", "NHITS", {**tiny, **narrow}, optimizer=ADAMW),
        Case("mlp_exog", "MLP", {**small["mlp"][1], **EXOGENOUS}),
        Case("nhits_exog", "NHITS", {"h": 6, "input_size": 17, **narrow, **EXOGENOUS}),
        Case("lstm_exog", "LSTM", {**small["lstm"][1], **EXOGENOUS}, "MQLoss", {"level": [80, 90]}),
    ]
    return cases


CASES = _cases()


class _DoubleTorch:
    """`torch` with float32 read as float64, so that constants of a constructor keep all digits."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


@contextlib.contextmanager
def _double_constants():
    nf_nbeats.torch = _DoubleTorch()
    try:
        yield
    finally:
        nf_nbeats.torch = torch


def _own_parameters(model) -> dict:
    """The network's parameters: those of the losses (quantiles) are no part of it."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if not name.startswith(("loss.", "valid_loss."))
    }


def _buffers(model) -> dict:
    return {
        name: buffer
        for name, buffer in model.named_buffers()
        if name.endswith(("running_mean", "running_var"))
    }


def _build(case: Case, seed: int):
    """Builds the model in f64 and checks that its f64 constants round to the library's f32 ones."""

    def construct():
        loss = getattr(nf_losses, case.loss)(**case.loss_args)
        arguments = {**case.args, "loss": loss, "max_steps": STEPS, "random_seed": seed % 10_000}
        return getattr(nf_models, case.model)(**arguments)

    reference = construct()
    with _double_constants():
        model = construct().double()
    for name, parameter in _own_parameters(reference).items():
        if not torch.equal(parameter, _own_parameters(model)[name].float()):
            raise AssertionError(f"{case.name}: {name} is not the library's value")
    if hasattr(model.loss, "quantiles"):
        exact = torch.tensor(QUANTILES, dtype=torch.float64)
        if not torch.equal(exact.float(), reference.loss.quantiles):
            raise AssertionError(f"{case.name}: quantiles are {reference.loss.quantiles}")
        model.loss.quantiles.data = exact
    return model


def _perturb(model, generator) -> None:
    """Moves what torch initialises to a constant, so that no term hides behind a 0 or a 1."""
    with torch.no_grad():
        for parameter in _own_parameters(model).values():
            constant = parameter.numel() > 1 and (parameter == parameter.flatten()[0]).all()
            if parameter.requires_grad and constant:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator).double()
        for name, buffer in _buffers(model).items():
            noise = torch.rand(buffer.shape, generator=generator).double()
            buffer += 0.5 * noise if name.endswith("var") else 0.2 * (noise - 0.5)


def _batch(case: Case, generator):
    """Windows like scaled data: a wave, a drift and noise; a masked case has holes on both sides."""
    length, h = case.args["input_size"], case.args["h"]
    t = torch.arange(length + h, dtype=torch.float64)
    phase = 6.0 * torch.rand(BATCH, 1, generator=generator).double()
    noise = torch.randn(BATCH, length + h, generator=generator).double()
    y = torch.sin(0.7 * t + phase) + 0.02 * t * torch.cos(phase) + 0.3 * noise
    mask = torch.ones_like(y)
    if case.masked:
        mask = (torch.rand(BATCH, length + h, generator=generator) > 0.25).double()
        mask[0, :length] = 0.0  # one window with a single observed input, the last
        mask[0, length - 1] = 1.0
        mask[1, length - 1] = 0.0  # one whose last input is missing
        mask[2, length:] = 0.0  # one without any target
    y, mask = y.unsqueeze(-1), mask.unsqueeze(-1)
    return y[:, :length], mask[:, :length], y[:, length:], mask[:, length:]


def _exogenous(case: Case, generator) -> dict:
    """Variables of the past `[B, L, X]`, of past and future `[B, L + h, F]`, and fixed ones `[B, S]`."""
    length, h = case.args["input_size"], case.args["h"]
    found = {}
    for kind, steps in (("hist", (length,)), ("futr", (length + h,)), ("stat", ())):
        names = case.args.get(f"{kind}_exog_list")
        shape = (BATCH, *steps, len(names or ()))
        values = torch.randn(shape, generator=generator).double() if names else None
        found[f"{kind}_exog"] = values
    return found


def _arguments(case: Case) -> dict:
    """Every plain-data argument of the class with the value this case runs with."""
    signature = inspect.signature(getattr(nf_models, case.model).__init__)
    values = {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    values |= case.args
    plain = {}
    for name, value in values.items():
        if name in ("loss", "valid_loss", "max_steps", "random_seed"):
            continue
        with contextlib.suppress(TypeError):
            json.dumps(value)
            plain[name] = value
    return plain


def make(case: Case) -> tuple[dict, dict]:
    """Runs one case: (tensors, metadata)."""
    seed = zlib.crc32(case.name.encode()) + case.seed
    generator = torch.Generator().manual_seed(seed)
    model = _build(case, seed)
    _perturb(model, generator)
    insample_y, insample_mask, outsample_y, outsample_mask = _batch(case, generator)
    windows = {
        "insample_y": insample_y,
        "insample_mask": insample_mask,
        **_exogenous(case, generator),
    }

    def forward():
        # Views of the caller's tensors would let a model change the batch in place.
        batch = {name: None if value is None else value.clone() for name, value in windows.items()}
        return model.loss.domain_map(model(batch))

    def y_hat_of(output):
        return output.detach().reshape(BATCH, case.args["h"], -1).clone()

    def evaluate():
        model.eval()
        with torch.no_grad():
            output = y_hat_of(forward())
        model.train()
        return output

    tensors = {
        "in.insample_y": insample_y,
        "in.insample_mask": insample_mask,
        "in.outsample_y": outsample_y,
        "in.outsample_mask": outsample_mask,
    }
    for name, values in windows.items():
        if name.endswith("_exog") and values is not None:
            tensors[f"in.{name}"] = values
    if hasattr(model.loss, "quantiles"):
        tensors["in.quantiles"] = model.loss.quantiles.detach()
    parameters = _own_parameters(model)
    tensors |= {f"param.{name}": p.detach().clone() for name, p in parameters.items()}
    tensors |= {f"buffer.{name}": b.clone() for name, b in _buffers(model).items()}
    tensors["out.y_hat_eval"] = evaluate()

    recipe = case.optimizer
    kinds = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}
    settings = {key: recipe[key] for key in ("lr", "betas", "eps", "weight_decay")}
    optimizer = kinds[recipe["name"]](model.parameters(), **settings)
    scheduler = None
    if "scheduler" in recipe:
        steps = {key: recipe["scheduler"][key] for key in ("step_size", "gamma")}
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, **steps)

    losses, norms, rates, no_grad = [], [], [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        output = forward()
        loss = model.loss(
            y=outsample_y, y_hat=output, y_insample=insample_y, mask=outsample_mask
        )
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            tensors["out.y_hat"] = y_hat_of(output)
            tensors["out.loss"] = loss.detach().reshape(1)
            no_grad = [name for name, p in parameters.items() if p.grad is None]
            for name, parameter in parameters.items():
                if parameter.grad is None:
                    continue
                if not parameter.grad.any():
                    raise AssertionError(f"{case.name}: {name} has no gradient; try another seed")
                tensors[f"grad.{name}"] = parameter.grad.clone()
        if "clip_norm" in recipe:
            trained = [p for p in model.parameters() if p.grad is not None]
            norms.append(torch.nn.utils.clip_grad_norm_(trained, recipe["clip_norm"]).item())
            rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()

    tensors["out.loss_trace"] = torch.tensor(losses, dtype=torch.float64)
    if norms:
        tensors["out.grad_norm_trace"] = torch.tensor(norms, dtype=torch.float64)
        tensors["out.lr_trace"] = torch.tensor(rates, dtype=torch.float64)
    prefix = f"{recipe['name'].lower()}10"
    tensors |= {f"{prefix}.{name}": p.detach().clone() for name, p in parameters.items()}
    tensors |= {f"buffer_after.{name}": b.clone() for name, b in _buffers(model).items()}
    tensors["out.y_hat_eval10"] = evaluate()

    metadata = {
        "case": case.name,
        "model": case.model,
        "args": json.dumps(_arguments(case)),
        "loss": case.loss,
        "loss_args": json.dumps(case.loss_args),
        "optimizer": json.dumps(recipe),
        "no_grad": json.dumps(no_grad),
        "layout": LAYOUT,
    }
    return {name: tensor.numpy() for name, tensor in tensors.items()}, metadata
