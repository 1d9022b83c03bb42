// A file that quintet made, dropped on the page, leads back to the run, the seed and the settings that made it.
import { $, announce, notice, problem, t } from "./core.js";

const files = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
let veil = null;

function cover(shown) {
  if (shown && !veil) {
    veil = document.createElement("div");
    veil.className = "veil";
    veil.textContent = t("restore.drop");
    document.body.append(veil);
  } else if (!shown) { veil?.remove(); veil = null; }
}

export async function restore(file) {
  const form = new FormData();
  form.append("file", file);
  try {
    const answer = await fetch("/studio/use/file", { method: "POST", body: form, headers: { Accept: "application/json" } });
    const found = await answer.json();
    if (!answer.ok) throw await problem(found);
    announce(t("restore.found"));
    location.assign(found.to);
  } catch (error) {
    $("#restored")?.remove();
    const told = notice(error);
    told.id = "restored";
    $("#main").prepend(told);
    told.scrollIntoView({ block: "nearest" });
  }
}

/** Elements in which a dropped file means something else have the attribute data-drop. */
const ours = (event) => files(event) && !event.target.closest?.("[data-drop]");
document.addEventListener("dragover", (event) => { if (ours(event)) { event.preventDefault(); cover(true); } else cover(false); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) cover(false); });
document.addEventListener("drop", (event) => {
  cover(false);
  if (!ours(event)) return;
  event.preventDefault();
  if (event.dataTransfer.files[0]) restore(event.dataTransfer.files[0]);
});

const form = $("#restore");
form?.addEventListener("submit", (event) => { event.preventDefault(); restore($("input", form).files[0]); });
if (form) $("input", form).addEventListener("change", () => form.requestSubmit());
