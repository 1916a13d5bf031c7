// Heat map of a confusion matrix.

function drawConfusion(part) {
  const { matrix, class_names: names } = part;
  const k = names.length;
  const support = matrix.map((row) => row.reduce((sum, count) => sum + count, 0));
  const total = support.reduce((sum, count) => sum + count, 0);
  const right = matrix.reduce((sum, row, c) => sum + row[c], 0);
  const canvas = el("canvas", { tabindex: "0", role: "application", "aria-roledescription": "heat map" });
  canvas.setAttribute("aria-label", `Confusion matrix of ${k} classes, rows are true; arrow keys read its cells`);
  let cell = null; // [true, predicted] that is pointed at
  let grid = null;

  function draw() {
    const width = canvas.clientWidth;
    const probe = canvas.getContext("2d");
    const font = (size) => `${size}px ${getComputedStyle(document.body).fontFamily}`;
    probe.font = font(11);
    const longest = Math.max(...names.map((name) => probe.measureText(name).width));
    let margin = Math.min(longest + 12, width * 0.28, 150);
    const named = (width - margin) / k >= 11;
    if (!named) margin = 30;
    const size = (width - margin - 2) / k;
    const lean = named && size < 60;
    const top = named ? (lean ? Math.min(longest * 0.72 + 20, 112) : 24) : 24;
    grid = { margin, top, size };
    const context = pen(canvas, top + size * k + 20);
    const [good, bad, ink, muted, line] = ["good", "bad", "ink", "muted", "line"].map(colour);
    context.font = font(11);
    for (let r = 0; r < k; r++) {
      for (let c = 0; c < k; c++) {
        const share = support[r] ? matrix[r][c] / support[r] : 0;
        const [x, y] = [margin + c * size, top + r * size];
        const gap = size > 8 ? 0.5 : 0;
        context.globalAlpha = Math.sqrt(share);
        context.fillStyle = r === c ? good : bad;
        context.fillRect(x + gap, y + gap, size - 2 * gap, size - 2 * gap);
        context.globalAlpha = 1;
        if (size >= 26 && share >= 0.005) {
          context.fillStyle = share > 0.3 ? colour("onheat") : ink;
          context.textAlign = "center";
          context.fillText(`${Math.round(100 * share)}`, x + size / 2, y + size / 2 + 4);
        }
      }
    }
    context.strokeStyle = line;
    context.strokeRect(margin, top, size * k, size * k);
    names.forEach((name, c) => {
      const middle = (c + 0.5) * size;
      const lit = cell && (cell[0] === c || cell[1] === c);
      if (!named && !lit && (c % 10 || k - c < 5)) return;
      const text = named ? name : String(c);
      context.fillStyle = muted;
      context.textAlign = "right";
      if (named || !lit || cell[0] === c) {
        if (cell && cell[0] === c) context.fillStyle = ink;
        context.fillText(named ? cut(context, text, margin - 8) : text, margin - 6, top + middle + 4);
      }
      context.fillStyle = cell && cell[1] === c ? ink : muted;
      if (!named && lit && cell[1] !== c) return;
      context.save();
      context.translate(margin + middle, top - 7);
      context.textAlign = lean ? "left" : "center";
      if (lean) context.rotate(-Math.PI / 4);
      context.fillText(named ? cut(context, text, lean ? 130 : size - 4) : text, lean ? -2 : 0, 0);
      context.restore();
    });
    context.fillStyle = muted;
    context.textAlign = "center";
    context.fillText("predicted", margin + (size * k) / 2, top + size * k + 15);
    context.textAlign = "right";
    context.fillText("true", margin - 6, top - 7);
    if (!cell) return;
    const [r, c] = cell;
    context.globalAlpha = 0.28;
    context.strokeRect(margin, top + r * size, size * k, size);
    context.strokeRect(margin + c * size, top, size, size * k);
    context.globalAlpha = 1;
    context.strokeStyle = ink;
    context.lineWidth = 2;
    context.strokeRect(margin + c * size, top + r * size, size, size);
  }

  function cut(context, text, width) {
    if (context.measureText(text).width <= width) return text;
    while (text && context.measureText(`${text}…`).width > width) text = text.slice(0, -1);
    return `${text}…`;
  }

  function point(next, pointer = null) {
    cell = next;
    draw();
    if (!cell) return tip(null);
    const [r, c] = cell;
    if (!pointer) {
      const box = canvas.getBoundingClientRect();
      pointer = { x: box.left + grid.margin + (c + 1) * grid.size, y: box.top + grid.top + r * grid.size };
    }
    const told = `${matrix[r][c]} of ${clipCount(support[r])} (${percent(matrix[r][c], support[r])})`;
    tip([el("div", {}, "true ", el("strong", {}, names[r])), el("div", {}, "predicted ", el("strong", {}, names[c])), told], pointer.x, pointer.y);
    return say(`true ${amid(names[r])}, predicted ${amid(names[c])}: ${told}`);
  }

  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const c = Math.floor((event.clientX - box.left - grid.margin) / grid.size);
    const r = Math.floor((event.clientY - box.top - grid.top) / grid.size);
    const inside = Math.min(r, c) >= 0 && Math.max(r, c) < k;
    if (inside || cell) point(inside ? [r, c] : null, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("blur", () => point(null));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (!step || !k) return;
    event.preventDefault();
    point(cell ? cell.map((value, axis) => clamp(value + step[axis], 0, k - 1)) : [0, 0]);
  });
  drawn(canvas, draw);

  const key = el("div", { class: "key", "aria-hidden": "true" }, "share of the true class",
    ...[1, 5, 20, 50, 100].map((share) => {
      const steps = ["good", "bad"].map((shade) => {
        const mark = swatch(() => colour(shade));
        mark.style.opacity = Math.sqrt(share / 100);
        return mark;
      });
      return el("span", {}, ...steps, ` ${share} %`);
    }), el("span", {}, swatch(() => colour("good")), " right"), el("span", {}, swatch(() => colour("bad")), " wrong"));
  const rows = part.worst.map(([r, c]) => [`${amid(names[r])} → ${amid(names[c])}`, matrix[r][c], percent(matrix[r][c], support[r])]);
  const worst = rows.length
    ? table(["true → predicted", "clips", "of true"], rows, "Worst confusions", (r) => {
      cell = r === null ? null : part.worst[r];
      draw();
    })
    : el("p", {}, "No clip is confused.");
  const sum = el("p", { class: "summary" }, el("strong", {}, percent(right, total)), ` of ${clipCount(total)} right`);
  return [sum, el("div", { class: "pair" },
    el("div", { class: "heat" }, canvas, key),
    el("div", { class: "worst" }, el("h3", {}, "Worst confusions"), worst))];
}
