// How good the model is on items that it has not seen.
import { $, h, number, t } from "../core.js";
import { remember, values } from "./form.js";
import { origin } from "./origin.js";

export function panel({ form, facts, work }) {
  const percent = (value) => new Intl.NumberFormat(document.documentElement.lang, { style: "percent", maximumFractionDigits: 2 }).format(value);
  const row = ([key, value]) => {
    const [name, about, share] = facts.measures[key] ?? [key, "", false];
    return h("tr", {}, h("th", { scope: "row", lang: "en" }, name, about ? h("p", { class: "muted small" }, about) : null),
      h("td", { class: "number" }, share ? percent(value) : number(value)));
  };
  const table = (caption, pairs) => pairs.length
    ? h("table", { class: "table measured" }, h("caption", {}, caption), h("tbody", {}, ...pairs.map(row))) : null;

  return async () => {
    const answer = await work.run((signal) => work.answer(values(form), { signal }));
    if (!answer) return;
    remember(form);
    work.told(answer);
    const numbers = (found) => Object.entries(found ?? {}).filter(([, value]) => typeof value === "number");
    const likelihood = answer.likelihood;
    $("#out").replaceChildren(...[
      table(t("use.figures"), numbers(answer.metrics)),
      likelihood ? table(t("use.likelihood", { kind: likelihood.kind }), numbers(likelihood)) : h("p", { class: "muted", lang: "en" }, answer.likelihood_reason ?? ""),
    ].filter(Boolean));
    if (answer.provenance) origin(answer.provenance);
  };
}
