// The page on which a model is used: the form, the panel of its verb, and what comes of an answer.
import { $, h, notice, post, t } from "./core.js";
import { named } from "./use/form.js";
import { panelOf } from "./use/panels.js";
import { Work } from "./use/work.js";

const facts = JSON.parse($("#facts").textContent);
facts.begun = new URLSearchParams(location.search);  // the address changes with what is asked
const form = $("#ask"), state = $("#state");
const work = new Work(form, facts);

async function load() {
  state.hidden = false;
  state.className = "badge live";
  state.textContent = t("use.loading");
  try {
    Object.assign(facts, await post("/studio/use/load", { model: facts.run }));
    state.className = "badge good";
    state.textContent = facts.step === null ? t("use.ready") : t("use.ready_at", { step: facts.step });
    return true;
  } catch (error) {
    state.className = "badge bad";
    state.textContent = t("use.not_loaded");
    $("#status").replaceChildren(notice(error));
    return false;
  }
}

/** A new seed: any that the field takes and a person can copy. */
function dice() {
  const field = named(form, "seed");
  if (!field) return;
  const button = h("button", { type: "button", class: "quiet", onclick: () => {
    field.value = Math.floor(Math.random() * 100000);
    form.requestSubmit();
  } }, t("use.new_seed"));
  field.after(button);
  field.parentElement.classList.add("with-button");
}

dice();
if (facts.given?.cells.length > 1 && form.elements.condition) (await import("./use/conditions.js")).conditions(form, facts);
const panel = await panelOf(facts);
const loading = load();
const shown = panel({ form, facts, work, loading });
form.addEventListener("submit", (event) => { event.preventDefault(); shown(); });
$("#go").disabled = false;  // before, a click would send the form to a page that takes none
if (facts.verb === "sample" && facts.begun.has("weights") && await loading) shown();
