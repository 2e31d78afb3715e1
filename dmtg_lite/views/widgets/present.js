// The view on the whole screen, in large type: the style sheet does the rest.

function render({ model, el }) {
  const button = add(el, "button", { type: "button", class: "dmtg-present", "aria-pressed": "false" }, "Present");
  explain(el, model, "Present");
  const find = () => el.closest(".dmtg-dashboard");
  const isOn = () => document.fullscreenElement !== null && document.fullscreenElement === find();
  button.addEventListener("click", () => (isOn() ? document.exitFullscreen() : find()?.requestFullscreen()));
  const update = () => {
    button.textContent = isOn() ? "Back" : "Present";
    button.setAttribute("aria-pressed", String(isOn()));
  };
  document.addEventListener("fullscreenchange", update);
  return () => {
    document.removeEventListener("fullscreenchange", update);
    el.replaceChildren();
  };
}

export default { render };
