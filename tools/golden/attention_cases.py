"""Golden cases of attention: torch's math kernel in double precision, outputs, weights and all gradients.

Biases and residual scores are the additive `attn_mask` of torch, whose gradient is theirs; boolean masks become `-inf`, and queries
that see nothing are left out, because torch's output for them is NaN. Heads that share keys or values are repeated by hand.
"""

import json

import torch

# name -> batch, heads, key heads, value heads, queries, keys, channels, value channels, mask, bias
CASES = {
    "plain": (2, 2, 2, 2, 13, 13, 8, 8, None, None),
    "cross": (1, 3, 3, 3, 7, 20, 5, 9, None, None),
    "causal": (1, 2, 2, 2, 18, 18, 8, 8, "causal", None),
    "causal_more_keys": (1, 2, 2, 2, 9, 17, 8, 8, "causal", None),
    "window": (1, 2, 2, 2, 21, 21, 4, 4, "window", None),
    "lengths": (2, 2, 2, 2, 11, 19, 8, 8, "lengths", None),
    "bias": (2, 2, 2, 2, 12, 15, 8, 8, None, "own"),
    "bias_shared": (2, 3, 3, 3, 10, 14, 8, 8, "causal", "shared"),
    "grouped": (1, 4, 2, 2, 16, 16, 8, 8, "causal", None),
    "one_value_head": (2, 4, 4, 1, 9, 9, 6, 5, None, None),
    "one_key": (1, 1, 1, 1, 5, 1, 3, 2, None, None),
    "extreme": (1, 1, 1, 1, 12, 12, 4, 4, None, None),
}
WINDOW = (4, 2)
LENGTHS = (15, 6)
SCALE = 0.4


def _visible(mask, batch, queries, keys):
    i, j = torch.arange(queries)[:, None], torch.arange(keys)[None, :]
    seen = torch.ones(batch, 1, queries, keys, dtype=torch.bool)
    if mask == "causal":
        seen &= j <= i
    elif mask == "window":
        seen &= (j >= i - WINDOW[0]) & (j <= i + WINDOW[1])
    elif mask == "lengths":
        seen &= j < torch.tensor(LENGTHS)[:, None, None, None]
    return seen


def make() -> tuple[dict, dict]:
    """Every case: (tensors, metadata)."""
    generator = torch.Generator().manual_seed(47)
    tensors, cases = {}, {}
    for name, (batch, heads, key_heads, value_heads, queries, keys, d, d_v, mask, bias) in CASES.items():

        def draw(*shape):
            # Multiples of 1/64 are exact in f32 and bf16 products stay exact for long.
            drawn = torch.randn(shape, generator=generator).double()
            return ((drawn * 64).round() / 64).requires_grad_(True)

        q, k, v = draw(batch, heads, queries, d), draw(batch, key_heads, keys, d), draw(batch, value_heads, keys, d_v)
        if name == "extreme":
            with torch.no_grad():
                q *= 200
                k *= 200
        dy = draw(batch, heads, queries, d_v).detach()
        seen = _visible(mask, batch, queries, keys)
        added = None
        if bias == "own":
            added = draw(batch, heads, queries, keys)
        elif bias == "shared":
            added = draw(1, 1, queries, keys)
        total = torch.zeros(batch, heads, queries, keys, dtype=torch.float64)
        if added is not None:
            total = total + added
        total = total.masked_fill(~seen, float("-inf"))
        wide_k = k.repeat_interleave(heads // key_heads, 1)
        wide_v = v.repeat_interleave(heads // value_heads, 1)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            y = torch.nn.functional.scaled_dot_product_attention(q, wide_k, wide_v, attn_mask=total, scale=SCALE)
        y.backward(dy)
        scores = SCALE * q @ wide_k.transpose(-1, -2) + total
        found = {"q": q, "k": k, "v": v, "dy": dy, "y": y, "dq": q.grad, "dk": k.grad, "dv": v.grad}
        found |= {"lse": torch.logsumexp(scores, -1), "weights": torch.softmax(scores, -1)}
        if added is not None:
            found |= {"bias": added, "dbias": added.grad}
        tensors |= {f"{name}.{key}": value.detach().numpy() for key, value in found.items()}
        cases[name] = {"mask": mask, "bias": bias}
    metadata = {
        "cases": json.dumps(cases),
        "scale": str(SCALE),
        "window": json.dumps(WINDOW),
        "lengths": json.dumps(LENGTHS),
        "layout": "f64 row-major; q, y, dy [B,H,N_q,d]; k [B,H_k,N_k,d]; v [B,H_v,N_k,d_v]; lse [B,H,N_q]; "
        "weights [B,H,N_q,N_k]; bias [B or 1, H or 1, N_q, N_k]",
    }
    return tensors, metadata
