// A field for one cell of a row: a list of the known categories, a number, a date or a text. An empty one is a hole.
import { h, number, t } from "../core.js";

const LISTED = 500;
const midnight = (value) => value === undefined || /^\d{4}-\d\d-\d\d([ T]00:00:00)?$/.test(value);

/** `{box, field, read(), write(value)}`; null stands for a hole, or for nothing given. */
export function cellField(cell, id, none, changed) {
  const known = cell.values && cell.values.length <= LISTED ? cell.values : null, listed = known ?? cell.values?.slice(0, LISTED);
  const time = /^(timestamp|date)/.test(cell.type), days = time && midnight(cell.low) && midnight(cell.high);
  const numeric = !time && /^(u?int|float|double|half|decimal)/.test(cell.type);
  const ends = cell.low === undefined || cell.low === null ? "" : `${typeof cell.low === "number" ? number(cell.low) : cell.low} – ${typeof cell.high === "number" ? number(cell.high) : cell.high}`;
  const field = known
    ? h("select", { id, onchange: changed }, h("option", { value: "" }, none), ...known.map((value, i) => h("option", { value: i }, String(value))))
    : h("input", { id, type: numeric ? "number" : time ? (days ? "date" : "datetime-local") : "text", step: numeric ? (/int/.test(cell.type) ? 1 : "any") : days ? null : time ? 1 : null,
      placeholder: time ? null : ends || none, autocomplete: "off", onchange: changed });
  const list = listed && !known ? h("datalist", { id: `${id}-list` }, ...listed.map((value) => h("option", { value: String(value) }))) : null;
  if (list) field.setAttribute("list", list.id);
  const box = h("div", { class: "field cell-field" }, h("label", { htmlFor: id }, cell.name), field, list, ends && time ? h("span", { class: "help" }, ends) : null);
  const read = () => {
    if (field.value === "") return null;
    if (known) return known[Number(field.value)];
    return numeric ? Number(field.value) : days ? field.value : time ? field.value.replace("T", " ") : field.value;
  };
  const write = (value) => {
    if (value === null || value === undefined) field.value = "";
    else if (known) field.value = String(known.indexOf(value));
    else field.value = days ? String(value).slice(0, 10) : time ? String(value).replace(" ", "T") : String(value);
  };
  return { box, field, read, write };
}
