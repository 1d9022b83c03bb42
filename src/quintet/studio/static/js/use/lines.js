// Windows of a series, (steps, channels) of numbers, as small charts of one scale.
import { h, number, t } from "../core.js";
import { pinned } from "./pin.js";

const WIDE = 240, HIGH = 80;

const svg = (name, attributes, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

/** `behind`: lines under the others, of the same shape. */
export function chart(window, low, high, label, behind = []) {
  const x = (step) => (step * WIDE / Math.max(1, window.length - 1)).toFixed(1);
  const y = (value) => (HIGH - (value - low) * HIGH / (high - low || 1)).toFixed(1);
  const path = (rows, channel) => {
    let drawn = "", gap = true;
    rows.forEach((row, step) => {
      const value = row[channel];
      if (value === null || value === undefined) { gap = true; return; }
      drawn += `${gap ? "M" : "L"}${x(step)} ${y(value)}`;
      gap = false;
    });
    return drawn;
  };
  const channels = window[0]?.map((_, channel) => channel) ?? [];
  const line = (rows, kind) => channels.map((channel) => svg("path", { d: path(rows, channel), class: `line series-${channel % 6 + 1} ${kind}`, "vector-effect": "non-scaling-stroke" }));
  return svg("svg", { viewBox: `0 -2 ${WIDE} ${HIGH + 4}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    ...behind.flatMap((rows) => line(rows, "behind")), ...line(window, ""));
}

export function lines(items, about) {
  const every = (about.all ?? items).flat(2).filter((value) => value !== null), low = every.reduce((a, b) => Math.min(a, b), Infinity), high = every.reduce((a, b) => Math.max(a, b), -Infinity);
  const names = about.names?.length > 1 ? about.names.map(({ name }, i) => h("span", { class: `key series-${i % 6 + 1}` }, name)) : [];
  return h("div", {}, about.bare ? null : h("p", { class: "muted small keys" }, ...names, h("span", {}, t("use.scale", { low: number(low), high: number(high) }))),
    h("ul", { class: "charts plain" }, ...items.map((window, i) => h("li", { class: "card chart" },
      h("p", { class: "small" }, about.caption(i), pinned(about, i)),
      chart(window, low, high, t("use.chart", { item: about.caption(i), steps: window.length }), about.behind ? [about.behind(i)] : [])))));
}
