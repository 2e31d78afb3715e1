// One choice of three: what the N x K picture shows, with a line that says how to read it. It uses a model's
// get, set and on only, so a notebook and a replay page share it.

const READ_AS = {
  "probabilities": "softmax(S): which group wins a draw",
  "E[Z]": "mean draw at this tau: what a task really sends to each branch",
  "loss": "of each head: bold is the row's best, and S moves away from the dark ones",
};
const NO_LOSSES = "this recording holds no losses";

function render({ model, el }) {
  const add = (parent, tag, text = "") => {
    const node = parent.appendChild(document.createElement(tag));
    node.textContent = text;
    return node;
  };
  const box = add(el, "fieldset"), name = `dmtg-matrix-${Math.random()}`;
  box.className = "dmtg-matrix";
  add(box, "legend", "matrix");
  const inputs = Object.keys(READ_AS).map((value) => {
    const label = add(box, "label"), input = add(label, "input");
    Object.assign(input, { type: "radio", name, value });
    label.append(` ${value}`);
    input.addEventListener("change", () => {
      model.set("value", value);
      model.save_changes();
    });
    return input;
  });
  const note = add(box, "small"), words = add(box, "p");

  function update() {
    const value = model.get("value"), lacking = !model.get("has_losses");
    for (const input of inputs) input.checked = input.value === value;
    const loss = inputs.at(-1);
    loss.disabled = lacking;
    note.textContent = lacking ? NO_LOSSES : "";
    words.textContent = READ_AS[value];
  }

  const names = ["value", "has_losses"];
  for (const trait of names) model.on(`change:${trait}`, update);
  update();
  return () => {
    for (const trait of names) model.off(`change:${trait}`, update);
  };
}

export default { render };
