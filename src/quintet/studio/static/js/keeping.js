// Forms that keep order among runs, sent without leaving the page; and errors shown beside what they are about.
import { $, announce, notice, post, t } from "./core.js";

const SURE = new Set(["remove"]);

if (document.activeElement === document.body) $("[data-first]")?.focus();

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-keeping]");
  if (!form) return;
  event.preventDefault();
  const what = form.dataset.keeping, button = event.submitter ?? $("button", form);
  if (SURE.has(what) && !window.confirm(t("keeping.sure"))) return;
  form.previousElementSibling?.classList.contains("notice") && form.previousElementSibling.remove();
  button.disabled = true;
  try {
    const said = await post(form.getAttribute("action"), Object.fromEntries(new FormData(form)));
    if (["tags", "note", "about"].includes(what)) {
      announce(t("keeping.saved"));
      button.classList.add("done");
      setTimeout(() => button.classList.remove("done"), 1500);
      document.dispatchEvent(new CustomEvent("kept", { detail: said }));
    } else if (["archive", "keep"].includes(what)) {
      location.reload();
    } else {
      location.assign(said.to);
    }
  } catch (error) {
    form.before(notice(error));
    announce(error.message);
  } finally {
    button.disabled = false;
  }
});
