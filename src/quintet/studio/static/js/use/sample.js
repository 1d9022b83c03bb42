// New items: the same seed gives the same ones, "more" goes on with it, and those that one likes are kept.
import { $, $$, h, t } from "../core.js";
import { named, remember, values } from "./form.js";
import { marginals } from "./marginals.js";
import { origin, saver, spoken, stem } from "./origin.js";
import { grouped, show } from "./show.js";
import { growing, written } from "./texts.js";

/** A stop text as it is meant: \n is a line end. */
const meant = (stop) => stop.replace(/\\([ntr\\])/g, (_, sign) => ({ n: "\n", t: "\t", r: "\r" })[sign] ?? sign);
const STREAMED = ["prompt", "n", "seed", "condition", "length", "stop"], DRAWN = ["temperature", "top_p"];
const WRITTEN = ["length", "stop", "regex", "n_best"];

export function panel({ form, facts, work, loading }) {
  const media = facts.items.media, out = $("#out"), bar = $("#bar");
  const kept = new Kept(facts, () => redraw());
  let last = null;
  loading.then(() => {  // only then is it known whether texts are written symbol by symbol
    for (const name of facts.writes === false ? WRITTEN : []) named(form, name)?.closest(".field").toggleAttribute("hidden", true);
  });

  /** The body of a request for n items, and the groups in which they are shown. */
  function asked(n) {
    const body = values(form), field = named(form, "condition");
    const every = field?.selectedOptions?.[0]?.hasAttribute("data-every");
    const classes = every ? facts.given.cells[0].values.map(String) : null;
    if (n) body.n = n;
    if (body.n_best && !facts.given) delete body.n;  // the likeliest of nothing else are always the same
    if (classes) {  // item i has class i mod k, so that the items of a seed stay what they are when there are more
      body.n = Math.ceil((n ?? Math.max(body.n ?? 0, classes.length)) / classes.length) * classes.length;
      body.conditions = Array.from({ length: body.n }, (_, i) => classes[i % classes.length]);
      delete body.condition;
    } else if (field && !field.selectedOptions && facts.given.cells.length > 1 && body.condition) {
      try { body.condition = JSON.parse(body.condition); } catch { /* as it is typed */ }
    }
    return { body, classes };
  }

  const streams = (body) => facts.items.typed && facts.writes && Object.keys(body).every((name) => STREAMED.includes(name) || name === "sampling")
    && Object.entries(body.sampling ?? {}).every(([name, value]) => DRAWN.includes(name) && value <= 2) && (body.stop ?? []).length <= 4;

  async function begin(n) {
    const { body, classes } = asked(n);
    if (await loading && streams(body)) return write(body);
    const answer = await work.run((signal) => work.answer(body, { signal }));
    if (!answer) return;
    last = { body, classes, answer, items: answer.items };
    remember(form, facts.verb);
    work.told(answer);
    redraw();
    tools(last);
  }

  async function write(body) {
    const about = { caption: (i) => t("use.item_of", { seed: body.seed ?? 0, i }), prompt: body.prompt, media };
    const { prompt = "", n = 1, seed = 0, condition, stop = [], sampling = {} } = body;
    const length = Math.min(body.length ?? 200, facts.longest ?? Infinity);
    const asking = { model: facts.run, prompt, n, seed, max_tokens: length, stop: stop.map(meant), stream: true, stream_options: { include_usage: true }, ...sampling };
    if (condition !== undefined) asking.condition = condition;
    const began = performance.now(), texts = growing(n, about);
    const end = await work.run(async (signal) => {
      out.replaceChildren(texts.list);
      return written("/v1/completions", asking, signal, texts.add);
    });
    $$(".growing", out).forEach((one) => one.classList.remove("growing"));
    if (!end) return;
    const note = { run: facts.run, weights: end.weights, step: facts.step, seed, n, condition: condition ?? null, prompt: prompt || null, length, stop, sampling };
    last = { body: { ...body, length }, items: texts.texts(), answer: { seed, provenance: note, seconds: (performance.now() - began) / 1000 } };
    remember(form, facts.verb);
    work.told({ provenance: note, seconds: last.answer.seconds, ms_per_sample: end.usage && 1000 * last.answer.seconds / end.usage.completion_tokens });
    redraw();
    tools(last);
  }

  function redraw() {
    if (!last) return;
    const { items, answer, classes, body } = last, seed = answer.seed ?? 0;
    const about = {
      media, name: stem(facts), names: facts.items.cells, every: true, prompt: body.prompt, caption: (i) => t("use.item_of", { seed, i }),
      pin: Array.isArray(items[0]) || typeof items[0] === "object" ? null : kept.pin(items, seed),
    };
    const groups = classes?.map((label, c) => ({ label, at: items.map((_, i) => i).filter((i) => i % classes.length === c) }));
    if (body.n_best) out.replaceChildren(show(items, { ...about, media: "", pin: null }));
    else if (!items.length) out.replaceChildren();
    else out.replaceChildren(groups ? grouped(items, groups, about) : show(items, about));
    const rows = items.length && typeof items[0] === "object" && !Array.isArray(items[0]) && !body.n_best;
    if (rows) out.prepend(marginals(facts, items, Boolean(body.condition || body.conditions)));
    kept.draw(media);
    const found = facts.begun.get("index");
    if (found !== null && String(seed) === facts.begun.get("seed")) $$("#out .picture")[Number(found)]?.classList.add("found");
  }

  function tools({ body, answer, classes, items }) {
    const step = classes ? classes.length * Math.max(1, Math.round(items.length / classes.length)) : Math.max(1, Number(named(form, "n")?.value) || items.length);
    const { n: _, ...rest } = body, made = { ...rest, n: items.length };
    if (body.n_best) delete made.n;
    const more = body.n_best ? null : h("button", { type: "button", onclick: () => begin(items.length + step) }, t("use.more_of_it"));
    bar.replaceChildren(...[more, saver(work, body.n_best ? facts.results : facts.media, `${stem(facts)}-seed${answer.seed ?? 0}`, () => ({ body: made }))].filter(Boolean));
    bar.hidden = false;
    if (answer.provenance) origin(answer.provenance);
    spoken(facts, made);
  }

  return () => begin();
}

/** Items that were liked, with the seed and the place that give them again; they stay while the tab is open. */
class Kept {
  constructor(facts, changed) {
    Object.assign(this, { facts, changed, place: $("#kept"), key: `kept:${facts.run}` });
    try { this.all = JSON.parse(sessionStorage.getItem(this.key)) ?? []; } catch { this.all = []; }
    this.draw(facts.items.media);
  }

  pin(items, seed) {
    const at = (i) => this.all.findIndex((one) => one.seed === seed && one.item === items[i]);
    return { label: t("use.keep"), has: (i) => at(i) >= 0, toggle: (i) => {
      if (at(i) >= 0) this.all.splice(at(i), 1); else this.all.push({ seed, i, item: items[i] });
      try { sessionStorage.setItem(this.key, JSON.stringify(this.all)); } catch { /* too many for the browser to remember */ }
      this.draw(this.facts.items.media);
    } };
  }

  draw(media) {
    if (!this.all.length) { this.place.replaceChildren(); return; }
    const drop = { label: t("use.keep"), has: () => true, toggle: (i) => {
      this.all.splice(i, 1);
      try { sessionStorage.setItem(this.key, JSON.stringify(this.all)); } catch { /* see above */ }
      this.changed();
      this.draw(media);
    } };
    this.place.replaceChildren(h("h2", {}, t("use.kept")), show(this.all.map((one) => one.item), { media, name: stem(this.facts), pin: drop,
      caption: (i) => t("use.item_of", { seed: this.all[i].seed, i: this.all[i].i }) }));
  }
}
