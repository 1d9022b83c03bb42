// What the scripts of all pages share: words, elements, requests, and one stream of news that takes itself up again.

const words = JSON.parse(document.getElementById("words").textContent);

/** A text of the catalogue (its keys without "js."), with `{name}` replaced; of "one|many" `n` chooses. */
export function t(key, values = {}) {
  let text = words[key] ?? key;
  if (text.includes("|")) text = text.split("|")[values.n === 1 ? 0 : 1];
  return text.replace(/\{(\w+)\}/g, (whole, name) =>
    name in values ? (typeof values[name] === "number" ? number(values[name]) : values[name]) : whole);
}

/** A number as the language of the page writes it; `digits`: significant ones of what is no whole number. */
export function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  const shown = Number.isInteger(value) ? {} : { maximumSignificantDigits: digits };
  return value.toLocaleString(document.documentElement.lang, shown);
}

/** Seconds as 4:05 or 1:02:03. */
export function clock(seconds) {
  if (seconds === null || seconds === undefined || !isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds)), two = (n) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

export const $ = (selector, within = document) => within.querySelector(selector);
export const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

/** An element: attributes, `on…` listeners and properties by name; children are elements or texts, never markup. */
export function h(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "class" || key.includes("-") || !(key in made)) made.setAttribute(key, value === true ? "" : value);
    else made[key] = value;
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Read to a screen reader. */
export function announce(text) {
  const place = document.getElementById("said");
  place.textContent = "";
  requestAnimationFrame(() => { place.textContent = text; });
}

/** Texts of operations in the words of pages; as they are where the studio does not answer. */
export async function inWords(texts) {
  const said = texts.filter(Boolean);
  if (!said.length) return texts;
  try {
    const headers = { "Content-Type": "application/json", Accept: "application/json" };
    const response = await fetch("/studio/words", { method: "POST", body: JSON.stringify({ texts: said }), headers });
    const words = (await response.json()).texts;
    return texts.map((text) => text ? words.shift() : text);
  } catch { return texts; }
}

/** The language of a text on a page in Chinese, where what has no Chinese is English. */
export function tongue(text) {
  return document.documentElement.lang.startsWith("zh") && !/\p{Script=Han}/u.test(text) ? "en" : null;
}

/** What a server refused: `title`, `detail` (why), `fix`, `where`, `status`; and the same in the words of pages. */
export class Problem extends Error {
  constructor(facts, words = facts) {
    super(words.title ?? t("failed"));
    Object.assign(this, { facts, words });
  }
}

/** A problem of what a server has said. */
export async function problem(facts) {
  const [title, detail, fix] = await inWords([facts.title, facts.detail, facts.fix]);
  return new Problem(facts, { title, detail, fix, where: facts.where });
}

async function answered(response) {
  if (response.ok) return response;
  let facts = {};
  try { facts = await response.json(); } catch { facts = { title: `${response.status} ${response.statusText}` }; }
  throw await problem({ status: response.status, ...facts });
}

/** JSON from an address. Throws Problem. */
export async function get(address, options = {}) {
  return (await answered(await fetch(address, { headers: { Accept: "application/json" }, ...options }))).json();
}

/** Send JSON and read JSON. Throws Problem. */
export async function post(address, body = {}, options = {}) {
  const headers = { "Content-Type": "application/json", Accept: "application/json", ...options.headers };
  return (await answered(await fetch(address, { method: "POST", body: JSON.stringify(body), ...options, headers }))).json();
}

/** Send JSON and read whatever comes, e.g. a picture. Throws Problem. */
export async function ask(address, body, accept, options = {}) {
  const headers = { "Content-Type": "application/json", Accept: accept };
  return answered(await fetch(address, { method: "POST", body: JSON.stringify(body), headers, ...options }));
}

/** An error, or a problem, as a notice. */
export function notice(error, kind = "bad") {
  const facts = error.words ?? { title: error.message ?? String(error) };
  const line = (label, text) => text ? h("p", { lang: tongue(text) }, h("span", { class: "label" }, label), " ", text) : null;
  return h("div", { class: `notice ${kind}`, role: "alert" },
    h("p", { class: "what", lang: tongue(facts.title ?? "") }, facts.title ?? t("failed"), facts.where ? ` (${facts.where})` : ""),
    line(t("why"), facts.detail), line(t("fix"), facts.fix));
}

const followed = new Map(); // topic -> the functions that take its news
let source = null, cursors = {}, lost = false, renewed = false;

/**
 * Follow topics: `handlers` maps a topic ("queue", "run:NAME") to what takes the list of news; `from` says where to
 * begin. Returns what ends it. A browser has six connections for all tabs together, so a page has one stream for all that
 * it follows, and a tab that nobody sees lets go of it, and takes it up again where it was.
 */
export function follow(handlers, from = {}) {
  for (const [topic, handle] of Object.entries(handlers)) followed.set(topic, [...(followed.get(topic) ?? []), handle]);
  Object.assign(cursors, from);
  renew();
  return () => {
    for (const [topic, handle] of Object.entries(handlers)) {
      const rest = (followed.get(topic) ?? []).filter((one) => one !== handle);
      if (rest.length) followed.set(topic, rest);
      else { followed.delete(topic); delete cursors[topic]; }
    }
    renew();
  };
}

/** Open the stream with the topics of now, once for all that are added together. */
function renew() {
  letGo();
  if (renewed) return;
  renewed = true;
  setTimeout(() => { renewed = false; takeUp(); });
}

function takeUp() {
  if (source || document.hidden || !followed.size) return;
  const fields = new URLSearchParams([...followed.keys()].map((topic) => ["topic", topic]));
  fields.set("from", JSON.stringify(cursors));
  source = new EventSource(`/studio/events?${fields}`);
  for (const topic of followed.keys()) {
    source.addEventListener(topic, (event) => {
      if (event.lastEventId) cursors = JSON.parse(event.lastEventId);
      for (const handle of followed.get(topic) ?? []) handle(JSON.parse(event.data));
    });
  }
  source.onopen = () => { if (lost) announce(t("back")); lost = false; document.body.classList.remove("lost"); };
  source.onerror = () => {
    if (!lost) announce(t("lost"));
    lost = true;
    document.body.classList.add("lost");
    if (source?.readyState === EventSource.CLOSED) { letGo(); setTimeout(takeUp, 2000); }
  };
}

function letGo() {
  source?.close();
  source = null;
}

document.addEventListener("visibilitychange", () => (document.hidden ? letGo() : takeUp()));
window.addEventListener("pagehide", letGo);
window.addEventListener("pageshow", takeUp);

/** `work`, once nothing has called for `milliseconds`; the newest call wins. */
export function later(work, milliseconds = 250) {
  let timer = 0;
  return (...given) => { clearTimeout(timer); timer = setTimeout(() => work(...given), milliseconds); };
}

/** Replace elements of the page, by their ids, by what they have become on the page of an address. */
export async function swap(address, ...ids) {
  const response = await answered(await fetch(address, { headers: { Accept: "text/html" } }));
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const id of ids) {
    const [old, made] = [document.getElementById(id), page.getElementById(id)];
    if (old && made) old.replaceWith(made);
  }
}
