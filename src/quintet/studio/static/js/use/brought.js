// What is asked about items: of the run's own data, of files, or typed. Each is used, unless some are chosen.
import { $, get, h, notice, number, t } from "../core.js";
import { remember, values } from "./form.js";
import { origin, saver, spoken, stem } from "./origin.js";
import { chart } from "./lines.js";
import { odd } from "./odd.js";
import { picture, source } from "./pictures.js";
import { cell } from "./rows.js";
import { grouped, show } from "./show.js";

const GIVEN = ["classify", "translate"];

export function panel({ form, facts, work }) {
  const side = GIVEN.includes(facts.verb) ? "conditions" : "items", kind = side === "items" ? facts.items : facts.given;
  const brought = new Brought(form, facts, side, kind);
  const out = $("#out"), bar = $("#bar");

  return async () => {
    let more = null, body = null;
    const answer = await work.run(async (signal) => {
      more = await brought.asked();
      if (!more) return null;
      body = { ...values(form), ...more.body };
      if (facts.verb === "reconstruct") body.beside = true;
      return work.answer(body, { files: more.files, signal });
    });
    if (answer === null) brought.lacking();
    if (!answer) return;
    remember(form, facts.verb);
    work.told(answer);
    out.replaceChildren(...[figures(answer), shown(facts, answer, body, more.shown, kind)].filter(Boolean));
    bar.replaceChildren(saver(work, facts.media, `${stem(facts)}-${facts.verb}`, () => ({ body, files: more.files })));
    bar.hidden = false;
    origin(answer.provenance);
    spoken(facts, { ...body, ...brought.said() });
  };
}

/** What an answer says of all items together. */
function figures(answer) {
  const known = [["use.mean_error", answer.mean_absolute_error_encoded], ["use.nats", answer.likelihood?.nats], ["use.nats_per_dim", answer.likelihood?.nats_per_dim],
    ["use.accuracy", answer.labels?.accuracy], ["use.odd", answer.odd]].filter(([, value]) => typeof value === "number");
  if (!known.length) return null;
  return h("dl", { class: "facts card figures" }, ...known.flatMap(([key, value]) => [h("dt", {}, t(key)), h("dd", {}, number(value))]));
}

/** An item as small as a cell of a table. */
export function tile(item, media) {
  if (item === undefined || item === null) return "–";
  if (media.startsWith("image/")) return picture(item, media, "");
  if (media.startsWith("audio/")) return h("audio", { controls: true, preload: "none", src: source(item, media) });
  if (typeof item === "string") return item.length > 80 ? `${item.slice(0, 80)}…` : item;
  if (!Array.isArray(item)) return Object.values(item).map(cell).join(" · ");
  const every = item.flat().filter((value) => value !== null);
  return chart(item, Math.min(...every), Math.max(...every), "");
}

/** The answer as it is best seen beside what it was made of (`given`, where that can be shown). */
function shown(facts, answer, body, given, kind) {
  const { provenance } = answer, media = facts.items.media, name = stem(facts);
  const about = { media, name, names: facts.items.cells, caption: (i) => t("use.item_n", { i: i + 1 }) };
  if (!answer.items?.length) return h("p", { class: "muted" }, t("use.nothing"));
  const items = facts.verb === "encode" && !("item" in answer.items[0]) ? answer.items.map((row, index) => ({ index, ...row })) : answer.items;
  if (hasColumns(items[0])) {
    if (facts.verb === "rank" && given && "p" in items[0]) return odd(items, given, about);
    if (!given || !("index" in items[0])) return show(items, { ...about, media: "" });
    if (hasColumns(given[0])) return show(items.map((row) => ({ ...row, ...given[row.index] })), { ...about, media: "" });
    return show(items, { ...about, media: "", beside: (row) => tile(given[row.index], kind.media) });
  }
  if (facts.verb === "reconstruct") return grouped(items, pairs(items.length), about);
  if (facts.verb === "interpolate") return grouped(items, paths(items.length, provenance.steps), about);
  if (facts.verb === "complete" && given) {
    const lines = Array.isArray(items[0]) ? { behind: (i) => given[i % given.length] } : {};
    return grouped([...given, ...items], draws(items.length, given.length), { ...about, ...lines });
  }
  return show(items, about);
}

const hasColumns = (item) => typeof item === "object" && !Array.isArray(item);
const range = (n, of) => Array.from({ length: n }, (_, i) => of(i));
const pairs = (n) => range(n / 2, (i) => ({ label: t("use.item_n", { i: i + 1 }), at: [2 * i, 2 * i + 1], columns: 2, caption: (j) => t(j ? "use.reconstructed" : "use.original") }));
const paths = (n, steps) => range(n / steps, (i) => ({ label: t("use.path", { a: 2 * i + 1, b: 2 * i + 2 }), at: range(steps, (j) => steps * i + j), columns: steps, caption: (j) => t("use.step_of", { i: j + 1, n: steps }) }));
/** Each item as it was, and then the draws of it: all items come first, then all of the first draw, ... */
const draws = (n, count) => range(count, (i) => ({ label: t("use.item_n", { i: i + 1 }), at: range(n / count + 1, (d) => d * count + i), caption: (d) => (d ? t("use.draw", { i: d }) : t("use.original")) }));

/** The choice of items at the head of the form. */
export class Brought {
  constructor(form, facts, side, kind) {
    Object.assign(this, { facts, side, kind, seed: 0, own: null, chosen: new Set(), files: [], note: h("p", { class: "muted small" }), preview: h("div", { class: "preview" }) });
    const typed = kind.typed, ways = [["own", t("use.own")], ["files", t("use.files")], ...(typed ? [["typed", t("use.typed")]] : [])];
    this.way = typed ? "typed" : "own";
    const name = "from-where";
    const radios = h("div", { class: "ways" }, ...ways.map(([key, label]) => h("label", {}, h("input", { type: "radio", name, value: key, checked: key === this.way,
      onchange: () => { this.way = key; this.draw(); } }), " ", label)));
    this.body = h("div");
    $("#panel").replaceChildren(h("fieldset", { class: "brought" }, h("legend", {}, t(side === "items" ? "use.items" : "use.conditions")), radios, this.body));
    this.draw();
  }

  draw() {
    this.chosen.clear();
    this.preview.replaceChildren();
    this.note.textContent = "";
    ({ own: () => this.drawOwn(), files: () => this.drawFiles(), typed: () => this.drawTyped() })[this.way]();
  }

  drawOwn() {
    const few = this.facts.verb === "interpolate" ? 4 : ["score", "rank", "classify", "encode"].includes(this.facts.verb) ? 64 : 8;
    const n = h("input", { type: "number", id: "own-n", min: 1, max: 1024, value: few, onchange: () => this.read() });
    const split = h("select", { id: "own-split", onchange: () => this.read() }, ...["test", "validation", "train"].map((one) => h("option", { value: one }, t(`use.split.${one}`))));
    Object.assign(this, { n, split });
    const others = h("button", { type: "button", class: "quiet", onclick: () => { this.seed += 1; this.read(); } }, t("use.others"));
    this.body.replaceChildren(h("div", { class: "row" },
      h("div", { class: "field" }, h("label", { htmlFor: "own-n" }, t("use.how_many")), n),
      h("div", { class: "field" }, h("label", { htmlFor: "own-split" }, t("use.of_split")), split), others), this.note, this.preview);
    this.read();
  }

  read() { this.reading = this.load(); }

  async load() {
    const query = new URLSearchParams({ run: this.facts.run, split: this.split.value, n: this.n.value || 8, seed: this.seed });
    this.note.textContent = t("use.reading");
    this.chosen.clear();
    try {
      this.own = await get(`/studio/use/items?${query}`);
      const items = this.own[this.side] ?? [];
      this.note.textContent = items.length > 1 ? t("use.choose") : "";
      const pin = { label: t("use.choose_one"), has: (i) => this.chosen.has(i), toggle: (i) => { if (!this.chosen.delete(i)) this.chosen.add(i); } };
      this.preview.replaceChildren(items.length ? show(items, { media: this.kind.media, caption: (i) => t("use.item_n", { i: i + 1 }), pin }) : h("p", {}, t("use.nothing")));
    } catch (error) { this.note.textContent = ""; this.preview.replaceChildren(notice(error)); }
  }

  drawFiles() {
    const input = h("input", { type: "file", id: "files", multiple: Boolean(this.kind.media), accept: this.kind.suffixes.join(","), onchange: () => this.take([...input.files]) });
    const zone = h("div", { class: "zone", "data-drop": "" }, h("label", { htmlFor: "files" }, t("use.drop_files", { suffixes: this.kind.suffixes.slice(0, 6).join(" ") })), input);
    zone.addEventListener("dragover", (event) => event.preventDefault());
    zone.addEventListener("drop", (event) => { event.preventDefault(); this.take([...event.dataTransfer.files]); });
    this.files = [];
    this.body.replaceChildren(zone, this.note, this.preview);
  }

  async take(files) {
    this.files = files;
    this.note.textContent = files.map((file) => file.name).join(", ");
    this.contents = this.kind.media ? await Promise.all(files.map(base64)) : null;
    if (this.contents?.length) this.preview.replaceChildren(h("div", { class: "tiles" }, ...this.contents.map((item, i) => tile(item, files[i].type || this.kind.media))));
  }

  drawTyped() {
    this.text = h("textarea", { id: "typed", rows: 4, "aria-label": t("use.typed") });
    const holes = this.facts.verb === "complete" ? h("p", { class: "muted small" }, t("use.holes", { hole: this.kind.hole }), " ",
      h("button", { type: "button", class: "quiet", onclick: () => { this.text.setRangeText(this.kind.hole, this.text.selectionStart, this.text.selectionEnd, "end"); this.text.focus(); } }, this.kind.hole)) : null;
    this.body.replaceChildren(...[this.text, h("p", { class: "muted small" }, t("use.one_a_line")), holes].filter(Boolean));
  }

  /** `{body, files, shown, at}`: what goes into the request, the items as they can be shown, and of own ones their places; null where there are none. */
  async asked() {
    await this.reading;
    if (this.way === "typed") {
      const items = this.text.value.split("\n").filter((line) => line.trim());
      return items.length ? { body: { [this.side]: items }, shown: items } : null;
    }
    if (this.way === "files") {
      if (!this.files.length) return null;
      if (this.contents) return { body: { [this.side]: this.contents }, shown: this.contents };
      return { body: {}, files: { [this.side]: this.files[0] } };
    }
    const all = this.own?.[this.side] ?? [], at = all.map((_, i) => i).filter((i) => !this.chosen.size || this.chosen.has(i));
    if (!at.length) return null;
    const body = { [this.side]: at.map((i) => all[i]) };
    const typedCondition = document.getElementById("f-condition")?.value;
    if (this.side === "items" && this.own.conditions && !typedCondition && this.facts.verb !== "interpolate") body.conditions = at.map((i) => this.own.conditions[i]);
    return { body, shown: at.map((i) => all[i]), at };
  }

  /** What a command says of these items: the draw of its own, or the name of a file. */
  said() {
    const own = this.way === "own" && !this.chosen.size && !this.seed;
    const n = Number(this.n?.value);
    if (own) return { n: this.facts.verb === "interpolate" ? Math.max(1, n >> 1) : n, split: this.split.value };
    return this.side === "items" ? { data: this.way === "files" ? this.files[0].name : `items${this.kind.suffixes[0] ?? ""}`, n: null } : {};
  }

  lacking() {
    this.note.textContent = "";
    this.note.append(h("strong", { class: "bad" }, t("use.no_items")));
    this.body.append(this.note);
  }
}

const base64 = (file) => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
  reader.onerror = () => failed(reader.error);
  reader.readAsDataURL(file);
});
