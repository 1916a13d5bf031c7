// What plays skeletons: camera, drawing and time. The report and the page of an animation share it.

/** An orthographic camera for points (right, up, far), turned about the vertical axis by `yaw` radians. */
function makeCamera(yaw) {
  const start = yaw;
  let pitch = 0;
  return {
    project([x, y, z]) {
      const away = Math.cos(yaw) * z - Math.sin(yaw) * x;
      return [Math.cos(yaw) * x + Math.sin(yaw) * z, Math.cos(pitch) * y + Math.sin(pitch) * away];
    },
    /** After a drag, in pixels: what is near follows the pointer. */
    turn(across, down) {
      yaw -= across / 80;
      pitch = Math.max(-1.5, Math.min(1.5, pitch + down / 80));
    },
    reset() { [yaw, pitch] = [start, 0]; },
  };
}

/** Lets drags over a canvas turn a camera; `changed` draws what it then sees. */
function turnByDragging(canvas, camera, changed) {
  let held = null;
  canvas.title = "drag to turn, double-click to turn back";
  canvas.addEventListener("pointerdown", (event) => {
    held = [event.clientX, event.clientY];
    canvas.setPointerCapture(event.pointerId);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { held = null; });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    camera.turn(event.clientX - held[0], event.clientY - held[1]);
    held = [event.clientX, event.clientY];
    changed();
  });
  canvas.addEventListener("dblclick", () => { camera.reset(); changed(); });
}

/** Draws one body; `joints` are pixels, null where a joint was not seen, and a bone has the colour of its child. */
function drawSkeleton(context, joints, bones, colours, { width, radius, outline = null }) {
  context.lineCap = "round";
  context.lineWidth = width;
  for (const [child, parent] of bones) {
    if (!joints[child] || !joints[parent]) continue;
    context.strokeStyle = colours[child];
    context.beginPath();
    context.moveTo(...joints[child]);
    context.lineTo(...joints[parent]);
    context.stroke();
  }
  context.lineWidth = 1;
  joints.forEach((place, joint) => {
    if (!place) return;
    context.fillStyle = colours[joint];
    context.beginPath();
    context.arc(...place, radius, 0, 2 * Math.PI);
    context.fill();
    if (!outline) return;
    context.strokeStyle = outline;
    context.stroke();
  });
}

/**
 * Runs time over the frames of a clip: a button, a slider and a clock, and `draw(time)` with time in frames.
 *
 * Plays to the last frame, stays there for `rest` frames and begins again; `whole` shows no time between frames.
 * It stands still while `element` is out of sight, and at first where the reader asked for reduced motion.
 */
function makePlayer({ element, button, slider, clock, fps, rest, whole, draw }) {
  let frames = 0, time = 0, speed = 1, last = null, pending = 0, visible = true;
  let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;

  function shown() {
    const at = Math.max(0, Math.min(time, frames - 1));
    return whole ? Math.floor(at) : at;
  }

  function show() {
    if (frames) {
      slider.value = shown();
      clock.textContent = `${Math.floor(shown()) + 1} / ${frames}`;
    }
    draw(shown());
  }

  function resume() {
    button.textContent = playing ? "Pause" : "Play";
    if (pending || !playing || !visible || frames < 2) return;
    last = null;
    pending = requestAnimationFrame(step);
  }

  function step(now) {
    pending = 0;
    if (!playing || !visible) return;
    pending = requestAnimationFrame(step);
    const passed = last === null ? 0 : now - last;
    if (last !== null && passed < 15) return; // 60 pictures a second are enough
    last = now;
    const before = shown();
    time = (time + (passed / 1000) * fps * speed) % (frames - 1 + rest);
    if (shown() !== before) show();
  }

  function toggle() {
    playing = !playing;
    resume();
  }

  button.addEventListener("click", toggle);
  slider.addEventListener("input", () => {
    playing = false;
    time = Number(slider.value);
    resume();
    show();
  });
  new IntersectionObserver(([entry]) => { visible = entry.isIntersecting; resume(); }).observe(element);
  resume();
  return {
    show,
    toggle,
    /** Begins a clip of so many frames. */
    load(count) {
      [frames, time] = [count, 0];
      slider.max = count - 1;
      show();
      resume();
    },
    setSpeed(factor) { speed = factor; },
  };
}
