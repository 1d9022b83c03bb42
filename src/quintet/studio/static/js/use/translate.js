// Two panes: what is given at the left, what the model makes of it at the right, as it is typed.
import { $, get, h, later, notice, number, t } from "../core.js";
import { remember, values } from "./form.js";
import { origin, saver, spoken, stem } from "./origin.js";

const percent = new Intl.NumberFormat(document.documentElement.lang, { style: "percent", maximumSignificantDigits: 2 });

export function panel({ form, facts, work }) {
  const right = h("div", { class: "pane-out", "aria-live": "polite" }, h("p", { class: "muted" }, t("use.translation_here"))), known = new Map();
  const text = h("textarea", { id: "typed", rows: 6, spellcheck: false });
  let seed = 0;

  async function example() {
    try {
      const found = await get(`/studio/use/items?${new URLSearchParams({ run: facts.run, split: "test", n: 3, seed })}`);
      seed += 1;
      found.conditions.forEach((one, i) => known.set(one, found.items[i]));
      text.value = found.conditions.map((one) => one.replaceAll("\n", " ")).join("\n");
      await ask();
    } catch (error) { right.replaceChildren(notice(error)); }
  }

  const lines = () => text.value.split("\n").filter((line) => line.trim());

  async function ask() {
    const conditions = lines();
    if (!conditions.length) { right.replaceChildren(h("p", { class: "muted" }, t("use.translation_here"))); return; }
    const body = { ...values(form), conditions }, answer = await work.run((signal) => work.answer(body, { signal }));
    if (!answer) return;
    remember(form, facts.verb);
    work.told(answer);
    const best = conditions.map((_, i) => body.n_best ? answer.items.filter((one) => one.item === i) : [{ text: answer.items[i] }]);
    right.replaceChildren(h("ol", { class: "plain translations" }, ...conditions.map((given, i) => h("li", {}, h("p", { class: "small muted" }, given),
      ...best[i].map((one) => h("p", { class: "translation" }, one.text, typeof one.log_prob === "number" ? h("span", { class: "agreed muted", title: t("use.log_prob", { nats: number(one.log_prob) }) }, percent.format(Math.exp(one.log_prob))) : null)),
      known.has(given) && known.get(given) !== best[i][0]?.text ? h("p", { class: "small" }, h("span", { class: "label" }, t("use.in_the_data")), " ", known.get(given)) : null))));
    $("#bar").replaceChildren(saver(work, body.n_best ? facts.results : facts.media, `${stem(facts)}-${facts.verb}`, () => ({ body })));
    $("#bar").hidden = false;
    origin(answer.provenance);
    spoken(facts, body);
  }

  const soon = later(ask, 500);
  text.addEventListener("input", soon);
  const file = h("input", { type: "file", id: "files", accept: facts.given.suffixes.join(","), onchange: async () => { text.value = (await file.files[0].text()).slice(0, 20000); ask(); } });
  $("#panel").replaceChildren(h("div", { class: "field" }, h("label", { htmlFor: "files" }, t("use.a_text_file")), file));
  $("#out").replaceChildren(h("div", { class: "panes" },
    h("div", { class: "card" }, h("div", { class: "heading" }, h("label", { htmlFor: "typed" }, t("use.conditions")), h("button", { type: "button", class: "quiet", onclick: example }, t("use.an_example"))), text, h("p", { class: "muted small" }, t("use.one_a_line"))),
    h("section", { class: "card", "aria-label": t("use.translation") }, h("div", { class: "heading" }, h("h2", {}, t("use.translation"))), right)));
  return ask;
}
