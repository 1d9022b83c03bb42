"""Samples of an exported diffusion model, by DPM-Solver++(2M): python diffusion.py FOLDER [N [CONDITION CODE]]."""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def sample(folder, n, rng, cond=None):
    """n encoded items: y = x + s noise, from the largest noise level s down to 0."""
    facts = json.loads((folder / "export.json").read_text())
    (_, *shape), *_ = (one["shape"] for one in facts["parts"]["denoise"]["inputs"])
    net, levels = onnxruntime.InferenceSession(folder / "denoise.onnx"), facts["sampler"]["levels"]
    codes = {one.name: np.broadcast_to(cond, (n, *one.shape[1:])).astype(np.int64) for one in net.get_inputs()[2:]}
    y, old = np.float32(levels[0]) * np.asarray(rng.standard_normal((n, *shape)), np.float32), None
    for high, low in itertools.pairwise(levels):
        ahead = d = net.run(["x"], {"y": y, "s": np.full(n, high, np.float32), **codes})[0]
        if low > 0:
            step = np.log(high / low)
            ahead, old = d if old is None else d + step / (2 * old[1]) * (d - old[0]), (d, step)
        y = (low / high * y + (1 - low / high) * ahead).astype(np.float32)
    return y / np.array(facts["sampler"]["scale"]) + np.array(facts["sampler"]["mean"])


if __name__ == "__main__":
    n, cond = (int(word) for word in (sys.argv[2:] + ["16", "0"][len(sys.argv) - 2 :])[:2])
    np.save("samples.npy", sample(Path(sys.argv[1]), n, np.random.default_rng(0), cond))
