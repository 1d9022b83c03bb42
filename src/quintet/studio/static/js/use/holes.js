// Rows with holes: a form of one row, a grid of all, and the holes filled in place.
import { $, announce, get, h, notice, number, t } from "../core.js";
import { cellField } from "./fields.js";
import { remember, values } from "./form.js";
import { origin, saver, spoken, stem } from "./origin.js";
import { cell } from "./rows.js";

const SHOWN = 100;
const percent = new Intl.NumberFormat(document.documentElement.lang, { style: "percent", maximumFractionDigits: 0 });
const empty = (value) => value === null || value === undefined;

/** Of several draws: what they agree on most, and how far. */
function agreed(draws) {
  const counts = new Map();
  for (const value of draws) counts.set(value, (counts.get(value) ?? 0) + 1);
  const order = [...counts].sort((a, b) => b[1] - a[1]), [value, count] = order[0];
  const sorted = draws.filter((one) => typeof one === "number").sort((a, b) => a - b);
  const none = empty(value), text = none ? t("use.no_value") : cell(value);
  if (draws.length < 2) return { text, none, about: "" };
  if (sorted.length === draws.length && counts.size > 2 && 2 * count <= draws.length) return { text: cell(sorted[draws.length >> 1]), about: `${number(sorted[0])} – ${number(sorted.at(-1))}` };
  return { text, none, about: percent.format(count / draws.length) };
}

const spread = (draws) => {
  const counts = new Map();
  for (const value of draws) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
};

class Grid {
  constructor(facts) {
    Object.assign(this, { facts, cells: facts.items.cells, rows: [], was: [], filled: null, given: null, file: null, at: [0, 0], shown: SHOWN, seed: 0 });
    this.place = h("div", { class: "holes" }, h("p", { class: "muted" }, t("use.reading")));
    this.note = h("p", { class: "muted small" });
    this.form();
  }

  // -- where rows come from --

  form() {
    const n = h("input", { type: "number", id: "own-n", min: 1, max: 1024, value: 8, onchange: () => this.own() });
    const split = h("select", { id: "own-split", onchange: () => this.own() }, ...["test", "validation", "train"].map((one) => h("option", { value: one }, t(`use.split.${one}`))));
    const file = h("input", { type: "file", id: "files", accept: this.facts.items.suffixes.join(","), onchange: () => file.files[0] && this.upload(file.files[0]) });
    const zone = h("div", { class: "zone", "data-drop": "" }, h("label", { htmlFor: "files" }, t("use.drop_table")), file);
    zone.addEventListener("dragover", (event) => event.preventDefault());
    zone.addEventListener("drop", (event) => { event.preventDefault(); if (event.dataTransfer.files[0]) this.upload(event.dataTransfer.files[0]); });
    Object.assign(this, { n, split });
    this.fields = this.cells.map((one, c) => cellField(one, `cell-${c}`, t("use.hole"), () => this.typed(c)));
    for (const [c, one] of this.fields.entries()) one.field.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.preventDefault(); this.focus(this.at[0], c); } });
    this.legend = h("legend", {});
    $("#panel").replaceChildren(h("fieldset", { class: "brought" }, h("legend", {}, t("use.items")),
      h("div", { class: "row" }, h("div", { class: "field" }, h("label", { htmlFor: "own-n" }, t("use.how_many")), n), h("div", { class: "field" }, h("label", { htmlFor: "own-split" }, t("use.of_split")), split),
        h("button", { type: "button", class: "quiet", onclick: () => { this.seed += 1; this.own(); } }, t("use.others"))),
      this.note, h("details", {}, h("summary", {}, t("use.own_table")), zone)),
      h("fieldset", { class: "brought one-row" }, this.legend, h("p", { class: "muted small" }, t("use.row_about")), h("div", { class: "cell-fields" }, ...this.fields.map((one) => one.box))));
  }

  async bring(read) {
    this.note.textContent = t("use.reading");
    try {
      const found = await read();
      this.rows = (found.items ?? []).map((row) => Object.fromEntries(this.cells.map(({ name }) => [name, row[name] ?? null])));
      this.was = this.rows.map((row) => ({ ...row }));
      this.given = found.conditions ?? null;
      Object.assign(this, { filled: null, at: [0, 0], shown: SHOWN });
      this.note.textContent = found.n > this.rows.length ? t("use.first_of", { shown: this.rows.length, n: found.n }) : "";
      this.draw();
    } catch (error) { this.note.textContent = ""; this.place.replaceChildren(notice(error)); }
  }

  own() {
    this.file = null;
    const query = new URLSearchParams({ run: this.facts.run, split: this.split.value, n: this.n.value || 8, seed: this.seed });
    return this.reading = this.bring(() => get(`/studio/use/items?${query}`));
  }

  upload(file) {
    this.file = file.name;
    const form = new FormData();
    form.append("run", this.facts.run);
    form.append("file", file);
    return this.reading = this.bring(() => get("/studio/use/rows", { method: "POST", body: form }));
  }

  // -- cells --

  set(r, c, value) {
    this.rows[r][this.cells[c].name] = value;
    if (this.filled) this.filled[r] = null;
    this.paint(r);
    this.fill(r);
  }

  turn(r, c) {
    const name = this.cells[c].name;
    this.set(r, c, empty(this.rows[r][name]) ? this.was[r][name] : null);
  }

  typed(c) {
    const value = this.fields[c].read();
    if (value !== null) this.was[this.at[0]][this.cells[c].name] = value;
    this.set(this.at[0], c, value);
  }

  turnColumn(c) {
    const { name } = this.cells[c], any = this.rows.some((row) => !empty(row[name]));
    this.rows.forEach((row, r) => { row[name] = any ? null : this.was[r][name]; });
    this.filled = null;
    this.draw();
  }

  random() {
    for (const row of this.rows) for (const { name } of this.cells) if (Math.random() < 0.1) row[name] = null;
    this.filled = null;
    this.draw();
  }

  restore() {
    this.rows = this.was.map((row) => ({ ...row }));
    this.filled = null;
    this.draw();
  }

  add() {
    this.rows.push(Object.fromEntries(this.cells.map(({ name }) => [name, null])));
    this.was.push({ ...this.rows.at(-1) });
    this.shown = Math.max(this.shown, this.rows.length);
    this.draw();
    this.focus(this.rows.length - 1, 0);
    this.fields[0].field.focus();
  }

  // -- what is seen --

  draw() {
    this.body = h("tbody", {}, ...this.rows.slice(0, this.shown).map(() => h("tr")));
    const head = h("tr", {}, h("th", { scope: "col" }, h("span", { class: "unseen" }, t("use.item"))), ...this.cells.map(({ name }, c) =>
      h("th", { scope: "col", class: this.rows.some((row) => typeof row[name] === "number") ? "number" : "" }, h("button", { type: "button", class: "quiet sort", title: t("use.turn_column", { name }), onclick: () => this.turnColumn(c) }, name))));
    const table = h("table", { class: "table rows cells", role: "grid", "aria-label": t("use.rows"), onkeydown: (event) => this.key(event), onclick: (event) => this.click(event), onfocusin: (event) => this.reached(event) }, h("thead", {}, head), this.body);
    const tools = h("div", { class: "actions" },
      h("button", { type: "button", onclick: () => this.random() }, t("use.random_holes")),
      h("button", { type: "button", onclick: () => this.restore() }, t("use.restore_cells")),
      this.given ? null : h("button", { type: "button", onclick: () => this.add() }, t("use.add_row")));
    const more = this.rows.length > this.shown ? h("button", { type: "button", onclick: () => { this.shown = this.rows.length; this.draw(); } }, t("use.all_rows", { n: this.rows.length })) : null;
    this.draws = h("div");
    this.place.replaceChildren(tools, h("p", { class: "muted small" }, t("use.grid_about")), h("div", { class: "scroll" }, table), ...(more ? [more] : []), this.draws);
    for (let r = 0; r < this.body.children.length; r++) this.paint(r);
    this.fill(Math.min(this.at[0], this.rows.length - 1));
  }

  paint(r) {
    const line = this.body.children[r];
    if (!line) return;
    const held = line.contains(document.activeElement);
    line.replaceChildren(h("th", { scope: "row", class: "muted" }, String(r + 1)), ...this.cells.map(({ name }, c) => this.cell(r, c, name)));
    if (held) line.children[this.at[1] + 1].focus();
  }

  cell(r, c, name) {
    const value = this.rows[r][name], draws = empty(value) && this.filled?.[r]?.map((row) => row[name]), numeric = typeof (value ?? this.was[r][name]) === "number";
    const made = draws ? agreed(draws) : null;
    return h("td", { role: "gridcell", tabIndex: r === this.at[0] && c === this.at[1] ? 0 : -1, class: `${numeric ? "number" : ""} ${made ? (made.none ? "filled none" : "filled") : empty(value) ? "hole" : ""}`,
      title: draws && draws.length > 1 ? draws.map(cell).join(" · ") : null },
      ...(made ? [made.text, made.about ? h("span", { class: "agreed" }, made.about) : null, h("span", { class: "unseen" }, ` (${t("use.filled")})`)] : empty(value) ? [h("span", { class: "unseen" }, t("use.hole"))] : [cell(value)]));
  }

  /** The form of row r. */
  fill(r) {
    if (r < 0 || !this.rows[r]) return;
    this.at[0] = r;
    this.legend.textContent = t("use.row_n", { i: r + 1 });
    this.cells.forEach(({ name }, c) => this.fields[c].write(this.rows[r][name]));
    for (const [i, line] of [...this.body.children].entries()) line.classList.toggle("chosen", i === r);
  }

  place_of(target) {
    const td = target.closest("td"), line = td?.parentElement;
    return td ? [[...this.body.children].indexOf(line), [...line.children].indexOf(td) - 1] : null;
  }

  focus(r, c) {
    const before = this.body.children[this.at[0]]?.children[this.at[1] + 1], now = this.body.children[r]?.children[c + 1];
    if (!now) return;
    if (before) before.tabIndex = -1;
    this.at = [r, c];
    now.tabIndex = 0;
    now.focus();
    this.fill(r);
  }

  reached(event) {
    const at = this.place_of(event.target);
    if (at && (at[0] !== this.at[0] || at[1] !== this.at[1])) this.focus(...at);
  }

  click(event) {
    const at = this.place_of(event.target);
    if (!at) return;
    this.focus(...at);
    this.turn(...at);
  }

  key(event) {
    const at = this.place_of(event.target);
    if (!at || event.ctrlKey || event.metaKey || event.altKey) return;
    const [r, c] = at, last = this.cells.length - 1;
    const to = { ArrowRight: [r, c + 1], ArrowLeft: [r, c - 1], ArrowDown: [r + 1, c], ArrowUp: [r - 1, c], Home: [r, 0], End: [r, last] }[event.key];
    if (to) this.focus(Math.max(0, to[0]), Math.min(last, Math.max(0, to[1])));
    else if (["Delete", "Backspace"].includes(event.key)) this.set(r, c, null);
    else if (event.key === " ") this.turn(r, c);
    else if (["Enter", "F2"].includes(event.key)) this.fields[c].field.focus();
    else return;
    event.preventDefault();
  }

  // -- what the model says --

  body_of(form) {
    const body = { ...values(form), items: this.rows };
    if (this.given && !body.condition) body.conditions = this.given;
    return body;
  }

  lacking() {
    const filled = this.rows.flatMap((row) => Object.values(row)).filter((value) => !empty(value)).length, all = this.rows.length * this.cells.length;
    return !all ? "use.no_items" : filled === all ? "use.no_hole" : filled || this.given ? "" : "use.all_holes";
  }

  take(answer, draws) {
    const n = this.rows.length;
    this.filled = this.rows.map((_, r) => Array.from({ length: draws }, (_, d) => answer.items[d * n + r]));
    this.draw();
    const holes = this.rows.flatMap((row, r) => this.cells.filter(({ name }) => empty(row[name])).map(({ name }) => [r, name]));
    announce(t("use.filled_n", { n: holes.length }));
    if (draws < 2) return;
    this.draws.replaceChildren(h("h2", {}, t("use.draws_of")), h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": t("use.draws_of") }, h("table", { class: "table rows" },
      h("thead", {}, h("tr", {}, ...["use.row", "use.column", "use.before", "use.draws_head"].map((key) => h("th", { scope: "col" }, t(key))))),
      h("tbody", {}, ...holes.slice(0, SHOWN).map(([r, name]) => h("tr", {}, h("td", { class: "number" }, String(r + 1)), h("th", { scope: "row" }, name), h("td", { class: "muted" }, cell(this.was[r][name])),
        h("td", { class: "draws" }, ...spread(this.filled[r].map((row) => row[name])).slice(0, 12).map(([value, count]) => h("span", { class: "drawn" }, cell(value), " ", h("span", { class: "muted" }, percent.format(count / draws)))))))))));
  }
}

export function panel({ form, facts, work }) {
  const grid = new Grid(facts), bar = $("#bar");
  if (form.elements.known) form.elements.known.closest(".field").hidden = true;  // the grid says it
  $("#out").replaceChildren(grid.place);
  grid.own();
  return async () => {
    await grid.reading;
    const lacking = grid.lacking();
    if (lacking) { work.status.replaceChildren(h("p", { class: "bad", role: "alert" }, t(lacking))); return; }
    const body = grid.body_of(form), answer = await work.run((signal) => work.answer(body, { signal }));
    if (!answer) return;
    remember(form, facts.verb);
    work.told(answer);
    grid.take(answer, body.draws ?? 1);
    bar.replaceChildren(saver(work, facts.media, `${stem(facts)}-${facts.verb}`, () => ({ body })));
    bar.hidden = false;
    origin(answer.provenance);
    spoken(facts, { ...body, data: grid.file ?? "rows.csv" });
  };
}
