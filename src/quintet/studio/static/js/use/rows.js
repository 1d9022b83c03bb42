// Rows as a table that can be sorted by each column.
import { h, number, t } from "../core.js";

const MOST = 500;
const order = new Intl.Collator(document.documentElement.lang, { numeric: true });

function compare(a, b) {
  if (a === null || a === undefined) return b === null || b === undefined ? 0 : 1;
  if (b === null || b === undefined) return -1;
  return typeof a === "number" && typeof b === "number" ? a - b : order.compare(String(a), String(b));
}

export const cell = (value) => value === null || value === undefined ? "–" : typeof value === "number" ? number(value, 4) : typeof value === "object" ? JSON.stringify(value) : String(value);

/** `about.beside(row)` gives an element for a first column of its own; `about.hidden`: names of columns that are left out, as those are that are empty unless `about.every`. */
export function rows(items, about) {
  const none = (value) => value === null || value === undefined || value === "";
  const names = [...new Set(items.slice(0, 100).flatMap(Object.keys))].filter((name) => !about.hidden?.includes(name)
    && (about.every || items.some((row) => !none(row[name]))));
  const numeric = (name) => items.every((row) => none(row[name]) || typeof row[name] === "number");
  const kinds = Object.fromEntries(names.map((name) => [name, numeric(name) ? "number" : ""]));
  let sorted = items.map((row, i) => [row, i]), by = null, down = false, most = MOST;
  const body = h("tbody"), more = h("button", { type: "button", onclick: () => { most = Infinity; fill(); } });
  const heads = names.map((name) => {
    const head = h("th", { scope: "col", class: kinds[name] }, h("button", { type: "button", class: "quiet sort", onclick: () => {
      down = by === head ? !down : false;
      by = head;
      sorted.sort(([a, i], [b, j]) => (down ? -1 : 1) * compare(a[name], b[name]) || i - j);
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      fill();
    } }, name));
    return head;
  });
  const fill = () => {
    body.replaceChildren(...sorted.slice(0, most).map(([row]) => h("tr", {},
      about.beside ? h("td", { class: "tile" }, about.beside(row)) : null,
      ...names.map((name) => h("td", { class: kinds[name] }, cell(row[name]))))));
    more.hidden = items.length <= most;
    more.textContent = t("use.all_rows", { n: items.length });
  };
  fill();
  return h("div", {}, h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": about.label ?? t("use.rows") },
    h("table", { class: "table rows" }, h("thead", {}, h("tr", {}, about.beside ? h("th", { scope: "col" }, t("use.item")) : null, ...heads)), body)), more);
}
