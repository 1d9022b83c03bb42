// Recordings: a player each, with the spectrogram of what it plays.
import { h, number, t } from "../core.js";
import { source } from "./pictures.js";
import { pinned } from "./pin.js";

const SIZE = 256, WIDE = 320;

/** The samples of a WAV file of 16 bits, and their rate. */
function samplesOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)), view = new DataView(bytes.buffer);
  const name = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  let rate = 0;
  for (let at = 12; at + 8 <= bytes.length;) {
    const size = Math.min(view.getUint32(at + 4, true), bytes.length - at - 8);
    if (name(at) === "fmt ") rate = view.getUint32(at + 12, true);
    if (name(at) === "data") return { rate, samples: Float32Array.from({ length: size >> 1 }, (_, i) => view.getInt16(at + 8 + 2 * i, true) / 32768) };
    at += 8 + size + (size & 1);
  }
  return { rate, samples: new Float32Array(0) };
}

/** |FFT| of SIZE real numbers, the lower half: radix 2, in place. */
function spectrum(real) {
  const imaginary = new Float32Array(SIZE);
  for (let i = 1, j = 0; i < SIZE; i++) {
    let bit = SIZE >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [real[i], real[j]] = [real[j], real[i]];
  }
  for (let size = 2; size <= SIZE; size *= 2) {
    for (let begin = 0; begin < SIZE; begin += size) {
      for (let k = 0; k < size / 2; k++) {
        const angle = -2 * Math.PI * k / size, c = Math.cos(angle), s = Math.sin(angle), a = begin + k, b = a + size / 2;
        const re = c * real[b] - s * imaginary[b], im = s * real[b] + c * imaginary[b];
        real[b] = real[a] - re; imaginary[b] = imaginary[a] - im;
        real[a] += re; imaginary[a] += im;
      }
    }
  }
  return Float32Array.from({ length: SIZE / 2 }, (_, i) => Math.hypot(real[i], imaginary[i]));
}

/** Time to the right, frequency upwards, 60 dB from dark to light. */
function draw(canvas, samples) {
  const columns = Math.max(1, Math.min(WIDE, Math.ceil(samples.length / (SIZE / 4)))), high = SIZE / 2;
  const found = Array.from({ length: columns }, (_, column) => {
    const begin = Math.round(column * Math.max(0, samples.length - SIZE) / Math.max(1, columns - 1));
    return spectrum(Float32Array.from({ length: SIZE }, (_, i) => (samples[begin + i] ?? 0) * (0.5 - 0.5 * Math.cos(2 * Math.PI * i / SIZE))));
  });
  const top = found.reduce((most, one) => one.reduce((a, b) => Math.max(a, b), most), 1e-9);
  canvas.width = columns;
  canvas.height = high;
  const paper = canvas.getContext("2d"), image = paper.createImageData(columns, high);
  found.forEach((one, x) => one.forEach((value, y) => {
    const level = Math.max(0, 1 + Math.log10(Math.max(value / top, 1e-9)) / 3), at = 4 * ((high - 1 - y) * columns + x);
    image.data.set([255 * Math.min(1, 1.7 * level ** 1.4), 255 * Math.max(0, 1.3 * level - 0.3), 70 + 120 * Math.sin(Math.PI * level), 255], at);
  }));
  paper.putImageData(image, 0, 0);
}

export function sounds(items, about) {
  return h("ul", { class: "sounds plain" }, ...items.map((item, i) => {
    const { rate, samples } = samplesOf(item), seconds = rate ? samples.length / rate : 0;
    const canvas = h("canvas", { role: "img", "aria-label": t("use.spectrogram", { item: about.caption(i), hertz: number(rate / 2) }) });
    draw(canvas, samples);
    return h("li", { class: "card sound" },
      h("p", { class: "small" }, about.caption(i), " ", h("span", { class: "muted number" }, `${number(seconds, 3)} s`), pinned(about, i)),
      canvas, h("audio", { controls: true, preload: "metadata", src: source(item, about.media), "aria-label": about.caption(i) }));
  }));
}
