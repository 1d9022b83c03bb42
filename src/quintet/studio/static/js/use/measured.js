// How good the model is on items that it has not seen.
import { $, h, number, t, tongue } from "../core.js";
import { remember, values } from "./form.js";
import { origin, spoken } from "./origin.js";

export function panel({ form, facts, work }) {
  const percent = (value) => new Intl.NumberFormat(document.documentElement.lang, { style: "percent", maximumFractionDigits: 2 }).format(value);
  const row = ([key, value], all) => {
    const [name, about, share] = facts.measures[key] ?? [key.replaceAll("_", " "), "", false], write = share ? percent : number;
    const error = all[`${key}_stderr`] ?? (key === "nats" ? all.stderr : undefined);
    return h("tr", {}, h("th", { scope: "row", lang: tongue(name) }, name, about ? h("p", { class: "muted small" }, about) : null),
      h("td", { class: "number" }, write(value), typeof error === "number" ? h("span", { class: "muted" }, ` ± ${write(error)}`) : null));
  };
  const table = (caption, found) => {
    const pairs = Object.entries(found ?? {}).filter(([key, value]) => typeof value === "number" && !key.endsWith("stderr"));
    return pairs.length ? h("table", { class: "table measured" }, h("caption", {}, caption), h("tbody", {}, ...pairs.map((pair) => row(pair, found)))) : null;
  };

  return async () => {
    const body = values(form), answer = await work.run((signal) => work.answer(body, { signal }));
    if (!answer) return;
    remember(form, facts.verb);
    work.told(answer);
    const likelihood = answer.likelihood;
    $("#out").replaceChildren(...[
      table(t("use.figures"), answer.metrics),
      likelihood ? table(t("use.likelihood", { kind: likelihood.kind }), likelihood) : h("p", { class: "muted", lang: tongue(answer.likelihood_reason ?? "") }, answer.likelihood_reason ?? ""),
    ].filter(Boolean));
    if (answer.provenance) origin(answer.provenance);
    spoken(facts, body);
  };
}
