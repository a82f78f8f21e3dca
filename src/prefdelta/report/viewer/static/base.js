"use strict";
// What all views share: the run's data, the state in the address, and how elements are made (text only, never markup).
const Viewer = { run: null, views: {}, chunks: new Map(), waiting: new Map() };

// Called by the scripts in data/, which stand in for fetch: a page opened from file:// may load scripts only.
Viewer.receive = (name, value) => {
  if (name === "index") {
    Viewer.run = value;
    Viewer.start();
    return;
  }
  Viewer.chunks.set(name, value);
  const wait = Viewer.waiting.get(name);
  if (wait) wait.resolve(value);
};

Viewer.chunk = (name) => {
  if (Viewer.chunks.has(name)) return Promise.resolve(Viewer.chunks.get(name));
  if (!Viewer.waiting.has(name)) {
    const wait = {};
    wait.promise = new Promise((resolve, reject) => Object.assign(wait, { resolve, reject }));
    Viewer.waiting.set(name, wait);
    const script = document.createElement("script");
    script.src = `data/${name}.js`;
    script.onerror = () => wait.reject(new Error(`data/${name}.js is missing beside this page`));
    document.head.append(script);
  }
  return Viewer.waiting.get(name).promise;
};

// An element: attributes by name, "on…" as listeners, children as elements or texts.
Viewer.make = (tag, attributes = {}, ...children) => {
  const svg = ["svg", "g", "line", "polyline", "circle", "text", "title"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, String(value));
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
};

// Put children in the place of an element's; what is null is left out.
Viewer.fill = (target, ...children) =>
  target.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));

// The state of the page is its address after the #, so that every filter has a link. Without items there is no domain.
Viewer.state = () => {
  const state = new URLSearchParams(location.hash.slice(1));
  const { domains, seeds } = Viewer.run;
  const at = Math.max(domains.findIndex((domain) => domain.name === state.get("domain")), 0);
  const domain = domains[at] ?? null;
  const model = domain ? domain.choices.find((place) => domain.models[place].name === state.get("model")) : undefined;
  return {
    view: state.get("view") || Viewer.firstView(),
    domainPlace: at,
    domain,
    model: model ?? domain?.choices[0],
    task: domain ? domain.tasks.indexOf(state.get("task")) : -1,
    seed: seeds.findIndex((seed) => String(seed) === state.get("seed")),
    show: state.get("show") || "all",
    search: state.get("q") || "",
    all: state.get("all") === "1",
    item: state.get("item"),
    itemTask: domain ? domain.tasks.indexOf(state.get("itemtask")) : -1,
    itemSeed: Math.max(seeds.findIndex((seed) => String(seed) === state.get("itemseed")), 0),
    chosen: state.getAll("with"),
    sort: state.get("sort"),
    upwards: state.get("order") === "up",
    set: state.get("set"),
    reason: state.get("reason"),
    pair: state.get("pair"),
    unit: state.get("unit"),
  };
};

// What an address holds beside its view, which another view does not keep.
Viewer.PLACES = ["item", "itemtask", "itemseed", "with", "pair", "unit", "sort", "order"];
Viewer.elsewhere = (view) => Viewer.link({ ...Object.fromEntries(Viewer.PLACES.map((key) => [key, null])), view });

// The address with some of the state changed; null removes a key.
Viewer.link = (changes) => {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const [key, value] of Object.entries(changes)) {
    state.delete(key);
    for (const entry of Array.isArray(value) ? value : [value]) if (entry !== null && entry !== "") state.append(key, entry);
  }
  return `#${state}`;
};

Viewer.go = (changes, replace = false) => {
  const link = Viewer.link(changes);
  if (replace) {
    history.replaceState(null, "", link);
    Viewer.show();
  } else location.hash = link;
};

Viewer.percent = (value) => value.toFixed(1);

// A table that may be wider than the page, with the keys of the page to scroll it.
Viewer.wide = (label, table) => Viewer.make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label }, table);

Viewer.head = (words) => Viewer.make("thead", {}, Viewer.make("tr", {},
  words.map((word) => word ? Viewer.make("th", { scope: "col" }, word) : Viewer.make("td"))));

Viewer.option = (value, label, chosen) => Viewer.make("option", { value, selected: value === chosen }, label);

Viewer.select = (label, key, options, chosen, dropped = []) =>
  Viewer.make("label", {}, label,
    Viewer.make("select", { id: key, onchange: (event) =>
      Viewer.go({ ...Object.fromEntries(dropped.map((name) => [name, null])), [key]: event.target.value }) },
    options.map(([value, text]) => Viewer.option(value, text, chosen))));
