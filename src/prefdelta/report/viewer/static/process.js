"use strict";
// How the run was made: its units, the trainings' curves, and how the deltas lie to one another.
(() => {
  const { make, wide, head } = Viewer;
  const bytes = (size) => size < 1e6 ? `${(size / 1e3).toFixed(1)} kB` : `${(size / 1e6).toFixed(1)} MB`;
  Viewer.time = (seconds) => seconds === null ? "" : seconds < 90 ? `${seconds.toFixed(1)} s` : `${(seconds / 60).toFixed(1)} min`;

  const unitLink = (name) => Viewer.link({ view: "unit", unit: name });
  const linked = (names) => names.flatMap((name, at) => [at ? ", " : "",
    Viewer.run.units.some((unit) => unit.name === name) ? make("a", { href: unitLink(name) }, name) : name]);

  // The stages as a graph, then the units in the order of making.
  const run = (state, target) => {
    const { units } = Viewer.run;
    const asked = new URLSearchParams(location.hash.slice(1)).get("stage") || "";
    const shown = units.filter((unit) => !asked || unit.stage === asked);
    const longest = Math.max(...units.map((unit) => unit.seconds ?? 0), 0.001);
    Viewer.fill(target,
      make("p", {}, "The stages, each with its number of artifacts and their time. Lines lead from what is read to what is made of it. " +
        "Choose a stage to see its artifacts alone."),
      Viewer.graph(units, asked),
      make("p", { id: "shown" }, asked ? `${shown.length} of ${units.length} artifacts: ${asked}` : `${units.length} artifacts, in the order of making`),
      wide("Artifacts of the run", make("table", { id: "units" },
        head(["artifact", "stage", "time", "of the longest", "size", "made from"]),
        make("tbody", {}, shown.map((unit) => make("tr", {},
          make("th", { scope: "row" }, make("a", { href: unitLink(unit.name) }, unit.name)), make("td", {}, unit.stage),
          make("td", {}, Viewer.time(unit.seconds)),
          make("td", {}, make("meter", { min: 0, max: longest, value: unit.seconds ?? 0, "aria-label": `share of the longest, ${unit.name}` })),
          make("td", {}, bytes(unit.size)), make("td", { class: "inputs" }, linked(unit.inputs))))))));
  };

  // What an artifact's manifest tells; of a run at work it may be younger than what was loaded.
  const details = async (name) => {
    if (Viewer.run.live && Viewer.chunks.has("units") && !Viewer.chunks.get("units")[name]) {
      Viewer.chunks.delete("units");
      Viewer.waiting.delete("units");
    }
    return (await Viewer.chunk("units"))[name] ?? { settings: {}, files: [] };
  };

  // One artifact: what it was made from, its settings, and its files with their hashes.
  const unit = async (state, target) => {
    const { units } = Viewer.run;
    const found = units.find(({ name }) => name === state.unit);
    if (!found) {
      Viewer.fill(target, make("p", {}, "No such artifact in this run."));
      return;
    }
    const told = await details(found.name);
    if (!state.alive()) return;
    const readers = units.filter(({ inputs }) => inputs.includes(found.name)).map(({ name }) => name);
    Viewer.fill(target,
      make("p", { class: "steps" }, make("a", { href: back(), id: "back" }, "the run")),
      make("h2", {}, found.name),
      make("p", {}, [found.stage, Viewer.time(found.seconds), bytes(found.size)].filter(Boolean).join(" · ")),
      make("p", { id: "from" }, "made from: ", found.inputs.length ? linked(found.inputs) : "no other artifact"),
      make("p", {}, "read by: ", readers.length ? linked(readers) : "no other artifact"),
      make("h2", {}, "Settings"), make("pre", { tabindex: "0" }, make("code", { id: "settings" }, JSON.stringify(told.settings, null, 2))),
      make("h2", {}, "Files"), wide("Files", make("table", {}, head(["file", "size", "SHA-256"]),
        make("tbody", {}, told.files.map(([name, size, hash]) => make("tr", {}, make("th", { scope: "row" }, name),
          make("td", {}, bytes(size)), make("td", {}, make("code", {}, hash))))))));
  };
  const back = () => Viewer.link({ view: "run", unit: null });

  // One line for each training that has the metric, in the colour that the table gives it.
  const curves = (label, trainings) => Viewer.panel({ name: "training", axis: "step", columns: [label],
    curves: trainings.map(({ name, steps, metrics }) => ({ name: name.split("/").slice(2).join("/") || name, kind: "training",
      chosen: null, level: null, rows: steps.map((step, at) => [step, metrics[label]?.[at] ?? null]) })) }, label);

  const training = (state, target) => {
    const { trainings } = Viewer.run;
    const groups = Map.groupBy ? Map.groupBy(trainings, ({ name }) => name.split("/")[0]) : new Map([["all", trainings]]);
    const metrics = [...new Set(trainings.flatMap((entry) => Object.keys(entry.metrics)))];
    const value = (found) => found === null || found === undefined ? "" : found.toPrecision(3);
    Viewer.fill(target,
      make("p", {}, "Each line is one adapter, all of a domain on shared axes. The loss of DPO begins at ln 2 = 0.693."),
      [...groups].map(([name, entries]) => [
        make("h2", {}, name), make("div", { class: "figures" },
          metrics.filter((label) => entries.some((entry) => entry.metrics[label])).map((label) => curves(label, entries))),
        wide(`First and last values in ${name}`, make("table", {},
          head(["adapter", "steps", ...metrics.map((label) => `${label}, first → last`)]),
          make("tbody", {}, entries.map((entry, at) => make("tr", {},
            make("th", { scope: "row" }, make("span", { class: `swatch c${at % 4}`, "aria-hidden": "true" }), entry.name),
            make("td", {}, String(entry.steps[entry.steps.length - 1] ?? 0)),
            metrics.map((label) => make("td", {}, entry.metrics[label] ?
              `${value(entry.metrics[label][0])} → ${value(entry.metrics[label].at(-1))}` : ""))))))),
      ]));
  };

  const shade = (cosine) => cosine === null ? "" : `heat ${cosine < 0 ? "against" : "along"}${Math.min(4, Math.round(Math.abs(cosine) * 4))}`;
  const cosines = ({ names, pairs, norms }) => {
    const at = (first, second) => first === second ? 1 :
      pairs.find((pair) => pair.first === Math.min(first, second) && pair.second === Math.max(first, second)).cosine;
    const cell = (cosine) => make("td", { class: shade(cosine) }, cosine === null ? "–" : cosine.toFixed(2));
    return make("table", {}, head(["", ...names, "norm"]), make("tbody", {}, names.map((name, row) => make("tr", {},
      make("th", { scope: "row" }, name), names.map((_, column) => cell(at(row, column))), make("td", {}, norms[row].toFixed(3))))));
  };
  const modules = ({ names, pairs }) => {
    const all = [...new Set(pairs.flatMap((pair) => Object.keys(pair.modules)))];
    return all.length === 0 ? null : wide("Cosines by module", make("table", {},
      head(["module", ...pairs.map((pair) => `${names[pair.first]} · ${names[pair.second]}`)]),
      make("tbody", {}, all.map((module) => make("tr", {}, make("th", { scope: "row" }, module),
        pairs.map((pair) => {
          const cosine = pair.modules[module] ?? null;
          return make("td", { class: shade(cosine) }, cosine === null ? "–" : cosine.toFixed(2));
        }))))));
  };
  const geometry = (state, target) => Viewer.fill(target,
    make("p", {}, "The cosine of two updates in weight space: near 0 they teach unrelated things, near 1 the same, below 0 they pull " +
      "against each other. First training seed."),
    Viewer.run.geometry.map((entry) => [make("h2", {}, entry.domain), wide(`Cosines in ${entry.domain}`, cosines(entry)), modules(entry)]));

  Viewer.views.training = { label: "Training", has: (run) => run.trainings.length > 0, keys: {}, draw: training };
  Viewer.views.geometry = { label: "Geometry", has: (run) => run.geometry.length > 0, keys: {}, draw: geometry };
  Viewer.views.run = { label: "Run", has: (run) => run.units.length > 0, keys: {}, draw: run };
  Viewer.views.unit = { within: "run", has: (run) => run.units.length > 0, keys: { Escape: () => { location.hash = back(); } }, draw: unit };
})();
