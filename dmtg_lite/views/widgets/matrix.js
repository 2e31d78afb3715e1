// The N x K picture as a table of coloured numbers, with a choice of what it shows and a line that says how to read
// it. Rows stand as in the head graph, the column heads have its colours. A ◆ marks a new winner; arrows, on demand,
// what S does. It uses a model's get, set and on only, so a notebook and a replay page share it.

const READ_AS = {
  "probabilities": "softmax(S): which group wins a draw",
  "E[Z]": "mean draw at this tau: what a task really sends to each branch",
  "loss": "of each head: bold is the row's best, and S moves away from the dark ones",
};
const NO_LOSSES = "this recording holds no losses";
const MARKS = "◆ won this row in the last 20 records";
// LOSS_COLOURS of plots/matrix.py: pale is the row's best, dark costs most
const LOSSES = ["#FFEFE0", "#FDCFA5", "#F8A566", "#E0742E", "#B04A12", "#7A2C08", "#471500"];

/** The groups as a list: what a screen reader has of the colours. */
function list(tasks, rows, changed, closed) {
  const lines = rows[0].map((_, k) => [`group ${k}${closed.includes(k) ? ", closed" : ""}`, []]);
  lines.push(["undecided", []]);
  rows.forEach((row, n) => {
    const k = argmax(row);
    lines[row[k] >= SETTLED ? k : lines.length - 1][1].push(`${tasks[n]}${changed.includes(n) ? " (just changed)" : ""}`);
  });
  return lines.map(([name, names]) => `${name}: ${names.join(", ") || "no task"}`);
}

function render({ model, el }) {
  const box = add(el, "fieldset", { class: "dmtg-choice" });
  add(box, "legend", { class: "dmtg-unseen" }, "matrix");
  const inputs = offer(box, model, "value", Object.keys(READ_AS).map((value) => [value, value]));
  explain(box, model, "the matrix");
  const sorted = check(box, model, "sorted", "by group");
  explain(box, model, "the order by group", model.get("help_sorted"));
  const arrows = check(box, model, "arrows", "arrows");
  explain(box, model, "the arrows", model.get("help_arrows"));
  const note = add(box, "small"), words = add(box, "p");
  const frame = add(el, "div", { class: "dmtg-frame" });
  const table = add(frame, "table", { class: "dmtg-heat" }), caption = table.createCaption();
  const twin = add(el, "div", { class: "dmtg-unseen", role: "group", "aria-label": "groups as a list" });
  let rows = [], columns = [], cells = [], built = "", listed = "", weights = [], place = [];

  function build(tasks, K) {
    table.createTHead().replaceChildren();
    for (const body of [...table.tBodies]) body.remove();
    table.className = `dmtg-heat ${tasks.length > 32 ? "dmtg-tiny" : tasks.length > 12 || K > 8 ? "dmtg-small" : ""}`;
    const longest = Math.max(...tasks.map((name) => name.length));
    for (const [name, value] of [["rows", tasks.length], ["columns", K], ["letters", Math.min(22, longest)]]) {
      frame.style.setProperty(`--${name}`, value);
    }
    const head = table.tHead.insertRow(), body = table.createTBody();
    add(head, "th", {}, "group");
    columns = Array.from({ length: K }, (_, k) => {
      const th = add(head, "th", { scope: "col" }), node = add(th, "b", { class: k < 8 ? "" : "square" }, `${k}`);
      [node.style.background, node.style.color] = style(k);
      return th;
    });
    rows = tasks.map(() => body.insertRow());
    cells = tasks.map((name, n) => {
      add(rows[n], "th", { scope: "row", title: name }, name);
      return columns.map(() => rows[n].insertCell());
    });
  }

  /** `push`: how far S moves here, of -1 to 1; none: no arrow. */
  function paint(cell, number, isBest, isChanged, shade, scale, push) {
    const key = `${number} ${isBest} ${isChanged} ${shade} ${scale.length} ${push}`;
    if (cell.key === key) return; // of hundreds few change
    cell.key = key;
    const gone = number === null, [fill, ink] = gone ? ["", ""] : colours(scale, shade);
    cell.className = gone ? "closed" : `${isBest ? "best" : ""}${isChanged ? " changed" : ""}`.trim();
    cell.style.background = fill;
    cell.style.color = ink;
    cell.textContent = (number ?? 0).toFixed(2); // of a head that is gone too, so that no column moves
    if (gone || !push) return cell.removeAttribute("data-arrow");
    cell.setAttribute("data-arrow", push > 0 ? "▲" : "▼");
    cell.style.setProperty("--push", Math.min(1, Math.abs(push)).toFixed(2));
  }

  /** Each row to its place; in the document they stay in the order of the data. */
  function move() {
    const tops = rows.map((row) => row.offsetTop);
    rows.forEach((row, n) => (row.style.transform = place[n] === n ? "" : `translateY(${tops[place[n]] - tops[n]}px)`));
  }

  function update() {
    const { tasks, numbers, closed = [], title = "", loss_range = 1, is_loss, changed = [], movement } = model.get("shown");
    const lacking = !model.get("has_losses"), value = model.get("value");
    for (const input of [...inputs, sorted, arrows]) input.update();
    box.hidden = !model.get("has_choice");
    sorted.parentNode.hidden = model.get("sorted") === undefined;
    arrows.parentNode.hidden = model.get("arrows") === undefined;
    inputs.at(-1).disabled = lacking;
    note.textContent = lacking ? NO_LOSSES : "";
    if (!tasks) return;
    words.textContent = READ_AS[value] + (changed.length ? ` · ${MARKS}` : "");
    const K = numbers[0].length, shape = JSON.stringify([K, tasks]);
    if (built !== shape) build(tasks, K);
    built = shape;
    weights = model.get("shown").weights ?? (is_loss && weights.length ? weights : numbers.map((row) => row.map((w) => w ?? 0)));
    columns.forEach((th, k) => {
      th.className = closed.includes(k) ? "closed" : "";
      th.setAttribute("aria-label", `group ${k}${closed.includes(k) ? ", closed" : ""}`);
    });
    place = places(weights, model.get("sorted") ?? false);
    move();
    numbers.forEach((row, n) => {
      const best = Math.min(...row.filter((number) => number !== null)), winner = argmax(weights[n] ?? row);
      row.forEach((number, k) => {
        const shade = is_loss ? Math.sqrt(Math.min(1, (number - best) / loss_range)) : number; // as in plots/matrix.py
        paint(cells[n][k], number, is_loss && number === best, k === winner && changed.includes(n), shade,
          is_loss ? LOSSES : CIVIDIS, movement?.[n][k]);
      });
    });
    caption.textContent = title;
    table.setAttribute("aria-label", title || value);
    tell(list(tasks, weights, changed, closed));
  }

  function tell(lines) {
    if (listed === lines.join("\n")) return;
    listed = lines.join("\n");
    twin.replaceChildren();
    const items = add(twin, "ul");
    for (const line of lines) add(items, "li", {}, line);
  }

  const unfollow = follow(model, el, ["shown", "value", "sorted", "arrows", "has_losses", "has_choice"], update);
  const resized = new ResizeObserver(() => {
    frame.style.setProperty("--high", `${frame.clientHeight}px`);
    frame.style.setProperty("--wide", `${frame.clientWidth}px`);
    move();
  });
  resized.observe(frame);
  return () => {
    resized.disconnect();
    unfollow();
  };
}

export default { render };
