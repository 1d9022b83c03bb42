// Pictures side by side: one stop of the tab key, arrow keys between them, Enter enlarges, P keeps.
import { $$, h, t } from "../core.js";
import { pinned } from "./pin.js";

const SMALL = 96;

export const source = (item, media) => `data:${media};base64,${item}`;

/** A picture; of few pixels, each is shown as a square. */
export function picture(item, media, alt) {
  const image = h("img", { alt, decoding: "async" });
  image.addEventListener("load", () => image.classList.toggle("pixels", Math.max(image.naturalWidth, image.naturalHeight) <= SMALL), { once: true });
  image.src = source(item, media);
  return image;
}

export function pictures(items, about) {
  const tiles = items.map((item, i) => {
    const open = h("button", { type: "button", class: "picture", tabIndex: i ? -1 : 0, onclick: () => enlarge(items, about, i, tiles) },
      picture(item, about.media, about.caption(i)));
    return h("li", {}, open, pinned(about, i), about.under ? h("p", { class: "under" }, about.under(i)) : null);
  });
  const list = h("ul", { class: "pictures plain", onkeydown: (event) => keys(event, list, tiles) }, ...tiles);
  if (about.columns) list.style.gridTemplateColumns = `repeat(${about.columns}, minmax(0, 6rem))`;
  return list;
}

function keys(event, list, tiles) {
  const at = tiles.findIndex((tile) => tile.contains(document.activeElement));
  if (event.key.toLowerCase() === "p" && at >= 0) { $$(".pin", tiles[at])[0]?.click(); return; }
  const wide = getComputedStyle(list).gridTemplateColumns.split(" ").length;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: wide, ArrowUp: -wide, Home: -at, End: tiles.length - 1 - at }[event.key];
  if (step === undefined || at < 0 || !tiles[at + step]) return;
  event.preventDefault();
  const buttons = tiles.map((tile) => tile.firstElementChild);
  buttons[at].tabIndex = -1;
  buttons[at + step].tabIndex = 0;
  buttons[at + step].focus();
}

/** One picture as large as there is room, and its neighbours by arrow keys. */
function enlarge(items, about, first, tiles) {
  let at = first;
  const place = h("div", { class: "large" }), caption = h("p", { class: "muted", role: "status" });
  const link = h("a", { class: "button quiet" }, t("use.save"));
  const turn = (by) => { at = (at + by + items.length) % items.length; draw(); };
  const keep = h("button", { type: "button", class: "quiet", onclick: () => { tiles[at].querySelector(".pin")?.click(); draw(); } });
  const draw = () => {
    const text = about.caption(at);
    place.replaceChildren(picture(items[at], about.media, text));
    caption.textContent = text;
    link.href = source(items[at], about.media);
    link.download = `${about.name ?? "item"}-${at}.${about.media.split("/")[1]}`;
    keep.textContent = about.pin ? `${about.pin.has(at) ? "★" : "☆"} ${about.pin.label}` : "";
    keep.hidden = !about.pin;
  };
  const dialog = h("dialog", { class: "viewer", "aria-label": t("use.enlarged"), onclose: () => { dialog.remove(); tiles[at].firstElementChild.focus(); },
    onclick: (event) => { if (event.target === dialog) dialog.close(); },
    onkeydown: (event) => {
      if (event.key === "ArrowRight") turn(1);
      else if (event.key === "ArrowLeft") turn(-1);
      else if (event.key.toLowerCase() === "p") keep.click();
    } },
    place, caption, h("div", { class: "actions" },
      h("button", { type: "button", "aria-label": t("use.previous"), onclick: () => turn(-1) }, "←"),
      h("button", { type: "button", "aria-label": t("use.next"), onclick: () => turn(1) }, "→"),
      keep, link, h("button", { type: "button", autofocus: true, onclick: () => dialog.close() }, t("use.close"))));
  draw();
  document.body.append(dialog);
  dialog.showModal();
}
