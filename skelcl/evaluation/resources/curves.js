// Line charts.

const LINES = ["line1", "line2", "line3", "line4", "line5", "line6"];

/** Round values that divide a range into about `count` steps. */
function ticks(low, high, count) {
  const raw = (high - low || 1) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
  const digits = clamp(-Math.floor(Math.log10(step) + 1e-9), 0, 8);
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) values.push(i * step);
  return values.map((value) => ({ value, text: minus((value + 0).toFixed(digits)) }));
}

function drawCurves(part) {
  const shown = part.series.map(() => true);
  const style = part.series.map((_, s) => ({
    line: `curve ${LINES[s % LINES.length]}`,
    dash: ["", "7 4", "2 4", "9 4 2 4"][Math.floor(s / LINES.length) % 4],
  }));
  const chart = svg("svg", { class: "chart", role: "group", tabindex: "0" });
  chart.setAttribute("aria-label", `${part.y_label} over ${part.x_label}; arrow keys read the values`);
  let at = null; // the x that is read
  let scale = null;

  const legend = el("div", { class: "legend", role: "group", "aria-label": "Lines" }, ...part.series.map((series, s) => {
    const mark = svg("svg", { width: 22, height: 10, "aria-hidden": "true" },
      svg("line", { x1: 1, x2: 21, y1: 5, y2: 5, class: style[s].line, "stroke-dasharray": style[s].dash }));
    return el("button", { type: "button", "aria-pressed": "true", click: (event) => {
      shown[s] = !shown[s];
      event.currentTarget.setAttribute("aria-pressed", shown[s]);
      draw();
    } }, mark, series.name);
  }));

  function draw() {
    const width = chart.clientWidth || 600;
    const height = clamp(width * 0.5, 240, 400);
    const seen = part.series.filter((_, s) => shown[s]);
    const [x0, x1] = range(seen.flatMap((series) => series.x));
    let [y0, y1] = range(seen.flatMap((series) => series.y));
    const room = (y1 - y0 || Math.abs(y1) || 1) * 0.06;
    [y0, y1] = [y0 >= 0 && y0 < room * 4 ? 0 : y0 - room, y1 + room];
    const rows = ticks(y0, y1, height / 60);
    const left = 34 + 7.2 * Math.max(...rows.map((tick) => tick.text.length));
    const [right, top, bottom] = [16, 12, 46];
    const span = x1 - x0 || 1;
    const px = (x) => left + ((x - x0) / span) * (width - left - right);
    const py = (y) => height - bottom - ((y - y0) / (y1 - y0)) * (height - top - bottom);
    scale = { px, py, height, top, bottom };
    chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
    chart.setAttribute("height", height);
    chart.replaceChildren(
      ...rows.flatMap(({ value, text }) => [
        svg("line", { class: "grid", x1: left, x2: width - right, y1: py(value), y2: py(value) }),
        svg("text", { class: "tick end", x: left - 8, y: py(value) + 4 }, text),
      ]),
      ...ticks(x0, x1, (width - left) / 80).flatMap(({ value, text }) => [
        svg("line", { class: "axis", x1: px(value), x2: px(value), y1: height - bottom, y2: height - bottom + 5 }),
        svg("text", { class: "tick middle", x: px(value), y: height - bottom + 19 }, text),
      ]),
      svg("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }),
      svg("text", { class: "label middle", x: (left + width - right) / 2, y: height - 6 }, part.x_label),
      svg("text", { class: "label middle", transform: `translate(14 ${(top + height - bottom) / 2}) rotate(-90)` }, part.y_label),
      ...part.series.flatMap((series, s) => (shown[s] ? line(series, s, px, py) : [])),
      svg("g", { class: "reading" }),
    );
    read(at);
  }

  function line(series, s, px, py) {
    let path = "", pendown = false;
    const lonely = [];
    series.y.forEach((y, i) => {
      if (y !== null) {
        path += `${pendown ? "L" : "M"}${px(series.x[i]).toFixed(1)} ${py(y).toFixed(1)}`;
        if (series.y.length <= 24 || (!pendown && (series.y[i + 1] ?? null) === null)) lonely.push(i);
      }
      pendown = y !== null;
    });
    const dots = lonely.map((i) => svg("circle", { class: style[s].line, cx: px(series.x[i]), cy: py(series.y[i]), r: 2.6 }));
    return [svg("path", { d: path, class: style[s].line, "stroke-dasharray": style[s].dash }), ...dots];
  }

  const places = () => [...new Set(part.series.flatMap((series, s) => (shown[s] ? series.x : [])))].sort((a, b) => a - b);

  /** Marks and tells the values at one x. */
  function read(x, pointer = null) {
    at = x;
    const group = chart.querySelector(".reading");
    const lines = [];
    group.replaceChildren();
    if (x === null) return tip(null);
    group.append(svg("line", { class: "cross", x1: scale.px(x), x2: scale.px(x), y1: scale.top, y2: scale.height - scale.bottom }));
    part.series.forEach((series, s) => {
      const i = shown[s] ? series.x.indexOf(x) : -1;
      if (i < 0 || series.y[i] === null) return;
      group.append(svg("circle", { class: `${style[s].line} mark`, cx: scale.px(x), cy: scale.py(series.y[i]), r: 4.5 }));
      lines.push(`${series.name}: ${minus(String(+series.y[i].toPrecision(5)))}`);
    });
    if (pointer === null) return undefined;
    tip([el("strong", {}, `${part.x_label}: ${minus(String(x))}`), ...lines], pointer.x, pointer.y);
    return say([`${part.x_label} ${x}`, ...lines].join(", "));
  }

  chart.addEventListener("pointermove", (event) => {
    const mouse = event.clientX - chart.getBoundingClientRect().left;
    let best = null;
    for (const x of places()) if (best === null || Math.abs(scale.px(x) - mouse) < Math.abs(scale.px(best) - mouse)) best = x;
    read(best, { x: event.clientX, y: event.clientY });
  });
  chart.addEventListener("pointerleave", () => read(null));
  chart.addEventListener("blur", () => read(null));
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const all = places();
    if (!step || !all.length) return;
    event.preventDefault();
    const next = at === null ? (step > 0 ? 0 : all.length - 1) : clamp(all.indexOf(at) + step, 0, all.length - 1);
    const box = chart.getBoundingClientRect();
    read(all[next], { x: box.left + scale.px(all[next]), y: box.top + 40 });
  });
  drawn(chart, draw);
  return [legend, chart];
}
