"use strict";
// The result in words, and tables of numbers with their intervals drawn.
(() => {
  const { make } = Viewer;
  const [LEFT, RIGHT, ROW] = [150, 460, 24];
  const shown = (value) => (value === null ? "" : typeof value === "number" && !Number.isInteger(value) ? value.toFixed(1) : String(value));

  // Differences with their intervals on a shared axis; where one leaves out 0, it is a difference.
  const intervals = ({ name, columns, rows, interval }) => {
    const drawn = rows.filter((row) => interval.every((at) => row[at] !== null));
    if (!drawn.length) return null;
    const ends = [0, ...drawn.flatMap((row) => interval.map((at) => row[at]))];
    const [low, high] = [Math.min(...ends), Math.max(...ends)];
    const x = (value) => LEFT + ((value - low) / (high - low || 1)) * (RIGHT - LEFT);
    const bottom = drawn.length * ROW + 10;
    return make("svg", { class: "chart", viewBox: `0 0 480 ${bottom + 20}`, role: "img", "aria-label": `${columns[interval[0]]}: ${name}` },
      make("line", { class: "zero", x1: x(0), x2: x(0), y1: 4, y2: bottom }),
      [low, 0, high].filter((value, at, all) => all.indexOf(value) === at).map((value) =>
        make("text", { class: "small", x: x(value), y: bottom + 14, "text-anchor": "middle" }, value.toFixed(1))),
      drawn.map((row, at) => {
        const [middle, from, to] = interval.map((place) => row[place]);
        const y = at * ROW + ROW / 2 + 4;
        return make("g", { class: `curve c${from > 0 ? 1 : to < 0 ? 0 : 2}` },
          make("title", {}, `${row[0]}: ${middle.toFixed(1)} [${from.toFixed(1)}, ${to.toFixed(1)}]`),
          make("text", { class: "name", x: LEFT - 10, y: y + 4, "text-anchor": "end" }, String(row[0]).slice(0, 18)),
          make("line", { class: "bar", x1: x(from), x2: x(to), y1: y, y2: y }), make("circle", { cx: x(middle), cy: y, r: 4 }));
      }));
  };

  const table = (entry) => [
    make("h2", {}, entry.name),
    entry.interval ? intervals(entry) : null,
    Viewer.wide(entry.name, make("table", {}, Viewer.head(entry.columns),
      make("tbody", {}, entry.rows.map((row) => make("tr", {},
        row.map((value, at) => (at ? make("td", {}, shown(value)) : make("th", { scope: "row" }, shown(value))))))))),
    make("p", {}, Viewer.saves(entry.name, entry.columns, () => entry.rows)),
  ];

  Viewer.views.results = {
    label: "Results",
    has: (run) => run.tables.length > 0,
    keys: {},
    draw: (state, target) => {
      const { domain } = state;
      const held = domain !== null && domain.base !== null;
      Viewer.fill(target,
        Viewer.run.sentences.map((sentence) => make("p", { class: "quote" }, sentence)),
        Viewer.run.description ? make("p", { class: "soft" }, Viewer.run.description) : null,
        held ? make("p", {}, make("a", { id: "differing", href: Viewer.link({ view: "items", show: "differ" }) },
          `The items on which ${domain.models[state.model].name} and ${domain.models[domain.base].name} differ`)) : null,
        Viewer.run.tables.map(table));
    },
  };
})();
