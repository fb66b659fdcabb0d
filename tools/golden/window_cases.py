"""Which windows NeuralForecast 3.3.0 makes of a panel: `BaseModel._create_windows`, called as a training step calls it.

Writes crates/nd-data/tests/golden/windows.tsv. Every value of the target names its own series and row, so the windows
can be read off the tensors. Run: python tools/golden/window_cases.py > crates/nd-data/tests/golden/windows.tsv
"""

import itertools
import logging
import sys
import warnings

import numpy as np
import pandas as pd
import torch

warnings.filterwarnings("ignore")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
logging.getLogger("lightning_fabric").setLevel(logging.ERROR)

from neuralforecast.models import NLinear, TSMixer  # noqa: E402

ROW = 1000  # the value of row t of series i is ROW * (i + 1) + t + 1


def panel(lengths, masked, seed):
    """[N, (y, available_mask), T], left-padded with zeros as NeuralForecast's loader does."""
    rng = np.random.default_rng(seed)
    longest = max(lengths)
    temporal = np.zeros((len(lengths), 2, longest))
    masks = []
    for i, length in enumerate(lengths):
        temporal[i, 0, longest - length :] = ROW * (i + 1) + np.arange(length) + 1
        mask = np.ones(length)
        if masked:
            mask[rng.random(length) < 0.5] = 0
            mask[length // 3 : length // 3 + 7] = 0
        temporal[i, 1, longest - length :] = mask
        masks.append("".join(str(int(m)) for m in mask))
    return torch.tensor(temporal), masks


def windows_of(model, temporal, step):
    """(group, first row of each series' part or None) of every valid window."""
    batch = {"temporal": temporal, "temporal_cols": pd.Index(["y", "available_mask"])}
    windows, _, _, valid, *_ = model._create_windows(batch, step=step)
    n = temporal.shape[0]
    per_series = windows.shape[0] // n
    found = []
    for index in valid.tolist():
        y = windows[index, :, 0, :].numpy()  # [L + h, series]
        starts = []
        for column in y.T:
            seen = np.nonzero(column)[0]
            if len(seen) == 0:
                starts.append(None)
                continue
            row = int(column[seen[0]]) % ROW - 1
            starts.append(row - int(seen[0]))
        group = 0 if model.MULTIVARIATE else index // per_series
        found.append((group, starts))
    return found


def text(found):
    def one(start):
        return "?" if start is None else str(start)

    return " ".join(f"{group}:{','.join(one(s) for s in starts)}" for group, starts in found)


def main():
    print("# NeuralForecast 3.3.0: valid windows by group (series) as group:first row[,first row of the next series ...]")
    print("# multivariate\tset\tL\th\tstep\tval\ttest\tpadding\tinput_share\ttarget_share\tlengths\tmasks\twindows")
    shapes = [(6, 3), (4, 1), (5, 4)]
    lengths = [[20], [20, 11, 7], [9, 25, 3, 14]]
    options = [
        (1, 0, 0, False, 0.0, 0.0),
        (1, 4, 5, False, 0.0, 0.0),
        (3, 4, 0, False, 0.0, 0.0),
        (2, 0, 6, True, 0.0, 0.0),
        (1, 5, 4, True, 0.6, 0.5),
        (1, 4, 4, False, 1.0, 1.0),
    ]
    cases = itertools.product([False, True], ["train", "val", "test", "predict"], shapes, lengths, options, [False, True])
    for number, (multi, name, (l, h), lens, option, masked) in enumerate(cases):
        step, val, test, padding, input_share, target_share = option
        if name == "val" and val < h or name == "test" and test < h:
            continue
        temporal, masks = panel(lens, masked, number)
        kwargs = dict(
            h=h,
            input_size=l,
            step_size=step,
            start_padding_enabled=padding,
            training_data_availability_threshold=[input_share, target_share],
            max_steps=1,
        )
        model = TSMixer(n_series=len(lens), **kwargs) if multi else NLinear(**kwargs)
        model.val_size = val
        model.test_size = test if name != "predict" else 0
        model.predict_step_size = step
        try:
            found = windows_of(model, temporal, "predict" if name == "test" else name)
        except Exception as error:  # noqa: BLE001
            found = f"! {str(error).splitlines()[0][:60]}"
        columns = [int(multi), name, l, h, step, val, test, int(padding), input_share, target_share]
        columns += [",".join(map(str, lens)), ",".join(masks) if masked else "-"]
        columns.append(found if isinstance(found, str) else text(found))
        print("\t".join(map(str, columns)))
    sys.stdout.flush()


main()
