// Clips as points; the chosen one plays.

function drawMap(part) {
  const { place, label, predicted, ids, class_names: names } = part;
  const n = ids.length;
  const PAD = 24;
  const canvas = el("canvas", { class: "map", tabindex: "0", role: "application", "aria-roledescription": "map" });
  canvas.setAttribute("aria-label", `Map of ${clipCount(n)}; arrow keys go from clip to clip, Enter holds one`);
  const player = stage(part);
  const info = el("dl", { class: "info" });
  const [xs, ys] = [0, 1].map((axis) => range(place.map((point) => point[axis])));
  const right = label.map((truth, i) => truth === predicted[i]);
  let chosen = null, held = false, isolated = null, wrongOnly = false, sought = "", size = { width: 1, height: 1 };

  const at = (i) => [
    PAD + ((place[i][0] - xs[0]) / (xs[1] - xs[0] || 1)) * (size.width - 2 * PAD),
    size.height - PAD - ((place[i][1] - ys[0]) / (ys[1] - ys[0] || 1)) * (size.height - 2 * PAD),
  ];
  const visible = (i) => (isolated === null || label[i] === isolated) && (!wrongOnly || !right[i]) && (!sought || ids[i].toLowerCase().includes(sought));
  // In a shuffled but fixed order, or the last class would cover all others.
  const order = Array.from({ length: n }, (_, i) => i).sort((a, b) => ((a * 7919) % 10007) - ((b * 7919) % 10007) || a - b);

  function draw() {
    const width = canvas.clientWidth;
    if (!width) return;
    size = { width, height: clamp(width * 0.72, 260, 560) };
    const context = pen(canvas, size.height);
    const shades = names.map((_, c) => classColour(c, names.length));
    const [ink, card] = [colour("ink"), colour("card")];
    const radius = clamp(Math.sqrt((size.width * size.height) / Math.max(n, 1)) / 7, 2, 5.5);
    const disc = (i, r, fill) => {
      const [x, y] = at(i);
      context.beginPath();
      context.arc(x, y, r, 0, 7);
      if (fill) { context.fillStyle = fill; context.fill(); } else context.stroke();
    };
    for (const faded of [true, false]) {
      for (const i of order) {
        if (visible(i) === faded) continue;
        context.globalAlpha = faded ? 0.1 : right[i] ? 0.8 : 1;
        if (!right[i] && !faded) {
          context.strokeStyle = shades[predicted[i]];
          context.lineWidth = 1.8;
          disc(i, radius + 2.6, card);
          disc(i, radius + 2.6);
        }
        disc(i, radius, shades[label[i]]);
      }
    }
    context.globalAlpha = 1;
    if (chosen === null) return;
    context.strokeStyle = ink;
    context.lineWidth = held ? 3 : 1.8;
    disc(chosen, radius + 6);
    disc(chosen, radius, shades[label[chosen]]);
  }

  function choose(i) {
    if (i === chosen) return;
    chosen = i;
    canvas.dataset.chosen = ids[i];
    player.show(part.clips[i], ids[i]);
    tell();
    draw();
  }

  function tell() {
    const i = chosen;
    if (i === null) return;
    const named = (c) => el("dd", {}, swatch(() => classColour(c, names.length)), names[c]);
    info.replaceChildren(
      el("dt", {}, "clip"), el("dd", { class: "id" }, ids[i], ...(held ? [" ", el("span", { class: "badge" }, "held")] : [])),
      el("dt", {}, "true"), named(label[i]),
      el("dt", {}, "predicted"), named(predicted[i]),
      el("dd", { class: right[i] ? "verdict right" : "verdict wrong" }, right[i] ? "✓ right" : "✗ wrong"),
    );
    say(`${amid(ids[i])}: true ${amid(names[label[i]])}, predicted ${amid(names[predicted[i]])}`);
  }

  function nearest(x, y, reach) {
    let best = null, distance = reach ** 2;
    for (let i = 0; i < n; i++) {
      if (!visible(i)) continue;
      const [px, py] = at(i);
      const square = (px - x) ** 2 + (py - y) ** 2;
      if (square < distance) [best, distance] = [i, square];
    }
    return best;
  }

  function pointed(event, reach) {
    const box = canvas.getBoundingClientRect();
    return nearest(event.clientX - box.left, event.clientY - box.top, reach);
  }

  canvas.addEventListener("pointermove", (event) => {
    const i = pointed(event, 16);
    canvas.style.cursor = i === null ? "default" : "pointer";
    if (i === null) return tip(null);
    if (!held) choose(i);
    return tip([el("strong", {}, ids[i]), `true ${amid(names[label[i]])}`, `predicted ${amid(names[predicted[i]])}`], event.clientX, event.clientY);
  });
  canvas.addEventListener("pointerleave", () => tip(null));
  canvas.addEventListener("click", (event) => {
    const i = pointed(event, 28);
    const again = i === chosen && held;
    if (i !== null) choose(i);
    hold(i !== null && !again);
  });

  function hold(value) {
    held = value;
    tell();
    draw();
  }

  canvas.addEventListener("focus", () => { if (chosen === null) step([0, 0]); });
  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (way) step(way);
    else if (event.key === "Enter" || event.key === " ") hold(!held && chosen !== null);
    else if (event.key === "Escape") hold(false);
    else return;
    event.preventDefault();
  });

  /** To the clip that is nearest in a direction; what lies aside counts as further away. */
  function step([right_, down]) {
    if (chosen === null || !visible(chosen)) {
      const first = nearest(size.width / 2, size.height / 2, Infinity);
      if (first !== null) choose(first);
      return;
    }
    const [x, y] = at(chosen);
    let best = null, distance = Infinity;
    for (let i = 0; i < n; i++) {
      if (i === chosen || !visible(i)) continue;
      const [px, py] = at(i);
      const ahead = (px - x) * right_ + (py - y) * down;
      const aside = Math.abs((px - x) * down) + Math.abs((py - y) * right_);
      if (ahead > 0 && ahead + 2 * aside < distance) [best, distance] = [i, ahead + 2 * aside];
    }
    if (best !== null) choose(best);
  }

  const buttons = names.map((name, c) => {
    const mine = label.reduce((sum, truth) => sum + (truth === c), 0);
    const hits = label.reduce((sum, truth, i) => sum + (truth === c && right[i]), 0);
    if (!mine) return null;
    return el("button", { type: "button", "aria-pressed": "false", click: (event) => {
      isolated = isolated === c ? null : c;
      for (const button of buttons) button?.setAttribute("aria-pressed", button === event.currentTarget && isolated === c);
      legend.classList.toggle("isolating", isolated !== null);
      draw();
    } }, swatch(() => classColour(c, names.length)), name, el("span", { class: "count" }, `${hits} / ${mine}`));
  });
  const legend = el("div", { class: "legend classes", role: "group", "aria-label": "Show one class" }, ...buttons.filter(Boolean));
  const found = el("span", { class: "found" });
  const search = el("input", { type: "search", placeholder: "part of an id", "aria-label": "Search clips by id" });
  let turn = 0;

  function hits() {
    return ids.flatMap((id, i) => (visible(i) ? [i] : []));
  }

  search.addEventListener("input", () => {
    sought = search.value.trim().toLowerCase();
    turn = 0;
    const all = hits();
    found.textContent = sought ? `${clipCount(all.length)} found` : "";
    say(found.textContent);
    if (sought && all.length) { held = true; choose(all[0]); tell(); }
    if (!sought) hold(false);
    draw();
  });
  search.addEventListener("keydown", (event) => {
    const all = hits();
    if (event.key !== "Enter" || !all.length) return;
    turn = (turn + 1) % all.length;
    choose(all[turn]);
  });
  const wrongs = right.filter((value) => !value).length;
  const filter = el("label", { class: "check" }, el("input", { type: "checkbox", change: (event) => {
    wrongOnly = event.currentTarget.checked;
    draw();
  } }), `only wrong (${wrongs})`);
  const key = el("p", { class: "hint" },
    "A ring marks a wrong prediction: the dot has the colour of the true class, the ring that of the predicted one. " +
    "Point at a clip to see it move, click to hold it, drag the skeleton to turn it. Below: right / all clips of each class.");
  drawn(canvas, draw);
  if (n) choose(Math.max(0, right.indexOf(false)));
  return [
    el("div", { class: "tools" }, search, found, filter),
    el("div", { class: "pair" },
      el("div", { class: "plane" }, canvas),
      el("aside", { class: "side", "aria-label": "The chosen clip" }, player.canvas, player.controls, info)),
    key, legend,
  ];
}
