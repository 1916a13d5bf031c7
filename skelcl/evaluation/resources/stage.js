// The stage on which a clip of the map plays.

/** Coordinates of a packed clip about its centre; `at(m, t, v)` gives x, y, z, or null where the joint was not seen. */
function unpack(clip) {
  const [bodies, frames, joints, channels] = clip.shape;
  const bytes = Uint8Array.from(atob(clip.joints), (letter) => letter.charCodeAt(0));
  const steps = new DataView(bytes.buffer);
  const value = (place, c) => clip.unit * steps.getInt16(2 * (place + c), true);
  function at(m, t, v) {
    const place = ((m * frames + t) * joints + v) * channels;
    if (steps.getInt16(2 * place, true) === -32768) return null;
    return [value(place, 0), value(place, 1), channels === 3 ? value(place, 2) : 0];
  }
  return { bodies, frames, joints, at, flat: channels === 2 };
}

/** A canvas that plays clips of one skeleton, with its buttons. */
function stage(skeleton) {
  const canvas = el("canvas", { class: "stage", role: "img" });
  const button = el("button", { type: "button", class: "plain" });
  const slider = el("input", { type: "range", min: 0, step: "any", value: 0, "aria-label": "Frame" });
  const clock = el("output", { class: "clock" });
  const camera = makeCamera((20 * Math.PI) / 180); // from slightly aside
  let clip = null, box = null;

  const project = (place) => (clip.flat ? place : camera.project(place));

  /** A joint between two stored frames. */
  function joint(m, v, time) {
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

  function draw(time) {
    const width = canvas.clientWidth;
    if (!width) return;
    const height = Math.min(width, 340);
    const context = pen(canvas, height);
    if (!clip || !clip.bodies) {
      context.textAlign = "center";
      context.fillStyle = colour("muted");
      context.font = `13px ${getComputedStyle(document.body).fontFamily}`;
      context.fillText(clip ? "Nobody was seen in this clip" : "Point at a clip", width / 2, height / 2);
      return;
    }
    const room = 26;
    const size = Math.min((width - 2 * room) / (box.right - box.left || 1e-9), (height - 2 * room) / (box.high - box.low || 1e-9));
    const px = (x) => width / 2 + size * (x - (box.left + box.right) / 2);
    const py = (y) => height / 2 - size * (y - (box.low + box.high) / 2);
    const shades = skeleton.part_names.map((_, p) => colour(`part${1 + (p % 6)}`));
    const colours = skeleton.parts.map((part) => shades[part]);
    for (let m = clip.bodies - 1; m >= 0; m--) {
      const places = Array.from({ length: clip.joints }, (_, v) => {
        const place = joint(m, v, time);
        return place && [px(place[0]), py(place[1])];
      });
      const seen = places.filter(Boolean);
      if (!seen.length) continue;
      const middle = seen.reduce((sum, [x]) => sum + x, 0) / seen.length;
      context.globalAlpha = 0.1;
      context.fillStyle = colour("ink");
      context.beginPath();
      context.ellipse(middle, py(box.low) + 7, height * 0.13, height * 0.022, 0, 0, 7);
      context.fill();
      context.globalAlpha = m ? 0.6 : 1;
      drawSkeleton(context, places, skeleton.bones, colours, { width: 4.5, radius: 3.4, outline: colour("card") });
      context.globalAlpha = 1;
    }
    canvas.dataset.frame = Math.floor(time);
  }

  // 14 stored frames per second; half a second of rest before it begins again
  const player = makePlayer({ element: canvas, button, slider, clock, fps: 14, rest: 7, whole: false, draw });

  function fit() {
    if (clip) box = extent();
    player.show();
  }

  function show(packed, name) {
    clip = unpack(packed);
    box = extent();
    canvas.setAttribute("aria-label", `Skeleton of ${name}`);
    player.load(clip.frames);
  }

  turnByDragging(canvas, camera, fit);
  drawn(canvas, player.show);
  return { show, canvas, controls: el("div", { class: "controls" }, button, slider, clock) };
}
