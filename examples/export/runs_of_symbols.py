"""Samples of an exported Transformer of runs: python runs_of_symbols.py FOLDER [N [CONDITION CODE]] -> samples.npy."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def sample(folder, n, rng, cond=None):
    """n rows of symbols, one after another: logits.onnx gives those of each symbol given the symbols before it."""
    facts = json.loads((folder / "export.json").read_text())["sampler"]
    model = onnxruntime.InferenceSession(folder / "logits.onnx")
    conds = [one for one in model.get_inputs() if one.name == "cond"]
    given = {one.name: np.broadcast_to(cond, (n, *one.shape[1:])).astype(np.int64) for one in conds}
    u, x = rng.random((n, facts["length"])), np.zeros((n, facts["length"]), np.int64)
    for t in range(facts["length"]):
        logits = model.run(["logits"], {"x": x, **given})[0][:, t]
        p = np.exp((logits - logits.max(1, keepdims=True)).astype(np.float64) / facts["temperature"]).cumsum(1)
        x[:, t] = (p <= u[:, t : t + 1] * p[:, -1:]).sum(1)
    return x


if __name__ == "__main__":
    n, cond = (int(word) for word in (sys.argv[2:] + ["16", "0"][len(sys.argv) - 2 :])[:2])
    np.save("samples.npy", sample(Path(sys.argv[1]), n, np.random.default_rng(0), cond))
