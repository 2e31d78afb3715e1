// Plays a recorded run on a page without a kernel: the model that the pictures read, the pictures of one frame, and
// the clock that moves it. It comes after the pictures (headGraph, matrix, curvesOf); see page.py.
//
// A run is {tasks, n_groups, steps, tau, loss, entropy, films, closings, finished} with T frames: films.probabilities,
// and where there are any "E[Z]" and loss, are flat arrays (T, N, K) of numbers from 0 to `full`. It may have more:
// `changed`, tasks with a new winner, in each frame; `validation`; `loss_range`.

/** What a notebook's widgets have, on a page of its own. */
function makeModel(values) {
  const listeners = {};
  return {
    get: (name) => values[name],
    /** Change a trait; with `quietly` nobody hears of it, as it is half of a change. */
    set: (name, value, quietly = false) => {
      values[name] = value;
      for (const listener of quietly ? [] : listeners[`change:${name}`] ?? []) listener();
    },
    on: (event, listener) => (listeners[event] ??= []).push(listener),
    off: () => {},
    save_changes: () => {},
    send: () => {},
  };
}

/** Frame t of one of a run's films as rows of numbers; null: no head there. */
function rowsAt(run, t, film) {
  const { tasks, n_groups: K, films } = run, { numbers, full, gone } = films[film];
  const number = (code) => (code === gone ? null : code / full);
  return tasks.map((_, n) => Array.from({ length: K }, (_, k) => number(numbers[(t * tasks.length + n) * K + k])));
}

/** A closed branch has no head left, of any task. */
function closedAt(run, t) {
  const rows = rowsAt(run, t, "probabilities");
  return rows[0].map((_, k) => k).filter((k) => rows.every((row) => !row[k]));
}

/** In each frame the tasks whose winner is another one than at some time of the last 20 steps. */
function findChanged(run) {
  const { steps } = run, winners = steps.map((_, t) => rowsAt(run, t, "probabilities").map(argmax));
  return winners.map((now, t) => {
    const since = steps.findLastIndex((step, i) => i < t && step <= steps[t] - 20);
    const before = winners.slice(Math.max(0, since), t);
    return now.map((_, n) => n).filter((n) => before.some((then) => then[n] !== now[n]));
  });
}

/** What a frame is, in words. */
function describeFrame(run, t) {
  const { steps, tau, loss, entropy, n_groups, closings } = run, closed = closedAt(run, t).length;
  const branches = closed || closings.length ? ` · ${n_groups - closed} of ${n_groups} branches open` : "";
  return `step ${steps[t]} of ${steps.at(-1)} · tau ${tau[t]}${branches} · loss ${loss[t].toFixed(3)} · entropy ${
    entropy[t].toFixed(2)}`;
}

/** Charts of a run; `most`: the loss at the top of its axis, if another run is to share that. */
function chartsOf({ loss, entropy, validation }, most = Math.max(...loss)) {
  const charts = [["mean task loss", loss, most], ["entropy, 0: settled", entropy, 1]].map(([title, y, top]) => (
    { title, top: 1.05 * top, lines: [{ y }] }));
  if (validation) {
    const { steps: seen, loss: y, errors } = validation;
    charts[0].title += "; dotted: validation";
    charts[0].lines.push({ y, steps: seen, dotted: true, width: 2.5 });
    charts[0].top = 1.05 * Math.max(most, ...y);
    charts.push({
      title: "validation error of each task, 1: its highest", top: 1.05,
      lines: errors.map((own) => ({ y: own, steps: seen, width: 1 })),
    });
  }
  return charts;
}

/** Head graph, matrix and curves in three elements: load a run, then show its frames. */
function makeScreen({ graph, heat, curves }) {
  const model = makeModel({
    tasks: [], probabilities: [], closed: [], sorted: true, finished: false, pruned: false, value: "probabilities",
    has_choice: true, has_losses: true, shown: {},
  });
  const lines = makeModel({ shown: {} }); // the curves have a `shown` of their own
  let run = null, charts = [], changed = [], at = 0;

  function show(t) {
    const film = model.get("value"), closed = closedAt(run, t), { tasks, steps, closings } = run;
    at = t;
    model.set("closed", closed, true);
    model.set("finished", run.finished && t === steps.length - 1, true);
    model.set("probabilities", rowsAt(run, t, film === "E[Z]" ? film : "probabilities"));
    model.set("shown", {
      tasks, closed, is_loss: film === "loss", loss_range: run.loss_range,
      numbers: rowsAt(run, t, film).map((row) => row.map((number, k) => (closed.includes(k) ? null : number))),
      weights: model.get("probabilities"), changed: changed[t],
    });
    lines.set("shown", { charts, steps, at: steps[t], end: steps.at(-1) || 1, closings });
  }

  function load(next, most) {
    run = next;
    charts = chartsOf(run, most);
    changed = run.changed ?? findChanged(run);
    model.set("tasks", run.tasks, true);
    model.set("has_choice", "E[Z]" in run.films, true);
    model.set("has_losses", "loss" in run.films);
  }

  headGraph.render({ model, el: graph });
  matrix.render({ model, el: heat });
  curvesOf.render({ model: lines, el: curves });
  model.on("change:value", () => show(at));
  return { load, show };
}

/** Play button, slider and keys; `show` is called with the frame, `last` tells how many there are. */
function makeClock({ scrub, button, show, last, every = 80 }) {
  let timer = 0;
  function go(t) {
    scrub.max = last();
    scrub.value = t;
    show(+scrub.value);
  }
  function play(on) {
    clearInterval(timer);
    timer = 0;
    if (on) {
      if (+scrub.value >= last()) go(0);
      timer = setInterval(() => (+scrub.value < last() ? go(+scrub.value + 1) : play(false)), every);
    }
    button.innerHTML = on ? "&#10074;&#10074; Pause" : "&#9654; Play";
    button.setAttribute("aria-pressed", String(on));
  }
  function stand(t) {
    play(false);
    go(Math.min(last(), Math.max(0, t)));
  }
  scrub.addEventListener("input", () => stand(+scrub.value));
  button.addEventListener("click", () => play(!timer));
  document.addEventListener("keydown", (event) => { // anywhere on the page, as in a film
    if (event.target.closest("input, button, select, a, summary") || event.ctrlKey || event.altKey || event.metaKey) return;
    const to = { ArrowLeft: +scrub.value - 1, ArrowRight: +scrub.value + 1, Home: 0, End: last() }[event.key];
    if (event.key === " ") play(!timer);
    else if (to !== undefined) stand(to);
    else return;
    event.preventDefault();
  });
  return { go, play, stand, isPlaying: () => timer !== 0 };
}
