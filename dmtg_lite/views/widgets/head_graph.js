// Draws K branches and N tasks as one SVG: an edge is as thick as its probability, and gone when its
// head is pruned; a closed branch stays as a ghost. A run that is over is drawn as trained or, if asked, pruned.
// It uses a model's get, set and on only, so a notebook and a replay page share it.

const DECIDED = 0.9; // what the words beside it call settled: pruning hides no doubt below that
const MANY = 16; // tasks; beyond, rows are low and the picture is narrow, so that 40 fit a laptop's screen
const EASE_MS = 350;
const MOST_EASED = 250; // heads; more of them cannot be drawn 60 times a second

/** The best head of every task alone, at the weight it was trained to. */
function prune(rows) {
  return rows.map((row) => row.map((w, k) => (k === argmax(row) ? w : 0)));
}

/** One sentence for a screen reader. */
function describe(tasks, rows, closed, least) {
  const groups = {};
  rows.forEach((row, n) => {
    const k = argmax(row);
    const where = row[k] >= least ? `group ${k}` : "undecided";
    (groups[where] ??= []).push(tasks[n]);
  });
  const parts = Object.entries(groups).map(([g, names]) => `${g}: ${names.join(", ")}`);
  if (closed.length) parts.push(`closed: ${closed.map((k) => `group ${k}`).join(", ")}`);
  return "Head graph. " + parts.join(". ");
}

function render({ model, el }) {
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  const box = add(el, "fieldset", { class: "dmtg-choice" });
  add(box, "legend", {}, "heads");
  const inputs = offer(box, model, "pruned", [[false, "as trained"], [true, "pruned"]]);
  explain(box, model, "the head graph");
  const svg = add(el, "svg", { class: "dmtg-head-graph", role: "img" });
  let scene = null; // nodes of the current N x K
  let shown = null; // what is on the screen: {p: rows, y: places, open: 1 or, for a closed branch, 0}
  let from = null, goal = null, began = 0, frame = 0;

  function build(tasks, K) {
    svg.replaceChildren();
    const N = tasks.length;
    const many = N > MANY;
    const rowHeight = Math.max(14, Math.min(40, 380 / N));
    const height = Math.max(N * rowHeight, K * (K > 8 ? 38 : 46), 240) + 34;
    const font = Math.min(15, rowHeight * 0.78);
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = `500 ${font}px system-ui, sans-serif`;
    const lengths = tasks.map((name) => pen.measureText(name).width * 1.03);
    const room = Math.min(Math.max(...lengths, 60), 190); // for names; longer ones are squeezed
    const labels = 12 + room + 10 + font * 3.9;
    const branch = many ? 100 : 118, width = branch + 140 + labels; // no wider than need be: letters stay large
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const x = { stem: 22, branch, task: width - labels };
    const top = 30, span = height - top - 6;
    const branchY = (k) => top + ((k + 0.5) * span) / K;
    const taskY = (row) => top + ((row + 0.5) * span) / N;
    for (const [at, text, anchor] of [[2, "stem", "start"], [x.branch, "branches", "middle"], [x.task + 8, "tasks", "start"]]) {
      add(svg, "text", { x: at, y: 15, class: "head", "text-anchor": anchor }, text);
    }
    const middle = top + span / 2;
    const trunks = add(svg, "g"), edges = add(svg, "g"), nodes = add(svg, "g");
    add(nodes, "rect", { x: x.stem - 12, y: middle - 34, width: 24, height: 68, rx: 8, class: "stem" });
    const branches = [];
    for (let k = 0; k < K; k++) {
      const [colour, ink] = style(k);
      const y = branchY(k), mid = (x.stem + x.branch) / 2;
      const trunk = add(trunks, "path", {
        d: `M${x.stem + 12} ${middle} C${mid} ${middle} ${mid} ${y} ${x.branch - 17} ${y}`, class: "trunk",
      });
      const ghost = add(nodes, "g", { transform: `translate(${x.branch} ${y})`, class: "ghost" });
      add(ghost, "circle", { r: 9 });
      add(ghost, "text", { y: 4 }, `${k}`);
      const g = add(nodes, "g", { class: "branch" });
      add(g, "rect", { x: -17, y: -17, width: 34, height: 34, rx: k < 8 ? 17 : 7, fill: colour });
      add(g, "text", { y: 6, class: "number" }, `${k}`).style.fill = ink;
      branches.push({ y, trunk, g, ghost });
    }
    const rows = tasks.map((name, n) => {
      const g = add(nodes, "g");
      const dot = add(g, "circle", { cx: x.task, cy: 0, r: Math.min(6, rowHeight * 0.3) });
      const label = add(g, "text", { x: x.task + 12, y: font * 0.35, "font-size": font, class: "task" }, name);
      if (lengths[n] > room) {
        label.setAttribute("textLength", room);
        label.setAttribute("lengthAdjust", "spacingAndGlyphs");
      }
      const percent = add(g, "text", {
        x: width - 4, y: font * 0.35, "font-size": font * 0.87, class: "percent", "text-anchor": "end",
      });
      const lines = branches.map((_, k) => {
        const [colour, , dash] = style(k);
        const cap = dash[0] === 0 ? "round" : "butt"; // a dash of length 0 with round ends is a dot
        return add(edges, "path", { class: "edge", stroke: colour, "stroke-linecap": cap });
      });
      return { g, dot, percent, lines };
    });
    scene = { tasks, K, N, x, branches, rows, taskY, wide: Math.min(7.5, rowHeight * 0.4), haze: many ? 0.04 : 0.12 };
    shown = null;
  }

  function draw({ p, y, open }) {
    const { x, branches, rows, taskY, wide, haze } = scene;
    const left = x.branch + 17, bend = (left + x.task) / 2;
    const load = branches.map(() => 0);
    rows.forEach((row, n) => {
      const at = taskY(y[n]), best = argmax(p[n]);
      row.g.setAttribute("transform", `translate(0 ${at.toFixed(1)})`);
      row.lines.forEach((line, k) => {
        const weight = p[n][k];
        load[k] = Math.max(load[k], weight);
        if (line.at !== at) {
          line.setAttribute(
            "d", `M${left} ${branches[k].y} C${bend} ${branches[k].y} ${bend} ${at.toFixed(1)} ${x.task} ${at.toFixed(1)}`,
          );
          line.at = at;
        }
        if (line.weight === weight) return; // of hundreds of heads few change: a browser is slow to draw
        line.weight = weight;
        line.style.display = weight > 0 ? "" : "none"; // a pruned head is gone, not thin
        if (weight <= 0) return;
        const thick = 0.6 + (wide - 0.6) * weight, dash = style(k)[2];
        line.setAttribute("stroke-width", thick.toFixed(2));
        line.setAttribute("stroke-dasharray", dash.map((d) => (d * Math.max(thick, 2.2)).toFixed(1)).join(" "));
        line.setAttribute("stroke-opacity", (haze + (0.96 - haze) * weight ** 0.8).toFixed(3));
      });
      const alone = p[n].filter((weight) => weight > 0).length === 1; // every other head is pruned
      const settled = p[n][best] >= (alone ? DECIDED : SETTLED);
      const percent = `${best}: ${Math.round(100 * p[n][best])}%`;
      row.dot.setAttribute("class", settled ? "" : "undecided");
      row.dot.setAttribute("fill", settled ? style(best)[0] : "");
      row.percent.textContent = alone ? (settled ? `→ ${best}` : `→ ${percent}`) : percent;
      row.percent.setAttribute("opacity", (0.75 + 0.25 * p[n][best]).toFixed(2));
    });
    branches.forEach(({ trunk, g, ghost, y }, k) => {
      g.setAttribute("opacity", ((0.25 + 0.75 * Math.min(1, 2 * load[k])) * open[k]).toFixed(2));
      g.setAttribute("transform", `translate(${x.branch} ${y}) scale(${mix(0.53, 1, open[k]).toFixed(3)})`);
      trunk.setAttribute("stroke-opacity", ((0.15 + 0.6 * load[k]) * open[k]).toFixed(2));
      trunk.style.display = g.style.display = load[k] > 0 && open[k] > 0 ? "" : "none"; // no head: no branch
      ghost.setAttribute("opacity", (1 - open[k]).toFixed(2));
      ghost.style.display = open[k] < 1 ? "" : "none";
    });
    shown = { p, y, open };
  }

  function mix(a, b, t) {
    return a + (b - a) * t;
  }

  function tick(now) {
    const t = Math.min(1, (now - began) / EASE_MS), smooth = t * (2 - t);
    frame = 0;
    draw({
      // a head that is pruned in the goal is pruned at once: it must not fade through small numbers;
      // a branch that closes does fade, with all its heads
      p: goal.p.map((row, n) => row.map((w, k) => (w > 0 || !goal.open[k] ? mix(from.p[n][k], w, smooth) : 0))),
      y: goal.y.map((row, n) => mix(from.y[n], row, smooth)),
      open: goal.open.map((w, k) => mix(from.open[k], w, smooth)),
    });
    if (t < 1) frame = requestAnimationFrame(tick);
  }

  function update() {
    const tasks = model.get("tasks"), rows = model.get("probabilities");
    if (!tasks.length || rows.length !== tasks.length) return; // the two arrive one after the other
    const K = rows[0].length;
    if (!scene || scene.K !== K || tasks.join("\n") !== scene.tasks.join("\n")) build(tasks, K);
    const closed = model.get("closed").filter((k) => k < K);
    const open = rows[0].map((_, k) => (closed.includes(k) ? 0 : 1));
    const finished = model.get("finished"), pruned = finished && model.get("pruned");
    for (const input of inputs) {
      input.parentNode.hidden = !finished; // before that there is nothing to prune
      input.update();
    }
    box.hidden = !finished && !model.get("help");
    goal = { p: pruned ? prune(rows) : rows, y: places(rows, model.get("sorted")), open };
    svg.setAttribute("aria-label", describe(tasks, rows, closed, pruned ? DECIDED : SETTLED));
    if (frame) cancelAnimationFrame(frame);
    frame = 0;
    if (!shown || calm.matches || document.hidden || rows.length * K > MOST_EASED) {
      draw(goal);
    } else {
      from = shown;
      began = performance.now();
      frame = requestAnimationFrame(tick);
    }
  }

  const unfollow = follow(model, el, ["tasks", "probabilities", "closed", "sorted", "finished", "pruned"], update);
  return () => {
    unfollow();
    if (frame) cancelAnimationFrame(frame);
  };
}

export default { render };
