"use strict";
// The table item × model.
(() => {
  const { make, select } = Viewer;
  let selected = 0;
  let found = { text: "", seed: null, domain: null, rows: null };
  let current = null;

  const ITEM = "(item)"; // sorts by the item's id; no model is called so

  const controls = (state) => {
    const { domain } = state;
    const { domains, seeds } = Viewer.run;
    const choices = domain.choices.map((place) => domain.models[place]);
    return make("form", { class: "controls", onsubmit: (event) => event.preventDefault() },
      domains.length > 1 ? select("domain", "domain", domains.map(({ name }) => [name, name]), domain.name,
        ["task", "model", "show", "with", "sort", "order"]) : null,
      select("show", "show", [...Viewer.filters(state)].map(([name, { label }]) => [name, label]), state.show),
      domain.tasks.length > 1 ? select("task", "task", [["", "all"], ...domain.tasks.map((task) => [task, task])],
        domain.tasks[state.task] ?? "") : null,
      seeds.length > 1 ? select("training seed", "seed", [["", "all"], ...seeds.map((seed) => [String(seed), String(seed)])],
        state.seed < 0 ? "" : String(seeds[state.seed])) : null,
      choices.length > 1 ? select(choices[0].kind === "merge" ? "merge" : "model", "model",
        choices.map(({ name }) => [name, name]), domain.models[state.model].name) : null,
      make("label", {}, "search",
        make("input", { id: "q", type: "search", value: state.search, autocomplete: "off",
          placeholder: "question, answer, id", onchange: (event) => Viewer.go({ q: event.target.value }) })),
      domain.models.some((model) => model.minor) ? make("label", { class: "tick" },
        make("input", { id: "all", type: "checkbox", checked: state.all,
          onchange: (event) => Viewer.go({ all: event.target.checked ? "1" : null }) }),
        "all models") : null);
  };

  // The counts are of the rows shown, the interval of the whole domain or task, as results.json has it.
  const verdict = (state, rows) => {
    const { domain, model } = state;
    const { base, rival, models, tasks } = domain;
    const filter = Viewer.filters(state).get(state.show);
    const narrowed = (filter && filter.outcome) || state.search || state.seed >= 0;
    const answers = Viewer.run.seeds.length > 1 && state.seed < 0 ? "items × seeds" : "items";
    const line = (label, other, differences) => {
      const counts = Viewer.counts(domain, rows, model, other);
      const { text, items } = differences[state.task + 1] ?? {};
      return make("p", {},
        make("strong", {}, `${models[model].name} against ${label}${models[other].name}: `),
        `better in ${counts.above}, worse in ${counts.below}, level in ${counts.level} of the ${rows.length} ${answers} shown. `,
        text ? `Over all ${items} items of ${tasks[state.task] ?? domain.name}: ${text} points (95 % interval, paired by item).` : "");
    };
    const lines = [];
    if (base !== null && base !== model) {
      const role = models[base].kind === models[base].name || models[base].kind === "run" ? "" : `the ${models[base].kind} `;
      lines.push(line(role, base, models[model].to_base));
      const changed = models[model].changed[state.task + 1] ?? null;
      if (changed !== null) {
        lines.push(make("p", { id: "changed" }, `Another answer than ${models[base].name}'s to ${Viewer.percent(changed)} % of all items` +
          (state.task < 0 ? "." : ` of ${tasks[state.task]}.`)));
      }
    }
    if (rival !== null && rival !== model) {
      lines.push(line(models[rival].kind === "single" ? "the best single delta " : "", rival, models[model].to_rival));
    }
    if (!lines.length) {
      const { name, score, scores } = models[model];
      lines.push(make("p", {}, make("strong", {}, `${name}: `), `${Viewer.percent(scores[state.task] ?? score)} %`));
    } else if (narrowed) {
      lines.push(make("p", { class: "soft" },
        "The interval is of all items and seeds: rows that were picked by their outcome or by a search say nothing about chance."));
    }
    return make("div", { id: "verdict", "aria-live": "polite" }, lines);
  };

  const itemLink = (state, row) => Viewer.link({
    view: "item", item: state.domain.id[row.place], itemtask: state.domain.tasks[state.domain.task[row.place]],
    itemseed: String(Viewer.run.seeds[row.seed]) });

  const MARKS = { right: "✓", part: "", wrong: "✗", none: "" };

  // A cell is made once and filled again for every row that scrolls by: making elements is what makes scrolling halt.
  const blankCell = () => {
    const [mark, said, cut] = ["", "", ""].map((text) => document.createTextNode(text));
    const told = make("span", {}, said);
    const box = make("div", { role: "cell" }, make("span", { class: "mark" }, mark), make("span", { class: "cut" }, cut), told);
    return { box, mark, told, said, cut };
  };

  // What a row says mostly stays as it is when it becomes another row: only what differs is written, so that only that is
  // laid out again.
  const put = (node, key, value) => { if (node[key] !== value) node[key] = value; };

  const fillCell = ({ box, mark, told, said, cut }, value) => {
    const kind = value === null ? "none" : value.score >= 1000 ? "right" : value.score > 0 ? "part" : "wrong";
    const unread = value !== null && value.parsed === null;
    const text = value === null ? "not run" : unread ? "unparsed" : value.parsed;
    put(box, "className", `cell ${kind}`);
    put(box, "title", text);
    put(mark, "data", kind === "part" ? `${Math.round(value.score / 10)} %` : MARKS[kind]);
    put(told, "className", unread || value === null ? "said soft" : "said");
    put(said, "data", text);
    put(cut, "data", value !== null && value.truncated ? " cut off" : "");
  };

  const table = (state, rows) => {
    const { domain } = state;
    const columns = Viewer.columns(state);
    const heading = (place) => {
      const { name, kind, score, scores } = domain.models[place];
      return Viewer.heading(state, name, { class: `cell ${kind}`, title: `${kind} ${name}` },
        make("span", { class: "said" }, name),
        make("span", { class: "soft" }, `${kind === "single" ? "delta" : kind} · ${Viewer.percent(scores[state.task] ?? score)} %`));
    };
    const seeded = Viewer.run.seeds.length > 1 && state.seed < 0;
    const blank = () => {
      const link = make("a");
      const note = make("span", { class: "soft" });
      const cells = columns.map(blankCell);
      let at = 0;
      link.addEventListener("click", () => { selected = at; });
      const box = make("div", { class: "row", role: "row" },
        make("div", { class: "cell item", role: "cell" }, link, note), cells.map((cell) => cell.box));
      const fill = (place, from, to) => {
        const row = rows[place];
        at = place;
        link.href = itemLink(state, row);
        link.textContent = domain.question[row.place] || domain.id[row.place];
        note.textContent = `${domain.tasks[domain.task[row.place]]} · ${domain.id[row.place]}` +
          (seeded ? ` · seed ${Viewer.run.seeds[row.seed]}` : "");
        columns.forEach((model, column) => {
          if (column >= from && column < to) fillCell(cells[column], Viewer.cell(domain, row, model));
          else put(cells[column].box, "className", "cell away");
        });
      };
      return { box, fill };
    };
    return Viewer.grid({
      label: "Items and models", columns: columns.length, count: rows.length, blank, selected,
      headings: [Viewer.heading(state, ITEM, { class: "cell item" }, "item"), columns.map(heading)],
      onselect: (place) => { selected = place; },
    });
  };

  const saves = (state, rows) => {
    const { domain } = state;
    const columns = Viewer.columns(state);
    const names = columns.flatMap((place) => ["score", "read as", "cut off"].map((what) => `${domain.models[place].name}: ${what}`));
    return Viewer.saves("items", ["task", "item", "seed", "question", ...names], () => rows.map((row) => [
      domain.tasks[domain.task[row.place]], domain.id[row.place], Viewer.run.seeds[row.seed], domain.question[row.place],
      ...columns.flatMap((place) => {
        const cell = Viewer.cell(domain, row, place);
        return cell ? [cell.score / 1000, cell.parsed, cell.truncated] : [null, null, null];
      })]));
  };

  const draw = async (state, target) => {
    const { alive } = state;
    const { text, seed, domain } = found;
    if (state.search && (text !== state.search || seed !== state.seed || domain !== state.domain)) {
      Viewer.fill(target, controls(state), make("p", { "aria-live": "polite" }, "Searching the answers …"));
      const hits = await Viewer.find(state, state.search, alive);
      if (!alive()) return;
      found = { text: state.search, seed: state.seed, domain: state.domain, rows: hits };
    }
    const rows = Viewer.rows(state, state.search ? found.rows : null);
    selected = Math.min(selected, Math.max(rows.length - 1, 0));
    const grid = table(state, rows);
    Viewer.fill(target,
      controls(state), verdict(state, rows),
      make("p", { class: "counted" }, make("span", { id: "count" }, rows.length === 1 ? "1 row" : `${rows.length.toLocaleString("en")} rows`),
        saves(state, rows)), grid.box);
    grid.place();
    current = { state, rows, grid };
  };

  Viewer.views.items = {
    label: "Items",
    has: (run) => run.domains.length > 0,
    draw,
    keys: {
      j: () => current?.grid.move(1),
      k: () => current?.grid.move(-1),
      Enter: () => {
        if (current?.rows.length) location.hash = itemLink(current.state, current.rows[selected]);
      },
      "/": () => document.getElementById("q")?.select(),
      Escape: () => Viewer.go({ q: null, show: null }),
    },
  };

  // The item after (or before) one, among the rows that the table shows; null at the end.
  Viewer.neighbour = (state, step) => {
    const found_ = state.search && found.text === state.search && found.domain === state.domain ? found.rows : null;
    const rows = Viewer.rows(state, found_);
    const at = rows.findIndex((row) => row.seed === state.itemSeed && state.domain.id[row.place] === state.item &&
      state.domain.task[row.place] === state.itemTask);
    if (!rows[at + step]) return null;
    selected = at + step;
    return itemLink(state, rows[at + step]);
  };
})();
