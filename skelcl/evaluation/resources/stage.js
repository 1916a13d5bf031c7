// The stage on which a clip plays.

/** Coordinates of a packed clip; `at(m, t, v)` gives x, y, z, or null where the joint was not seen. */
function unpack(clip) {
  const [bodies, frames, joints, channels] = clip.shape;
  const bytes = Uint8Array.from(atob(clip.joints), (letter) => letter.charCodeAt(0));
  const steps = new DataView(bytes.buffer);
  const value = (place, c) => clip.centre[c] + clip.unit * steps.getInt16(2 * (place + c), true);
  function at(m, t, v) {
    const place = ((m * frames + t) * joints + v) * channels;
    if (steps.getInt16(2 * place, true) === -32768) return null;
    return [value(place, 0), value(place, 1), channels === 3 ? value(place, 2) : 0];
  }
  return { bodies, frames, joints, at, flat: channels === 2, centre: [clip.centre[0], clip.centre[1], channels === 3 ? clip.centre[2] : 0] };
}

/** A canvas that plays clips of one skeleton, with its buttons. */
function stage(skeleton) {
  const RATE = 14; // stored frames per second
  const canvas = el("canvas", { class: "stage", role: "img" });
  const button = el("button", { type: "button", class: "plain", click: () => { playing = !playing; resume(); } });
  const slider = el("input", { type: "range", min: 0, step: "any", value: 0, "aria-label": "Frame" });
  const count = el("output", { class: "clock" });
  let clip = null, time = 0, turn = (20 * Math.PI) / 180, playing = !calm.matches, last = null, pending = 0, rest = 0, visible = true;

  /** As the camera sees it, from slightly aside; a flat clip cannot be turned. */
  function project([x, y, z]) {
    const [right, up, far] = [x - clip.centre[0], y - clip.centre[1], z - clip.centre[2]];
    return [clip.flat ? right : Math.cos(turn) * right + Math.sin(turn) * far, up];
  }

  /** A joint between two stored frames. */
  function joint(m, v) {
    const t = Math.floor(time);
    const here = clip.at(m, t, v);
    const next = t + 1 < clip.frames ? clip.at(m, t + 1, v) : null;
    return here && project(next ? here.map((value, c) => value + (time - t) * (next[c] - value)) : here);
  }

  function extent() {
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let m = 0; m < clip.bodies; m++) {
      for (let t = 0; t < clip.frames; t++) {
        for (let v = 0; v < clip.joints; v++) {
          const place = clip.at(m, t, v);
          if (!place) continue;
          const [x, y] = project(place);
          [left, right, low, high] = [Math.min(left, x), Math.max(right, x), Math.min(low, y), Math.max(high, y)];
        }
      }
    }
    return { left, right, low, high };
  }

  let box = null;

  function draw() {
    const width = canvas.clientWidth;
    if (!width) return;
    const height = Math.min(width, 340);
    const context = pen(canvas, height);
    const muted = colour("muted");
    context.textAlign = "center";
    context.fillStyle = muted;
    context.font = `13px ${getComputedStyle(document.body).fontFamily}`;
    if (!clip || !clip.bodies) {
      context.fillText(clip ? "Nobody was seen in this clip" : "Point at a clip", width / 2, height / 2);
      return;
    }
    const room = 26;
    const size = Math.min((width - 2 * room) / (box.right - box.left || 1e-9), (height - 2 * room) / (box.high - box.low || 1e-9));
    const px = (x) => width / 2 + size * (x - (box.left + box.right) / 2);
    const py = (y) => height / 2 - size * (y - (box.low + box.high) / 2);
    const shades = skeleton.part_names.map((_, p) => colour(`part${1 + (p % 6)}`));
    context.lineCap = "round";
    for (let m = clip.bodies - 1; m >= 0; m--) {
      const places = Array.from({ length: clip.joints }, (_, v) => joint(m, v));
      const seen = places.filter(Boolean);
      if (!seen.length) continue;
      const middle = seen.reduce((sum, [x]) => sum + x, 0) / seen.length;
      context.globalAlpha = 0.1;
      context.fillStyle = colour("ink");
      context.beginPath();
      context.ellipse(px(middle), py(box.low) + 7, height * 0.13, height * 0.022, 0, 0, 7);
      context.fill();
      context.globalAlpha = m ? 0.6 : 1;
      context.lineWidth = 4.5;
      for (const [child, parent] of skeleton.bones) {
        if (!places[child] || !places[parent]) continue;
        context.strokeStyle = shades[skeleton.parts[child]];
        context.beginPath();
        context.moveTo(px(places[child][0]), py(places[child][1]));
        context.lineTo(px(places[parent][0]), py(places[parent][1]));
        context.stroke();
      }
      places.forEach((place, v) => {
        if (!place) return;
        context.fillStyle = shades[skeleton.parts[v]];
        context.strokeStyle = colour("card");
        context.lineWidth = 1;
        context.beginPath();
        context.arc(px(place[0]), py(place[1]), 3.4, 0, 7);
        context.fill();
        context.stroke();
      });
      context.globalAlpha = 1;
    }
    const frame = Math.floor(time);
    canvas.dataset.frame = frame;
    count.textContent = `${frame + 1} / ${clip.frames}`;
    slider.value = time;
  }

  function resume() {
    button.textContent = playing ? "Pause" : "Play";
    if (pending || !playing || !visible || !clip || clip.frames < 2) return;
    last = null;
    pending = requestAnimationFrame(step);
  }

  /** Plays to the last frame, rests there for half a second, and begins again; 30 pictures a second are enough. */
  function step(now) {
    pending = 0;
    if (!playing || !visible || !clip) return;
    pending = requestAnimationFrame(step);
    const passed = last === null ? 0 : now - last;
    if (last !== null && passed < 30) return;
    last = now;
    rest = Math.max(0, rest - passed);
    if (rest) return;
    if (time >= clip.frames - 1) time = 0;
    time = Math.min(time + (passed * RATE) / 1000, clip.frames - 1);
    if (time >= clip.frames - 1) rest = 500;
    draw();
  }

  function show(packed, name) {
    clip = unpack(packed);
    box = extent();
    [time, rest] = [0, 0];
    slider.max = clip.frames - 1;
    canvas.setAttribute("aria-label", `Skeleton of ${name}`);
    draw();
    resume();
  }

  slider.addEventListener("input", () => { playing = false; time = Number(slider.value); resume(); if (clip) draw(); });
  let held = null;
  canvas.addEventListener("pointerdown", (event) => { held = event.clientX; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointerup", () => { held = null; });
  canvas.addEventListener("pointercancel", () => { held = null; });
  canvas.addEventListener("pointermove", (event) => {
    if (held === null || !clip) return;
    turn += (event.clientX - held) * 0.012;
    held = event.clientX;
    box = extent();
    draw();
  });
  new IntersectionObserver(([entry]) => { visible = entry.isIntersecting; resume(); }).observe(canvas);
  drawn(canvas, draw);
  resume();
  return { show, canvas, controls: el("div", { class: "controls" }, button, slider, count) };
}
