// Tables whose columns sort.

const NUMERIC = /^[+−-]?\d[\d ,]*(\.\d+)?(e[+−-]?\d+)?\s*(%|s|ms|±.*)?$/i;
const blank = (value) => value === null || value === "" || value === "–";

/** What a cell counts as: a number where it is one or begins like one. */
function worth(value) {
  return typeof value === "number" ? value : parseFloat(value.replace("−", "-").replace(/[ ,]/g, ""));
}

/** A column is numeric when all that is not blank is; its numbers share their decimals. */
function column(values) {
  const filled = values.filter((value) => !blank(value));
  const numeric = filled.length > 0 && filled.every((value) => typeof value === "number" || NUMERIC.test(value));
  const numbers = filled.filter((value) => typeof value === "number");
  const whole = numbers.every(Number.isInteger);
  const digits = whole ? 0 : decimals(Math.max(...numbers.map(Math.abs)), 4);
  const show = (value) => (value === null ? "–" : typeof value === "number" ? minus(value.toFixed(digits)) : value);
  return { numeric, show };
}

/** A table; `point(row)` hears which row of the data the pointer or the focus is on, null when it leaves. */
function table(columns, rows, label, point = null) {
  const kinds = columns.map((_, c) => column(rows.map((row) => row[c])));
  const body = el("tbody");
  const lines = rows.map((row, r) => {
    const cells = row.map((value, c) => {
      const attributes = { class: kinds[c].numeric ? "number" : null };
      return c ? el("td", attributes, kinds[c].show(value)) : el("th", { scope: "row", ...attributes }, kinds[c].show(value));
    });
    const listeners = point && { pointerenter: () => point(r), pointerleave: () => point(null) };
    return el("tr", { ...listeners }, ...cells);
  });
  const heads = columns.map((name, c) => {
    const button = el("button", { type: "button", click: () => sort(c) }, name, el("span", { class: "arrow", "aria-hidden": "true" }));
    return el("th", { scope: "col", class: kinds[c].numeric ? "number" : null }, button);
  });
  body.append(...lines);

  // Numbers begin with the largest, names with the first; a third click brings back the order of the file.
  function sort(c) {
    const first = kinds[c].numeric ? "descending" : "ascending";
    const second = kinds[c].numeric ? "ascending" : "descending";
    const now = heads[c].getAttribute("aria-sort");
    const next = now === first ? second : now === second ? null : first;
    for (const head of heads) head.removeAttribute("aria-sort");
    if (next) heads[c].setAttribute("aria-sort", next);
    const order = rows.map((_, r) => r);
    const sign = next === "descending" ? -1 : 1;
    if (next) order.sort((a, b) => compare(rows[a][c], rows[b][c], kinds[c].numeric, sign) || a - b);
    body.append(...order.map((r) => lines[r]));
    say(next ? `sorted by ${columns[c]}, ${next}` : "original order");
  }

  const whole = el("table", {}, el("thead", {}, el("tr", {}, ...heads)), body);
  return el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": label }, whole);
}

/** Blanks stay at the end in either direction. */
function compare(a, b, numeric, sign) {
  if (blank(a) || blank(b)) return blank(a) - blank(b);
  return sign * (numeric ? worth(a) - worth(b) : String(a).localeCompare(String(b), "en", { numeric: true }));
}

function drawTable(part) {
  return [table(part.columns, part.rows, part.title)];
}
