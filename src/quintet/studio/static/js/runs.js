// The page of all runs: it finds as one types, keeps itself up to date, and keeps what is chosen.
import { $, $$, later, swap } from "./core.js";

const search = $("form.search");

async function show(address, push) {
  const chosen = new Set($$("input[name=run]:checked").map((box) => box.value));
  const focus = document.activeElement?.closest("#list") ? document.activeElement.value : null;
  await swap(address, "list");
  for (const box of $$("input[name=run]")) {
    box.checked = chosen.has(box.value);
    if (focus && box.value === focus) box.focus();
  }
  if (push) history.replaceState(null, "", address);
  buttons();
}

function buttons() {
  const count = $$("input[name=run]:checked").length;
  for (const button of $$("#list .bar button")) button.disabled = !count;
}

const find = later(() => {
  const fields = new URLSearchParams(new FormData(search));
  if (!fields.get("q")) fields.delete("q");
  show(`/runs?${fields}`, true);
}, 200);

search.addEventListener("input", find);
search.addEventListener("submit", (event) => { event.preventDefault(); find(); });
document.addEventListener("change", (event) => { if (event.target.name === "run") buttons(); });
setInterval(() => {
  if (!document.hidden && $("#list").dataset.live === "1") show(location.href, false);
}, 3000);
buttons();
