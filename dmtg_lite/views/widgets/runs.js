// Several runs side by side, on the same axes: which ones is chosen by check boxes, and a click on one opens it.

const PICTURES = { probabilities: "assignment probabilities", entropy: "entropy: 0 settled", loss: "mean loss of all tasks" };
const STRETCHED_RUN = { preserveAspectRatio: "none", role: "img" };

function render({ model, el }) {
  const box = add(el, "div", { class: "dmtg-runs" });
  const what = add(box, "fieldset", { class: "dmtg-choice" });
  add(what, "legend", {}, "side by side");
  const inputs = offer(what, model, "what", Object.entries(PICTURES)), axes = add(what, "small");
  const list = add(box, "fieldset", { class: "dmtg-choice dmtg-names" });
  const plots = add(box, "div", { class: "dmtg-plots" });
  let checks = {}, cards = {}, listed = "";

  function send(trait, value) {
    model.set(trait, value);
    model.save_changes();
  }

  function buildList(names) {
    list.replaceChildren();
    add(list, "legend", {}, `${names.length} runs`);
    checks = Object.fromEntries(names.map((name) => {
      const label = add(list, "label"), input = add(label, "input", { type: "checkbox" });
      label.append(` ${name}`);
      input.addEventListener("change", () => send("chosen", names.filter((one) => checks[one].checked)));
      return [name, input];
    }));
  }

  function makeCard(name) {
    const figure = add(plots, "figure"), caption = add(figure, "figcaption");
    const button = add(caption, "button", { type: "button", title: "open this run below; once more: close it" }, name);
    const words = add(caption, "small"), svg = add(figure, "svg", STRETCHED_RUN);
    const toggle = () => send("opened", model.get("opened") === name ? "" : name);
    button.addEventListener("click", toggle);
    svg.addEventListener("click", toggle);
    return { figure, button, words, svg };
  }

  function drawMatrix(svg, { numbers, tasks }) {
    const K = numbers[0].length;
    svg.setAttribute("viewBox", `0 0 ${K} ${numbers.length}`);
    numbers.forEach((row, n) => row.forEach((p, k) => {
      const cell = add(svg, "rect", { x: k + 0.02, y: n + 0.04, width: 0.96, height: 0.92, fill: colours(CIVIDIS, p)[0] });
      add(cell, "title", {}, `${tasks[n]}, group ${k}: ${p.toFixed(2)}`);
    }));
  }

  function drawLine(svg, { x, y }, end, top) {
    svg.setAttribute("viewBox", "0 0 100 100");
    const points = x.map((step, t) => `${((100 * step) / end).toFixed(2)} ${(99 - (98 * y[t]) / top).toFixed(2)}`);
    if (points.length) add(svg, "path", { d: `M${points.join("L")}` });
  }

  function update() {
    const names = model.get("names"), { plots: shown = {}, end = 1, top = 1 } = model.get("shown");
    for (const input of inputs) input.update();
    axes.textContent = model.get("what") === "probabilities" ? "rows are tasks, columns are groups"
      : `across: 0 to ${end.toLocaleString("en")} steps; up: 0 to ${Number((top / 1.05).toPrecision(2))}`;
    if (listed !== JSON.stringify(names)) buildList(names);
    listed = JSON.stringify(names);
    for (const name of names) checks[name].checked = model.get("chosen").includes(name);
    for (const name of Object.keys(cards)) {
      if (name in shown) continue;
      cards[name].figure.remove();
      delete cards[name];
    }
    for (const [i, name] of names.filter((one) => one in shown).entries()) {
      const plot = shown[name], card = (cards[name] ??= makeCard(name));
      // in the order of the list; one that stays where it is keeps the keyboard
      if (plots.children[i] !== card.figure) plots.insertBefore(card.figure, plots.children[i]);
      const isOpened = name === model.get("opened");
      card.figure.className = isOpened ? "opened" : "";
      card.button.setAttribute("aria-pressed", String(isOpened));
      card.words.textContent = plot.words;
      card.svg.replaceChildren();
      card.svg.setAttribute("aria-label", `${name}: ${PICTURES[model.get("what")]}`);
      card.svg.setAttribute("class", plot.numbers ? "" : "line");
      if (plot.numbers) drawMatrix(card.svg, plot);
      else drawLine(card.svg, plot, end, top);
    }
  }

  return follow(model, el, ["names", "chosen", "opened", "what", "shown"], update);
}

export default { render };
