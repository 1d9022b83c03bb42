// Bringing data: paths are offered while one is typed; files are sent as one stream of bytes, which goes on where it broke off.
import { $, Problem, announce, get, h, later, notice, post, t } from "./core.js";

const drop = $("#drop"), most = { files: +drop.dataset.mostFiles, bytes: +drop.dataset.mostBytes };
const readable = drop.dataset.readable.split(" ");
const PIECES = { least: 2 ** 18, begin: 2 ** 20, most: 2 ** 23 };
const TRIES = 30;

// -- paths ------------------------------------------------------------------------------------------------------------

const typed = $("#path");
typed.addEventListener("input", later(async () => {
  const { paths } = await get(`/studio/data/paths?${new URLSearchParams({ begin: typed.value })}`).catch(() => ({ paths: [] }));
  $("#paths").replaceChildren(...paths.map((path) => h("option", { value: path })));
}, 150));

// -- files ------------------------------------------------------------------------------------------------------------

/** Bytes in words. */
function size(bytes) {
  const unit = Math.max(0, Math.min(4, Math.floor(Math.log10(Math.max(1, bytes)) / 3)));
  return `${+(bytes / 1000 ** unit).toPrecision(3)} ${["bytes", "kB", "MB", "GB", "TB"][unit]}`;
}

const hidden = (path) => path.split("/").some((part) => part.startsWith(".") || part === "__MACOSX");

/** What a file picker gives, as [path, File]. */
const picked = (list) => [...list].map((file) => [file.webkitRelativePath || file.name, file]);

/** What was dropped, as [path, File], with all that is in its folders. */
async function dropped({ items, files }) {
  const found = [];
  const walk = async (entry) => {
    if (found.length > most.files) return;
    if (entry.isFile) {
      found.push([entry.fullPath.replace(/^\//, ""), await new Promise((done, failed) => entry.file(done, failed))]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) return;
      for (const one of some) await walk(one);
    }
  };
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);  // before the first wait
  if (!entries.length) return picked(files);
  for (const entry of entries) await walk(entry);
  return found;
}

/** The bytes of all files from `at` on, at most `count`. */
function piece(files, at, count) {
  const parts = [];
  let start = 0;
  for (const [, file] of files) {
    const from = Math.max(0, at - start), to = Math.min(file.size, at + count - start);
    if (to > from) parts.push(file.slice(from, to));
    start += file.size;
    if (start >= at + count) break;
  }
  return new Blob(parts);
}

/** The path of the file that has this byte of all. */
function at(files, place) {
  let start = 0;
  return files.find(([, file]) => (start += file.size) > place)[0];
}

let stop = null;

/** Send files, show how far they are, and open the page of what they are. */
async function send(found) {
  if (stop) return;
  const files = found.filter(([path]) => !hidden(path)).sort(([a], [b]) => (a < b ? -1 : 1));
  const total = files.reduce((sum, [, file]) => sum + file.size, 0);
  $("#sending-error").replaceChildren();
  if (!files.length) return refuse(t("data.none"));
  if (!files.some(([path]) => readable.some((suffix) => path.toLowerCase().endsWith(suffix)))) return refuse(t("data.unknown", { known: readable.join(" ") }));
  if (files.length > most.files) return refuse(t("data.many", { n: files.length, most: most.files }));
  if (total > most.bytes) return refuse(t("data.large", { size: size(total), most: size(most.bytes) }));
  const [path] = files[0], name = files.length === 1 ? path : path.includes("/") ? path.split("/")[0] : t("data.files", { n: files.length });
  begin(t("data.sending", { name }));
  let key = null;
  try {
    const source = await sent(files, total, (one) => { key = one; });
    window.removeEventListener("beforeunload", leaving);
    location.href = `/data?${new URLSearchParams({ source })}`;
  } catch (error) {
    if (stop.signal.aborted) {
      if (key) await post(`/studio/data/uploads/${key}/cancel`).catch(() => {});
      announce(t("data.cancelled"));
      $("#sending-error").replaceChildren(h("p", { class: "muted" }, t("data.cancelled")));
    } else {
      $("#sending-error").replaceChildren(notice(error));
    }
    end();
  }
}

/** Send all bytes; where the studio does not answer for a while, try again. Returns the source. */
async function sent(files, total, begun) {
  const stamp = String(files.reduce((sum, [, file]) => (sum * 31 + file.lastModified) % 2 ** 40, 7));
  const announced = { files: files.map(([path, file]) => [path, file.size]), stamp };
  const options = { signal: stop.signal };
  let state = await post("/studio/data/uploads", announced, options), count = PIECES.begin, failures = 0;
  begun(state.id);
  while (state.have < total && !state.source) {
    if (!failures) show(state.have, total);
    const address = `/studio/data/uploads/${state.id}?at=${state.have}`;
    const began = performance.now(), body = piece(files, state.have, count);
    try {
      await body.slice(0, 1).arrayBuffer();
    } catch {
      throw new Problem({ title: t("data.unreadable", { name: at(files, state.have) }) });
    }
    try {
      state = { ...state, ...await post(address, null, { ...options, body, headers: { "Content-Type": "application/octet-stream" } }) };
      failures = 0;
      const seconds = (performance.now() - began) / 1000;
      count = seconds < 1 ? Math.min(PIECES.most, 2 * count) : seconds > 8 ? Math.max(PIECES.least, count / 2) : count;
    } catch (error) {
      const passing = !error.facts || [408, 409].includes(error.facts.status);
      if (stop.signal.aborted || !passing || ++failures > TRIES) throw error;
      count = Math.max(PIECES.least, count / 2);
      if (error.facts?.status !== 409) {
        $("#sending-state").textContent = t("data.lost");
        await new Promise((done) => setTimeout(done, Math.min(5000, 500 * failures)));
      }
      state = await post("/studio/data/uploads", announced, options).catch(() => state);
    }
  }
  show(total, total);
  return state.source ?? (await post(`/studio/data/uploads/${state.id}/done`, {}, options)).source;
}

function show(done, all) {
  $("#sending-progress").value = all ? done / all : 1;
  $("#sending-state").textContent = t("data.state", { percent: all ? Math.floor(100 * done / all) : 100, done: size(done), all: size(all) });
}

const leaving = (event) => { event.preventDefault(); event.returnValue = t("data.leave"); };

function begin(text) {
  stop = new AbortController();
  $("#choose").hidden = true;
  $("#sending").hidden = false;
  $("#sending-name").textContent = text;
  $("#sending-state").textContent = "";
  $("#sending-progress").value = 0;
  announce(text);
  window.addEventListener("beforeunload", leaving);
  $("#sending-cancel").focus();
}

function end() {
  stop = null;
  $("#choose").hidden = false;
  $("#sending").hidden = true;
  window.removeEventListener("beforeunload", leaving);
  $("#choose-files").focus();
}

function refuse(text) {
  $("#sending-error").replaceChildren(notice({ message: text }));
}

// -- what is clicked and dropped --------------------------------------------------------------------------------------

$("#choose").hidden = false;
for (const [button, input] of [["#choose-files", "#files"], ["#choose-folder", "#folder"]]) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", async () => {
    const files = picked($(input).files);
    $(input).value = "";
    await send(files);
  });
}
$("#sending-cancel").addEventListener("click", () => stop?.abort());

let over = 0;
const carries = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragenter", (event) => { if (carries(event)) { over += 1; drop.classList.add("over"); } });
document.addEventListener("dragleave", (event) => { if (carries(event) && (over -= 1) <= 0) drop.classList.remove("over"); });
document.addEventListener("dragover", (event) => { if (carries(event)) event.preventDefault(); });
document.addEventListener("drop", async (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  over = 0;
  drop.classList.remove("over");
  announce(t("data.counting"));
  try {
    await send(await dropped(event.dataTransfer));
  } catch (error) {
    refuse(error.message);
  }
});
