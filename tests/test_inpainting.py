"""Image codecs take masks of raw pixels, and put what was known back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

import quintet
from quintet.cli.main import main
from quintet.core.errors import DataError, UsageError
from quintet.modalities.image.codec import ImageCodec
from quintet.registry import MODALITIES


def mask(items: Any, known: str | None, *, hole: str | None = None, fit: str = "crop") -> Any:
    return MODALITIES["image"].known(items, known, hole=hole, reading={"fit": fit})


@pytest.mark.parametrize("representation", ["continuous", "discrete"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("each", [False, True])
def test_a_mask_of_pixels_is_one_of_all_their_channels(
    representation: Literal["continuous", "discrete"], channels: int, each: bool
) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 4, 3, channels), dtype=np.uint8)
    images[0, 0, 0] = 255  # so that 255 - images are values of the space too
    codec = ImageCodec(representation).fit(images)
    known = rng.random((5, 4, 3) if each else (4, 3)) < 0.5
    x, mask = codec.partial(images, known)
    assert mask.shape == x.shape
    assert mask.dtype == torch.bool
    # the truth: encode images that differ in the unknown pixels only, and see which entries move
    other = np.where(np.broadcast_to(known, (5, 4, 3))[..., None], images, 255 - images).astype(np.uint8)
    assert torch.equal(codec.encode(other) == x, mask)
    back = codec.fill(images, known, codec.decode(torch.where(mask, 0 * x, codec.encode(other))))
    assert back.dtype == np.uint8
    assert np.array_equal(back, other)


@pytest.mark.parametrize("known", [None, np.ones((3, 3), bool), np.ones((4, 3)), np.ones((4, 4, 3), bool)])
def test_a_mask_of_another_shape_or_kind_is_refused(known: object) -> None:
    images = np.zeros((5, 4, 3, 1), np.uint8)
    codec = ImageCodec().fit(images)
    with pytest.raises(DataError, match="expected a boolean mask"):
        codec.partial(images, known)


def test_a_mask_means_the_same_however_it_is_drawn(tmp_path: Path) -> None:
    """The left half is white: of 0 and 1, of 16 bits, of one bit, grey, opaque, with grey edges, in other sizes."""
    items = np.zeros((2, 8, 12, 1), np.uint8)
    left = np.zeros((8, 12), bool)
    left[:, :6] = True
    alpha = np.full((8, 12, 4), 200, np.uint8)
    alpha[..., 3] = left * 255
    soft = (left * 255).astype(np.uint8)
    soft[:, 5], soft[:, 6] = 180, 70
    drawn = {
        "0 and 255": Image.fromarray((left * 255).astype(np.uint8)),
        "0 and 1": Image.fromarray(left.astype(np.uint8)),
        "1 bit": Image.fromarray(left),
        "16 bits": Image.fromarray((left * 65535).astype(np.uint16)),
        "alpha": Image.fromarray(alpha),
        "grey edges": Image.fromarray(soft),
        "larger": Image.fromarray((left * 255).astype(np.uint8)).resize((120, 80)),
        "colours": Image.fromarray((left[..., None] * [255, 255, 255]).astype(np.uint8)),
    }
    for name, picture in drawn.items():
        path = tmp_path / f"{name}.png"
        picture.save(path)
        assert np.array_equal(mask(items, str(path))[1], left), name
        assert np.array_equal(mask(items, None, hole=str(path))[1], ~left), name
    alpha[:, ::2, :3] = 90  # a picture with its right half erased, which is the hole in every sense
    Image.fromarray(alpha).save(tmp_path / "erased.png")
    assert np.array_equal(mask(items, str(tmp_path / "erased.png"))[1], left)
    assert np.array_equal(mask(items, None, hole=str(tmp_path / "erased.png"))[1], left)
    Image.new("L", (12, 8), 255).save(tmp_path / "one.png")
    with pytest.raises(DataError, match="one colour"):
        mask(items, str(tmp_path / "one.png"))
    with pytest.raises(UsageError, match="both"):
        mask(items, "top", hole="one.png")


def test_a_mask_of_the_whole_picture_is_cropped_as_the_picture_was(tmp_path: Path) -> None:
    """Of a picture of 20 x 10 the middle 10 columns were kept, of which the left half is white."""
    drawn = np.zeros((10, 20), np.uint8)
    drawn[:, :10] = 255
    Image.fromarray(drawn).save(tmp_path / "mask.png")
    found = mask(np.zeros((1, 10, 10, 1), np.uint8), str(tmp_path / "mask.png"), fit="crop")[1]
    assert found[:, :5].all()
    assert not found[:, 5:].any()


def test_the_answer_says_which_part_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    drawn = np.zeros((8, 8), np.uint8)
    drawn[:, :2] = 1
    Image.fromarray(drawn).save("mask.png")
    quintet.train("autoregressive", data="digits", steps=2, preset="tiny", runs=tmp_path / "runs", run="d")
    for option, kept in (("--known", "25 % of each, white in mask.png"), ("--mask", "75 % of each")):
        assert main(["complete", "d", "-n", "2", option, "mask.png", "-o", "out.npz"]) == 0
        assert kept.replace(" %", "%") in capsys.readouterr().out
