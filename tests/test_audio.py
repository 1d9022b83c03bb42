"""Audio: spectra against closed forms, the codec's round trips and holes, files and their notes."""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quintet.core.errors import DataError, Unsupported, UsageError
from quintet.core.spaces import Continuous, Discrete
from quintet.metrics.features import fit_features
from quintet.modalities.audio import spectrum
from quintet.modalities.audio.codec import AudioCodec
from quintet.modalities.audio.modality import with_silence_between
from quintet.modalities.audio.pictures import spectrograms
from quintet.modalities.audio.recordings import Recordings
from quintet.modalities.provenance import read_provenance
from quintet.registry import MODALITIES, modality_of

RATE = 8000
NOTE = {"quintet": "0.1.0", "run": "nine", "seed": 3}


def tone(hertz: float, seconds: float = 0.4, volume: float = 0.5, rate: int = RATE) -> np.ndarray:
    return (volume * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def chord(seconds: float = 0.8) -> np.ndarray:
    return sum(tone(hertz, seconds, 0.25) for hertz in (261.63, 329.63, 392.0))


def some() -> Recordings:
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal(3000)).astype(np.float32)
    return Recordings([tone(440), tone(220, 0.2), noise, chord()], RATE)


def codec(representation: Any = None, **options: Any) -> AudioCodec:
    return AudioCodec(representation, AudioCodec.Settings(**options)).fit(some())


CODECS = {
    "mel": lambda: codec("continuous"),
    "mel symbols": lambda: codec("discrete"),
    "waveform": lambda: codec(features="waveform"),
    "mulaw": lambda: codec(features="mulaw"),
}


def peak(samples: np.ndarray, rate: int = RATE) -> float:
    """The loudest frequency, in Hz."""
    wide = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 4 * rate))
    return float(wide.argmax()) / 4


# -- spectra ---------------------------------------------------------------------------------------------------------


def test_mu_law_is_the_formula() -> None:
    x = torch.linspace(-1, 1, 2001)
    expected = [
        math.floor((math.copysign(math.log(1 + 255 * abs(v)) / math.log(256), v) + 1) * 127.5 + 0.5)
        for v in x.double().tolist()
    ]
    assert (spectrum.mu_law(x) - torch.tensor(expected)).abs().max() <= 1  # float32 may fall on the other side
    assert (spectrum.mu_law(x) == torch.tensor(expected)).double().mean() > 0.99
    assert spectrum.mu_law(torch.tensor([-1.0, 1.0])).tolist() == [0, 255]
    codes = torch.arange(256)
    assert torch.equal(spectrum.mu_law(spectrum.mu_law_inverse(codes)), codes)
    y = 2 * 200 / 255 - 1
    assert spectrum.mu_law_inverse(torch.tensor([200])).item() == pytest.approx((256**y - 1) / 255, rel=1e-6)


def test_mu_law_errs_by_half_a_step() -> None:
    """The step at |x| is d x / d code = 2 ln(256) (1 + 255 |x|) / 255^2."""
    x = torch.linspace(-1, 1, 5001)
    step = 2 * math.log(256) * (1 + 255 * x.abs()) / 255**2
    assert ((spectrum.mu_law_inverse(spectrum.mu_law(x)) - x).abs() <= 0.51 * step + 1e-6).all()


@pytest.mark.parametrize(("bands", "window", "rate"), [(32, 400, 8000), (80, 1024, 22050), (24, 320, 16000)])
def test_mel_filters_are_a_partition(bands: int, window: int, rate: int) -> None:
    filters = spectrum.mel_filters(bands, window, rate).double()
    hertz = torch.arange(window // 2 + 1) * rate / window
    edges = torch.linspace(2595 * math.log10(1 + 60 / 700), 2595 * math.log10(1 + rate / 1400), bands + 2)
    centres = 700 * (10 ** (edges / 2595) - 1)
    inside = (hertz >= centres[1]) & (hertz <= centres[-2])
    torch.testing.assert_close(filters.sum(0)[inside], torch.ones(int(inside.sum())).double(), atol=1e-5, rtol=0)
    assert (filters >= 0).all()
    assert (filters[:, hertz < 60] == 0).all()
    peaks = hertz[filters.argmax(1)]
    assert ((peaks - centres[1:-1]).abs() <= rate / window).all()
    assert ((filters > 0).sum(0) <= 2).all()


def test_every_band_hears_something() -> None:
    filters = spectrum.mel_filters(128, 160, 8000)
    assert (filters.sum(1) > 0).all()


def test_stft_of_a_sine() -> None:
    spectra = spectrum.stft(torch.from_numpy(tone(400, 0.4, 1.0)).double(), 400, 100)
    assert spectra.shape == (32, 201)
    middle = spectra[10:20].abs()
    torch.testing.assert_close(middle[:, 20], torch.ones(10).double(), atol=1e-4, rtol=0)  # 400 Hz is bin 20
    torch.testing.assert_close(middle[:, 21], torch.full((10,), 0.5).double(), atol=1e-3, rtol=0)  # of a Hann window
    assert middle[:, 24:].max() < 1e-3


@pytest.mark.parametrize(("window", "hop"), [(400, 100), (256, 128), (300, 50)])
def test_istft_inverts(window: int, hop: int) -> None:
    x = torch.randn(3, 20 * hop, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(spectrum.istft(spectrum.stft(x, window, hop), window, hop), x)


def test_phase_recovery_converges() -> None:
    """Spectral convergence of a known chord falls, and momentum gets further."""
    magnitude = spectrum.stft(torch.from_numpy(chord()).double(), 400, 100).abs()
    errors: dict[float, list[float]] = {0.0: [], 0.99: []}
    for momentum, found in errors.items():
        spectrum.griffin_lim(magnitude, 400, 100, iterations=60, momentum=momentum, report=found.append)
    plain, fast = errors[0.0], errors[0.99]
    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(plain))  # Griffin & Lim's theorem
    assert fast[-1] < 0.5 * fast[0]
    assert fast[-1] < plain[-1]
    assert fast[-1] < 0.06


def test_unmel_finds_a_spectrum_with_these_bands() -> None:
    filters = spectrum.mel_filters(32, 400, RATE).double()
    power = torch.rand(5, 201, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) ** 4
    bands = power @ filters.T
    found = spectrum.unmel(bands, filters, 200)
    assert (found >= 0).all()
    assert ((found @ filters.T - bands).norm() / bands.norm()) < 1e-3
    assert (spectrum.unmel(torch.zeros(1, 32).double(), filters) == 0).all()


# -- the codec -------------------------------------------------------------------------------------------------------


def test_spaces() -> None:
    mel = codec("continuous", seconds=0.8)
    assert mel.space == Continuous((32, 32), 64)
    assert codec("discrete", seconds=0.8).space == Discrete((1024,), 64, row=32)  # the bands of a frame
    assert codec(features="waveform", seconds=0.5).space == Continuous((1, 4000))
    assert codec(features="mulaw", seconds=0.5).space == Discrete((4000,), 256)
    assert mel.measure == "encoded"
    assert codec(features="waveform").measure == "density"
    with pytest.raises(Unsupported):
        codec("discrete", features="waveform")


@pytest.mark.parametrize("name", CODECS)
def test_encodings_are_in_their_space(name: str) -> None:
    c = CODECS[name]()
    x = c.encode(some())
    c.space.check(x)
    assert len(x) == 4
    if isinstance(c.space, Continuous):
        assert x.abs().max() <= 1
    again = c.decode(x)
    assert again.rate == RATE
    assert all(s.dtype == np.float32 and len(s) <= c.samples for s in again)


def test_representations_agree() -> None:
    picture, symbols = codec("continuous"), codec("discrete")
    k = picture.space.quantise(picture.encode(some()))
    assert torch.equal(k.transpose(1, 2).flatten(1), symbols.encode(some()))
    assert picture.log_det(some())[0] == pytest.approx(1024 * math.log(2 / 63))
    assert symbols.log_det(some())[0] == 0
    for a, b in zip(picture.decode(picture.encode(some())), symbols.decode(symbols.encode(some())), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", CODECS)
def test_a_tone_keeps_its_pitch(name: str) -> None:
    """Within a frequency bin of the window: 20 Hz; a mel band at 440 Hz is 65 Hz wide."""
    c = CODECS[name]()
    (again,) = c.decode(c.encode(Recordings([tone(440, 0.8)], RATE)))
    assert abs(peak(again) - 440) < (40 if "mel" in name else 2)
    assert 0.25 < np.abs(again[1000:5000]).max() < 1
    fine = AudioCodec("continuous", AudioCodec.Settings(bands=80)).fit(some())
    (again,) = fine.decode(fine.encode(Recordings([tone(440, 0.8)], RATE)))
    assert abs(peak(again) - 440) < 20


def test_loudness_and_length_are_kept() -> None:
    c = codec("continuous")
    for volume in (0.5, 0.05):
        (again,) = c.decode(c.encode(Recordings([tone(600, 0.4, volume)], RATE)))
        assert abs(len(again) / RATE - 0.4) <= 0.05
        assert np.sqrt((again[800:2400] ** 2).mean()) == pytest.approx(volume / math.sqrt(2), rel=0.35)


def test_waveform_is_exact_up_to_silence() -> None:
    c = codec(features="waveform")
    items = some()
    for before, after in zip(items, c.decode(c.encode(items)), strict=True):
        cut = before[: len(after)]
        np.testing.assert_allclose(after, cut, atol=1e-6)
        assert np.abs(before[len(after) : c.samples]).max(initial=0) <= 2**-9
    assert c.log_det(items)[0] == pytest.approx(-c.samples * math.log(c.scale))


def test_one_recording_does_not_depend_on_the_others() -> None:
    c = codec("continuous")
    x = c.encode(some())
    together, alone = c.decode(x), c.decode(x[2:3])
    np.testing.assert_array_equal(together[2], alone[0])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), name=st.sampled_from(list(CODECS)), size=st.sampled_from([0.0, 1.0, 1e6, math.nan]))
def test_decode_is_total(seed: int, name: str, size: float) -> None:
    c = CODECS[name]()
    g = torch.Generator().manual_seed(seed)
    if isinstance(c.space, Discrete):
        x = torch.randint(c.space.vocab_size, (2, *c.space.shape), generator=g)
    else:
        x = torch.randn(2, *c.space.shape, generator=g) * size
    items = c.decode(x)
    assert len(items) == 2
    for samples in items:
        assert 1 <= len(samples) <= c.samples
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() <= 1
    c.space.check(c.encode(items))


@pytest.mark.parametrize("name", CODECS)
def test_state_is_json(name: str) -> None:
    c = CODECS[name]()
    again = AudioCodec.from_json(json.loads(json.dumps(c.to_json())))
    assert again.space == c.space
    x = c.encode(some())
    assert torch.equal(again.encode(some()), x)
    for a, b in zip(c.decode(x), again.decode(x), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.to_json() == c.to_json()
    assert again.measure == c.measure


@pytest.mark.parametrize("features", ["mel", "waveform", "mulaw"])
@pytest.mark.parametrize(
    "samples",
    [np.zeros(4000), np.full(4000, 0.5), np.zeros(1), np.ones(1), np.zeros(0), np.full(40_000, -1.0)],
    ids=["silence", "constant", "one zero", "one", "empty", "long"],
)
def test_odd_recordings(features: str, samples: np.ndarray) -> None:
    items = Recordings([samples.astype(np.float32)], RATE)
    for c in (
        codec(features=features),
        AudioCodec(None, AudioCodec.Settings(features=features)),
    ):
        if c.rate == 0:  # also as the only thing to learn from
            if len(samples) == 0:
                with pytest.raises(DataError):
                    c.fit(items)
                continue
            c.fit(items)
        x = c.encode(items)
        c.space.check(x)
        (again,) = c.decode(x)
        assert np.isfinite(again).all()
        assert np.abs(again).max() <= 1


def test_what_is_no_recording_is_refused() -> None:
    c = codec()
    bad = tone(440)
    bad[7] = np.nan
    for items, what in (
        (Recordings([bad], RATE), "NaN"),
        (Recordings([tone(440)], 16_000), "16000"),
        (Recordings([np.zeros((10, 2), np.float32)], RATE), "mono"),
        ([tone(440)], "list"),
    ):
        with pytest.raises(DataError, match=what):
            c.encode(items)
    with pytest.raises(DataError, match="no recordings"):
        AudioCodec().fit(Recordings([], RATE))


# -- holes -----------------------------------------------------------------------------------------------------------


def test_a_prompt_knows_the_frames_inside_it() -> None:
    c, symbols = codec("continuous", seconds=0.8), codec("discrete", seconds=0.8)
    prompt = Recordings([chord()[:2100], chord()], RATE)
    x, known = c.partial(prompt)
    assert known.shape == x.shape
    # Frame t needs samples up to 200 t + 350: its windows reach 150 beyond their 100 samples.
    expected = [200 * t + 350 <= 2100 for t in range(32)]
    assert known[0].all(0).tolist() == known[0].any(0).tolist() == expected
    assert known[1, :, :31].all()
    whole = c.encode(Recordings([chord()], RATE))[0]
    torch.testing.assert_close(x[0][known[0]], whole[known[0]])
    _, prefix = symbols.partial(prompt)
    assert prefix[0].tolist() == np.repeat(expected, 32).tolist()


@pytest.mark.parametrize("name", ["waveform", "mulaw"])
def test_a_prompt_of_samples(name: str) -> None:
    c = CODECS[name]()
    x, known = c.partial(Recordings([chord()[:1000]], RATE))
    assert known.view(1, -1)[0].tolist() == [i < 1000 for i in range(c.samples)]
    assert known.shape == x.shape


def test_a_mask_of_samples() -> None:
    c = codec("continuous", seconds=0.8)
    mask = np.ones(6400, bool)
    mask[2900:3400] = False
    _, known = c.partial(Recordings([chord()], RATE), mask)
    assert (~known[0].any(0)).nonzero().flatten().tolist() == [
        t for t in range(32) if 200 * t - 150 < 3400 and 200 * t + 350 > 2900
    ]
    with pytest.raises(DataError, match="mask"):
        c.partial(Recordings([chord()], RATE), np.ones((3, 6400), bool))


@pytest.mark.parametrize("name", CODECS)
def test_fill_puts_back_what_was_given(name: str) -> None:
    c = CODECS[name]()
    made = c.decode(c.encode(Recordings([chord(), chord()], RATE)))
    prompt = Recordings([chord()[:2000], chord()[:0]], RATE)
    filled = c.fill(prompt, None, made)
    np.testing.assert_array_equal(filled[0][:2000], chord()[:2000])
    np.testing.assert_array_equal(filled[0][2100:], made[0][2100:])
    np.testing.assert_array_equal(filled[1], made[1])
    assert filled.rate == RATE


def test_fill_does_not_click() -> None:
    """At the edge the step is no larger than the given sound's own, though the made part has another phase."""
    c = codec("continuous")
    given_part, other = tone(440, 0.8), np.roll(tone(440, 0.8), 9)
    mask = np.ones(6400, bool)
    mask[2003:4011] = False
    filled = c.fill(Recordings([given_part], RATE), mask, Recordings([other], RATE))[0]
    np.testing.assert_array_equal(filled[mask], given_part[mask])
    assert np.abs(np.diff(filled)).max() < 1.5 * np.abs(np.diff(given_part)).max()
    hard = np.where(mask, given_part, other)
    assert np.abs(np.diff(hard)).max() > 1.5 * np.abs(np.diff(given_part)).max()


# -- files, pictures, features ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_file_of_sound(tmp_path: Path, suffix: str) -> None:
    items = Recordings([tone(440), tone(220)], RATE)
    (path,) = modality_of(items).write(tmp_path / f"x{suffix}", items, NOTE)
    samples, rate = soundfile.read(path)
    assert rate == RATE
    np.testing.assert_allclose(samples, with_silence_between(items), atol=2**-15)
    assert len(samples) == len(items[0]) + len(items[1]) + RATE // 4
    assert read_provenance(path) == NOTE
    content = path.read_bytes()
    modality_of(items).write(path, items, NOTE)
    assert path.read_bytes() == content
    (path,) = modality_of(items[:1]).write(tmp_path / f"one{suffix}", items[:1], NOTE)
    assert len(soundfile.read(path)[0]) == len(items[0])


def test_a_folder_of_sounds(tmp_path: Path) -> None:
    items = some()
    paths = modality_of(items).write(tmp_path / "out/", items, NOTE)
    assert [path.name for path in paths] == ["00000.wav", "00001.wav", "00002.wav", "00003.wav"]
    for path, samples in zip(paths, items, strict=True):
        np.testing.assert_allclose(soundfile.read(path)[0], samples.clip(-1, 1), atol=2**-15)
    assert read_provenance(tmp_path / "out") == {**NOTE, "index": 0}


def test_arrays_of_sound(tmp_path: Path) -> None:
    path, beside = modality_of(some()).write(tmp_path / "x.npz", some(), NOTE)
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["lengths"].tolist() == [len(samples) for samples in some()]
        np.testing.assert_array_equal(arrays["samples"], np.concatenate(list(some())))
        assert arrays["rate"] == RATE
    assert json.loads(beside.read_text()) == NOTE
    with pytest.raises(UsageError, match="audio"):
        modality_of(some()).write(tmp_path / "x.mp3", some(), NOTE)


def test_samples_of_a_run_can_be_seen_and_heard(tmp_path: Path) -> None:
    files = MODALITIES["audio"].picture(tmp_path / "step-00000001", some(), codec())
    assert sorted(path.name for path in files) == ["step-00000001.png", "step-00000001.wav"]


def test_a_spectrogram_shows_the_tone() -> None:
    picture = spectrograms(Recordings([tone(3000, 0.5), tone(150, 0.25)], RATE)).sum(-1)
    rows = picture[:, :, 20].argmax(1)  # the top row is 4 kHz
    assert rows[0] < 15
    assert rows[1] > 50
    assert (picture[1, :, 60:] == picture[1, 0, -1]).all()  # silence behind the shorter one
    assert spectrograms(Recordings([np.zeros(0, np.float32)], RATE)).shape[:2] == (1, 64)


def test_a_report_can_be_played() -> None:
    shown = MODALITIES["audio"].shown(some(), codec())
    assert shown["kind"] == "audio"
    assert base64.b64decode(shown["png"]).startswith(b"\x89PNG")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(shown["sounds"][0])))
    assert rate == RATE
    np.testing.assert_allclose(samples, tone(440), atol=2**-15)


def test_features_of_audio_say_what_they_are() -> None:
    c = codec("continuous")
    features = fit_features(c.encode(some()).numpy(), "flattened")
    assert "flattened" in features.description["preprocessing"]
    assert features(c.encode(some()).numpy()).shape[0] == 4
