// What the run is doing, in one word, as long as the kernel is heard; else that it is not heard any more.

const QUIET = 12_000; // ms without a beat: several were due
const BUSY_FOR = 1500; // ms
const SPEAK_EVERY = 1000; // ms
const BUSY = " The kernel is busy with a cell: buttons may act only when it is done.";
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
  const word = add(el, "b", { class: "dmtg-state" }), hint = add(el, "span"), hide = add(el, "style");
  const spoken = add(el, "span", { role: "status", class: "dmtg-unseen" });
  let heard = performance.now(), idle = heard, said = -SPEAK_EVERY;

  /** Whether a cell has kept the kernel for a while, as far as this page's program lets one ask. */
  function isBusy() {
    if (model.widget_manager?.kernel?.status !== "busy") idle = performance.now();
    return performance.now() - idle > BUSY_FOR;
  }

  function update() {
    const cut = el.closest(".jupyter-widgets-disconnected") !== null; // Lab's word for a restarted kernel
    const late = model.get("beat") > 0 && performance.now() - heard > QUIET; // 0: it beats never
    const dead = cut || late, value = model.get("value");
    word.textContent = dead ? "no answer from the kernel" : value;
    hint.textContent = dead ? ` This is its last picture${value && ` (${value})`}. ${LOST}` : isBusy() ? BUSY : "";
    if (performance.now() - said >= SPEAK_EVERY && spoken.textContent !== word.textContent) {
      spoken.textContent = word.textContent; // what is seen at once is said at most once a second
      said = performance.now();
    }
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
