"use strict";
// One item: the question, the gold answers, and the answers of the chosen models side by side.
(() => {
  const { make } = Viewer;
  const READ = /(<information>[\s\S]*?<\/information>)/;

  // Where an answer stands for the last time in what the model wrote after its thoughts; null if it stands nowhere.
  const place = (pieces, parsed) => {
    if (!parsed) return null;
    for (let at = pieces.length - 1; at >= 0; at--) {
      if (pieces[at].kind !== "own") continue;
      const text = pieces[at].text;
      for (let begin = text.lastIndexOf(parsed); begin >= 0; begin = begin ? text.lastIndexOf(parsed, begin - 1) : -1) {
        const around = [text[begin - 1] ?? " ", text[begin + parsed.length] ?? " "];
        if (!around.some((character) => /[\p{L}\p{N}]/u.test(character))) return { at, begin };
      }
    }
    return null;
  };

  const pieces = (text, kind) =>
    text.split(READ).filter((part) => part).map((part) => ({ text: part, kind: READ.test(part) ? "read" : kind }));

  const piece = ({ text, kind }, mark) =>
    make("span", { class: kind, title: kind === "read" ? "what the model read" : null },
      mark === null ? text : [text.slice(0, mark.begin), make("mark", {}, text.slice(mark.begin, mark.begin + mark.length)),
        text.slice(mark.begin + mark.length)]);

  const body = (answer, judged) => {
    const thought = pieces(answer.output.slice(0, answer.start), "own");
    const said = pieces(answer.output.slice(answer.start), "own");
    const where = judged ? null : place(said, answer.parsed);
    return [
      thought.length ? make("details", { class: "thought" }, make("summary", {}, "thinking"),
        make("div", { class: "text" }, thought.map((part) => piece(part, null)))) : null,
      answer.output === "" ? make("p", { class: "soft" }, "(no text)") : null,
      make("div", { class: "text" }, said.map((part, at) =>
        piece(part, where && where.at === at ? { begin: where.begin, length: answer.parsed.length } : null))),
      !judged && answer.parsed !== null && answer.parsed !== "" && !where
        ? make("p", { class: "soft" }, "The answer that was read does not stand in the text in this form.") : null,
    ];
  };

  const card = (model, answer, judged) => {
    if (answer === null) return make("section", { class: "card" }, make("h3", {}, model.name), make("p", {}, "not run"));
    const kind = answer.score >= 1 ? "right" : answer.score > 0 ? "part" : "wrong";
    return make("section", { class: `card ${kind}` },
      make("h3", {}, model.name, " ", make("span", { class: "soft" }, model.kind)),
      make("p", { class: "told" }, `${Viewer.percent(100 * answer.score)} % · ${judged ? "judged" : "read as"} `,
        answer.parsed === null ? make("em", {}, "nothing (unparsed)") : make("code", {}, answer.parsed),
        ` · ${answer.scorer || "scorer unknown"} · ${answer.tokens} tokens${answer.truncated ? " · cut off" : ""}`),
      body(answer, judged));
  };

  const ORDERS = { model: "the model's answer shown first", opponent: "the other's answer shown first", "": "the judge" };

  const said = ([shown, verdict, words]) =>
    make("section", { class: "said" },
      make("h3", {}, ORDERS[shown], ": ", verdict ? make("code", {}, verdict) : make("em", {}, "no verdict")),
      make("div", { class: "text" }, words || "(no words)"));

  const chosen = (state) => {
    const { domain } = state;
    const named = domain.models.flatMap((model, at) => (state.chosen.includes(model.name) ? [at] : []));
    return named.length ? named : [...new Set([domain.base, domain.rival, state.model])].filter((place) => place !== null);
  };

  const draw = async (state, target) => {
    const { domain, domainPlace } = state;
    const at = domain.id.findIndex((id, row) => id === state.item && domain.task[row] === state.itemTask);
    if (at < 0) {
      Viewer.fill(target, make("p", {}, "No such item in this run."));
      return;
    }
    const texts = await Viewer.chunk(`${domainPlace}-${state.itemSeed}-${Math.floor(at / Viewer.run.chunk)}`);
    if (!state.alive()) return;
    const { question, gold, answers, words } = texts[at % Viewer.run.chunk];
    const models = chosen(state);
    const toggle = (model) => (models.includes(model) ? models.filter((other) => other !== model) : [...models, model]);
    const step = (label, by) => {
      const link = Viewer.neighbour(state, by);
      return link ? make("a", { href: link, id: by > 0 ? "next" : "previous" }, label) : make("span", { class: "soft" }, label);
    };
    Viewer.fill(target,
      make("p", { class: "steps" }, make("a", { href: back(), id: "back" }, "all items"), " · ", step("previous", -1), " · ",
        step("next", 1)),
      make("h2", {}, `${domain.tasks[state.itemTask]} · ${state.item}`,
        Viewer.run.seeds.length > 1 ? ` · seed ${Viewer.run.seeds[state.itemSeed]}` : ""),
      make("div", { class: "question text" }, question || "(the question is not known)"),
      make("p", {}, "gold: ", gold === null ? "not known" : gold.length ? gold.map((answer) => [make("code", {}, answer), " "]) : "none"),
      make("fieldset", { class: "models" }, make("legend", {}, "models side by side"),
        domain.models.map((model, place_) => make("label", { class: "tick" },
          make("input", { type: "checkbox", checked: models.includes(place_),
            onchange: () => Viewer.go({ with: toggle(place_).map((other) => domain.models[other].name) }, true) }),
          model.name))),
      make("p", { class: "soft" }, domain.judged ?
        "The verdicts, first with the model's answer shown first, then with the other's: what the judge preferred." :
        "Marked: the last place where the answer that was read stands in what the model wrote. " +
        "Shaded: search results, which the model read."),
      make("div", { class: "cards" }, models.map((model) => card(domain.models[model], answers[model], domain.judged))),
      words && words.length ? [make("h2", {}, "What the judge said"), words.map(said)] : null);
  };

  const back = () => Viewer.link({ view: "items", item: null, itemtask: null, itemseed: null, with: null });
  const step = (by) => {
    const link = Viewer.neighbour(Viewer.state(), by);
    if (link) location.hash = link;
  };

  Viewer.views.item = {
    within: "items",
    draw,
    keys: {
      j: () => step(1),
      k: () => step(-1),
      Escape: () => { location.hash = back(); },
      "/": () => { location.hash = back(); },
    },
  };
})();
