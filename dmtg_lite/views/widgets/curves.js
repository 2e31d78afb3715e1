// Lines over the steps of a run, in charts one below the other: an upright line marks the record in view, dotted
// ones closings, and the mouse reads the numbers of a step. It uses a model's get, set and on only.

const STRETCHED = { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img" };

function render({ model, el }) {
  explain(el, model, "the curves");
  const box = add(el, "div", { class: "dmtg-curves" });
  let hovered = null; // where the mouse is, as a share of the axis
  let frame = 0;

  /** Value of every line at the record nearest to a step. */
  function read({ steps, end }, { lines }) {
    const step = hovered * end, far = (s) => Math.abs(s - step);
    const find = (own) => own.reduce((best, s, i) => (far(s) < far(own[best]) ? i : best), 0);
    const numbers = lines.map(({ y, steps: own = steps }) => y[find(own)]?.toFixed(2) ?? "–");
    const { steps: own = steps } = lines[0] ?? {};
    return own.length ? `step ${own[find(own)]}: ${numbers.join("  ")}` : "";
  }

  /** A line has the steps of its records itself where they are others than the run's. */
  function drawLine(svg, line, { steps: all, end }, top) {
    const { y, k, width = 2, dotted = false, stairs = false, steps = all } = line;
    let d = "", up = true, before = 0;
    y.forEach((value, t) => {
      if (value === null) return (up = true); // the branch has closed: the line ends
      const x = (100 * steps[t]) / end, at = 99 - (98 * value) / top;
      if (stairs && !up) d += `L${x.toFixed(2)} ${before.toFixed(2)}`;
      d += `${up ? "M" : "L"}${x.toFixed(2)} ${at.toFixed(2)}`;
      [up, before] = [false, at];
    });
    const [colour, , dash] = k === undefined ? ["", "", dotted ? [1, 2] : []] : style(k);
    const path = add(svg, "path", { d, "stroke-width": width });
    path.style.stroke = colour;
    path.style.strokeDasharray = dash.map((part) => part * Math.max(width, 2)).join(" ");
    path.style.strokeLinecap = dash[0] === 0 ? "round" : "butt"; // a dash of length 0 with round ends is a dot
  }

  function drawChart(chart, picture) {
    const { title, top, lines } = chart, { end, at, closings } = picture;
    const figure = add(box, "figure"), caption = add(figure, "figcaption", {}, title);
    for (const { k } of lines.length > 1 ? lines : []) {
      if (k === undefined) continue;
      const name = add(caption, "span", { class: "key" }, `${k} `);
      const key = add(name, "svg", { viewBox: "0 0 26 6", width: 26, height: 6 });
      drawLine(key, { y: [0.5, 0.5], k, width: 2.5 }, { steps: [0, 26], end: 100 }, 1);
      key.firstChild.setAttribute("d", "M0 3L26 3");
    }
    if (hovered !== null) add(figure, "span", { class: "read" }, read(picture, chart));
    const svg = add(figure, "svg", { ...STRETCHED, "aria-label": title });
    const mark = (step, name) => {
      const x = (100 * step) / end;
      add(svg, "line", { x1: x, x2: x, y1: 0, y2: 100, class: name });
    };
    for (const step of closings) mark(step, "closing");
    for (const line of lines) drawLine(svg, line, picture, top);
    mark(at, "at");
    if (hovered !== null) mark(hovered * end, "hovered");
    add(figure, "span", { class: "top" }, top > 1 && top < 1.1 ? "1" : `${Number(top.toPrecision(2))}`);
    add(figure, "span", { class: "zero" }, "0");
  }

  function draw() {
    frame = 0;
    const picture = model.get("shown");
    box.replaceChildren();
    for (const chart of picture.charts ?? []) drawChart(chart, picture);
    if (picture.charts) add(box, "p", {}, `${picture.end} steps`);
    if (model.get("drawn") === picture.frame) return;
    model.set("drawn", picture.frame); // the painter sends the next one when this is on the screen
    model.save_changes();
  }

  const later = () => (frame ||= requestAnimationFrame(draw));
  box.addEventListener("pointermove", (event) => {
    const { left, width } = box.querySelector("figure > svg").getBoundingClientRect();
    hovered = Math.min(1, Math.max(0, (event.clientX - left) / width));
    later();
  });
  box.addEventListener("pointerleave", () => {
    hovered = null;
    later();
  });
  const unfollow = follow(model, el, ["shown"], later);
  return () => {
    unfollow();
    cancelAnimationFrame(frame);
  };
}

export default { render };
