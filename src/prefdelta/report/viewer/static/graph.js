"use strict";
// The stages of a run as a graph: how many artifacts each made, in what time, and what it reads.
(() => {
  const { make } = Viewer;
  const [WIDE, HIGH, ACROSS, DOWN] = [116, 44, 150, 54]; // pixels of a stage, and from one to the next

  // The stages in the order in which they began, each with the earlier ones that it reads: those that another of them
  // reads in turn are left out, so that a line is a step of the way.
  Viewer.stages = (units) => {
    const stageOf = new Map(units.map(({ name, stage }) => [name, stage]));
    const found = new Map();
    for (const { stage, seconds, inputs } of units) {
      if (!found.has(stage)) found.set(stage, { name: stage, at: found.size, count: 0, seconds: 0, all: new Set() });
      const made = found.get(stage);
      made.count++;
      made.seconds += seconds ?? 0;
      for (const input of inputs) {
        const from = found.get(stageOf.get(input));
        if (from && from.at < made.at) made.all.add(from);
      }
    }
    const behind = (stage) => [...stage.all].flatMap((from) => [from, ...behind(from)]);
    for (const stage of found.values()) {
      const implied = new Set([...stage.all].flatMap(behind));
      stage.reads = [...stage.all].filter((from) => !implied.has(from));
      stage.level = 1 + Math.max(-1, ...stage.reads.map(({ level }) => level));
    }
    return [...found.values()];
  };

  Viewer.graph = (units, chosen) => {
    const stages = Viewer.stages(units);
    const rows = [];
    for (const stage of stages) {
      rows[stage.level] = (rows[stage.level] ?? 0) + 1;
      [stage.x, stage.y] = [stage.level * ACROSS, (rows[stage.level] - 1) * DOWN];
    }
    const [width, height] = [rows.length * ACROSS - ACROSS + WIDE, (Math.max(...rows) - 1) * DOWN + HIGH];
    const lines = make("svg", { width, height, "aria-hidden": "true" }, stages.flatMap((stage) => stage.reads.map((from) =>
      make("line", { class: "way", x1: from.x + WIDE, y1: from.y + HIGH / 2, x2: stage.x, y2: stage.y + HIGH / 2 }))));
    const boxes = stages.map((stage) => {
      const box = make("a", { class: "stage", id: `stage-${stage.name}`, "aria-current": stage.name === chosen ? "true" : null,
        href: Viewer.link({ stage: stage.name === chosen ? null : stage.name }) },
      make("strong", {}, stage.name), make("span", {}, `${stage.count} · ${Viewer.time(stage.seconds)}`));
      [box.style.left, box.style.top] = [`${stage.x}px`, `${stage.y}px`];
      return box;
    });
    const drawn = make("div", { class: "graph" }, lines, boxes);
    [drawn.style.width, drawn.style.height] = [`${width}px`, `${height}px`];
    return Viewer.wide("Stages of the run", drawn);
  };
})();
