// The page of one run: its curves and samples, which grow while it trains, and how far it is.
import { $, $$, clock, follow, get, h, later, notice, number, swap, t } from "./core.js";
import { Chart } from "./charts.js";

const facts = JSON.parse($("#run-facts").textContent);
const NO_TERMS = ["held_out", "quality", "quality_stderr"];
const LAST = ["diversity", "copies"];
const MANY = 6000;
const address = (what, fields) => `/studio/run/${what}?${new URLSearchParams(fields)}`;

// -- what is known of each run -----------------------------------------------------------------------------------------

const runs = [facts.name, ...facts.others].map((name) => ({ name, points: {}, main: null, near: null }));
const mine = runs[0];
let zoom = null, status = facts.status;

async function load(run) {
  const found = await get(address("curves", { name: run.name }));
  Object.assign(run, found, { near: null });
}

/** Add what is new to the points that are shown; what was loaded meanwhile is not told twice. */
function add(points, fresh) {
  for (const [name, [steps, values]] of Object.entries(fresh)) {
    const series = (points[name] ??= [[], []]);
    for (let i = 0; i < steps.length; i++) {
      if (steps[i] > (series[0].at(-1) ?? -1)) { series[0].push(steps[i]); series[1].push(values[i]); }
    }
  }
}

async function take(run, news) {
  for (const one of news) {
    if (one.gone) { location.assign("/runs"); return; }
    if (one.anew) { run.points = {}; run.near = null; }
    add(run.points, one.points);
    if (run.near) add(run.near, one.points);
    run.main ??= ["model", "generator"].find((key) => key in run.points) ?? Object.keys(run.points)[0] ?? null;
    if (run === mine) told(one.status);
  }
  if (Object.values(run.points).some(([steps]) => steps.length > MANY)) await load(run);
  drawSoon();
}

// -- curves ------------------------------------------------------------------------------------------------------------

const charts = { loss: frame("run.loss"), quality: frame("run.quality"), terms: frame("run.terms") };
const choice = h("select", { "aria-label": t("run.terms"), onchange: () => draw() });
charts.terms.title.append(choice);

function frame(key) {
  const title = h("figcaption", {}, key === "run.terms" ? "" : t(key)), plot = h("div", { class: "plot", role: "img" });
  const place = h("figure", { class: "chart", hidden: true }, title, plot);
  $("#charts").append(place);
  return { place, title, plot, name: t(key), chart: new Chart(plot, zoomed) };
}

/** The series of a figure, of each run that has it. */
function series(key, number, dashed = false) {
  return runs.map((run, i) => {
    const [steps, values] = (zoom && run.near ? run.near : run.points)[key === "main" ? run.main : key] ?? [[], []];
    const label = key === "main" ? t("run.loss.train") : key === "held_out" ? t("run.loss.held_out") : key;
    return { name: runs.length > 1 ? `${run.name} ${label}` : label, colour: runs.length > 1 ? i : number, dashed, steps, values };
  });
}

function draw() {
  const options = { log: $("#log-scale").checked, smooth: Number($("#smooth").value) };
  const terms = [...new Set(runs.flatMap((run) => Object.keys(run.points).filter((key) => key !== run.main && !NO_TERMS.includes(key))))]
    .sort((a, b) => LAST.includes(a) - LAST.includes(b) || a.localeCompare(b));
  if (terms.join() !== $$("option", choice).map((one) => one.value).join()) {
    const before = choice.value;
    choice.replaceChildren(...terms.map((key) => h("option", { value: key, selected: key === before }, key.replaceAll("_", " "))));
  }
  const shown = {
    loss: [...series("main", 0), ...series("held_out", 1, true)],
    quality: series("quality", 3),
    terms: terms.length ? series(choice.value, 2) : [],
  };
  for (const [key, lines] of Object.entries(shown)) {
    const { place, plot, chart, name } = charts[key];
    place.hidden = !lines.some((one) => one.steps.length);
    if (place.hidden) continue;
    chart.draw(lines, options);
    plot.setAttribute("aria-label", `${name}: ${lines.filter((one) => one.steps.length).map(said).join("; ")}`);
  }
  if ($("#as-table").open) table();
}

/** Draw once for all that came since the last frame. */
let soon = 0;
function drawSoon() {
  cancelAnimationFrame(soon);
  soon = requestAnimationFrame(draw);
}

/** A series in words. */
function said(one) {
  const known = one.values.filter((value) => value !== null);
  const least = known.reduce((low, value) => Math.min(low, value), Infinity);
  return t("run.said", { name: one.name, last: number(known.at(-1)), step: one.steps.at(-1), least: known.length ? number(least) : "–" });
}

const near = later(async () => {
  if (!zoom) return;
  const [low, high] = zoom;
  for (const run of runs) {
    const found = await get(address("curves", { name: run.name, low, high }));
    if (zoom && zoom[0] === low) run.near = found.points;
  }
  draw();
}, 150);

function zoomed(low, high) {
  zoom = low === undefined ? null : [low, high];
  for (const run of runs) run.near = null;
  for (const { chart } of Object.values(charts)) chart.show(low, high);
  $("#whole").hidden = !zoom;
  draw();
  near();
}

$("#whole").addEventListener("click", () => zoomed());
for (const id of ["log-scale", "smooth"]) $(`#${id}`).addEventListener("input", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
$("#as-table").addEventListener("toggle", draw);

/** The figures of each look as a table. */
function table() {
  const of = (key) => mine.points[key] ?? [[], []], steps = of("quality")[0];
  const at = (key, step) => {
    const [where, values] = of(key), found = where.findLastIndex((one) => one <= step);
    return number(found < 0 ? null : values[found]);
  };
  const row = (step) => h("tr", {}, h("th", { scope: "row", class: "number" }, number(step)),
    ...[mine.main, "held_out", "quality", "diversity", "copies"].map((key) => h("td", { class: "number" }, at(key, step))));
  $("#looks").replaceChildren(...steps.slice(-200).map(row));
}

// -- how it stands -----------------------------------------------------------------------------------------------------

let ends = 0;

async function told(now) {
  const before = status;
  status = now;
  ends = now.left === null ? 0 : Date.now() + 1000 * now.left;
  if (["state", "job", "stopping"].some((key) => before[key] !== now[key])) await swap(location.href, "run-head", "run-told");
  else if (before.looks !== now.looks) await swap(location.href, "run-told");
  if (before.looks !== now.looks || before.state !== now.state) await samples();
  progress();
}

function progress() {
  const figure = (key, text) => write($(`[data-figure=${key}]`), text);
  figure("step", number(status.step));
  const newest = mine.points[mine.main];
  if (newest && status.state === "training") figure("loss", number(newest[1].at(-1) ?? null));
  const bar = $(".going progress");
  if (bar) { bar.max = status.steps ?? 1; bar.value = status.step; }
  if (status.rate) write($("#rate"), t("run.rate", { rate: number(status.rate, 3) }));
  tick();
}

/** Seconds no finer than anyone knows them, so that the page is not painted anew each second for nothing. */
function rough(seconds) {
  const step = [[3600, 60], [300, 15], [10, 5], [-Infinity, 1]].find(([from]) => seconds >= from)[1];
  return step * Math.round(seconds / step);
}

function tick() {
  const place = $("#left");
  if (place && ends && !document.hidden) write(place, t("run.left", { time: clock(rough((ends - Date.now()) / 1000)) }));
}

/** Change a text only if it is another. */
function write(place, text) {
  if (place && place.textContent !== text) place.textContent = text;
}

if (status.left !== null) ends = Date.now() + 1000 * status.left;
setInterval(tick, 1000);

// -- samples -----------------------------------------------------------------------------------------------------------

let drawn = facts.samples;
const slider = $("#time");

async function samples() {
  drawn = await get(address("samples", { name: facts.name }));
  await steps();
}

/** As many places on the slider as there are steps with samples; it stays at its end if it stood there. */
async function steps() {
  const newest = slider.value === slider.max;
  slider.max = Math.max(0, drawn.length - 1);
  if (newest) slider.value = slider.max;
  $("#through").hidden = drawn.length < 2;
  await sampled();
}

async function sampled() {
  const one = drawn[Number(slider.value)];
  if (!one) return;
  const label = t("run.at", { step: one.step });
  $("#time-shown").textContent = label;
  slider.setAttribute("aria-valuetext", label);
  const made = await Promise.all(one.files.map((file) => shown(file, one.step).catch((error) => notice(error))));
  if (one === drawn[Number(slider.value)]) {
    $$(".empty", $("#samples")).forEach((empty) => empty.remove());
    $("#sampled").replaceChildren(...made);
  }
}

/** A file of samples as what it is. */
async function shown(file, step) {
  const place = { name: facts.name, file: file.name }, source = address("sample", place), alt = t("run.samples.alt", { n: step });
  if (file.media.startsWith("image/")) {
    const image = h("img", { src: source, alt });
    await image.decode();
    return image;
  }
  if (file.media.startsWith("audio/")) return h("audio", { controls: true, preload: "metadata", src: source, "aria-label": alt });
  if (!file.media.startsWith("text/")) return h("p", {}, h("a", { href: source, download: file.name }, file.name));
  const found = await get(address("preview", place));
  if (found.letters !== undefined) return h("pre", { tabindex: "0", "aria-label": alt }, found.letters);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": alt }, h("table", { class: "table" },
    h("thead", {}, h("tr", {}, found.columns.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, found.rows.map((row) => h("tr", {}, row.map((cell) => h("td", { title: cell }, short(cell))))))));
}

/** A number with many digits, as short as it can be read. */
const short = (cell) => (/^-?\d+\.\d{5,}$/.test(cell) ? number(Number(cell), 5) : cell);

slider.addEventListener("input", sampled);

// -- the log, and the beginning ----------------------------------------------------------------------------------------

async function log() {
  if (!$("#log").open || document.hidden) return;
  const { log: text } = await get(address("log", { name: facts.name })), place = $("#log-text");
  const below = place.scrollTop + place.clientHeight >= place.scrollHeight - 8;
  if (text && text !== place.textContent) place.textContent = text;
  if (below) place.scrollTop = place.scrollHeight;
}

$("#log").addEventListener("toggle", log);
setInterval(() => { if (status.state === "training" || status.job === "running") log(); }, 2000);

try {
  await Promise.all([...runs.map(load), steps()]);
  draw();
  follow(Object.fromEntries(runs.map((run) => [`run:${run.name}`, (news) => take(run, news)])),
    Object.fromEntries(runs.map((run) => [`run:${run.name}`, `${run.cursor}/`])));
} catch (error) {
  $("#charts").replaceChildren(notice(error));
}
