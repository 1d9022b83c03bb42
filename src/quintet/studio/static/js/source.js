// One source: the page waits until it is read; what is given and modelled goes into the addresses of the page at once.
import { $, $$, get, notice } from "./core.js";

const waiting = $("#waiting"), form = $("#correct");

async function wait() {
  try {
    for (;;) if ((await get(`/studio/data/read${waiting.dataset.read}`)).done) break;
    location.replace(location.href);
  } catch (error) {
    $("#waiting-error").replaceChildren(notice(error));
  }
}

/** The address of a page with what is ticked now. */
function chosen(address) {
  const made = new URL(address, location.href), field = made.searchParams, target = new FormData(form).get("target");
  field.set("condition", $$("[name=condition]:checked", form).map((one) => one.value).join(","));
  field.delete("target");
  if (target) field.set("target", target);
  return made.pathname + made.search + made.hash;
}

/** The address that reads the source as the form says now, and goes on to a page. */
function corrected(then) {
  return `/data?${new URLSearchParams([...new FormData(form), ["then", then]])}`;
}

if (waiting) wait();
form?.addEventListener("change", (event) => {
  if (!["condition", "target"].includes(event.target.name)) $(".apply button", form).classList.add("main");
  else history.replaceState(null, "", chosen(location.href));
  const changed = $(".apply button.main", form);
  for (const link of $$("[data-to]")) link.href = changed ? corrected(link.dataset.to) : chosen(link.href);
});
