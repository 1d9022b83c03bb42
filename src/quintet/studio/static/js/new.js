// New run: what is known of the data, every setting with a search, and the command, all asked for behind the page.
import { $, $$, announce, get, h, inWords, later, notice, number, post, problem, t, tongue } from "./core.js";

const form = $("#new"), begin = JSON.parse($("#begin").textContent), list = $("#list"), find = $("#find");
const changed = new Map(); // settings by their key, as they were typed
let fields = [], facts = { columns: [], refused: {} }, chosen = Boolean(begin.form.family), shown = false, ready = false;

// -- what the form says ----------------------------------------------------------------------------------------------

/** The form as texts by name; settings that the chosen family does not have wait until it has them again. */
function told() {
  const typed = new FormData(form), values = { ...Object.fromEntries(typed), families: typed.getAll("families").join(",") }, keys = fields.length ? fields.map(({ key }) => key) : [...changed.keys()];
  for (const key of keys) if (changed.has(key)) values[key] = changed.get(key);
  if (values.steps) delete values.budget;
  return values;
}

function choose(values) {
  for (const [name, value] of Object.entries(values)) {
    if (form.elements[name]) form.elements[name].value = value;
    else changed.set(name, value);
  }
  chosen = true;
  refill();
}

const family = () => form.elements.family.value;

// -- what comes of it ------------------------------------------------------------------------------------------------

/** What is found, or throws what is wrong with what was typed. */
async function sound(found) {
  if (found.problem) throw await problem(found.problem);
  return found;
}

/** One request at a time of each kind: the newest wins, and the others find null. */
function newest(name) {
  let running = null;
  return async () => {
    running?.abort();
    const mine = running = new AbortController();
    try { return await sound(await post(`/studio/new/${name}`, told(), { signal: mine.signal })); }
    catch (error) { if (mine.signal.aborted) return null; throw error; }
  };
}
const [askWords, askCheck, askFields, askAdvice] = ["spoken", "check", "fields", "advice"].map(newest);

const say = later(async () => {
  const words = await askWords();
  if (!words) return;
  for (const [name, { command = "", python = "", problem: refused = null }] of Object.entries(words)) {
    const place = $(`#${name}-spoken`);
    $('[data-spoken="command"]', place).textContent = command;
    $('[data-spoken="python"]', place).textContent = python;
    place.hidden = !command;
    if (name === "compare") $("#compare-problem").replaceChildren(...(refused ? [notice(await problem(refused))] : []));
  }
}, 150);

const check = later(async () => {
  if (!ready) return;
  const place = $(".one");
  place.setAttribute("aria-busy", "true");
  try {
    const found = await askCheck();
    if (!found) return;
    complain(null);
    const facts = { seconds: duration(found.seconds), steps: t("new.batches", { n: found.steps, size: found.batch_size }), parameters: number(found.parameters), bytes: size(found.bytes) };
    for (const [name, text] of Object.entries(facts)) $(`[data-fact="${name}"]`).textContent = t("new.about", { value: text });
    if (!found.enough) $("#train-problem").replaceChildren(h("p", { class: "notice warn" }, t("new.few")));
  } catch (error) {
    for (const one of $$("[data-fact]")) one.textContent = "–";
    complain(error);
  }
  place.removeAttribute("aria-busy");
}, 400);

function update() {
  $("#family-name").textContent = family();
  form.elements.budget.disabled = Boolean(changed.get("steps"));
  const count = fields.filter(({ key }) => changed.has(key)).length;
  $("#changed").hidden = !count;
  $("#changed").textContent = t("new.changed", { n: count });
  for (const one of $$("[data-budget]")) one.setAttribute("aria-pressed", String(one.dataset.budget === form.elements.budget.value));
  timeOfAll();
  remember();
  say();
  check();
}

/** All that is chosen stands in the address, for a reload, a second tab, another language. */
function remember() {
  if (!ready) return;
  const { data, ...rest } = told(), chosen = Object.entries(rest).filter(([name, text]) => text || name === "condition");
  const address = `/new?${new URLSearchParams([["source", data], ...chosen])}`;
  history.replaceState(null, "", address);
  for (const one of $$("input[name=back]")) one.value = address;
}

/** Show what is refused at the field that is to blame, else beside the button. */
function complain(error, place = $("#train-problem")) {
  for (const one of $$("[data-error]")) one.textContent = "";
  for (const one of $$("[aria-invalid]", form)) one.removeAttribute("aria-invalid");
  place.replaceChildren();
  if (!error) return;
  const { where = "", title = "", detail = "", fix = "" } = error.facts ?? {};
  const names = [...where.split(/[\s:,]+/), title.split(" ")[0]];
  const at = $$("[data-error]").find(({ dataset }) => names.some((word) => `${word}.`.startsWith(`${dataset.error}.`)));
  if (!at) { place.replaceChildren(notice(error)); return; }
  const words = error.words;
  at.textContent = [words.title, words.detail, fix.startsWith("quintet ") ? "" : words.fix].filter(Boolean).join(t("colon"));
  at.lang = tongue(at.textContent) ?? "";
  const control = form.elements[at.dataset.error] ?? $("input, select", at.closest(".setting"));
  control.setAttribute("aria-invalid", "true");
  if (at.closest(".setting")) at.closest(".setting").hidden = false;
}

function timeOfAll() {
  const given = /^\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*$/.exec(form.elements.budget.value);
  const able = $$("[name=families]:checked", form).filter((one) => !(one.value in facts.refused)).length;
  const runs = able * form.elements.seeds.value, each = given ? given[1] * { "": 1, s: 1, m: 60, h: 3600 }[given[2]] : 0;
  const known = each && !form.elements.budget.disabled, other = Boolean(form.elements.target.value);
  $("button[value=compare]").disabled = other; // it would pass over the column in silence
  $("#all-time").textContent = other ? t("new.all.items") : known ? t("new.all.time", { n: runs, time: duration(1.25 * runs * each) }) : "";
}

function duration(seconds) {
  if (seconds < 100) return t("new.s", { n: Math.max(1, Math.round(seconds)) });
  if (seconds < 6000) return t("new.min", { n: Math.round(seconds / 60) });
  return t("new.h", { n: Math.round(seconds / 360) / 10 });
}

const size = (bytes) => (bytes < 1e9 ? `${number(Math.round(bytes / 1e7) * 10)} MB` : `${number(Math.round(bytes / 1e8) / 10)} GB`);

// -- every setting ---------------------------------------------------------------------------------------------------

async function refill() {
  update();
  try {
    const found = await askFields();
    if (!found) return;
    fields = found;
  } catch (error) { complain(error); return; }
  const { id = "", selectionStart = null, selectionEnd } = document.activeElement ?? {};
  rows = fields.map(row);
  find.disabled = $("#every").disabled = false;
  filter();
  const again = document.getElementById(id); // what was typed in is a new element now, with the same text selected
  again?.focus();
  if (selectionStart !== null) again?.setSelectionRange?.(selectionStart, selectionEnd);
  update();
}

let rows = [];

/** One setting: its name, what it may be, and how to have its default again. */
function row(field) {
  const id = `setting-${field.key}`, value = changed.get(field.key) ?? field.default;
  const control = controlOf(field, id, value);
  const reset = h("button", { type: "button", class: "quiet", title: t("new.reset"), "aria-label": `${t("new.reset")}: ${field.key}`, onclick: () => {
    control.value = field.default;
    note();
    control.focus();
  } }, t("new.reset"));
  const made = h("div", { class: "setting" },
    h("label", { for: id }, h("span", { class: "section" }, field.section ? `${field.section}.` : ""), field.name),
    h("span", { class: "value" }, control, reset),
    h("p", { class: "help" }, [field.means, field.limits].filter(Boolean).join(" · ")),
    h("span", { class: "error", "data-error": field.key }));
  const mark = () => {
    reset.hidden = !changed.has(field.key);
    made.classList.toggle("changed", changed.has(field.key));
  };
  const note = () => {
    if (control.value === field.default) changed.delete(field.key);
    else changed.set(field.key, control.value);
    mark();
    if (field.section === "data" || field.key === "codec") refillSoon();
    else update();
  };
  control.addEventListener("input", note);
  mark();
  const words = `${field.key} ${field.about} ${field.means} ${t(`new.section.${field.section || "run"}`)}`.toLowerCase();
  return { field, made, control, words };
}

const refillSoon = later(refill, 600);

function controlOf(field, id, value) {
  if (field.kind === "choice" || field.kind === "boolean") {
    const options = field.kind === "boolean" ? ["true", "false"] : field.choices;
    const every = field.optional ? ["", ...options] : options;
    return h("select", { id }, every.map((one) => h("option", { value: one, selected: one === value }, one || t("new.none"))));
  }
  const mode = field.kind === "number" ? (field.step === "any" ? "decimal" : "numeric") : null;
  const placeholder = field.optional ? t("new.none") : null;
  if (!field.choices.length) return h("input", { id, value, inputmode: mode, placeholder, spellcheck: false });
  const names = h("datalist", { id: `${id}-list` }, field.choices.map((one) => h("option", { value: one })));
  document.getElementById(names.id)?.remove();
  form.append(names);
  const control = h("input", { id, value, placeholder, spellcheck: false });
  control.setAttribute("list", names.id);
  return control;
}

/** The settings that hold every word of the search, those whose name begins with it first; without one the changed. */
function filter() {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rank = ({ field }) => (field.name.startsWith(words[0] ?? "") ? 0 : field.key.includes(words[0] ?? "") ? 1 : 2);
  let found = rows.filter(({ field, words: own }) => (words.length ? words.every((word) => own.includes(word)) : shown || changed.has(field.key)));
  if (words.length) found = found.map((one, place) => [rank(one), place, one]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, , one]) => one);
  const parts = [];
  let section = null;
  for (const { field, made } of found) {
    if (!words.length && field.section !== section) parts.push(h("h4", {}, t(`new.section.${field.section || "run"}`)));
    section = field.section;
    parts.push(made);
  }
  list.replaceChildren(...parts);
  $("#found").textContent = words.length ? t("new.found", { n: found.length, all: rows.length }) : t("new.count", { n: rows.length });
  $("#every").setAttribute("aria-expanded", String(shown));
  $("#every").textContent = t(shown ? "new.fewer" : "new.every");
  return found;
}

// -- what is known of the data ---------------------------------------------------------------------------------------

async function look() {
  try { facts = await sound(await post("/studio/new/data", told())); }
  catch (error) {
    $("#facts").textContent = "";
    $("#data-problem").replaceChildren(notice(error));
    for (const one of $$("button, input, select", form)) one.disabled = true;
    return;
  }
  $("#facts").textContent = t("new.facts", { n: facts.items, kind: t(`new.kind.${facts.kind}`) });
  for (const select of $$("select[data-columns]")) {
    const had = select.value, items = select.id === "condition" && facts.labelled ? [[facts.kind, t("new.items")]] : [];
    const options = [...facts.columns.map((name) => [name, name]), ...items].map(([value, text]) => h("option", { value }, text));
    select.replaceChildren(select.options[0], ...options);
    select.value = had;
    if (select.value !== had && had) { select.append(h("option", { value: had }, had)); select.value = had; } // several columns
  }
  if (!("condition" in begin.form) && !begin.like && facts.labelled && facts.columns.includes("label")) form.elements.condition.value = "label";
  const reasons = await inWords(Object.values(facts.refused));
  const refused = Object.fromEntries(Object.keys(facts.refused).map((name, i) => [name, reasons[i]]));
  for (const card of $$(".family")) {
    const why = refused[card.dataset.family], place = $(".refused", card);
    place.hidden = !why;
    place.textContent = why ?? "";
    place.lang = tongue(why ?? "") ?? "";
    card.classList.toggle("off", Boolean(why));
    $("input", card).disabled = Boolean(why);
  }
  if (form.elements.family.value === "" || facts.refused[family()]) $(".family:not(.off) input").checked = true;
  if (begin.like) {
    try { for (const [key, value] of Object.entries(await sound(await get(`/studio/new/like?run=${encodeURIComponent(begin.like)}`)))) changed.set(key, value); }
    catch (error) { complain(error); }
  }
  await refill();
  await advise();
  ready = true;
  update();
}

/** What was measured speaks for which family, for each purpose; the first is chosen if nobody has chosen yet. */
async function advise() {
  let advice;
  try { advice = await askAdvice(); } catch { return; }
  if (!advice) return;
  for (const one of $$(".badges")) one.replaceChildren();
  const said = await inWords([...Object.values(advice.purposes).map(({ why }) => why), ...advice.cautions]);
  const items = Object.entries(advice.purposes).map(([purpose, { family: name, command }]) => {
    const why = said.shift();
    const told = t(`new.purpose.${purpose}`);
    $(`.family[data-family="${name}"] .badges`)?.append(h("span", { class: "badge good" }, told));
    const use = h("button", { type: "button", class: "quiet", onclick: () => {
      choose(asked(command, name));
      announce(t("new.chosen", { family: name }));
    } }, t("new.use", { family: name }));
    return h("li", {}, h("strong", {}, told), use, h("p", { class: "small muted", lang: tongue(why) }, why));
  });
  $("#advice ul").replaceChildren(...items, ...said.map((text) => h("li", { class: "caution small", lang: tongue(text) }, text)));
  $("#advice").hidden = !items.length && !advice.cautions.length;
  if (!chosen && advice.order.length && advice.order[0] !== family()) {
    form.elements.family.value = advice.order[0];
    await refill();
  }
}

/** What a recommended command asks for, as the form has it. */
function asked(command, name) {
  const words = command.split(` --data ${form.elements.data.value}`).pop().trim().split(/\s+/), values = { target: "", condition: "", family: name };
  for (let i = 0; i + 1 < words.length; i += 2) values[words[i].replace(/^--/, "")] = words[i + 1];
  return values;
}

// -- hands -----------------------------------------------------------------------------------------------------------

const advisedFor = later(advise, 1200);
form.addEventListener("input", (event) => {
  const name = event.target.name;
  if (name === "budget") advisedFor();
  if (name === "family") chosen = true;
  if (["family", "preset", "condition", "target"].includes(name)) refill();
  else if (name) update();
});
form.addEventListener("click", (event) => {
  const budget = event.target.closest("[data-budget]")?.dataset.budget;
  if (!budget) return;
  changed.delete("steps");
  form.elements.budget.value = budget;
  rows = fields.map(row);
  filter();
  update();
  advisedFor();
});
form.addEventListener("keydown", (event) => { // a form as large as this is not sent by accident
  if (event.key !== "Enter" || event.target.tagName !== "INPUT" || event.isComposing) return;
  event.preventDefault();
  if (event.target === find) filter()[0]?.control.focus();
});
find.addEventListener("input", filter);
find.addEventListener("keydown", (event) => { if (event.key === "Escape") { find.value = ""; filter(); } });
$("#every").addEventListener("click", () => { shown = !shown; find.value = ""; filter(); });
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  event.preventDefault();
  find.focus();
});
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.submitter ?? $("button[value=compare]"), place = button.value === "train" ? $("#train-problem") : $("#compare-problem");
  button.disabled = true;
  try { location.href = (await sound(await post("/studio/new/add", { ...told(), do: button.value }))).to; }
  catch (error) { complain(error, place); button.disabled = false; }
});
window.addEventListener("pageshow", (event) => { if (event.persisted) for (const one of $$("button[name=do]")) one.disabled = false; });

for (const [name, text] of Object.entries(begin.form)) if (!form.elements[name]) changed.set(name, text);
if (begin.form.seeds) form.elements.seeds.value = begin.form.seeds;
update();
look();
