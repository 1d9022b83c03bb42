// Exports: what writes the files takes seconds, and then offers them.
import { $, announce, h, notice, number, post, t } from "./core.js";

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-export]");
  if (!form) return;
  event.preventDefault();
  const button = $("button", form), place = $("[role=status]", form.parentElement);
  button.disabled = true;
  place.textContent = t("card.exporting");
  try {
    const made = await post(form.getAttribute("action"), Object.fromEntries(new FormData(form)));
    const worst = Math.max(0, ...Object.values(made.differences));
    place.replaceChildren(h("a", { href: made.to, download: "" }, t("card.fetch")), " ",
      h("span", { class: "muted" }, t("card.exported", { n: made.files.length, size: number(made.bytes / 1e6, 2), worst: number(worst, 2) })));
    announce(t("card.ready"));
  } catch (error) {
    place.replaceChildren(notice(error));
  } finally {
    button.disabled = false;
  }
});
