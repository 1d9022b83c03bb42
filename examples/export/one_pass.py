"""Samples of an exported VAE, GAN or flow: python one_pass.py FOLDER [N [CONDITION CODE]] writes samples.npy."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def sample(folder, n, rng, cond=None):
    """n encoded items: one pass through sample.onnx, whose inputs are random numbers and the condition's codes."""
    part = json.loads((folder / "export.json").read_text())["parts"]["sample"]
    inputs = {}
    for one in part["inputs"]:
        shape, dtype = (n, *one["shape"][1:]), one["dtype"]
        draw = {"normal": rng.standard_normal, "uniform": rng.random}.get(one.get("noise"))
        inputs[one["name"]] = np.asarray(draw(shape) if draw else np.broadcast_to(cond, shape), dtype)
    return onnxruntime.InferenceSession(folder / part["file"]).run(["x"], inputs)[0]


if __name__ == "__main__":
    n, cond = (int(word) for word in (sys.argv[2:] + ["16", "0"][len(sys.argv) - 2 :])[:2])
    np.save("samples.npy", sample(Path(sys.argv[1]), n, np.random.default_rng(0), cond))
