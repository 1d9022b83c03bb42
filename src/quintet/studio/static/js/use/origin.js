// Where an answer comes from, and the same answer as a file.
import { $, announce, h, notice, post, t } from "../core.js";
import { zip } from "./zip.js";

const flat = (note) => Object.entries(note).flatMap(([key, value]) =>
  value !== null && typeof value === "object" && !Array.isArray(value)
    ? Object.entries(value).map(([name, one]) => [`${key}.${name}`, one]) : [[key, value]]);

const spelt = (value) => {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
};

/** A panel with the note that every file of this answer holds. */
export function origin(note) {
  const rows = flat(note).filter(([, value]) => value !== null).flatMap(([key, value]) => [h("dt", { lang: "en" }, key), h("dd", {}, spelt(value))]);
  const text = JSON.stringify(note, null, 1);
  const copy = h("button", { type: "button", class: "quiet", onclick: async () => { await navigator.clipboard.writeText(text); announce(t("copied")); } }, t("use.copy_origin"));
  $("#origin").replaceChildren(h("details", { class: "card origin" }, h("summary", {}, t("use.origin")), h("dl", { class: "facts" }, ...rows), copy));
}

export function save(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/**
 * A choice of formats, and a button that asks for the same answer in one of them. `asked()` gives the body. A file that
 * cannot say itself where it comes from is saved with one that does, in an archive.
 */
export function saver(work, media, name, asked) {
  const choice = h("select", { "aria-label": t("use.format") }, ...media.map((one) =>
    h("option", { value: one, title: work.facts.noted.includes(one) ? null : t("use.format_zip") }, (work.facts.suffixes[one] ?? one) + (work.facts.noted.includes(one) ? "" : " (.zip)"))));
  const button = h("button", { type: "button", onclick: async () => {
    button.disabled = true;
    try {
      const { body, files } = asked();
      const answer = await work.response(body, { files, accept: choice.value });
      const content = await answer.blob(), title = `${name}${work.facts.suffixes[choice.value] ?? ""}`;
      if (work.facts.noted.includes(choice.value)) return save(content, title);
      const { left_out: _, ...note } = { ...work.note, ...JSON.parse(answer.headers.get("X-Quintet-Provenance")) };
      save(await zip({ [title]: content, [`${title}.provenance.json`]: JSON.stringify(note, null, 1) }), `${title}.zip`);
    } catch (error) { work.status.replaceChildren(notice(error)); } finally { button.disabled = false; }
  } }, t("use.save"));
  return h("span", { class: "saver" }, choice, button);
}

export const stem = (facts) => facts.run.replaceAll("/", "-");

/** The command and the Python that ask the same as `body`; what a person must bring has a name that stands for it. */
export async function spoken(facts, body) {
  const place = $("#spoken"), { items, conditions, ...rest } = body;
  if (conditions) rest.conditions = "conditions.txt";
  try {
    const said = await post("/studio/use/spoken", { verb: facts.verb, run: facts.run, ...rest });
    const code = (label, text) => text && h("div", { class: "code" }, h("span", { class: "label" }, label), h("pre", {}, h("code", {}, text)),
      h("button", { type: "button", class: "quiet", "data-copy": "" }, t("use.copy")));
    place.replaceChildren(h("details", { class: "card origin" }, h("summary", {}, t("use.spoken")),
      h("div", { class: "spoken" }, ...[code(t("use.command"), said.command), code("Python", said.python)].filter(Boolean))));
  } catch { place.replaceChildren(); }
}
