"use strict";
// A table of which only the visible rows are in the page, columns that sort it, and its rows as a file.
(() => {
  const { make } = Viewer;
  const HEIGHT = 44; // pixels of a row, as in viewer.css
  const SPARE = 3; // rows kept above and below the visible ones

  // A row is made once by blank() and filled again for every row that scrolls by: making elements is what makes
  // scrolling halt. It has a box, and fill(place, from, to), which shows the columns from one up to another: what is in
  // the others is not laid out. The rows in sight are filled first, the spare ones after they are on the screen (what is
  // left to an animation frame here would come before). No size is asked for once rows are filled: it is known already.
  Viewer.grid = ({ label, headings, columns, count, blank, selected, onselect }) => {
    const drawn = new Map();
    const free = [];
    let [from, to, later] = [0, columns, 0];
    let size = { width: 0, height: 0, first: 0, column: 1 }; // pixels of the box, its first column and the others
    const body = make("div", { class: "body", role: "rowgroup" });
    body.style.height = `${count * HEIGHT}px`;
    const head = make("div", { class: "row head", role: "row", "aria-rowindex": 1 }, headings);
    const box = make("div", { id: "grid", role: "table", tabindex: "0", "aria-label": label, "aria-rowcount": count + 1,
      onscroll: () => {
        draw(0);
        clearTimeout(later);
        later = setTimeout(() => draw(SPARE));
      } }, make("div", { role: "rowgroup", class: "top" }, head), body);
    box.style.setProperty("--columns", columns);
    const inSight = () => {
      const left = Math.max(0, Math.floor(box.scrollLeft / size.column) - 1);
      const right = Math.min(columns, Math.ceil((box.scrollLeft + size.width - size.first) / size.column) + 1);
      if (left === from && right === to) return;
      [from, to] = [left, right];
      for (const [place, line] of drawn) line.fill(place, from, to);
    };
    const draw = (spare) => {
      inSight();
      const { scrollTop } = box;
      const top = Math.floor(scrollTop / HEIGHT);
      const bottom = Math.ceil((scrollTop + size.height) / HEIGHT);
      const first = Math.max(0, top - spare);
      const last = Math.min(count, bottom + spare);
      for (const [place, line] of drawn) {
        if (place < top - SPARE || place >= bottom + SPARE) {
          free.push(line);
          drawn.delete(place);
        }
      }
      for (let place = first; place < last; place++) {
        if (!drawn.has(place)) {
          const line = free.pop() ?? blank();
          line.fill(place, from, to);
          line.box.setAttribute("aria-rowindex", place + 2);
          line.box.style.top = `${place * HEIGHT}px`;
          drawn.set(place, line);
          if (!line.box.isConnected) body.append(line.box);
        }
      }
      if (spare) for (const line of free.splice(0)) line.box.remove();
      for (const [place, line] of drawn) line.box.classList.toggle("selected", place === selected);
    };
    const measure = () => {
      size = { width: box.clientWidth, height: box.clientHeight,
        first: head.firstChild.offsetWidth, column: head.lastChild.offsetWidth };
      draw(SPARE);
    };
    new ResizeObserver(measure).observe(box);
    const select = (place) => {
      selected = place;
      onselect(place);
    };
    // After the table is in the page: its selected row into the middle.
    const place = () => {
      box.scrollTop = Math.max(0, selected * HEIGHT - box.clientHeight / 2);
      measure();
    };
    const move = (step) => {
      select(Math.min(Math.max(selected + step, 0), count - 1));
      const top = selected * HEIGHT;
      if (top < box.scrollTop) box.scrollTop = top;
      else if (top + HEIGHT + head.offsetHeight > box.scrollTop + box.clientHeight) {
        box.scrollTop = top + HEIGHT + head.offsetHeight - box.clientHeight;
      }
      draw(SPARE);
    };
    return { box, place, move };
  };

  // The heading of a column: pressed once the rows are sorted by it, high first; again, low first; again, not at all.
  Viewer.heading = (state, key, attributes, ...children) => {
    const here = state.sort === key;
    const next = !here ? { sort: key, order: null } : state.upwards ? { sort: null, order: null } : { order: "up" };
    return make("div", { ...attributes, role: "columnheader",
      "aria-sort": here ? (state.upwards ? "ascending" : "descending") : null },
    make("button", { type: "button", class: "sort", id: `sort-${key}`, title: "sort", onclick: () => Viewer.go(next) },
      ...children, here ? make("span", { class: "arrow", "aria-hidden": "true" }, state.upwards ? "▲" : "▼") : null));
  };

  const words = new Intl.Collator("en", { numeric: true });

  // Rows in the order of their values; equal ones stay in the order they have, and rows without a value come last.
  Viewer.sorted = (rows, value, upwards) => {
    const keyed = rows.map((row) => [value(row), row]);
    const compare = ([one], [other]) => {
      if (one === null || other === null) return (one === null) - (other === null);
      const found = typeof one === "string" ? words.compare(one, other) : one - other;
      return upwards ? found : -found;
    };
    return keyed.sort(compare).map(([, row]) => row);
  };

  // A spreadsheet takes a text that begins so for a formula; a number is none.
  const FORMULA = /^[=@\t\r]|^[+-](?![\d.,]+$)/;
  const field = (value) => {
    if (value === null || value === undefined) return "";
    if (typeof value !== "string") return String(value);
    return `"${(FORMULA.test(value) ? `'${value}` : value).replaceAll('"', '""')}"`;
  };
  const FORMATS = {
    CSV: (columns, rows) => [columns, ...rows].map((row) => `${row.map(field).join(",")}\r\n`),
    JSONL: (columns, rows) =>
      rows.map((row) => `${JSON.stringify(Object.fromEntries(columns.map((name, at) => [name, row[at] ?? null])))}\n`),
  };

  // Buttons that save a table; rows() gives its values when one is pressed.
  Viewer.saves = (name, columns, rows) => make("span", { class: "saves" }, Object.entries(FORMATS).map(([format, lines]) =>
    make("button", { type: "button", "aria-label": `save ${name} as ${format}`, onclick: () => {
      const blob = new Blob(lines(columns, rows()), { type: "text/plain;charset=utf-8" });
      const link = make("a", { href: URL.createObjectURL(blob), download: `${name}.${format.toLowerCase()}` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    } }, format)));
})();
