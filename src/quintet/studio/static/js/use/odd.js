// Items from the least likely on, shown themselves: the odd ones, and those that come next.
import { h, number, t } from "../core.js";
import { show } from "./show.js";

const ODD = 0.01, SHOWN = 24;
const p = (row) => t("use.p_nats", { p: number(row.p, 2), nats: number(row.nats, 5) });

/** `ranked`: rows with `index`, `p` and `nats`; `given`: the items that they are about. */
export function odd(ranked, given, about) {
  const known = ranked.filter((row) => given[row.index] !== undefined && given[row.index] !== null), marked = known.filter((row) => row.p <= ODD);
  const columns = typeof given[0] === "object" && !Array.isArray(given[0]);
  const group = (label, rows, kind) => rows.length ? h("section", { class: "odd-group" }, h("h3", {}, label, " ", h("span", { class: `badge ${kind}` }, number(rows.length))),
    columns ? show(rows.map((row) => ({ p: row.p, nats: row.nats, ...given[row.index] })), { ...about, media: "", every: true })
      : show(rows.slice(0, SHOWN).map((row) => given[row.index]), { ...about, caption: (i) => `${t("use.item_n", { i: rows[i].index + 1 })}: ${p(rows[i])}`, under: (i) => p(rows[i]) }),
    !columns && rows.length > SHOWN ? h("p", { class: "muted small" }, t("use.first_of", { shown: SHOWN, n: rows.length })) : null) : null;
  const list = show(ranked, { media: "", caption: about.caption });
  return h("div", { class: "odd-items" }, group(t("use.odd_ones", { p: number(ODD) }), marked, "bad"), marked.length ? null : h("p", { class: "notice good" }, t("use.none_odd", { p: number(ODD) })),
    group(t("use.next_ones"), known.filter((row) => row.p > ODD), ""), columns ? null : h("details", {}, h("summary", {}, t("use.as_table")), list));
}
