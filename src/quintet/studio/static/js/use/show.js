// Items of an answer as a person takes them in. What they are is read off the media type of a file of one of them and off
// their form in JSON, never off the name of a kind of data.
import { h, t } from "../core.js";
import { lines } from "./lines.js";
import { pictures } from "./pictures.js";
import { rows } from "./rows.js";
import { sounds } from "./sounds.js";
import { texts } from "./texts.js";

/**
 * `about`: `caption(i)` names item i; `media` of a file of one item; `pin`, where items can be kept or chosen:
 * `{has(i), toggle(i), label}`; `columns`: so many beside each other; `names`: of the columns or channels;
 * `behind(i)`: what is drawn under it; `bare`: the key of the lines stands elsewhere;
 * `all`: all items that share a scale.
 */
export function show(items, about) {
  const [draw, most] = about.media.startsWith("image/") ? [pictures, 1000] : about.media.startsWith("audio/") ? [sounds, 100]
    : typeof items[0] === "string" ? [texts, 1000] : Array.isArray(items[0]) ? [lines, 100] : [rows, Infinity];
  if (items.length <= most) return draw(items, about);
  return h("div", {}, draw(items.slice(0, most), about), h("p", { class: "muted" }, t("use.first_of", { shown: most, n: items.length })));
}

/** The same in groups, `[{label, at: places of items}]`, each under its label. */
export function grouped(items, groups, about) {
  return h("div", { class: "groups" }, ...groups.map(({ label, at, caption, columns }, place) => h("section", { class: "group" },
    h("h3", { class: "label" }, label),
    show(at.map((i) => items[i]), {
      ...about, bare: place > 0, all: items, columns: columns ?? about.columns, caption: (j) => (caption ?? about.caption)(caption ? j : at[j]),
      behind: about.behind && ((j) => about.behind(at[j])),
      pin: about.pin && { ...about.pin, has: (j) => about.pin.has(at[j]), toggle: (j) => about.pin.toggle(at[j]) },
    }))));
}
