// What is given, where that is a row of several columns: a field for each, in the place of the row as it is typed.
import { h, t } from "../core.js";
import { cellField } from "./fields.js";

export function conditions(form, facts) {
  const field = form.elements.condition, box = field.closest(".field");
  const fields = facts.given.cells.map((cell, i) => cellField(cell, `given-${i}`, t("use.not_given"), () => {
    const values = fields.map((one) => one.read());
    const row = Object.fromEntries(facts.given.cells.flatMap(({ name }, c) => (values[c] === null ? [] : [[name, values[c]]])));
    field.value = Object.keys(row).length ? JSON.stringify(row) : "";
  }));
  try {
    const before = JSON.parse(field.value || "{}");
    fields.forEach((one, i) => one.write(before[facts.given.cells[i].name]));
  } catch { return; }  // it is written in another way, and stays as it is
  field.hidden = true;
  field.after(h("fieldset", { class: "cell-fields", "aria-label": t("use.conditions") }, ...fields.map((one) => one.box)));
  box.querySelector(".help")?.remove();
}
