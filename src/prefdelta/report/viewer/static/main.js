"use strict";
// Which view is shown, and the keys.
Viewer.firstView = () => Object.keys(Viewer.views).find((name) => Viewer.views[name].has?.(Viewer.run));

// The name of the view that the address asks for, where this run has it.
Viewer.viewAt = (state) => {
  const known = Viewer.views[state.view] && (Viewer.views[state.view].has ?? (() => state.domain))(Viewer.run);
  return known ? state.view : Viewer.firstView();
};

let drawings = 0;

Viewer.show = async () => {
  const mine = ++drawings;
  // Texts may come late, when another address is shown: then nothing is to be drawn.
  const state = { ...Viewer.state(), alive: () => mine === drawings };
  const name = Viewer.viewAt(state);
  const view = Viewer.views[name];
  const target = document.getElementById("view");
  const focused = target.contains(document.activeElement) ? document.activeElement.id : "";
  for (const link of document.querySelectorAll("nav a[data-view]")) {
    link.href = Viewer.elsewhere(link.dataset.view);
    if (link.dataset.view === (view.within ?? name)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    await view.draw(state, target);
  } catch (error) {
    if (!state.alive()) return;
    Viewer.fill(target, Viewer.make("p", { role: "alert" }, error.message));
    throw error;
  }
  if (!state.alive()) return;
  // What was drawn anew keeps the focus; after a search the keys are the table's.
  if (focused && focused !== "q") document.getElementById(focused)?.focus();
};

Viewer.listViews = () => Viewer.fill(document.getElementById("views"),
  Viewer.run.report ? Viewer.make("a", { href: Viewer.run.report, id: "report" }, "Report") : null, Object.entries(Viewer.views).flatMap(([name, view]) =>
  view.label && view.has(Viewer.run) ?
    [Viewer.make("a", { "data-view": name }, typeof view.label === "string" ? view.label : view.label(Viewer.run))] : []));

Viewer.start = () => {
  const { make, run } = Viewer;
  document.title = `${run.name} · prefdelta`;
  document.getElementById("name").textContent = run.name;
  Viewer.listViews();
  if (run.notes.length) {
    document.querySelector("header").append(make("ul", { class: "notes" }, run.notes.map((note) => make("li", {}, note))));
  }
  window.addEventListener("hashchange", Viewer.show);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest("input[type=search], select, textarea");
    if (typing) {
      if (event.key === "Escape" && event.target.id === "q") event.target.blur();
      return;
    }
    if (event.key === "Enter" && event.target.closest("a, input, summary, button")) return;
    // By the address and not by what is drawn: a second key may come before the page has followed the first.
    const { keys } = Viewer.views[Viewer.viewAt(Viewer.state())];
    const action = Object.hasOwn(keys, event.key) ? keys[event.key] : null;
    if (action) {
      event.preventDefault();
      action();
    }
  });
  Viewer.show();
  if (run.live) Viewer.follow();
};
