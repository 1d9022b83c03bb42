"""Samples of an exported Transformer: python autoregressive.py FOLDER [N [CONDITION CODE]] writes samples.npy."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def sample(folder, n, rng, cond=None):
    """n rows of symbols, one after another: begin.onnx gives the first logits and a cache, step.onnx the next ones."""
    facts = json.loads((folder / "export.json").read_text())["sampler"]
    begin, step = (onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in ("begin", "step"))
    conds = [one for one in begin.get_inputs() if one.name == "cond"]
    given = {one.name: np.broadcast_to(cond, (n, *one.shape[1:])).astype(np.int64) for one in conds}
    names, u, x = [one.name for one in begin.get_outputs()], rng.random((n, facts["length"])), []
    logits, *state = begin.run(names, {"rows": np.zeros(n, np.float32), **given})
    for t in range(facts["length"]):
        p = np.exp((logits - logits.max(1, keepdims=True)).astype(np.float64) / facts["temperature"]).cumsum(1)
        x.append((p <= u[:, t : t + 1] * p[:, -1:]).sum(1))
        cache = {name.removeprefix("new_"): one for name, one in zip(names[1:], state, strict=True)}
        if t + 1 < facts["length"]:
            logits, *state = step.run(names, {"x": x[-1][:, None], **cache, **given})
    return np.stack(x, 1)


if __name__ == "__main__":
    n, cond = (int(word) for word in (sys.argv[2:] + ["16", "0"][len(sys.argv) - 2 :])[:2])
    np.save("samples.npy", sample(Path(sys.argv[1]), n, np.random.default_rng(0), cond))
