// Which panel a verb has: a module with `panel({form, facts, work, loading})`, which gives what a submitted form does. The
// first that fits is taken, so that what is special stands before what is general.
const PANELS = [
  [(facts) => facts.verb === "sample", () => import("./sample.js")],
  [(facts) => facts.verb === "evaluate", () => import("./measured.js")],
  [(facts) => facts.verb === "complete" && facts.items.rows, () => import("./holes.js")],
  [(facts) => facts.verb === "complete" && facts.items.media.startsWith("image/"), () => import("./paint.js")],
  [(facts) => facts.verb === "classify", () => import("./labels.js")],
  [(facts) => facts.verb === "translate" && facts.given.typed, () => import("./translate.js")],
  [() => true, () => import("./brought.js")],
];

export async function panelOf(facts) {
  const [, load] = PANELS.find(([fits]) => fits(facts));
  return (await load()).panel;
}
