// The path of every task in the triangle of three probabilities: a corner is a group, the middle 1/3 for each.

const CORNERS = [[100, 26], [26, 152], [174, 152]]; // of groups 0, 1 and 2
const NAMES = [[100, 11], [11, 158], [189, 158]]; // where their numbers stand

function render({ model, el }) {
  const box = add(el, "div", { class: "dmtg-choice" }), title = add(box, "span", {}, "paths of the tasks");
  explain(box, model, "the triangle");
  const svg = add(el, "svg", { class: "dmtg-triangle", viewBox: "0 0 200 170", role: "img" });
  const point = (p) => [0, 1].map((axis) => p.reduce((sum, w, k) => sum + w * CORNERS[k][axis], 0));

  function drawTask({ name, path }, isBold) {
    const [colour, , dash] = style(argmax(path.at(-1)));
    const width = isBold ? 3 : 1.3, points = path.map((p) => point(p).map((x) => x.toFixed(1)).join(" "));
    const g = add(svg, "g", { class: isBold ? "bold" : "" });
    const line = add(g, "path", { d: `M${points.join("L")}`, "stroke-width": width });
    line.style.stroke = colour;
    line.style.strokeDasharray = dash.map((part) => part * Math.max(width, 1.5)).join(" ");
    line.style.strokeLinecap = dash[0] === 0 ? "round" : "butt";
    const [cx, cy] = point(path.at(-1));
    add(g, "circle", { cx, cy, r: isBold ? 4.5 : 3 }).style.fill = colour;
    add(g, "title", {}, name);
    return g;
  }

  function update() {
    const { tasks = [], task } = model.get("shown");
    svg.replaceChildren();
    add(svg, "path", { d: `M${CORNERS.map((c) => c.join(" ")).join("L")}Z`, class: "edge" });
    NAMES.forEach(([cx, cy], k) => {
      const [fill, ink] = style(k);
      add(svg, "circle", { cx, cy, r: 10 }).style.fill = fill;
      add(svg, "text", { x: cx, y: cy + 5 }, `${k}`).style.fill = ink;
    });
    for (const one of tasks) if (one.name !== task) drawTask(one, false);
    for (const one of tasks) if (one.name === task) drawTask(one, true); // above the others
    title.textContent = task ? `paths of the tasks, bold: ${task}` : "paths of the tasks";
    const ends = tasks.map(({ name, path }) => `${name} ${Math.round(100 * Math.max(...path.at(-1)))} % group ${argmax(path.at(-1))}`);
    svg.setAttribute("aria-label", `Paths in the triangle of three groups; they end at: ${ends.join(", ")}`);
  }

  return follow(model, el, ["shown"], update);
}

export default { render };
