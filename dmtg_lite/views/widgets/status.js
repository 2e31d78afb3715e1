// What the run is doing, in one word, as long as the kernel is heard; else that it is not heard any more.

const QUIET = 12_000; // ms without a beat: several were due
const LOST = "Its cells run again bring it back; if only this view is lost, Dashboard(session) in a new cell does.";

/**
 * Lets go of views that have left the page. ipywidgets (8.1) keeps each of them for ever: among the listeners of
 * its model, and as the parent of its layout's and its style's views.
 */
async function forgetViews(model) {
  await new Promise((later) => setTimeout(later, 500)); // until they have left
  for (const id of model.get("family")) {
    const one = await model.widget_manager.get_model(id).catch(() => null);
    one?.off("msg:custom"); // nothing here sends such messages
    for (const promise of Object.values(one?.views ?? {})) {
      const view = await promise;
      if (view.options?.parent?.luminoWidget?.isDisposed) view.remove();
    }
  }
}

function render({ model, el }) {
  const word = add(el, "b", { role: "status" }), hint = add(el, "span"), hide = add(el, "style");
  let heard = performance.now();

  function update() {
    const cut = el.closest(".jupyter-widgets-disconnected") !== null; // Lab's word for a restarted kernel
    const late = model.get("beat") > 0 && performance.now() - heard > QUIET; // 0: it beats never
    const dead = cut || late, value = model.get("value");
    word.textContent = dead ? "no answer from the kernel" : value;
    hint.textContent = dead ? ` This is its last picture${value && ` (${value})`}. ${LOST}` : "";
    hide.textContent = `[data-dmtg-still="${model.get("still")}"] { display: none }`; // this is the live one
  }

  const beat = () => ((heard = performance.now()), update());
  const soon = () => setTimeout(update); // after the view's own class has changed
  model.on("comm_live_update", soon);
  model.on("change:beat", beat);
  const unfollow = follow(model, el, ["value", "still"], update);
  const clock = setInterval(update, 1000);
  return () => {
    clearInterval(clock);
    forgetViews(model);
    unfollow();
    model.off("change:beat", beat);
    model.off("comm_live_update", soon);
  };
}

export default { render };
