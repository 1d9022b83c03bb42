// The label of each item: how probable each is, as bars, beside the item itself. What is typed is labelled as it is typed.
import { $, h, later, notice, t } from "../core.js";
import { Brought, tile } from "./brought.js";
import { remember, values } from "./form.js";
import { origin, saver, spoken, stem } from "./origin.js";

const BARS = 5, SHOWN = 64;
const percent = new Intl.NumberFormat(document.documentElement.lang, { style: "percent", maximumFractionDigits: 1 });

function bar(share) {
  const made = (name, attributes, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  return made("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, made("rect", { x: 0, y: 1, width: (100 * share).toFixed(2), height: 8, class: "made-bar" }));
}

/** `truth`: what the data say, where they are the run's own. */
function labelled(row, item, media, i, truth) {
  const all = Object.entries(row).filter(([key]) => key.startsWith("p_")).map(([key, share]) => [key.slice(2), share]).sort((a, b) => b[1] - a[1]);
  const right = truth === undefined ? null : String(truth) === String(row.predicted);
  return h("li", { class: "card labelled" }, h("div", { class: "of" }, tile(item, media)),
    h("div", {}, h("p", {}, h("strong", {}, String(row.predicted)), " ", right === null ? null : h("span", { class: `badge ${right ? "good" : "bad"}` }, right ? t("use.right") : t("use.rather", { label: String(truth) }))),
      h("table", { class: "shares", "aria-label": t("use.labels_of", { i: i + 1 }) }, h("tbody", {}, ...all.slice(0, BARS).map(([label, share]) =>
        h("tr", {}, h("th", { scope: "row", title: label }, label), h("td", { class: "both" }, bar(share)), h("td", { class: "number" }, percent.format(share))))))));
}

export function panel({ form, facts, work }) {
  const brought = new Brought(form, facts, "conditions", facts.given), out = $("#out"), bar = $("#bar");

  async function ask() {
    let more = null, body = null;
    const answer = await work.run(async (signal) => {
      more = await brought.asked();
      if (!more) return null;
      body = { ...values(form), ...more.body };
      return work.answer(body, { files: more.files, signal });
    });
    if (answer === null) brought.lacking();
    if (!answer) return;
    remember(form, facts.verb);
    work.told(answer);
    const given = more.shown ?? [], truth = (i) => more.at && Object.values(brought.own.items?.[more.at[i]] ?? {})[0];
    const known = more.at ? answer.items.filter((row, i) => String(truth(i)) === String(row.predicted)).length : null;
    out.replaceChildren(...[known === null ? null : h("p", { class: "muted" }, t("use.so_many_right", { right: known, n: answer.items.length })),
      h("ul", { class: "plain grid" }, ...answer.items.slice(0, SHOWN).map((row, i) => labelled(row, given[row.index], facts.given.media, i, truth(i)))),
      answer.items.length > SHOWN ? h("p", { class: "muted small" }, t("use.first_of", { shown: SHOWN, n: answer.items.length })) : null].filter(Boolean));
    bar.replaceChildren(saver(work, facts.media, `${stem(facts)}-${facts.verb}`, () => ({ body, files: more.files })));
    bar.hidden = false;
    origin(answer.provenance);
    spoken(facts, { ...body, ...brought.said() });
  }

  const soon = later(() => ask().catch((error) => out.replaceChildren(notice(error))), 500);
  form.addEventListener("input", (event) => { if (event.target.id === "typed" && event.target.value.trim()) soon(); });
  return ask;
}
