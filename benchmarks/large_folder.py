"""Peak memory of training on a folder of images that is larger than memory should hold.

    python benchmarks/large_folder.py [--gigabytes 2] [--size 128] [--steps 20] [--batch 16] [--family vae]

Writes 256x256 textures as PNG and JPEG into a temporary folder until it has that many gigabytes, trains on it in a
process of its own, and prints that process's largest resident set, memory-mapped pages included. Everything is removed.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 256


def texture(rng: np.random.Generator) -> Image.Image:
    """Colours that change smoothly over the image, and noise on top."""
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.int16)
    noise = rng.integers(-40, 41, (SIDE, SIDE, 3), dtype=np.int16)
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


def fill(folder: Path, size: int) -> int:
    """Write images until there are `size` bytes of them; returns how many. Three in four are PNG."""
    rng, written, count = np.random.default_rng(0), 0, 0
    while written < size:
        path = folder / f"{count % 10}" / f"{count:06d}.{'jpg' if count % 4 == 3 else 'png'}"
        path.parent.mkdir(exist_ok=True)
        texture(rng).save(path, **({"quality": 95} if path.suffix == ".jpg" else {"compress_level": 1}))
        written, count = written + path.stat().st_size, count + 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--family", default="vae")
    options = parser.parse_args()
    needed = 3 * options.gigabytes * 2**30  # the files, their cache, and room
    if shutil.disk_usage(tempfile.gettempdir()).free < needed:
        sys.exit(f"{needed / 2**30:.1f} GB of disk are needed in {tempfile.gettempdir()}")
    with tempfile.TemporaryDirectory(prefix="large-folder-") as folder:
        images = Path(folder) / "images"
        images.mkdir()
        begun = time.monotonic()
        count = fill(images, int(options.gigabytes * 2**30))
        print(f"{count:,} images, {options.gigabytes:g} GB, written in {time.monotonic() - begun:.0f} s", flush=True)
        command = [sys.executable, "-m", "quintet", "train", options.family, "--data", str(images), "--preset", "tiny",
                   "--data.size", str(options.size), "--steps", str(options.steps), "--training.batch_size",
                   str(options.batch), "--runs", f"{folder}/runs", "--json"]  # fmt: skip
        for attempt in ("first", "cached"):
            begun = time.monotonic()
            environment = os.environ | {"QUINTET_CACHE": f"{folder}/cache"}
            code = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
            cached = sum(path.stat().st_size for path in Path(folder, "cache").rglob("*") if path.is_file())
            print(f"{attempt}: exit {code}, {time.monotonic() - begun:.0f} s, peak {peak:.2f} GB resident so far, "
                  f"{cached / 2**30:.2f} GB in the cache", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
