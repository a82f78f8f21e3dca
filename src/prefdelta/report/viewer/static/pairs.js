"use strict";
// The preference pairs: a table to sort by length and margin, and chosen and rejected side by side.
(() => {
  const { make, select } = Viewer;
  let selected = 0;
  let current = null;

  const setOf = (state, sets) => sets.find(({ name }) => name === state.set) ?? sets[0];

  // What a pair can be sorted by: lengths in tokens, and its margin under each model.
  const measures = (set) => [
    ["chosen", (at) => set.chosen[at]],
    ["rejected", (at) => set.rejected[at]],
    ["chosen longer by", (at) => set.chosen[at] - set.rejected[at]],
    ...set.margins.map(([model, values]) => [`margin: ${model}`, (at) => values[at]]),
  ];

  const rowsOf = (state, set) => {
    const reason = set.reasons.indexOf(state.reason);
    const rows = set.id.map((_, at) => at).filter((at) => reason < 0 || set.reason[at] === reason);
    const measure = measures(set).find(([name]) => name === state.sort);
    return measure ? Viewer.sorted(rows, measure[1], state.upwards) : rows;
  };

  const pairLink = (place) => Viewer.link({ view: "pair", pair: String(place) });

  const counts = ({ counts: { asked, ...dropped }, id }) => make("p", { id: "became" },
    `Of ${asked.toLocaleString("en")} questions: `,
    Object.entries(dropped).map(([reason, count]) => `${count.toLocaleString("en")} dropped (${reason}), `),
    `${id.length.toLocaleString("en")} pairs to look at here.`);

  const number = (value) => (value === null ? "" : Number.isInteger(value) ? String(value) : value.toFixed(3));

  const draw = async (state, target) => {
    const sets = await Viewer.chunk("pairs");
    if (!state.alive()) return;
    const set = setOf(state, sets);
    const rows = rowsOf(state, set);
    const shown = measures(set);
    selected = Math.min(selected, Math.max(rows.length - 1, 0));
    const blank = () => {
      const link = make("a");
      const note = make("span", { class: "soft" });
      const cells = shown.map(() => make("div", { role: "cell", class: "cell number" }));
      let row = 0;
      link.addEventListener("click", () => { selected = row; });
      const fill = (place) => {
        const at = rows[place];
        row = place;
        link.href = pairLink(at);
        link.textContent = set.question[at] || set.id[at];
        note.textContent = `${set.reasons[set.reason[at]]} · ${set.id[at]}`;
        shown.forEach(([, value], column) => { cells[column].textContent = number(value(at)); });
      };
      return { box: make("div", { class: "row", role: "row" }, make("div", { class: "cell item", role: "cell" }, link, note), cells), fill };
    };
    const grid = Viewer.grid({
      label: "Pairs", columns: shown.length, count: rows.length, blank, selected,
      headings: [make("div", { class: "cell item", role: "columnheader" }, "question"),
        shown.map(([name], at) => Viewer.heading(state, name, { class: "cell" }, make("span", { class: "said" }, name),
          make("span", { class: "soft" }, at < 3 ? "tokens" : "nats")))],
      onselect: (place) => { selected = place; },
    });
    Viewer.fill(target,
      make("form", { class: "controls", onsubmit: (event) => event.preventDefault() },
        sets.length > 1 ? select("delta", "set", sets.map(({ name }) => [name, name]), set.name, ["reason", "sort", "order"]) : null,
        set.reasons.length > 1 ? select("what became of it", "reason", [["", "all"], ...set.reasons.map((reason) => [reason, reason])],
          state.reason ?? "") : null),
      counts(set),
      make("p", { class: "soft" }, set.margins.length ? "Sorted by a margin, the pairs that a model learned most come first, or least; " +
        "a margin was measured of held-out pairs that a benchmark of the run is made of." :
        "No margin of these pairs was measured: no benchmark of the run is made of them."),
      make("p", { class: "counted" }, make("span", { id: "count" }, rows.length === 1 ? "1 pair" : `${rows.length.toLocaleString("en")} pairs`),
        Viewer.saves("pairs", ["id", "task", "what became of it", "question", ...shown.map(([name]) => name)], () => rows.map((at) =>
          [set.id[at], set.task[at], set.reasons[set.reason[at]], set.question[at], ...shown.map(([, value]) => value(at))]))),
      grid.box);
    grid.place();
    current = { rows, grid };
  };

  const open = (place) => { if (current?.rows.length) location.hash = pairLink(current.rows[place]); };

  const card = (title, { spans, tokens, finish }) => make("section", { class: "card" }, make("h3", {}, title),
    make("p", { class: "told" }, `${tokens} tokens · ${{ stop: "ended by the model", length: "cut off" }[finish] ?? "end unknown"}`),
    make("div", { class: "text" }, spans.map(([source, text]) => make("span", { class: source === "environment" ? "read" : "own" }, text))));

  const drawPair = async (state, target) => {
    const sets = await Viewer.chunk("pairs");
    const set = setOf(state, sets);
    const rows = rowsOf(state, set);
    const at = Number(state.pair);
    const place = rows.indexOf(at);
    if (place < 0) {
      Viewer.fill(target, make("p", {}, "No such pair in this run."));
      return;
    }
    const texts = await Viewer.chunk(`p-${sets.indexOf(set)}-${Math.floor(at / Viewer.run.chunk)}`);
    if (!state.alive()) return;
    const { prompt, answers } = texts[at % Viewer.run.chunk];
    const step = (label, by) => (rows[place + by] === undefined ? make("span", { class: "soft" }, label) :
      make("a", { href: pairLink(rows[place + by]), id: by > 0 ? "next" : "previous" }, label));
    selected = place;
    current = { ...current, rows };
    Viewer.fill(target,
      make("p", { class: "steps" }, make("a", { href: back(), id: "back" }, "all pairs"), " · ", step("previous", -1), " · ", step("next", 1)),
      make("h2", {}, `${set.name} · ${set.id[at]}`),
      make("p", { id: "fate" }, set.reasons[set.reason[at]],
        set.margins.filter(([, values]) => values[at] !== null).map(([model, values]) => ` · margin under ${model}: ${number(values[at])} nats`)),
      prompt.map(([role, text]) => make("div", { class: "question text" }, prompt.length > 1 ? make("strong", {}, `${role}: `) : null, text)),
      make("div", { class: "cards" }, card("chosen", answers[0]), card("rejected", answers[1])));
  };

  const back = () => Viewer.link({ view: "pairs", pair: null });

  // From where the address is, not from what is drawn: a second key may come before the first one's pair is.
  const step = (by) => {
    const next = current?.rows[current.rows.indexOf(Number(Viewer.state().pair)) + by];
    if (next !== undefined) location.hash = pairLink(next);
  };

  Viewer.views.pairs = {
    label: "Pairs",
    has: (run) => run.pairs,
    keys: {
      j: () => current?.grid?.move(1),
      k: () => current?.grid?.move(-1),
      Enter: () => open(selected),
      Escape: () => Viewer.go({ reason: null, sort: null, order: null }),
    },
    draw,
  };
  Viewer.views.pair = {
    within: "pairs",
    has: (run) => run.pairs,
    keys: { j: () => step(1), k: () => step(-1), Escape: () => { location.hash = back(); } },
    draw: drawPair,
  };
})();
