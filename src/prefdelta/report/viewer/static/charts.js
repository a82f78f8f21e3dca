"use strict";
// Curves over a shared axis, a panel for each measure, and all their numbers as a table.
(() => {
  const { make } = Viewer;
  const [LEFT, RIGHT, TOP, BOTTOM] = [52, 330, 14, 220];
  const NAMES = 16; // pixels between two names
  const short = (value) => String(Number(value.toPrecision(4)));

  // Round marks that hold all values, at most seven.
  const marks = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const rough = (high - low) / 5 || Math.abs(high) / 5 || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((size) => size * power).find((size) => size >= rough);
    const first = Math.floor(low / step);
    const last = Math.max(Math.ceil(high / step), first + 1);
    return Array.from({ length: last - first + 1 }, (_, at) => (first + at) * step);
  };

  // Whether a position is one that cannot be told from the chosen one.
  const within = ({ level }, position) => level !== null && position >= level[0] && position <= level[1];
  const choice = (curve, position) =>
    position === curve.chosen ? "chosen" : within(curve, position) ? "level with it" : "";

  Viewer.panel = (chart, measure) => {
    const column = chart.columns.indexOf(measure) + 1;
    const curves = chart.curves.map((curve) => ({
      ...curve, points: curve.rows.filter((row) => row[column] !== null).map((row) => [row[0], row[column]]) }));
    const points = curves.flatMap((curve) => curve.points);
    if (!points.length) return null;
    const positions = [...new Set(points.map(([position]) => position))].sort((a, b) => a - b);
    const place = chart.logarithmic ? Math.log : (position) => position;
    const span = place(positions[positions.length - 1]) - place(positions[0]) || 1;
    const lines = marks(points.map(([, value]) => value));
    const [floor, ceiling] = [lines[0], lines[lines.length - 1]];
    const x = (position) => LEFT + ((place(position) - place(positions[0])) / span) * (RIGHT - LEFT);
    const y = (value) => BOTTOM - ((value - floor) / (ceiling - floor)) * (BOTTOM - TOP);
    const path = (drawn) => drawn.map(([position, value]) => `${x(position)},${y(value)}`).join(" ");
    const parts = lines.map((mark) => [
      make("line", { class: "grid", x1: LEFT, x2: RIGHT, y1: y(mark), y2: y(mark) }),
      make("text", { class: "small", x: LEFT - 6, y: y(mark) + 4, "text-anchor": "end" }, short(mark))]);
    let free = -Infinity;
    for (const position of positions) {
      if (x(position) - free < 30) continue; // numbers do not run into one another
      free = x(position);
      parts.push(make("text", { class: "small", x: free, y: BOTTOM + 16, "text-anchor": "middle" }, short(position)));
    }
    parts.push(make("text", { class: "small", x: (LEFT + RIGHT) / 2, y: BOTTOM + 34, "text-anchor": "middle" }, chart.axis));
    const ends = [];
    curves.forEach((curve, at) => {
      if (!curve.points.length) return;
      const style = `curve ${curve.kind} c${at % 4}`;
      const best = curve.points.find(([position]) => position === curve.chosen);
      const last = curve.points[curve.points.length - 1];
      const band = curve.points.filter(([position]) => within(curve, position));
      parts.push(make("g", { class: style },
        make("title", {}, [curve.name, curve.chosen === null ? "" : `, chosen: ${curve.chosen}`,
          curve.level ? `, level with it from ${curve.level[0]} to ${curve.level[1]}` : ""].join("")),
        band.length > 1 ? make("polyline", { class: "level", points: path(band) }) : null,
        make("polyline", { points: path(curve.points) }),
        best ? make("circle", { cx: x(best[0]), cy: y(best[1]), r: 5 }) : null));
      ends.push({ y: y(last[1]), name: curve.name, style });
    });
    ends.sort((a, b) => a.y - b.y);
    let lowest = -Infinity;
    for (const end of ends) {
      lowest = Math.max(end.y, lowest + NAMES);
      parts.push(make("text", { class: `name ${end.style}`, x: RIGHT + 10, y: lowest + 4 }, end.name));
    }
    const height = Math.max(BOTTOM + 44, lowest + NAMES);
    return make("figure", {}, make("figcaption", {}, measure),
      make("svg", { class: "chart", viewBox: `0 0 480 ${height}`, role: "img",
        "aria-label": `${measure} over ${chart.axis} in ${chart.name}` }, parts.flat()));
  };

  const table = ({ name, axis, columns, curves }) => {
    const rows = curves.flatMap((curve) => curve.rows.map((row) => ({ curve, row })));
    const value = (number) => (number === null ? "" : Number.isInteger(number) ? String(number) : short(number));
    return [
      Viewer.wide(`Numbers of ${name}`, make("table", {},
        Viewer.head(["curve", axis, ...columns, "choice"]),
        make("tbody", {}, rows.map(({ curve, row }) => make("tr", { class: row[0] === curve.chosen ? "chosen" : null },
          make("th", { scope: "row" }, curve.name),
          [...row.map(value), choice(curve, row[0])].map((text) => make("td", {}, text))))))),
      make("p", {}, Viewer.saves(`${name} curves`, ["curve", axis, ...columns, "choice"],
        () => rows.map(({ curve, row }) => [curve.name, ...row, choice(curve, row[0])]))),
    ];
  };

  Viewer.views.scale = {
    label: (run) => (run.charts[0].logarithmic ? "Scale" : "Curves"),
    has: (run) => run.charts.length > 0,
    keys: {},
    draw: (state, target) => Viewer.fill(target,
      Viewer.run.charts.some(({ logarithmic }) => logarithmic) ? make("p", {},
        "Each update is multiplied by λ, which validation items choose, never test items. A ring marks the chosen λ, a " +
        "broad line those that the items cannot tell from it; thin lines are single deltas.") : null,
      Viewer.run.charts.map((chart) => [make("h2", {}, chart.name),
        chart.notes.length ? make("ul", { class: "reasons" }, chart.notes.map((note) => make("li", {}, note))) : null,
        make("div", { class: "figures" }, chart.drawn.map((measure) => Viewer.panel(chart, measure))), table(chart)])),
  };
})();
