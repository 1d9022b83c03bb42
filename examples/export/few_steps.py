"""Samples of an exported diffusion model that learnt few steps: python few_steps.py FOLDER [N [CONDITION CODE]]."""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def sample(folder, n, rng, cond=None):
    """n encoded items: by jumps from level to level (meanflow), or by items that are noised again (consistency)."""
    facts = json.loads((folder / "export.json").read_text())
    levels, part = facts["sampler"]["levels"], "jump" if "jump" in facts["parts"] else "denoise"
    (_, *shape), *_ = (one["shape"] for one in facts["parts"][part]["inputs"])
    net = onnxruntime.InferenceSession(folder / f"{part}.onnx")
    codes = {"cond": None if cond is None else np.broadcast_to(cond, (n, 1)).astype(np.int64)}
    y = levels[0] * np.asarray(rng.standard_normal((n, *shape)), np.float32)
    for high, low in itertools.pairwise(levels):
        told = {"y": y.astype(np.float32), "s": np.full(n, high, np.float32), "low": np.full(n, low, np.float32)}
        (y,) = net.run(None, {one.name: (told | codes)[one.name] for one in net.get_inputs()})
        if part == "denoise" and low > 0:
            y = y + low * rng.standard_normal((n, *shape))
    return y / np.array(facts["sampler"]["scale"]) + np.array(facts["sampler"]["mean"])


if __name__ == "__main__":
    n, cond = (int(word) for word in (sys.argv[2:] + ["16", "0"][len(sys.argv) - 2 :])[:2])
    np.save("samples.npy", sample(Path(sys.argv[1]), n, np.random.default_rng(0), cond))
