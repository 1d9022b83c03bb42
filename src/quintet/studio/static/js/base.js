// On every page: buttons that copy.
import { $, announce, t } from "./core.js";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = $("code", button.parentElement).textContent;
  await navigator.clipboard.writeText(text);
  announce(t("copied"));
  button.classList.add("done");
  setTimeout(() => button.classList.remove("done"), 1500);
});
