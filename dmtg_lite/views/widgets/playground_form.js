// The settings of two runs as a table: a row a control, a column a run, and ≠ where the two differ.

function render({ model, el }) {
  // in Lab an arrow key on a list would go to the next cell of the notebook
  const words = { "aria-label": "settings of run A and run B", "data-lm-suppress-shortcuts": "true" };
  const table = add(el, "table", { class: "dmtg-form", ...words });
  table.addEventListener("keydown", (event) => event.stopPropagation());
  const tag = Math.random().toString(36).slice(2);
  let inputs = {}, built = "";

  function send(run, name, value) {
    const values = model.get("values");
    model.set("values", { ...values, [run]: { ...values[run], [name]: value } });
    model.save_changes();
    model.send({ values: model.get("values") }); // see `said` in playground.py
  }

  /** A list of what may be chosen, or a whole number to type. */
  function makeInput(cell, run, row) {
    const words = { "aria-label": `${row.label} of run ${run}`, "aria-describedby": `${tag}-${row.name}` };
    if (row.choices.length) {
      const input = add(cell, "select", words);
      for (const [, text] of row.choices) add(input, "option", {}, text);
      input.addEventListener("change", () => send(run, row.name, row.choices[input.selectedIndex][0]));
      input.show = (value) => (input.selectedIndex = row.choices.findIndex(([one]) => one === value));
      return input;
    }
    const input = add(cell, "input", { type: "number", min: 0, step: 1, required: "", ...words });
    input.addEventListener("change", () => {
      if (input.checkValidity()) send(run, row.name, input.valueAsNumber);
      else input.show(model.get("values")[run][row.name]);
    });
    input.show = (value) => (input.value = value);
    return input;
  }

  function makeRow(body, row, runs) {
    const line = add(body, "tr"), head = add(line, "th", { scope: "row" }, row.label), id = `${tag}-${row.name}`;
    const told = { "aria-label": `what is ${row.label}?`, "aria-expanded": "false", "aria-controls": id };
    const ask = add(head, "button", { type: "button", class: "ask", title: row.help, ...told }, "?");
    const own = runs.map((run, i) => {
      const input = makeInput(add(line, "td"), run, row);
      if (i === 0) input.differs = add(line, "td", { class: "differs" });
      return [run, input];
    });
    const words = add(body, "tr", { class: "told", hidden: "" });
    add(words, "td", { id, colspan: 4 }, row.help);
    ask.addEventListener("click", () => {
      words.hidden = !words.hidden;
      ask.setAttribute("aria-expanded", String(!words.hidden));
    });
    inputs[row.name] = Object.fromEntries(own);
  }

  function build(rows, runs) {
    table.replaceChildren();
    inputs = {};
    const head = add(add(table, "thead"), "tr"), body = add(table, "tbody");
    add(head, "td", {}, "");
    runs.forEach((run, i) => {
      add(head, "th", { scope: "col" }, `run ${run}`).append(swatch(i));
      if (i === 0) add(head, "td", { class: "differs" });
    });
    for (const row of rows) makeRow(body, row, runs);
  }

  function update() {
    const rows = model.get("rows"), values = model.get("values"), locked = model.get("locked");
    const runs = Object.keys(values), shape = JSON.stringify(rows);
    if (built !== shape) build(rows, runs);
    built = shape;
    for (const [name, own] of Object.entries(inputs)) {
      for (const run of runs) {
        own[run].show(values[run][name]);
        own[run].disabled = locked[run]?.includes(name) ?? false;
      }
      const [a, b] = runs.map((run) => values[run][name]);
      own[runs[0]].differs.textContent = a === b ? "" : "≠";
    }
  }

  return follow(model, el, ["rows", "values", "locked"], update);
}

export default { render };
