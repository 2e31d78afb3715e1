// The N x K picture as a table of coloured numbers, with a choice of what it shows and a line that says how to
// read it. It uses a model's get, set and on only, so a notebook and a replay page share it.

const READ_AS = {
  "probabilities": "softmax(S): which group wins a draw",
  "E[Z]": "mean draw at this tau: what a task really sends to each branch",
  "loss": "of each head: bold is the row's best, and S moves away from the dark ones",
};
const NO_LOSSES = "this recording holds no losses";
// LOSS_COLOURS of plots/matrix.py: pale is the row's best, dark costs most
const LOSSES = ["#FFEFE0", "#FDCFA5", "#F8A566", "#E0742E", "#B04A12", "#7A2C08", "#471500"];

function render({ model, el }) {
  const box = add(el, "fieldset", { class: "dmtg-choice" });
  add(box, "legend", {}, "matrix");
  const inputs = offer(box, model, "value", Object.keys(READ_AS).map((value) => [value, value]));
  const note = add(box, "small"), words = add(box, "p");
  const table = add(el, "table", { class: "dmtg-heat" }), caption = table.createCaption();
  let columns = [], cells = [], built = "";

  function build(tasks, K) {
    table.createTHead().replaceChildren();
    for (const body of [...table.tBodies]) body.remove();
    table.className = `dmtg-heat ${tasks.length > 32 ? "dmtg-tiny" : tasks.length > 12 || K > 8 ? "dmtg-small" : ""}`;
    const head = table.tHead.insertRow(), body = table.createTBody();
    add(head, "th", {}, "group");
    columns = Array.from({ length: K }, (_, k) => add(head, "th", { scope: "col" }, `${k}`));
    cells = tasks.map((name) => {
      const row = body.insertRow();
      add(row, "th", { scope: "row", title: name }, name);
      return columns.map(() => row.insertCell());
    });
  }

  function paint(cell, number, best, range, isLoss) {
    const key = `${number} ${isLoss && `${best} ${range}`}`;
    if (cell.key === key) return; // of hundreds few change
    cell.key = key;
    const gone = number === null;
    const shade = isLoss ? Math.sqrt(Math.min(1, (number - best) / range)) : number; // as in plots/matrix.py
    const [fill, ink] = gone ? ["", ""] : colours(isLoss ? LOSSES : CIVIDIS, shade);
    cell.className = gone ? "closed" : isLoss && number === best ? "best" : "";
    cell.style.background = fill;
    cell.style.color = ink;
    cell.textContent = (number ?? 0).toFixed(2); // of a head that is gone too, so that no column moves
  }

  function update() {
    const { tasks, numbers, closed = [], title = "", loss_range = 1, is_loss } = model.get("shown");
    const lacking = !model.get("has_losses"), value = model.get("value");
    box.hidden = !model.get("has_choice");
    for (const input of inputs) input.update();
    inputs.at(-1).disabled = lacking;
    note.textContent = lacking ? NO_LOSSES : "";
    words.textContent = READ_AS[value];
    if (!tasks) return;
    const K = numbers[0].length, shape = JSON.stringify([K, tasks]);
    if (built !== shape) build(tasks, K);
    built = shape;
    columns.forEach((th, k) => {
      th.className = closed.includes(k) ? "closed" : "";
      th.setAttribute("aria-label", `group ${k}${closed.includes(k) ? ", closed" : ""}`);
    });
    numbers.forEach((row, n) => {
      const best = Math.min(...row.filter((number) => number !== null));
      row.forEach((number, k) => paint(cells[n][k], number, best, loss_range, is_loss));
    });
    caption.textContent = title;
    table.setAttribute("aria-label", title || value);
  }

  return follow(model, el, ["shown", "value", "has_losses", "has_choice"], update);
}

export default { render };
