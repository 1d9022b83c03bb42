// How the columns of rows are distributed, over those of the rows that the model was trained on.
import { h, notice, number, post, t } from "../core.js";

const WIDE = 160, HIGH = 40, LISTED = 6;
const percent = new Intl.NumberFormat(document.documentElement.lang, { style: "percent", maximumFractionDigits: 1 });

const svg = (name, attributes, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

/** Ranges side by side: the real ones as areas, these as a line of steps over them. */
function ranges(column) {
  const n = column.labels.length, top = Math.max(...column.real.slice(0, n), ...column.made.slice(0, n), 1e-9), width = WIDE / Math.max(n, 1);
  const y = (share) => (HIGH - (HIGH - 2) * share / top).toFixed(2), x = (i) => (i * width).toFixed(2);
  const bars = column.real.slice(0, n).map((share, i) => `M${x(i)} ${HIGH}V${y(share)}H${x(i + 1)}V${HIGH}`).join("");
  const steps = column.made.slice(0, n).map((share, i) => `${i ? "V" : `M0 ${HIGH}V`}${y(share)}H${x(i + 1)}`).join("") + `V${HIGH}`;
  const spots = column.labels.map((label, i) => svg("rect", { x: x(i), y: 0, width, height: HIGH, class: "spot" },
    svg("title", {}, t("use.share", { value: label, made: percent.format(column.made[i]), real: percent.format(column.real[i]) }))));
  return [svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img", class: "marginal", "aria-label": t("use.marginal", { name: column.name }) },
    svg("path", { d: bars, class: "real" }), svg("path", { d: steps, class: "made-line", "vector-effect": "non-scaling-stroke" }), ...spots),
    h("p", { class: "ends small muted" }, h("span", {}, column.low), h("span", {}, column.high))];
}

/** Values below each other, each with both bars and both shares. */
function values(column) {
  const n = column.labels.length, top = Math.max(...column.real, ...column.made, 1e-9);
  const bar = (share, kind, y) => svg("rect", { x: 0, y, width: (100 * share / top).toFixed(2), height: 4, class: kind });
  const row = (label, made, real) => h("tr", {}, h("th", { scope: "row", title: label }, label === "" ? "“”" : label),
    h("td", { class: "both" }, svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, bar(made, "made-bar", 0), bar(real, "real", 5))),
    h("td", { class: "number" }, percent.format(made)), h("td", { class: "number muted" }, percent.format(real)));
  const order = column.labels.map((_, i) => i).sort((a, b) => column.real[b] - column.real[a]), shown = order.slice(0, LISTED), rest = [...order.slice(LISTED), n];
  const sum = (shares) => rest.reduce((all, i) => all + shares[i], 0), others = sum(column.made) + sum(column.real) > 0;
  return h("table", { class: "shares" }, h("thead", { class: "unseen" }, h("tr", {}, ...["use.value", "", "use.samples", "use.real"].map((key) => key ? h("th", { scope: "col" }, t(key)) : h("td")))),
    h("tbody", {}, ...shown.map((i) => row(column.labels[i], column.made[i], column.real[i])), ...(others ? [row(t("use.other_values"), sum(column.made), sum(column.real))] : [])));
}

function figure(column) {
  const beyond = column.made.at(-1);
  return h("li", { class: "card marginal-of" }, h("h3", { title: column.name }, column.name), ...(column.ordered ? ranges(column) : [values(column)]),
    column.ordered && beyond ? h("p", { class: "small warn" }, t("use.beyond", { share: percent.format(beyond) })) : null);
}

/** A place that fills itself once the studio has counted; `given`: whether the rows were made for one condition. */
export function marginals(facts, items, given) {
  const place = h("div", { class: "marginals" });
  post("/studio/use/marginals", { run: facts.run, items }).then((found) => place.replaceChildren(
    h("h2", {}, t("use.marginals")),
    h("p", { class: "muted small keys" }, h("span", { class: "key made-key" }, t("use.made_rows", { n: found.made })), h("span", { class: "key real-key" }, t("use.real_rows", { n: found.real })),
      given ? h("span", {}, t("use.marginals_given")) : null, found.made < 200 ? h("span", {}, t("use.few_rows")) : null),
    h("ul", { class: "plain marginals-list" }, ...found.columns.map(figure)))).catch((error) => place.replaceChildren(notice(error, "warn")));
  return place;
}
