"""Samples of exported masked diffusion: python masked_diffusion.py FOLDER [N [CONDITION CODE]] writes samples.npy."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def sample(folder, n, rng, cond=None):
    """n rows of symbols: all masked at first, then as many revealed a step as another, in a random order."""
    facts = json.loads((folder / "export.json").read_text())["sampler"]
    net = onnxruntime.InferenceSession(folder / "logits.onnx")
    dims = net.get_inputs()[0].shape[1]
    given = {one.name: np.broadcast_to(cond, (n, *one.shape[1:])).astype(np.int64) for one in net.get_inputs()[1:]}
    u, x, steps = rng.random((n, dims, 2)), np.full((n, dims), facts["mask"]), min(dims, facts["steps"])
    when = u[..., 0].argsort(1, kind="stable").argsort(1, kind="stable") * steps // dims
    for t in range(steps):
        logits = net.run(None, {"x": x, **given})[0].astype(np.float64) / facts["temperature"]
        p = np.exp(logits - logits.max(-1, keepdims=True)).cumsum(-1)
        x = np.where(when == t, (p <= u[..., 1:] * p[..., -1:]).sum(-1), x)
    return x


if __name__ == "__main__":
    n, cond = (int(word) for word in (sys.argv[2:] + ["16", "0"][len(sys.argv) - 2 :])[:2])
    np.save("samples.npy", sample(Path(sys.argv[1]), n, np.random.default_rng(0), cond))
