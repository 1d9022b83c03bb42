"""Sound as spectra and back: short-time Fourier transform, mel bands, phase recovery, mu-law."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

MU = 255
LOWEST = 60.0
"""Hz; hum and offsets below it carry no speech and no note."""
TINY = 1e-10


def stft(x: Tensor, window: int, hop: int) -> Tensor:
    """(..., n) -> complex (..., n / hop, window / 2 + 1); a full-scale sine peaks at magnitude 1. n divides by hop.

    X[t, k] = 2 / sum(w) sum_i w[i] x[t hop + i - (window - hop) / 2] exp(-2 pi j i k / window), w Hann, x zero outside.
    So frame t is centred on its own `hop` samples, and there are as many frames as hops.
    """
    edge = (window - hop) // 2
    frames = F.pad(x, (edge, window - hop - edge)).unfold(-1, window, hop)
    w = torch.hann_window(window, dtype=x.dtype, device=x.device)
    return torch.fft.rfft(frames * w) * (2 / w.sum())


def istft(spectrum: Tensor, window: int, hop: int) -> Tensor:
    """The signal (..., frames * hop) whose STFT is nearest in least squares (Griffin & Lim 1984): overlap-add of the
    windowed inverse transforms, over the sum of the squared windows."""
    *lead, count, _ = spectrum.shape
    w = torch.hann_window(window, dtype=spectrum.real.dtype, device=spectrum.device)
    frames = torch.fft.irfft(spectrum, window) * w * (w.sum() / 2)
    total = count * hop + window - hop
    columns = frames.reshape(-1, count, window).transpose(1, 2)

    def overlap_add(columns: Tensor) -> Tensor:
        return F.fold(columns, (1, total), (1, window), stride=(1, hop))[:, 0, 0]

    weight = overlap_add((w**2)[None, :, None].expand(1, window, count))
    edge = (window - hop) // 2
    return (overlap_add(columns) / weight.clamp_min(TINY))[:, edge : edge + count * hop].reshape(*lead, count * hop)


def mel(hertz: Tensor) -> Tensor:
    """2595 log10(1 + f / 700) (O'Shaughnessy 1987)."""
    return 2595 * torch.log10(1 + hertz / 700)


def mel_filters(bands: int, window: int, rate: int) -> Tensor:
    """(bands, window / 2 + 1): triangles of height 1, even on the mel scale from 60 Hz to rate / 2, each from its left
    neighbour's centre to its right one's: between the first and the last centre they sum to 1.

    A band without a frequency of its own (many bands, a short window) takes what lies nearest to its centre.
    """
    hertz = torch.arange(window // 2 + 1, dtype=torch.float64) * rate / window
    low, high = mel(torch.tensor([LOWEST, rate / 2], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, bands + 2, dtype=torch.float64)
    place = (mel(hertz)[None] - edges[1:-1, None]) / (edges[1] - edges[0])
    filters = (1 - place.abs()).clamp_min(0)
    empty = filters.sum(1) == 0
    filters[empty, place.abs().argmin(1)[empty]] = 1
    return filters.float()


def unmel(power: Tensor, filters: Tensor, updates: int = 30) -> Tensor:
    """(..., bands) >= 0 -> (..., bins) >= 0 with filters @ bins near `power`, by multiplicative updates

    s <- s * F' (power / (F s)) / (F' 1)          (Lee & Seung 1999, for the Kullback-Leibler divergence)

    from a flat spectrum in each band. Frequencies that no band sees stay 0.
    """
    seen = filters.sum(0)
    share = filters / seen.clamp_min(TINY)
    s = (power / filters.sum(1)) @ share
    for _ in range(updates):
        s = s * ((power / (s @ filters.T).clamp_min(TINY**2)) @ share)
    return s


def griffin_lim(
    magnitude: Tensor,
    window: int,
    hop: int,
    *,
    iterations: int = 32,
    momentum: float = 0.99,
    report: Callable[[float], None] | None = None,
) -> Tensor:
    """A signal (..., frames * hop) whose STFT has this magnitude (..., frames, bins), as nearly as may be.

    The fast Griffin-Lim algorithm (Perraudin, Balazs & Søndergaard 2013): with P1 = STFT of the inverse STFT, and P2 =
    "take the given magnitude", c_n = P1 P2 t_{n-1}, t_n = c_n + momentum (c_n - c_{n-1}). The initial phase is that of
    steady tones at the bins' own frequencies: no random number. `report` gets the spectral convergence
    | |c_n| - magnitude | / |magnitude| after each iteration.
    """
    count, bins = magnitude.shape[-2:]
    t = torch.arange(count, dtype=torch.float64, device=magnitude.device)[:, None]
    k = torch.arange(bins, dtype=torch.float64, device=magnitude.device)
    angle = (2 * math.pi * (t * k * hop % window) / window).to(magnitude.dtype)
    spectrum = torch.polar(torch.ones_like(angle), angle).expand(magnitude.shape)
    previous: Tensor | None = None
    signal = istft(magnitude * spectrum, window, hop)
    for _ in range(iterations):
        consistent = stft(signal, window, hop)
        if report:
            error = (consistent.abs() - magnitude).norm() / magnitude.norm().clamp_min(TINY)
            report(float(error))
        ahead = consistent if previous is None else consistent + momentum * (consistent - previous)
        previous = consistent
        signal = istft(magnitude * ahead / ahead.abs().clamp_min(TINY), window, hop)
    return signal


def mu_law(x: Tensor) -> Tensor:
    """[-1, 1] -> 0 ... 255: F(x) = sgn(x) ln(1 + mu |x|) / ln(1 + mu), mu = 255 (ITU-T G.711), to the nearest code."""
    companded = x.sign() * torch.log1p(MU * x.abs()) / math.log1p(MU)
    return ((companded + 1) * (MU / 2) + 0.5).floor().long().clamp(0, MU)


def mu_law_inverse(codes: Tensor) -> Tensor:
    """0 ... 255 -> [-1, 1]: sgn(y) ((1 + mu)^|y| - 1) / mu with y = 2 code / mu - 1."""
    y = codes.double() * (2 / MU) - 1
    return (y.sign() * torch.expm1(y.abs() * math.log1p(MU)) / MU).float()
