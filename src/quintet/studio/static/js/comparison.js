// A comparison as it grows: the page is asked for again when there is more to show, and parts that changed are replaced.
import { $, $$, announce, clock, follow, h, number, t } from "./core.js";

const about = JSON.parse($("#comparison").textContent);
let mark = about.mark, asking = false;

// -- parts of the page -------------------------------------------------------------------------------------------------

const parts = (page) => $$("[data-part]", page);
const shown = new Map(parts(document).map((part) => [part.id, part.cloneNode(true)]));

async function refresh(wanted) {
  if (asking) return;
  asking = true;
  try {
    const answer = await fetch(location.pathname, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of parts(page)) {
      const there = document.getElementById(part.id);
      if (!there || shown.get(part.id)?.isEqualNode(part)) continue;
      shown.set(part.id, part.cloneNode(true));
      const open = $$("details", there).filter((one) => one.open).map((one) => $("summary", one).textContent);
      for (const one of $$("details", part)) if (open.includes($("summary", one).textContent)) one.open = true;
      const focus = there.contains(document.activeElement);
      there.replaceWith(document.adoptNode(part));
      if (focus) $("#main").focus({ preventScroll: true });
    }
    const verdict = $("#verdict");
    if (verdict && verdict.textContent !== said) { said = verdict.textContent; announce(said); }
    const found = JSON.parse($("#comparison", page).textContent);
    mark = found.mark;
    tell(found.live);
  } finally {
    asking = false;
    if (wanted !== mark) setTimeout(() => refresh(mark), 1000);
  }
}
let said = $("#verdict")?.textContent ?? "";

// -- what changes from second to second --------------------------------------------------------------------------------

function tell(live) {
  if ($("#far") && live.total) $("#far").textContent = t("compare.far", { n: live.done, m: live.total });
  if ($("#share")) $("#share").value = live.share ?? 0;
  const now = live.now;
  if ($("#now")) $("#now").textContent = now ? t(`compare.now.${now.state}`, { run: now.run, n: now.step, m: now.steps }) : "";
  if ($("#eta")) $("#eta").textContent = live.left === null ? "" : t("compare.eta", { time: clock(live.left) });
  draw(live.curves);
}

// -- learning curves ---------------------------------------------------------------------------------------------------

const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [12, 4], [4, 2]];
let chart = null, drawn = "";

/** The colour of a rule of the sheet, as a canvas takes it. */
function colour(name) {
  const probe = h("i", { class: name });
  probe.hidden = true;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function draw(curves) {
  const lines = curves.filter((curve) => curve.points.length);
  $("#curves").hidden = !lines.length;
  const key = JSON.stringify(lines);
  if (!lines.length || key === drawn) return;
  drawn = key;
  const seconds = [...new Set(lines.flatMap((curve) => curve.points.map(([x]) => x)))].sort((a, b) => a - b);
  const values = lines.flatMap((curve) => curve.points.map(([, y]) => y)).filter((y) => y > 0);
  const least = Math.min(...values), log = values.length && Math.max(...values) / least > 20;  // what is below is no more than noise
  const data = [seconds, ...lines.map((curve) => {
    const at = new Map(curve.points);
    return seconds.map((x) => (at.has(x) ? (log ? Math.max(at.get(x), least) : at.get(x)) : null));
  })];
  const ink = colour("axis-ink"), grid = { stroke: colour("grid-ink"), width: 1 }, place = $("#chart");
  chart?.destroy();
  chart = new window.uPlot({
    width: place.clientWidth, height: 280, legend: { show: false }, cursor: { drag: { x: true, y: false } },
    scales: { x: { time: false }, y: { distr: log ? 3 : 1 } },
    axes: [{ label: t("compare.seconds"), stroke: ink, grid, ticks: grid },
           { size: 64, stroke: ink, grid, ticks: grid, values: (_, all) => all.map((v) => v === null ? "" : number(v, 3)) }],
    series: [{}, ...lines.map((curve) => ({ label: curve.run, stroke: colour(`s${curve.colour}`), width: 2, spanGaps: true,
      dash: DASHES[curve.colour % DASHES.length], points: { show: true, size: 5 } }))],
  }, data, place);
  $("#legend").replaceChildren(...lines.map((curve) => h("li", {},
    h("i", { class: `swatch s${curve.colour}`, "aria-hidden": "true" }), curve.run, " ",
    h("span", { class: "muted" }, t("compare.ends", { value: number(curve.points.at(-1)[1], 3) })))));
}

new ResizeObserver(() => chart?.setSize({ width: $("#chart").clientWidth, height: 280 })).observe($("#chart"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { const old = drawn; drawn = ""; if (old) draw(JSON.parse(old)); });

tell(about.live);
follow({ [`compare:${about.name}`]: (news) => {
  for (const one of news) {
    if (one.mark !== mark) refresh(one.mark);
    else tell(one);
  }
} });
