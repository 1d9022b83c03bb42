// One thing that a model is doing for this page: a spinner that counts seconds, a button that stops it, and what went wrong.
import { $, announce, ask, clock, h, inWords, notice, number, t, tongue } from "../core.js";
import { blamed, calm, fits } from "./form.js";

export class Work {
  constructor(form, facts) {
    Object.assign(this, { form, facts, status: $("#status"), go: $("#go"), stop: $("#stop"), out: $("#out") });
    this.stop.addEventListener("click", () => this.cancel());
    window.addEventListener("pagehide", () => this.cancel());
  }

  cancel() { this.doing?.abort(); }

  /** What `doing(signal)` gives; undefined where it was stopped or has failed, which is then said. */
  async run(doing) {
    this.cancel();
    calm(this.form);
    if (!fits(this.form)) return undefined;
    const control = this.doing = new AbortController();
    const began = performance.now(), time = h("span", { class: "number" }, "0:00");
    this.status.replaceChildren(h("p", { class: "working" }, h("span", { class: "spinner", "aria-hidden": "true" }), t("use.working"), " ", time));
    const ticking = setInterval(() => { time.textContent = clock((performance.now() - began) / 1000); }, 500);
    this.stop.hidden = false;
    this.out.setAttribute("aria-busy", "true");
    announce(t("use.working"));
    try {
      const found = await doing(control.signal);
      this.status.replaceChildren();
      announce(t("use.done"));
      return found;
    } catch (error) {
      if (control !== this.doing) return undefined;
      this.status.replaceChildren();
      if (error.name === "AbortError") this.status.replaceChildren(h("p", { class: "muted" }, t("use.stopped")));
      else if (!blamed(this.form, error)) this.status.replaceChildren(notice(error));
      return undefined;
    } finally {
      clearInterval(ticking);
      if (control === this.doing) { this.stop.hidden = true; this.out.removeAttribute("aria-busy"); this.doing = null; }
    }
  }

  /** The answer to a verb: a response. Files in `sent` go beside the fields. */
  async response(body, { files = {}, accept = "application/json", signal, verb = this.facts.verb } = {}) {
    const asked = { model: this.facts.run, ...body }, address = `/api/v1/${verb}`;
    if (!Object.keys(files).length) return ask(address, asked, accept, { signal });
    const form = new FormData();
    form.append("request", JSON.stringify(asked));
    for (const [name, file] of Object.entries(files)) form.append(name, file);
    return ask(address, null, accept, { signal, body: form, headers: { Accept: accept } });
  }

  async answer(body, options) {
    const answer = await (await this.response(body, options)).json();
    [answer.likelihood_reason, ...answer.notes] = await inWords([answer.likelihood_reason, ...(answer.notes ?? [])]);
    return answer;
  }

  /** What an answer says besides its items: notes, how long it took, whether other weights made the file that led here. */
  told(answer) {
    this.note = answer.provenance;
    const seconds = answer.seconds === undefined ? [] : [t("use.took", { seconds: number(answer.seconds, 2) })];
    const each = answer.ms_per_sample === undefined ? [] : [t("use.each", { ms: number(answer.ms_per_sample, 2) })];
    const line = [...seconds, ...each].join(" · ");
    const notes = (answer.notes ?? []).map((text) => h("p", { lang: tongue(text) }, text));
    const before = this.facts.begun.get("weights"), now = answer.provenance?.weights;
    const alike = before && now && before.startsWith(now);  // some answers name the weights by their first digits
    const same = before && now ? h("p", { class: alike ? "good" : "warn" }, t(alike ? "use.same" : "use.other")) : null;
    this.status.replaceChildren(
      ...[same, line ? h("p", { class: "muted small" }, line) : null].filter(Boolean),
      ...(notes.length ? [h("div", { class: "notice" }, ...notes)] : []));
  }
}
