// What the run is doing, in one word, as long as the kernel is heard; else that it is not heard any more.

const QUIET = 12_000; // ms without a beat: several were due
const LOST = "Its cells run again bring it back; if only this view is lost, Dashboard(session) in a new cell does.";

/** ipywidgets (8.1) leaves a view that is gone among its model's listeners, and so in memory, for ever. */
function forgetViews(model) {
  for (const id of model.get("family")) {
    model.widget_manager.get_model(id)?.then((one) => one.off("msg:custom"), () => {});
  }
}

function render({ model, el }) {
  const word = add(el, "b", { role: "status" }), hint = add(el, "span"), hide = add(el, "style");
  let heard = performance.now();

  function update() {
    const cut = el.closest(".jupyter-widgets-disconnected") !== null; // Lab's word for a restarted kernel
    const dead = cut || performance.now() - heard > QUIET;
    word.textContent = dead ? "no answer from the kernel" : model.get("value");
    hint.textContent = dead ? ` This is its last picture (${model.get("value")}). ${LOST}` : "";
    hide.textContent = `[data-dmtg-still="${model.get("still")}"] { display: none }`; // this is the live one
  }

  const beat = () => ((heard = performance.now()), update());
  const late = () => setTimeout(update); // after the view's own class has changed
  model.on("comm_live_update", late);
  model.on("change:beat", beat);
  const unfollow = follow(model, el, ["value", "still"], update);
  const clock = setInterval(update, 1000);
  return () => {
    clearInterval(clock);
    forgetViews(model);
    unfollow();
    model.off("change:beat", beat);
    model.off("comm_live_update", late);
  };
}

export default { render };
