// What the pictures share: it stands in front of each of them, in a notebook and in a replay page.

const SVG = "http://www.w3.org/2000/svg";
// colour, ink on that colour, dash in line widths: the order of GROUP_COLOURS and GROUP_DASHES in plots/style.py
const STYLE = [
  ["#0072B2", "#fff", []], ["#E69F00", "#000", [2, 0.8]], ["#009E73", "#000", [0, 1.9]],
  ["#CC79A7", "#000", [2, 0.8, 0.6, 0.8]], ["#56B4E9", "#000", [4, 0.9]], ["#D55E00", "#000", [4, 0.9, 0.6, 0.9]],
  ["#767676", "#fff", [1, 0.5]], ["#F0E442", "#000", [0, 2.8]],
];
// as group_style in plots/style.py: from group 8 on colours come again, with another dash and a square node
const style = (k) => [...STYLE[k % 8].slice(0, 2), STYLE[(k + 5 * Math.floor(k / 8)) % 8][2]];

/** A new last child: SVG within SVG, else HTML. Text is text, never markup. */
function add(parent, name, attributes = {}, text = "") {
  const isSvg = name === "svg" || parent.namespaceURI === SVG;
  const node = parent.appendChild(isSvg ? document.createElementNS(SVG, name) : document.createElement(name));
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (name === "input") node.setAttribute("data-lm-suppress-shortcuts", "true"); // in JupyterLab its keys are its own
  if (text) node.textContent = text;
  return node;
}

const CIVIDIS = ["#00204D", "#00306F", "#3F476B", "#5F5C6D", "#7C7B78", "#968F77", "#B6A56B", "#D9BE54", "#FDEA45"];

/** Colour of a number from 0 to 1, and the ink that is read on it. */
function colours(scale, w) {
  const at = w * (scale.length - 1), i = Math.min(Math.floor(at), scale.length - 2);
  const part = (text, j) => parseInt(text.slice(1 + 2 * j, 3 + 2 * j), 16);
  const mix = (a, b) => Math.round(a + (b - a) * (at - i));
  const rgb = [0, 1, 2].map((j) => mix(part(scale[i], j), part(scale[i + 1], j)));
  return [`rgb(${rgb.join(" ")})`, inkOn(rgb)];
}

/** Black or white, whichever has the higher contrast (WCAG 2.2), which is then 4.58 : 1 or more. */
function inkOn(rgb) {
  const linear = rgb.map((c) => (c <= 10 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  const light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return (light + 0.05) ** 2 > 1.05 * 0.05 ? "#000" : "#fff";
}

function argmax(row) {
  return row.reduce((best, p, k) => (p > row[best] ? k : best), 0);
}

const SETTLED = 0.6; // from here on a task stands next to its group

/** Row of every task from top to bottom: settled tasks gather by group, the others in order amid them. */
function places(rows, sorted) {
  const K = rows[0]?.length ?? 1;
  const key = rows.map((row) => {
    const k = argmax(row);
    return sorted && row[k] >= SETTLED ? k : (K - 1) / 2 + 0.25; // a block of its own, also where K is odd
  });
  const order = rows.map((_, n) => n).sort((a, b) => key[a] - key[b] || a - b);
  const place = [];
  order.forEach((n, row) => (place[n] = row));
  return place;
}

/** Radio buttons for one trait; gives them, and whoever listens to the trait checks the right one. */
function offer(box, model, trait, choices) {
  const name = `dmtg-${Math.random()}`;
  return choices.map(([value, words]) => {
    const label = add(box, "label"), input = add(label, "input", { type: "radio", name });
    label.append(` ${words}`);
    input.addEventListener("change", () => {
      model.set(trait, value);
      model.save_changes();
    });
    input.update = () => (input.checked = model.get(trait) === value);
    return input;
  });
}

/** A check box for one trait, as `offer`. */
function check(box, model, trait, words) {
  const label = add(box, "label"), input = add(label, "input", { type: "checkbox" });
  label.append(` ${words}`);
  input.addEventListener("change", () => {
    model.set(trait, input.checked);
    model.save_changes();
  });
  input.update = () => (input.checked = model.get(trait));
  return input;
}

/** A "?" with the words of the trait `help`, where there are any; as `draw_help` in words.py. */
function explain(box, model, label, words = model.get("help")) {
  if (!words) return;
  const id = `dmtg-${Math.random()}`;
  add(box, "button", { type: "button", class: "dmtg-ask", popovertarget: id, "aria-label": `what is ${label}?` }, "?");
  const told = add(box, "div", { popover: "", id, class: "dmtg-told" });
  add(told, "b", {}, label);
  told.append(` ${words}`);
}

/** Calls `update` now and whenever a trait changes; gives what undoes that and leaves `el` empty. */
function follow(model, el, traits, update) {
  for (const trait of traits) model.on(`change:${trait}`, update);
  update();
  return () => {
    for (const trait of traits) model.off(`change:${trait}`, update);
    el.replaceChildren(); // JupyterLab may keep the element for ever, but then it keeps little
  };
}
