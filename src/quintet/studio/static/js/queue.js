// The queue: figures come by the stream; where more than figures changes, the page's own list is fetched anew.
import { $, $$, announce, clock, follow, notice, number, post, t } from "./core.js";

const place = $("#queue");
const ends = (left) => new Date(Date.now() + 1000 * left).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });

/** Fetch the list, and leave focus, open logs and their places as they were. */
async function refresh() {
  const text = await (await fetch(location.href, { headers: { Accept: "text/html" } })).text();
  const fresh = $("#queue", new DOMParser().parseFromString(text, "text/html"));
  const focus = document.activeElement, inside = place.contains(focus), section = focus?.closest("section");
  const open = $$("details[open]", place).map((one) => one.id);
  place.dataset.shape = fresh.dataset.shape;
  place.replaceChildren(...fresh.childNodes);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (!inside) return;
  const again = document.getElementById(focus.id) ?? document.getElementById(section?.getAttribute("aria-labelledby"));
  (again ?? $("h2", place) ?? $("#main")).focus();
}

/** Write what is known of a job, or of all, where the page shows it. */
function show(job, found) {
  for (const [name, value] of Object.entries(found)) {
    const shown = $(`[data-live="${name}"]`, job);
    if (!shown) continue;
    if (name === "share") value === null ? shown.removeAttribute("value") : (shown.value = value);
    else if (name === "log") write(shown, value);
    else shown.textContent = name === "left" ? clock(value) : number(value);
  }
}

/** A log follows its end, unless it was scrolled away from there. */
function write(log, text) {
  if (log.textContent === text) return;
  const below = log.scrollHeight - log.scrollTop - log.clientHeight < 8;
  log.textContent = text;
  if (below) log.scrollTop = log.scrollHeight;
}

function news([found]) {
  if (found.shape !== place.dataset.shape) return refresh();
  for (const [id, figures] of Object.entries(found.jobs)) {
    const job = document.getElementById(id);
    if (job) show(job, figures);
  }
  const left = $('[data-live-all="left"]'), end = $('[data-live-all="ends"]');
  if (left) [left.textContent, end.textContent] = [clock(found.left), ends(found.left)];
}

/** Do what a form does, and stay on the page. */
async function act(address) {
  $("#problem").replaceChildren();
  try {
    await post(address);
    await refresh();
    announce(t("queue.count", { running: $$("article.running", place).length, waiting: $$("ol.jobs > li", place).length }));
  } catch (error) {
    await refresh();
    $("#problem").replaceChildren(notice(error));
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.action.includes("/studio/queue/")) return;
  event.preventDefault();
  const job = form.closest("li");
  act(form.action).then(() => {
    const moved = job && form.action.includes("/move") && document.getElementById(job.id);
    if (moved) announce(t("queue.moved", { title: moved.dataset.title, place: $(".place", moved).textContent }));
  });
});

// -- dragging ----------------------------------------------------------------------------------------------------------

let dragged = null;
const over = (event) => event.target.closest?.(".jobs > li");
const below = (event, item) => event.clientY > item.getBoundingClientRect().top + item.offsetHeight / 2;
const unmark = () => $$(".before, .behind", place).forEach((one) => one.classList.remove("before", "behind"));

place.addEventListener("dragstart", (event) => {
  dragged = over(event);
  if (!dragged) return;
  event.dataTransfer.effectAllowed = "move";
  event.dataTransfer.setData("text/plain", dragged.dataset.title);
  dragged.classList.add("dragged");
});
place.addEventListener("dragover", (event) => {
  const item = over(event);
  if (!dragged || !item) return;
  event.preventDefault();
  unmark();
  if (item !== dragged) item.classList.add(below(event, item) ? "behind" : "before");
});
place.addEventListener("drop", (event) => {
  const item = over(event);
  if (!dragged || !item || item === dragged) return;
  event.preventDefault();
  const before = below(event, item) ? item.nextElementSibling?.id ?? "" : item.id;
  act(`/studio/queue/${dragged.id}/move?${new URLSearchParams({ before })}`);
});
place.addEventListener("dragend", () => {
  unmark();
  dragged?.classList.remove("dragged");
  dragged = null;
});

follow({ queue: news });
