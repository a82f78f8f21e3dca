"use strict";
// Which rows a filter leaves: a row is an item and a training seed. Scores are thousandths; higher is better.
(() => {
  const column = (domain, seed, model) => domain.answers[seed][model];
  const score = (domain, row, model) => column(domain, row.seed, model).score[row.place] ?? -1;
  const singles = (domain) =>
    domain.models.flatMap((model, place) => (model.kind === "single" ? [place] : []));

  const cutOff = new WeakMap();
  const truncated = (domain, row, model) => {
    const entry = column(domain, row.seed, model);
    if (!cutOff.has(entry)) cutOff.set(entry, new Set(entry.truncated));
    return cutOff.get(entry).has(row.place);
  };
  const unparsed = (domain, row, model) =>
    column(domain, row.seed, model).parsed[row.place] < 0 && column(domain, row.seed, model).score[row.place] !== null;

  // Name -> what it says, whether it picks items by their outcome, and which rows it leaves.
  Viewer.filters = (state) => {
    const { domain, model } = state;
    const { base, rival, models } = domain;
    const merging = models[model].kind === "merge";
    const name = merging ? "merge" : models[model].name;
    const filters = new Map([["all", { label: "all items", outcome: false, keep: () => true }]]);
    if (base !== null && base !== model) {
      const held = [base, rival].filter((place) => place !== null);
      filters.set("gained", { outcome: true,
        label: merging ? "gained by merging: merge right, student wrong" : `${name} better than ${models[base].name}`,
        keep: (row) => score(domain, row, model) > score(domain, row, base) });
      filters.set("lost", { outcome: true,
        label: merging ? "lost by merging: student or best delta right, merge wrong" :
          `${name} worse than ${held.map((place) => models[place].name).join(" or ")}`,
        keep: (row) => score(domain, row, model) < Math.max(...held.map((place) => score(domain, row, place))) });
      filters.set("differ", { outcome: true, label: `${name} and ${models[base].name} differ`,
        keep: (row) => score(domain, row, model) !== score(domain, row, base) });
    }
    filters.set("wrong", { label: `${name} not right`, outcome: true, keep: (row) => score(domain, row, model) < 1000 });
    const sources = base === null ? [] : [...new Set(singles(domain).map((place) => domain.models[place].source))];
    for (const source of sources) {
      const own = singles(domain).filter((place) => domain.models[place].source === source);
      const others = [base, ...singles(domain).filter((place) => !own.includes(place))];
      const best = (row, places) => Math.max(...places.map((place) => score(domain, row, place)));
      filters.set(`only:${source}`, { label: `only delta ${source} is right`, outcome: true,
        keep: (row) => best(row, own) > best(row, others) });
    }
    const shown = Viewer.columns(state);
    filters.set("unparsed", { label: "an answer without a result (unparsed)", outcome: true,
      keep: (row) => shown.some((model) => unparsed(domain, row, model)) });
    filters.set("truncated", { label: "an answer that was cut off", outcome: true,
      keep: (row) => shown.some((model) => truncated(domain, row, model)) });
    return filters;
  };

  // The models that have a column: those that matter most, or all.
  Viewer.columns = ({ domain, all }) => domain.models.flatMap((model, place) => (all || !model.minor ? [place] : []));

  Viewer.cell = (domain, row, model) => {
    const entry = column(domain, row.seed, model);
    const value = entry.score[row.place];
    if (value === null) return null;
    return {
      score: value,
      parsed: entry.parsed[row.place] < 0 ? null : domain.parsed[entry.parsed[row.place]],
      truncated: truncated(domain, row, model),
    };
  };

  // The rows under a state, sorted by the item's id or a model's score; found, a set of "seed place", comes from a text search.
  Viewer.rows = (state, found = null) => {
    const { domain } = state;
    const filter = Viewer.filters(state).get(state.show) || Viewer.filters(state).get("all");
    const rows = [];
    for (let place = 0; place < domain.id.length; place++) {
      if (state.task >= 0 && domain.task[place] !== state.task) continue;
      for (let seed = 0; seed < domain.answers.length; seed++) {
        if (state.seed >= 0 && seed !== state.seed) continue;
        const row = { seed, place };
        if (found && !found.has(`${seed} ${place}`)) continue;
        if (filter.keep(row)) rows.push(row);
      }
    }
    if (!state.sort) return rows;
    const model = domain.models.findIndex((entry) => entry.name === state.sort);
    const value = model < 0 ? (row) => domain.id[row.place] : (row) => column(domain, row.seed, model).score[row.place];
    return Viewer.sorted(rows, value, state.upwards);
  };

  // In how many rows a model scores above, below and level with another.
  Viewer.counts = (domain, rows, model, other) => {
    const counts = { above: 0, below: 0, level: 0 };
    for (const row of rows) {
      const difference = score(domain, row, model) - score(domain, row, other);
      counts[difference > 0 ? "above" : difference < 0 ? "below" : "level"]++;
    }
    return counts;
  };

  // Rows whose question, gold answers, ids or answers hold a text; the chunks are loaded one after another.
  Viewer.find = async (state, text, alive) => {
    const { domain, domainPlace } = state;
    const needle = text.toLowerCase();
    const holds = (value) => value !== null && value !== undefined && value.toLowerCase().includes(needle);
    const found = new Set();
    for (let seed = 0; seed < domain.answers.length; seed++) {
      if (state.seed >= 0 && seed !== state.seed) continue;
      for (let begin = 0; begin < domain.id.length; begin += Viewer.run.chunk) {
        const texts = await Viewer.chunk(`${domainPlace}-${seed}-${begin / Viewer.run.chunk}`);
        if (!alive()) return null;
        texts.forEach((entry, offset) => {
          const answers = entry.answers.filter((answer) => answer !== null);
          if (
            holds(domain.id[begin + offset]) || holds(entry.question) || (entry.gold || []).some(holds) ||
            answers.some((answer) => holds(answer.output) || holds(answer.parsed))
          ) found.add(`${seed} ${begin + offset}`);
        });
      }
    }
    return found;
  };
})();
