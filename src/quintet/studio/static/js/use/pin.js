// A button that keeps, or chooses, one of several items.
import { h } from "../core.js";

export function pinned(about, i) {
  if (!about.pin) return null;
  const button = h("button", { type: "button", class: "pin", "aria-pressed": String(about.pin.has(i)), tabIndex: about.media.startsWith("image/") ? -1 : 0,
    "aria-label": `${about.pin.label}: ${about.caption(i)}`, title: about.pin.label, onclick: (event) => {
      event.stopPropagation();
      about.pin.toggle(i);
      button.setAttribute("aria-pressed", String(about.pin.has(i)));
    } }, h("span", { "aria-hidden": "true" }, "★"));
  return button;
}
