// Puts the parts together.

const data = JSON.parse(document.getElementById("data").textContent);
const DRAW = { table: drawTable, curves: drawCurves, confusion: drawConfusion, map: drawMap };

/** Long paths may break behind their slashes. */
const breakable = (text) => text.split(/(?<=[/_])/).flatMap((piece) => [piece, el("wbr")]);

document.getElementById("facts").append(...data.facts.map(([name, value]) =>
  el("div", {}, el("dt", {}, name), el("dd", {}, ...breakable(value)))));
data.parts.forEach((part, p) => {
  const section = el("section", { id: `part-${p + 1}`, class: part.kind, "aria-labelledby": `title-${p + 1}` },
    el("h2", { id: `title-${p + 1}` }, part.title));
  document.getElementById("parts").append(section);
  section.append(...DRAW[part.kind](part));
  if (part.note) section.append(el("p", { class: "note" }, part.note));
});
if (data.parts.length > 1) {
  document.getElementById("contents").append(...data.parts.map((part, p) => el("a", { href: `#part-${p + 1}` }, part.title)));
}
