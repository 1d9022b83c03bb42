// A chart of curves: several series of one or several runs, live, with zoom, smoothing and a logarithmic scale.
import { h, number, t } from "./core.js";

const HEIGHT = 240;

let colours = {};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colours = {}; });

/** A colour of the sheet, as a canvas takes it. It is looked up once, since that makes the page find all its styles anew. */
export function colour(name) {
  if (name in colours) return colours[name];
  const probe = h("span", { class: `${name} unseen` });
  document.body.append(probe);
  colours[name] = getComputedStyle(probe).color;
  probe.remove();
  return colours[name];
}

const faint = (rgb) => rgb.replace(/^rgb\(/, "rgba(").replace(/\)$/, ", .25)");

/** Exponential smoothing whose beginning does not lean to zero; gaps stay gaps. */
export function smoothed(values, weight) {
  let mean = 0, mass = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return mean / mass;
  });
}

/** From the least to the greatest value, with some room; a series that never changes lies in the middle. */
function range(_, low, high) {
  if (low === null) return [0, 1];
  return low === high ? [low - (Math.abs(low) / 10 || 1), high + (Math.abs(low) / 10 || 1)] : uPlot.rangeNum(low, high, 0.1, true);
}

/** A number at an axis whose ticks are so far `between`; 0: they are not evenly spaced. */
function short(value, between) {
  if (value === null) return "";
  if (!between || Math.abs(value) >= 1e6 || between < 1e-6) return number(value, 3);
  let digits = 0;
  while (digits < 9 && Math.abs(between * 10 ** digits - Math.round(between * 10 ** digits)) > 1e-6) digits++;
  return value.toLocaleString(document.documentElement.lang, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** The point of a series that is nearest to the one under the pointer, since series have values at other steps. */
function nearest(plot, series, index) {
  const values = plot.data[series], known = (i) => values[i] !== null && values[i] !== undefined;
  for (let away = 0; away < values.length; away++) {
    if (index - away >= 0 && known(index - away)) return index - away;
    if (index + away < values.length && known(index + away)) return index + away;
  }
  return index;
}

export class Chart {
  /** `onZoom(low, high)` is told which steps are shown, or nothing once all are again. */
  constructor(place, onZoom) {
    this.place = place;
    this.onZoom = onZoom;
    this.plot = null;
    this.shape = this.drawn = "";
    this.zoom = null;
    this.wanted = [[], {}];
    this.seen = false;
    new ResizeObserver(() => this.plot?.setSize({ width: this.width, height: HEIGHT })).observe(place);
    new IntersectionObserver(([entry]) => { this.seen = entry.isIntersecting; this.paint(); }, { rootMargin: "200px" }).observe(place);
  }

  get width() { return Math.max(200, this.place.clientWidth); }

  /** Series: `{name, colour, dashed, steps, values}`; options: `log`, and `smooth` from 0 to 1. */
  draw(series, options) {
    this.wanted = [series.filter((one) => one.steps.length), options];
    this.paint();
  }

  /** Draw what is new. A chart out of sight waits until it comes into sight: its reader's processor may be training. */
  paint() {
    const [lines, options] = this.wanted;
    if (this.plot && !this.seen) return;
    const drawn = JSON.stringify([options, colour("muted"), lines.map(({ steps, values, ...look }) =>
      [look, steps.length, steps[0], steps.at(-1), values.at(-1)])]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const tables = [], looks = [];
    for (const one of lines) {
      const stroke = colour(`series-${1 + one.colour % 6}`), dash = one.dashed ? [6, 4] : undefined;
      const few = one.steps.length < 40, smooth = options.smooth > 0 && one.steps.length > 15;
      if (smooth) {
        tables.push([one.steps, one.values]);
        looks.push({ label: "", stroke: faint(stroke), width: 1, faint: true });
      }
      tables.push([one.steps, smooth ? smoothed(one.values, options.smooth) : one.values]);
      looks.push({ label: one.name, stroke, dash, width: 2, few });
    }
    const values = lines.flatMap((one) => one.values).filter((value) => value !== null);
    const scale = options.log ? (values.every((value) => value > 0) ? 3 : 4) : 1;
    const data = tables.length ? uPlot.join(tables) : [[]];
    const shape = JSON.stringify([looks.map((look) => [look.label, look.stroke, look.few]), scale]);
    if (this.plot && shape === this.shape) return this.set(data);
    this.shape = shape;
    this.plot?.destroy();
    this.plot = tables.length ? new uPlot(this.options(looks, scale), data, this.place) : null;
    if (this.plot && this.zoom) this.plot.setScale("x", { min: this.zoom[0], max: this.zoom[1] });
  }

  set(data) {
    this.plot.batch(() => {
      this.plot.setData(data, this.zoom === null);
      if (this.zoom) this.plot.setScale("x", { min: this.zoom[0], max: this.zoom[1] });
    });
  }

  options(looks, distr) {
    const ink = colour("muted"), line = colour("lines");
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui" };
    return {
      width: this.width, height: HEIGHT,
      scales: { x: { time: false }, y: { distr, asinh: 0.01, ...(distr === 1 && { range }) } },
      axes: [{ ...axis, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? number(tick) : "")) },
        { ...axis, size: 64, values: (_, ticks, i, space, between) => ticks.map((tick) => short(tick, distr === 1 ? between : 0)) }],
      cursor: {
        sync: { key: "steps", scales: ["x", null], filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
        drag: { x: true, y: false, setScale: false }, dataIdx: nearest,
      },
      legend: { markers: { width: 0, fill: (plot, i) => plot.series[i].stroke(plot, i) } },
      series: [{ label: t("run.step"), value: (plot, step) => number(step ?? plot.data[0].at(-1)) }, ...looks.map((look) => ({
        label: look.label, stroke: look.stroke, width: look.width, dash: look.dash, spanGaps: true,
        points: { show: Boolean(look.few), size: 6 },
        value: (plot, value, i) => number(value ?? plot.data[i].findLast((one) => one !== null && one !== undefined)),
        ...(look.faint && { class: "faint" }),
      }))],
      hooks: {
        setSelect: [(plot) => {
          if (plot.select.width < 8) return;
          const low = plot.posToVal(plot.select.left, "x"), high = plot.posToVal(plot.select.left + plot.select.width, "x");
          plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          this.onZoom(low, high);
        }],
        ready: [(plot) => plot.over.addEventListener("dblclick", () => this.onZoom())],
      },
    };
  }

  /** Show these steps; without them all. */
  show(low, high) {
    this.zoom = low === undefined ? null : [low, high];
    if (!this.plot) return;
    if (this.zoom) this.plot.setScale("x", { min: low, max: high });
    else this.plot.setData(this.plot.data, true);
  }
}
