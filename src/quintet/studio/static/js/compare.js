// Comparing runs or reports that are there: which of them do not go together.
import { $, $$, announce, notice, post, t } from "./core.js";

/** The fields of a form, those named NAME[] as lists. */
function fields(form) {
  const found = {};
  for (const [name, value] of new FormData(form)) {
    if (name.endsWith("[]")) (found[name] ??= []).push(value);
    else found[name] = value;
  }
  return found;
}

for (const form of $$("form[action='/studio/compare']")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    form.previousElementSibling?.classList.contains("notice") && form.previousElementSibling.remove();
    const button = event.submitter ?? $("button", form);
    button.disabled = true;
    try {
      location.assign((await post("/studio/compare", fields(form))).to);
    } catch (error) {
      form.before(notice(error));
      announce(error.message);
      button.disabled = false;
    }
  });
}

const runs = $("#of-runs");
if (runs) {
  const boxes = $$("input[type=checkbox]", runs);
  const settle = async () => {
    const chosen = boxes.filter((box) => box.checked);
    let why = {};
    if (chosen.length) {
      const others = boxes.filter((box) => box !== chosen[0]).map((box) => box.value);
      try { why = (await post("/studio/compare/unlike", { first: chosen[0].value, others })).why; }
      catch (error) { runs.before(notice(error)); }
    }
    for (const box of boxes) {
      const reason = why[box.value] ?? "", label = box.closest("label");
      box.disabled = Boolean(reason) && !box.checked;
      label.classList.toggle("greyed", box.disabled);
      $(".why", label).textContent = reason;
    }
    $("#chosen").textContent = chosen.length ? t("compare.chosen", { n: chosen.length }) : "";
    $("#compare-runs").disabled = chosen.length < 2;
  };
  runs.addEventListener("change", settle);
  settle();
}

const reports = $("#of-reports");
if (reports) {
  const settle = () => { $("#compare-reports").disabled = $$("input:checked", reports).length < 2; };
  reports.addEventListener("change", settle);
  settle();
}
