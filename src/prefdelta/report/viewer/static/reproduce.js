"use strict";
// The command and the settings, and the files.
Viewer.views.reproduce = {
  label: "Reproduce",
  has: () => true,
  keys: {},
  draw: (state, target) => {
    const { make, run } = Viewer;
    const results = make("a", { href: "results.json" }, "results.json");
    Viewer.fill(target,
      run.description ? make("p", {}, run.description) : null,
      run.sentences.map((sentence) => make("p", {}, sentence)),
      run.command ? [make("h2", {}, "Command"), make("pre", { tabindex: "0" }, make("code", { id: "command" }, run.command))] : null,
      run.live ? make("p", {}, "The run is at work and has no results yet.") : make("p", {}, "The numbers are in ", results, ". ",
        run.settings ? ["Every setting is in ", make("a", { href: run.settingsFile }, run.settingsFile),
          "; absolute paths are shown by their last part."] : null),
      run.settings ? [make("h2", {}, run.settingsFile === "recipe.yaml" ? "Recipe" : "Settings"),
        make("pre", { tabindex: "0" }, make("code", { id: "recipe" }, run.settings))] : null);
  },
};
