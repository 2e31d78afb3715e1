// One of a short list, or of the numbers from 0 to max, by a slider of the browser's own: the keyboard moves it, and
// what it stands at is said in words.

function render({ model, el }) {
  const label = add(el, "label", { class: "dmtg-slider" }), name = add(label, "span");
  const input = add(label, "input", { type: "range", min: 0, step: 1 }), shown = add(label, "b", { "aria-hidden": "true" });
  explain(el, model, model.get("description"));

  input.addEventListener("input", () => {
    const options = model.get("options"), at = Number(input.value);
    model.set("value", options.length ? options[at][1] : at);
    model.save_changes();
    if (options.length) model.send({ value: options[at][1] }); // see `newest` in anywidgets.py
    update();
  });

  function update() {
    const options = model.get("options"), value = model.get("value");
    const at = options.length ? options.findIndex((option) => option[1] === value) : value;
    const words = options.length ? (options[at]?.[0] ?? "") : model.get("text");
    name.textContent = model.get("description");
    input.max = options.length ? options.length - 1 : model.get("max");
    input.value = at;
    input.disabled = model.get("disabled");
    input.setAttribute("aria-valuetext", words);
    shown.textContent = options.length ? words : "";
  }

  return follow(model, el, ["options", "value", "max", "text", "disabled", "description"], update);
}

export default { render };
