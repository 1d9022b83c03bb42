// Texts, as they are written.
import { h } from "../core.js";
import { pinned } from "./pin.js";

export function texts(items, about) {
  return h("ul", { class: "texts plain" }, ...items.map((item, i) => h("li", { class: "card text" },
    h("p", { class: "small muted" }, about.caption(i), pinned(about, i)),
    h("pre", {}, about.prompt ? h("span", { class: "prompt" }, about.prompt) : null, about.prompt && item.startsWith(about.prompt) ? item.slice(about.prompt.length) : item))));
}

/**
 * Texts piece by piece, as the server writes them: calls `told(index, piece)` and gives what is known at the end. Leaving
 * (`signal`) frees the model at its next step.
 */
export async function written(address, body, signal, told) {
  const { ask, problem } = await import("../core.js");
  const response = await ask(address, body, "text/event-stream", { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const end = { reasons: [] };
  for (let left = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return end;
    const lines = (left + value).split("\n");
    left = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const now = JSON.parse(line.slice(6));
      if (now.error) throw await problem({ title: now.error.message });
      end.weights = now.system_fingerprint;
      if (now.usage) end.usage = now.usage;
      for (const choice of now.choices) {
        told(choice.index, choice.text);
        if (choice.finish_reason) end.reasons[choice.index] = choice.finish_reason;
      }
    }
  }
}

/** Places for texts that grow. */
export function growing(n, about) {
  const places = Array.from({ length: n }, (_, i) => h("span", {}));
  const list = h("ul", { class: "texts plain" }, ...places.map((place, i) => h("li", { class: "card text" },
    h("p", { class: "small muted" }, about.caption(i)),
    h("pre", { class: "growing" }, about.prompt ? h("span", { class: "prompt" }, about.prompt) : null, place))));
  return { list, add: (i, piece) => { places[i].textContent += piece; }, texts: () => places.map((place) => (about.prompt ?? "") + place.textContent) };
}

