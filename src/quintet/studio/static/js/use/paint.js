// A picture on which the holes are painted, and what the model puts there.
import { $, $$, announce, get, h, notice, t } from "../core.js";
import { remember, values } from "./form.js";
import { origin, saver, spoken, stem } from "./origin.js";
import { picture, pictures } from "./pictures.js";

const COLOUR = [53, 82, 207, 165], LARGE = 1024;

/** A canvas over a picture; what is painted on it are holes. */
class Canvas {
  constructor() {
    Object.assign(this, { wide: 0, high: 0, mask: new Uint8Array(0), tool: "brush", at: [0, 0], corner: null, before: [], drawing: false });
    this.canvas = h("canvas", { class: "paint", tabIndex: 0, role: "application", "aria-label": t("use.paint_area"), "aria-describedby": "paint-about",
      onpointerdown: (event) => this.down(event), onpointermove: (event) => this.move(event), onpointerup: () => this.up(), onpointercancel: () => this.up(), onkeydown: (event) => this.key(event), onblur: () => this.paint(), onfocus: () => this.paint() });
    this.size = h("input", { type: "range", id: "brush", min: 1, max: 8, value: 2, oninput: () => this.paint() });
    this.under = h("div", { class: "paint-under" });
    const tools = ["brush", "erase", "rectangle"].map((one) => h("label", {}, h("input", { type: "radio", name: "tool", value: one, checked: one === this.tool, onchange: () => { this.tool = one; this.corner = null; this.paint(); } }), " ", t(`use.tool.${one}`)));
    const button = (key, act) => h("button", { type: "button", onclick: act }, t(key));
    this.box = h("div", { class: "painting" },
      h("div", { class: "actions" }, h("fieldset", { class: "ways" }, h("legend", { class: "unseen" }, t("use.tools")), ...tools),
        h("label", { class: "small", htmlFor: "brush" }, t("use.brush_size")), this.size,
        button("use.undo", () => this.undo()), button("use.invert", () => this.every((one) => 1 - one)), button("use.clear", () => this.every(() => 0))),
      h("div", { class: "paint-frame" }, this.under, this.canvas), h("p", { class: "muted small", id: "paint-about" }, t("use.paint_about")));
  }

  /** Take a picture, given in base64. */
  async take(item, media) {
    const image = picture(item, media, "");
    await image.decode();
    const small = Math.min(1, LARGE / Math.max(image.naturalWidth, image.naturalHeight));
    this.wide = this.canvas.width = Math.max(1, Math.round(image.naturalWidth * small));
    this.high = this.canvas.height = Math.max(1, Math.round(image.naturalHeight * small));
    this.mask = new Uint8Array(this.wide * this.high);
    Object.assign(this, { at: [this.wide >> 1, this.high >> 1], corner: null, before: [] });
    this.size.max = Math.max(2, Math.ceil(Math.max(this.wide, this.high) / 3));
    this.size.value = Math.max(1, Math.round(Math.max(this.wide, this.high) / 5));
    this.under.replaceChildren(image);
    this.paint();
  }

  get any() { return this.mask.includes(1); }

  /** As a PNG in base64: white where a hole is. */
  png() {
    const canvas = h("canvas", { width: this.wide, height: this.high }), paper = canvas.getContext("2d"), image = paper.createImageData(this.wide, this.high);
    this.mask.forEach((hole, i) => image.data.set(hole ? [255, 255, 255, 255] : [0, 0, 0, 255], 4 * i));
    paper.putImageData(image, 0, 0);
    return canvas.toDataURL("image/png").split(",")[1];
  }

  paint() {
    if (!this.wide) return;
    const paper = this.canvas.getContext("2d", { willReadFrequently: true }), image = paper.createImageData(this.wide, this.high);
    this.mask.forEach((hole, i) => { if (hole) image.data.set(COLOUR, 4 * i); });
    paper.putImageData(image, 0, 0);
    if (document.activeElement !== this.canvas) return;
    const [left, top, right, bottom] = this.corner ? this.between(this.corner, this.at) : this.square(...this.at);
    paper.fillStyle = this.tool === "erase" ? "rgba(255, 120, 110, .5)" : "rgba(255, 190, 60, .5)";
    paper.fillRect(left, top, right - left, bottom - top);
  }

  square(x, y) {
    const size = Number(this.size.value), left = x - (size >> 1), top = y - (size >> 1);
    return this.tool === "rectangle" ? [x, y, x + 1, y + 1] : [left, top, left + size, top + size];
  }

  between(a, b) { return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]) + 1, Math.max(a[1], b[1]) + 1]; }

  set([left, top, right, bottom], value) {
    for (let y = Math.max(0, top); y < Math.min(this.high, bottom); y++) this.mask.fill(value, y * this.wide + Math.max(0, left), y * this.wide + Math.max(Math.max(0, left), Math.min(this.wide, right)));
  }

  keep() { this.before = [...this.before.slice(-19), this.mask.slice()]; }

  undo() {
    this.mask = this.before.pop() ?? this.mask;
    this.paint();
  }

  every(of) {
    this.keep();
    this.mask = this.mask.map(of);
    this.paint();
  }

  dab() { this.set(this.square(...this.at), this.tool === "erase" ? 0 : 1); }

  place(event) {
    const box = this.canvas.getBoundingClientRect(), inside = (value, most) => Math.max(0, Math.min(most - 1, Math.floor(value * most)));
    return [inside((event.clientX - box.left) / box.width, this.wide), inside((event.clientY - box.top) / box.height, this.high)];
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.focus();
    this.keep();
    this.drawing = true;
    this.at = this.place(event);
    if (this.tool === "rectangle") this.corner = this.at;
    else this.dab();
    this.paint();
  }

  move(event) {
    if (!this.drawing) return;
    const from = this.at, to = this.place(event), steps = Math.max(1, Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]));
    for (let i = 1; i <= steps; i++) {
      this.at = [Math.round(from[0] + (to[0] - from[0]) * i / steps), Math.round(from[1] + (to[1] - from[1]) * i / steps)];
      if (!this.corner) this.dab();
    }
    this.paint();
  }

  up() {
    if (this.drawing && this.corner) this.set(this.between(this.corner, this.at), 1);
    Object.assign(this, { drawing: false, corner: null });
    this.paint();
  }

  key(event) {
    if (event.ctrlKey && event.key === "z") this.undo();
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key.startsWith("Arrow")) {
      const by = event.shiftKey ? Number(this.size.value) : 1, [x, y] = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] }[event.key];
      this.at = [Math.max(0, Math.min(this.wide - 1, this.at[0] + x)), Math.max(0, Math.min(this.high - 1, this.at[1] + y))];
    } else if (event.key === " ") this.space();
    else if (event.key === "+" || event.key === "-") this.size.value = Number(this.size.value) + (event.key === "+" ? 1 : -1);
    else if (event.key === "Escape" && this.corner) this.corner = null;
    else return;
    event.preventDefault();
    this.paint();
    announce(t("use.paint_at", { x: this.at[0] + 1, y: this.at[1] + 1, what: t(this.mask[this.at[1] * this.wide + this.at[0]] ? "use.hole_here" : "use.known_here") }));
  }

  space() {
    if (this.tool === "rectangle" && !this.corner) { this.corner = this.at; return; }
    this.keep();
    if (this.corner) this.set(this.between(this.corner, this.at), 1);
    else this.dab();
    this.corner = null;
  }
}

const base64 = (file) => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
  reader.onerror = () => failed(reader.error);
  reader.readAsDataURL(file);
});

export function panel({ form, facts, work }) {
  const canvas = new Canvas(), made = h("div"), note = h("p", { class: "muted small" }), choices = h("div", { class: "preview" }), { media } = facts.items;
  let item = null, given = null, seed = 0, name = "picture.png";
  if (form.elements.draws && !facts.begun.has("draws")) form.elements.draws.value = 4;

  async function use(one, condition, type) {
    try {
      await canvas.take(one, type);
      [item, given] = [one, condition];
      made.replaceChildren();
    } catch { made.replaceChildren(notice(new Error(t("use.no_picture")))); }
  }

  async function own() {
    note.textContent = t("use.reading");
    try {
      const found = await get(`/studio/use/items?${new URLSearchParams({ run: facts.run, split: "test", n: 12, seed })}`);
      name = "picture.png";
      note.textContent = t("use.choose_picture");
      const list = h("ul", { class: "pictures plain" }, ...found.items.map((one, i) => h("li", {}, h("button", { type: "button", class: "picture", "aria-pressed": String(i === 0), onclick: (event) => {
        for (const other of list.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === event.currentTarget));
        use(one, found.conditions?.[i] ?? null, media);
      } }, picture(one, media, t("use.item_n", { i: i + 1 }))))));
      choices.replaceChildren(list);
      await use(found.items[0], found.conditions?.[0] ?? null, media);
    } catch (error) { note.textContent = ""; choices.replaceChildren(notice(error)); }
  }

  async function bring(file) {
    if (!file) return;
    name = file.name;
    await use(await base64(file), null, file.type || media);
  }

  const file = h("input", { type: "file", id: "files", accept: facts.items.suffixes.join(","), onchange: () => bring(file.files[0]) });
  const zone = h("div", { class: "zone", "data-drop": "" }, h("label", { htmlFor: "files" }, t("use.drop_picture")), file);
  zone.addEventListener("dragover", (event) => event.preventDefault());
  zone.addEventListener("drop", (event) => { event.preventDefault(); bring(event.dataTransfer.files[0]); });
  $("#panel").replaceChildren(h("fieldset", { class: "brought" }, h("legend", {}, t("use.a_picture")), note, choices,
    h("button", { type: "button", class: "quiet", onclick: () => { seed += 1; own(); } }, t("use.others")), zone));
  $("#out").replaceChildren(canvas.box, made);
  own();

  return async () => {
    if (item === null) { work.status.replaceChildren(h("p", { class: "bad", role: "alert" }, t("use.no_items"))); return; }
    const body = { ...values(form), items: [item] };
    if (canvas.any) {
      body.holes = canvas.png();
      delete body.known;
    }
    if (given !== null && !body.condition) body.conditions = [given];
    const answer = await work.run((signal) => work.answer(body, { signal }));
    if (!answer) return;
    remember(form, facts.verb);
    work.told(answer);
    made.replaceChildren(h("h2", {}, t("use.filled_in")), pictures([item, ...answer.items], { media, name: stem(facts), caption: (i) => (i ? t("use.draw", { i }) : t("use.original")), under: (i) => (i ? t("use.draw", { i }) : t("use.original")) }));
    $("#bar").replaceChildren(saver(work, facts.media, `${stem(facts)}-${facts.verb}`, () => ({ body })));
    $("#bar").hidden = false;
    await Promise.all($$("img", made).map((one) => one.decode().catch(() => {})));
    made.scrollIntoView({ block: "nearest" });  // below a picture of the width of a phone nobody would see it
    origin(answer.provenance);
    spoken(facts, { ...body, holes: undefined, data: name, ...(body.holes ? { mask: "mask.png" } : {}) });
  };
}
