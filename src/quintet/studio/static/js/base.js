// On every page: buttons that copy, and how many jobs the queue has.
import { $, announce, follow, t } from "./core.js";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = $("code", button.parentElement).textContent;
  await navigator.clipboard.writeText(text);
  announce(t("copied"));
  button.classList.add("done");
  setTimeout(() => button.classList.remove("done"), 1500);
});

follow({
  count: ([found]) => {
    const shown = $("#queue-count"), all = found.running + found.waiting;
    shown.hidden = !all;
    shown.textContent = all;
    shown.title = t("queue.count", found);
  },
});
