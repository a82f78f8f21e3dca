"use strict";
// How the run was made: its units, the trainings' curves, and how the deltas lie to one another.
(() => {
  const { make, wide, head } = Viewer;
  const bytes = (size) => size < 1e6 ? `${(size / 1e3).toFixed(1)} kB` : `${(size / 1e6).toFixed(1)} MB`;
  const time = (seconds) => seconds === null ? "" : seconds < 90 ? `${seconds.toFixed(1)} s` : `${(seconds / 60).toFixed(1)} min`;

  // The units in the order of making; what reads what, as links within the table.
  const run = (state, target) => {
    const { units } = Viewer.run;
    const asked = new URLSearchParams(location.hash.slice(1)).get("stage") || "";
    const stages = [...new Set(units.map((unit) => unit.stage))];
    const shown = units.filter((unit) => !asked || unit.stage === asked);
    const longest = Math.max(...units.map((unit) => unit.seconds ?? 0), 0.001);
    const readers = new Map(units.map((unit) => [unit.name, units.filter(({ inputs }) => inputs.includes(unit.name)).length]));
    const reveal = (name) => (event) => {
      event.preventDefault();
      const row = document.getElementById(`unit-${units.findIndex((unit) => unit.name === name)}`);
      if (row) {
        row.scrollIntoView({ block: "center" });
        row.focus();
      } else Viewer.go({ stage: null });
    };
    Viewer.fill(target,
      make("p", {}, `${units.length} artifacts in the order in which they were made, with what each was made from.`),
      make("form", { class: "controls", onsubmit: (event) => event.preventDefault() },
        make("label", {}, "stage", make("select", { id: "stage", onchange: (event) => Viewer.go({ stage: event.target.value }) },
          ["", ...stages].map((stage) => make("option", { value: stage, selected: stage === asked }, stage || "all"))))),
      wide("Artifacts of the run", make("table", { id: "units" },
        head(["artifact", "stage", "time", "share", "size", "read by", "made from"]),
        make("tbody", {}, shown.map((unit) => make("tr", { id: `unit-${units.indexOf(unit)}`, tabindex: "-1" },
          make("th", { scope: "row" }, unit.name), make("td", {}, unit.stage), make("td", {}, time(unit.seconds)),
          make("td", {}, make("meter", { min: 0, max: longest, value: unit.seconds ?? 0, "aria-label": `share of the longest, ${unit.name}` })),
          make("td", {}, bytes(unit.size)), make("td", {}, String(readers.get(unit.name))),
          make("td", { class: "inputs" }, unit.inputs.flatMap((name, at) =>
            [at ? ", " : "", readers.has(name) ? make("a", { href: "#", onclick: reveal(name) }, name) : name]))))))));
  };

  const SIZE = { width: 460, left: 44, right: 440, top: 10, bottom: 170 };
  const curves = (label, trainings) => {
    const drawn = trainings.filter((training) => training.metrics[label]);
    const values = drawn.flatMap((training) => training.metrics[label].filter((value) => value !== null));
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const last = Math.max(...drawn.flatMap((training) => training.steps), 1);
    const x = (step) => SIZE.left + (step / last) * (SIZE.right - SIZE.left);
    const y = (value) => SIZE.bottom - ((value - low) / (high - low || 1)) * (SIZE.bottom - SIZE.top);
    const number = (value) => value.toPrecision(3);
    return make("figure", {}, make("figcaption", {}, label),
      make("svg", { class: "chart", viewBox: `0 0 ${SIZE.width} ${SIZE.bottom + 30}`, role: "img", "aria-label": `${label} over the steps` },
        [low, high].map((value) => [make("line", { class: "grid", x1: SIZE.left, x2: SIZE.right, y1: y(value), y2: y(value) }),
          make("text", { class: "small", x: SIZE.left - 4, y: y(value) + 4, "text-anchor": "end" }, number(value))]),
        make("text", { class: "small", x: (SIZE.left + SIZE.right) / 2, y: SIZE.bottom + 20, "text-anchor": "middle" }, `step (to ${last})`),
        drawn.map((training, at) => make("g", { class: `curve c${at % 4}` }, make("title", {}, training.name),
          make("polyline", { points: training.metrics[label]
            .flatMap((value, step) => value === null ? [] : [`${x(training.steps[step])},${y(value)}`]).join(" ") })))));
  };

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
})();
