// How good the model is on items that it has not seen.
import { $, h, inWords, number, t, tongue } from "../core.js";
import { remember, values } from "./form.js";
import { origin, spoken } from "./origin.js";

/** The name of a figure that no report shows. */
function figure(key) {
  const name = t(`use.figure.${key}`);
  return name.startsWith("use.figure.") ? key.replaceAll("_", " ") : name;
}

export function panel({ form, facts, work }) {
  const percent = (value) => new Intl.NumberFormat(document.documentElement.lang, { style: "percent", maximumFractionDigits: 2 }).format(value);
  const row = ([key, value], all) => {
    const [name, about, share] = facts.measures[key] ?? [figure(key), "", false], write = share ? percent : number;
    const error = all[`${key}_stderr`] ?? (key === "nats" ? all.stderr : undefined);
    return h("tr", {}, h("th", { scope: "row" }, h("span", { lang: tongue(name) }, name), about ? h("p", { class: "muted small" }, about) : null),
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
    const likelihood = answer.likelihood, [kind] = await inWords([likelihood?.kind]);
    $("#out").replaceChildren(...[
      table(t("use.figures"), answer.metrics),
      likelihood ? table(t("use.likelihood", { kind }), likelihood) : h("p", { class: "muted", lang: tongue(answer.likelihood_reason ?? "") }, answer.likelihood_reason ?? ""),
    ].filter(Boolean));
    if (answer.provenance) origin(answer.provenance);
    spoken(facts, body);
  };
}
