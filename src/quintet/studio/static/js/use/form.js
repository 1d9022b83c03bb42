// A form as the body of a request, and a refusal at the field that it is about.
import { $, $$, h, t, tongue } from "../core.js";

/** The field of a name; `form.elements` has names of its own, as length. */
export const named = (form, name) => $(`[data-kind][name="${CSS.escape(name)}"]`, form);

const typed = (field) => {
  if (field.type === "checkbox") return field.checked;
  if (field.dataset.kind === "number") return Number(field.value);
  if (field.dataset.kind === "list") return field.value.split("\n").filter(Boolean);
  return field.value;
};

/** What differs from what holds anyway, by name; settings of sampling are an object of their own. */
export function values(form) {
  const body = {};
  for (const field of $$("[data-kind]", form)) {
    const text = field.type === "checkbox" ? String(field.checked) : field.value;
    if (text === field.dataset.own && field.name !== "n" || (text === "" && field.type !== "checkbox")) continue;
    const [section, name] = field.name.includes(".") ? field.name.split(".") : [null, field.name];
    if (section) (body[section] ??= {})[name] = typed(field);
    else body[name] = typed(field);
  }
  return body;
}

/** The same as the query of an address, so that the page can be opened as it is. */
export function remember(form, verb) {
  const query = new URLSearchParams({ verb });
  for (const field of $$("[data-kind]", form)) {
    const text = field.type === "checkbox" ? String(field.checked) : field.value;
    if (text !== field.dataset.own && text.length < 500) query.set(field.name, text);
    if (field.selectedOptions?.[0]?.hasAttribute("data-every")) query.set("conditions", "every");
  }
  history.replaceState(null, "", `?${query}`);
}

/** No field is at fault any more. */
export function calm(form) {
  for (const place of $$(".field .error", form)) { place.hidden = true; place.textContent = ""; }
  for (const field of $$("[aria-invalid]", form)) field.removeAttribute("aria-invalid");
}

/** Whether every field holds what it may; the first that does not says why, in the browser's words. */
export function fits(form) {
  for (const field of $$("[data-kind]", form)) {
    if (!field.checkValidity()) { blame(field, field.validationMessage); return false; }
  }
  return true;
}

function blame(field, ...said) {
  const place = $(".error", field.closest(".field"));
  place.replaceChildren(...said);
  place.hidden = false;
  field.setAttribute("aria-invalid", "true");
  for (let box = field.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  field.focus();
}

/** Say a refusal at the field that it names. Whether there is such a field. */
export function blamed(form, error) {
  const facts = error.facts ?? {};
  const names = [facts.where, (facts.title ?? "").match(/^([\w.]+)\b/)?.[1]].filter(Boolean);
  for (const name of names) {
    const field = named(form, name) ?? named(form, `sampling.${name}`);
    if (!field) continue;
    const { title, detail, fix } = error.words ?? facts, words = [title, detail, fix].filter(Boolean).join(t("semicolon"));
    blame(field, h("span", { lang: tongue(words) }, words));
    return true;
  }
  return false;
}
