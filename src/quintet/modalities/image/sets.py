"""Named sets of images."""

from __future__ import annotations

import numpy as np

from quintet.data.archives import zip_entries
from quintet.data.dataset import Dataset, label_table
from quintet.data.published import FILES, Source, named_file, unpack
from quintet.data.splits import arrange, by_hash, consecutive, keys_of, random_splits
from quintet.modalities.image.reading import open_image


def digits() -> Dataset:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    images = x.reshape(-1, 8, 8, 1).astype(np.uint8)
    return Dataset("digits", "image", images, random_splits(len(y)), label_table(y.astype(np.int64)))


def mnist() -> Dataset:
    x_train, y_train, x_test, y_test = (read_idx(unpack("mnist", name)) for name in FILES["mnist"])
    images, y = np.concatenate([x_train, x_test])[..., None], np.concatenate([y_train, y_test]).astype(np.int64)
    return Dataset("mnist", "image", images, consecutive([50_000, 10_000, 10_000]), label_table(y))


def read_idx(raw: bytes) -> np.ndarray:
    """An array in the idx format: magic 0 0 8 ndim, big-endian sizes, bytes."""
    shape = tuple(int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3]))
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def sprites() -> Dataset:
    """The 32x32 images of the archive, as RGBA; the label is the top folder."""
    images, labels, contents = [], [], []
    for entry in zip_entries(named_file("dcss_tiles", "dcss_tiles_nov2015.zip")):
        if entry.suffix != ".png":
            continue
        content = entry.read()
        image = open_image(content)
        if image.size == (32, 32):
            images.append(np.asarray(image.convert("RGBA")))
            labels.append(entry.name.split("/")[0])
            contents.append(content)
    order, splits, _ = arrange(by_hash(keys_of(contents)))
    return Dataset("sprites", "image", np.stack(images)[order], splits, label_table(np.array(labels)[order]))


SETS: dict[str, Source] = {
    "digits": Source(digits, "image", 1797,
        "1,797 handwritten digits, 8x8, 17 grey levels (UCI, through scikit-learn)", ("label",)),
    "mnist": Source(mnist, "image", 70_000, "70,000 handwritten digits, 28x28, 256 grey levels (LeCun et al. "
        "1998, CC BY-SA 3.0)", ("label",), "mnist"),
    "sprites": Source(sprites, "image", 4_249, "4,249 sprites of Dungeon Crawl Stone Soup, 32x32 RGBA (CC0)",
        ("label",), "dcss_tiles"),
}  # fmt: skip
