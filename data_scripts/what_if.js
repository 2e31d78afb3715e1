// The program of the what-if page: which recorded runs are shown beside which, and where that is written in the address.
// The pictures and the clock are the replay page's (player.js).

const grid = JSON.parse(document.getElementById("grid").textContent);
const { suites, runs, knobs, cells } = grid; // knobs: {data: [...], spare: [...], k: [...], tau: [...], rate: [...]}
const DEFAULT = { data: "faces", spare: "none", k: 3, tau: 2.5, rate: 1, seed: 0 };
const WORDS = { // as in the live view, and what it is
  k: ["groups K", "branches the tasks choose among"],
  tau: ["temperature tau", "how evenly a draw spreads over them"],
  rate: ["learning rate of S", "how fast the choice, S, moves"],
};
const SPARE = { none: "none", double: "as many as K" };
const DATA = { faces: "drawn faces", digits: "real digits" };
const IDEAS = [
  ["K is too small", "k=2&spare=double&b.k=3"],
  ["K is too large", "k=6&b.k=3"],
  ["all share one", "k=1&b.k=3"],
  ["luck changes", "seed=1&b.seed=0"],
  ["spares open", "spare=none&seed=1&b.spare=double"],
  ["tau is low", "tau=0.25&b.tau=2.5"],
  ["S is slow", "rate=0.1&b.rate=1"],
  ["S is fast", "rate=10&b.rate=1"],
  ["pictures are real", "data=digits&b.k=1"],
];
const byId = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const nameOf = (setting) => Object.keys(knobs).map((knob) => setting[knob]).join(" ");
const byCell = Map.groupBy?.(runs, nameOf) ?? runs.reduce(
  (map, run) => map.set(nameOf(run), [...(map.get(nameOf(run)) ?? []), run]), new Map());
const runsOf = (setting) => byCell.get(nameOf(setting)) ?? [];
const percent = (share) => `${Math.round(100 * share)} %`;

// ---------------------------------------------------------------------------------------------- the address
/** Settings in a fragment, and words on what it says that this page does not know. */
function readAddress(text) {
  const given = new URLSearchParams(text), strange = [];
  const known = new Set(["at", ...Object.keys(DEFAULT).flatMap((key) => [key, `b.${key}`])]);
  for (const key of given.keys()) if (!known.has(key)) strange.push(key);
  const read = (prefix, base) => Object.fromEntries(Object.entries(base).map(([key, otherwise]) => {
    const said = given.get(prefix + key);
    if (said === null) return [key, otherwise];
    const value = key === "seed" ? (/^\d{1,9}$/.test(said) ? Number(said) : undefined)
      : knobs[key].find((one) => String(one) === said || (said !== "" && one === Number(said)));
    if (value === undefined) strange.push(`${prefix}${key}=${said}`);
    return [key, value ?? otherwise];
  }));
  const a = read("", DEFAULT), isTwo = Object.keys(DEFAULT).some((key) => given.has(`b.${key}`));
  const at = /^\d{1,6}$/.test(given.get("at") ?? "") ? Number(given.get("at")) : null;
  return { settings: isTwo ? [a, read("b.", a)] : [a], at, strange };
}

function writeAddress() {
  const [a, b] = state.settings, said = new URLSearchParams();
  for (const [key, value] of Object.entries(a)) said.set(key, value);
  const other = Object.entries(b ?? {}).filter(([key, value]) => value !== a[key]);
  for (const [key, value] of b && !other.length ? [["k", b.k]] : other) said.set(`b.${key}`, value);
  if (state.at !== null) said.set("at", state.at);
  byId("link").href = `#${said}`;
  if (location.hash !== `#${said}`) history.replaceState(null, "", `#${said}`);
}

// ---------------------------------------------------------------------------------------------- a run
/** The film of a recorded run, unpacked as `pack_film` packed it; kept for the next time. */
async function unpack(run) {
  if (run.films) return run;
  const packed = Uint8Array.from(atob(run.film), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const raw = await new Response(stream).arrayBuffer(), view = new DataView(raw), T = run.n_frames;
  const frames = Array.from({ length: T }, (_, t) => t), tasks = suites[run.data].tasks;
  const numbers = new Uint8Array(raw, 5 * T), size = tasks.length * run.n_branches;
  for (let i = size; i < numbers.length; i++) numbers[i] += numbers[i - size]; // modulo 256
  return Object.assign(run, {
    tasks, n_groups: run.n_branches, finished: true,
    steps: frames.map((t) => view.getUint16(2 * t, true)),
    loss: frames.map((t) => (view.getUint16(2 * (T + t), true) / 65535) * run.most_loss),
    entropy: frames.map((t) => view.getUint8(4 * T + t) / 255),
    films: { probabilities: { numbers, full: 255 } },
  });
}

/** Tasks by group at a frame: [words, names] of each group, and of the undecided. */
function listGroups(run, t) {
  const lists = new Map();
  rowsAt(run, t, "probabilities").forEach((row, n) => {
    const k = argmax(row), where = row[k] >= 0.6 ? k : -1;
    lists.set(where, [...(lists.get(where) ?? []), run.tasks[n]]);
  });
  const sorted = [...lists].sort(([a], [b]) => (a < 0) - (b < 0) || a - b);
  return sorted.map(([k, names]) => [k < 0 ? "undecided" : `group ${k}`, names]);
}

// ---------------------------------------------------------------------------------------------- one panel
function makePanel(index) {
  const root = byId("panel").content.cloneNode(true).firstElementChild, find = (name) => root.querySelector(`.${name}`);
  const box = find("settings"), inputs = {};
  const screen = makeScreen({ graph: find("graph"), heat: find("heat"), curves: find("curves") });
  byId("panels").append(root);
  const change = (knob, value) => go({ [knob]: value }, index);
  let run = null;

  for (const knob of ["data", "k", "tau", "rate", "spare"]) {
    if (knob === "data") offerData();
    else if (knob === "spare") offerSpare();
    else offerSlider(knob);
  }

  function offerData() {
    const fields = add(box, "fieldset", { class: "radios" });
    add(fields, "legend", { class: "unseen" }, "data");
    inputs.data = knobs.data.map((name) => {
      const label = add(fields, "label"), input = add(label, "input", { type: "radio", name: `data${index}` });
      label.append(DATA[name]);
      input.addEventListener("change", () => change("data", name));
      return [name, input];
    });
  }

  function offerSpare() {
    const label = add(box, "label", { class: "knob" });
    add(label, "span", {}, "spare branches");
    const select = add(label, "select");
    for (const value of knobs.spare) add(select, "option", { value }, SPARE[value]);
    add(label, "small", {}, "opened beyond K, closed while training");
    select.addEventListener("change", () => change("spare", select.value));
    inputs.spare = select;
  }

  function offerSlider(knob) {
    const label = add(box, "label", { class: "knob" }), line = add(label, "span"), [name, what] = WORDS[knob];
    add(line, "span", {}, name);
    const value = add(line, "b"), max = knobs[knob].length - 1;
    const input = add(label, "input", { type: "range", min: 0, max, "aria-label": name });
    const ticks = add(label, "span", { class: "ticks", "aria-hidden": "true" });
    add(label, "small", {}, what);
    input.addEventListener("input", () => change(knob, knobs[knob][+input.value]));
    inputs[knob] = { input, value, ticks };
  }

  /** Controls as the setting is; below a slider which of its values are recorded with the others. */
  function meet(setting) {
    const words = index ? "Second setting" : state.settings.length > 1 ? "First setting" : "Settings";
    box.querySelector("legend").textContent = words;
    root.setAttribute("aria-label", words);
    for (const [name, input] of inputs.data) input.checked = name === setting.data;
    inputs.spare.value = setting.spare;
    for (const knob of Object.keys(WORDS)) {
      const { input, value, ticks } = inputs[knob], n = runsOf(setting).length;
      input.value = knobs[knob].indexOf(setting[knob]);
      value.textContent = sayValue(knob, setting);
      input.setAttribute("aria-valuetext", `${sayValue(knob, setting)}, ${n ? `${n} runs` : "not run"}`);
      ticks.replaceChildren();
      for (const one of knobs[knob]) {
        const isRun = runsOf({ ...setting, [knob]: one }).length > 0;
        const tick = add(ticks, "i", { class: one === setting[knob] ? "here" : "" });
        add(tick, "span", {}, isRun ? "●" : "○");
        add(tick, "span", {}, `${one}`);
      }
    }
    const { picture, seen } = suites[setting.data], image = box.querySelector("img");
    image.src = picture;
    image.alt = `Six of the pictures: ${DATA[setting.data]}`;
    box.querySelector(".seen small").textContent = seen;
  }

  async function show(setting) {
    meet(setting);
    const own = runsOf(setting);
    root.classList.toggle("empty", !own.length);
    find("verdict").replaceChildren();
    if (!own.length) {
      run = null;
      return sayNotRun(find("verdict"), setting, index);
    }
    run = await unpack(own.find(({ seed }) => seed === setting.seed) ?? own[0]);
    run.tau = run.steps.map(() => setting.tau);
    sayVerdict(find("verdict"), setting, own, run);
    listSeeds(find("seeds"), own, run, index);
  }

  function load(most) {
    if (run) screen.load(run, most);
  }

  function showStep(step) {
    if (!run) return "";
    const t = run.steps.findLastIndex((one) => one <= step), frame = Math.max(0, t);
    screen.show(frame);
    const isOver = frame === run.steps.length - 1, twin = find("twin");
    twin.replaceChildren();
    add(twin, "h2", {}, `${isOver ? "Groups at the end" : `Groups at step ${run.steps[frame]}`}, as a list`);
    const items = add(twin, "ul"), planted = (suites[run.data].planted ?? []).map((names) => [...names].sort().join());
    for (const [group, names] of listGroups(run, frame)) {
      const item = add(items, "li", {}, `${group}: ${names.join(", ")} `);
      if (planted.includes([...names].sort().join()) && group !== "undecided") add(item, "b", { class: "good" }, "✓ planted");
    }
    return describeFrame(run, frame);
  }

  return { root, show, load, showStep, run: () => run };
}

function sayValue(knob, setting) {
  const { rates } = suites[setting.data];
  if (knob !== "rate") return `${setting[knob]}`;
  return `${Number((rates[setting.spare] * setting.rate).toPrecision(3))} (x ${setting.rate})`;
}

/** The outcome over all seeds, as a sentence. */
function sayVerdict(box, setting, own, run) {
  const { planted } = suites[setting.data], n = own.length, cell = cells[nameOf(setting)];
  const naive = cells[nameOf({ ...DEFAULT, data: setting.data, spare: setting.spare, k: 1 })];
  const seeds = `${n} ${n === 1 ? "seed" : "seeds"}`;
  const answer = add(box, "p", { class: "answer" }), more = add(box, "p");
  if (setting.k === 1) answer.textContent = `One branch for all tasks: Naive MTL, with no groups to find (${seeds}).`;
  else if (planted) answer.textContent = `These settings found the groups in ${cell.found} of ${seeds}.`;
  else if (n === 1) answer.textContent = "Nobody knows the right groups here, and one seed has none to agree with.";
  else answer.textContent = `Nobody knows the right groups here. ${seeds} agree by ${cell.alike.toFixed(2)} with one another.`;
  const facts = [];
  if (setting.k > 1 && planted) {
    facts.push(`95 % interval: ${percent(cell.low)} to ${percent(cell.high)}`);
    if (setting.k < planted.length) facts.push(`with K = ${setting.k} they cannot: ${planted.length} are planted`);
  } else if (setting.k > 1 && n > 1) facts.push("1 would be the same groups, 0 is chance");
  const versus = naive && setting.k > 1 ? ` (one branch for all: ${naive.error.toFixed(1)} %)` : "";
  facts.push(`mean test error of a task ${cell.error.toFixed(1)} %${versus}`);
  const said = facts.join("; ");
  more.textContent = `${said[0].toUpperCase()}${said.slice(1)}.`;
  const lacks = run.seed === setting.seed ? "" : `Seed ${setting.seed} was not run with these settings. `;
  const end = run.agreement === 1 ? " ✓ It finds the three groups." : " ✗ It does not find them.";
  add(box, "p", { class: "faint" }, `${lacks}Now playing: seed ${run.seed}.${planted && setting.k > 1 ? end : ""}`);
}

function sayNotRun(box, setting, index) {
  add(box, "p", { class: "answer none" }, "These settings were not run.");
  add(box, "p", {}, "What you see on this page are recordings, and there is none of this combination. Under each " +
    "slider ● marks what was recorded with the other settings as they are, and ○ what was not.");
  const alone = "With one branch there is nothing to choose, so tau and the rate of S would change nothing.";
  if (setting.k === 1) add(box, "p", {}, alone);
  const far = (one) => ["spare", "k", "tau", "rate"].reduce((sum, knob) => sum + Math.abs(
    knobs[knob].indexOf(one[knob]) - knobs[knob].indexOf(setting[knob])), 0);
  const near = runs.filter((one) => one.data === setting.data).sort((a, b) => far(a) - far(b))[0];
  if (!near) return;
  const words = `K = ${near.k}, tau ${near.tau}, rate x ${near.rate}, spare branches: ${SPARE[near.spare]}`;
  const button = add(box, "button", { type: "button" }, `Nearest that was run: ${words}`);
  button.addEventListener("click", () => go(Object.fromEntries(Object.keys(knobs).map((knob) => [knob, near[knob]])), index));
}

/** A line a seed: its outcome, its training loss as a dot on one axis for all settings, its error. */
function listSeeds(box, own, playing, index) {
  const had = box.contains(document.activeElement), planted = suites[playing.data].planted && playing.k > 1;
  const most = Math.max(...runs.filter(({ data }) => data === playing.data).map((run) => run.train_loss));
  box.replaceChildren();
  add(box, "h2", {}, `Recorded seeds: ${own.length}. Click one to play it`);
  const table = add(box, "table"), head = add(add(table, "thead"), "tr"), body = add(table, "tbody");
  for (const name of ["seed", planted ? "groups" : "", "training loss", "error %"]) {
    add(head, name ? "th" : "td", name ? { scope: "col" } : {}, name);
  }
  for (const run of own.toSorted?.((a, b) => a.seed - b.seed) ?? own) {
    const row = add(body, "tr", run === playing ? { class: "playing" } : {}), isFound = run.agreement === 1;
    const label = `play seed ${run.seed}${planted ? `, which ${isFound ? "found" : "did not find"} the groups` : ""}`;
    const traits = { type: "button", "aria-label": label, "aria-pressed": run === playing };
    const button = add(add(row, "td"), "button", traits, `${run.seed}`);
    button.addEventListener("click", () => go({ seed: run.seed }, index));
    const cell = add(row, "td", { class: planted ? (isFound ? "good" : "bad") : "" });
    if (planted) cell.textContent = isFound ? "✓ found" : `✗ ${run.agreement.toFixed(2)}`;
    const track = add(add(row, "td", { class: "dots" }), "span", { class: "track" });
    add(track, "i", { class: planted ? (isFound ? "found" : "") : "plain" }).style.left = `${(100 * run.train_loss) / most}%`;
    track.title = `training loss ${run.train_loss.toFixed(2)}; the axis is 0 to ${most.toFixed(1)}`;
    add(row.lastChild, "span", { class: "unseen" }, run.train_loss.toFixed(2));
    add(row, "td", {}, run.error.toFixed(1));
    if (had && run === playing) button.focus();
  }
  if (planted) add(box, "small", {}, "✗: agreement with the planted groups, 1 the same, 0 chance");
}

// ---------------------------------------------------------------------------------------------- the page
const state = { settings: [DEFAULT], at: null, strange: [] };
const panels = [makePanel(0), makePanel(1)];
let timeline = [0], turn = 0, told = 0;

const clock = makeClock({
  scrub: byId("scrub"), button: byId("play"), last: () => timeline.length - 1,
  show(i) {
    const step = timeline[i], words = shown().map((panel) => panel.showStep(step));
    byId("step").textContent = words.length > 1 ? `step ${step} of ${timeline.at(-1)}` : words[0];
    byId("scrub").setAttribute("aria-valuetext", `step ${step} of ${timeline.at(-1)}`);
    state.at = clock.isPlaying() || i === timeline.length - 1 ? null : step;
    later();
  },
});
const shown = () => panels.slice(0, state.settings.length);

let pending = 0;
function later() { // a browser refuses an address that is written too often
  pending ||= setTimeout(() => {
    pending = 0;
    writeAddress();
  }, 300);
}

/** Another value of a knob; the film begins anew. */
function go(change, index) {
  state.settings[index] = { ...state.settings[index], ...change };
  state.at = null;
  return refresh();
}

async function refresh() {
  const mine = ++turn, isTwo = state.settings.length > 1;
  clock.play(false);
  byId("panels").classList.toggle("two", isTwo);
  panels[1].root.hidden = !isTwo;
  byId("compare").textContent = isTwo ? "Show one setting" : "Compare two settings";
  byId("compare").setAttribute("aria-pressed", String(isTwo));
  await Promise.all(shown().map((panel, i) => panel.show(state.settings[i])));
  if (mine !== turn) return; // a later choice has overtaken this one
  const playing = shown().map((panel) => panel.run()).filter(Boolean);
  timeline = [...new Set(playing.flatMap((run) => run.steps))].sort((a, b) => a - b);
  byId("controls").toggleAttribute("data-empty", !playing.length);
  for (const name of ["play", "scrub"]) byId(name).disabled = !playing.length;
  tell(shown().map((panel) => panel.root.querySelector(".answer").textContent).join(" "));
  if (!playing.length) {
    byId("step").textContent = "";
    return writeAddress();
  }
  const most = Math.max(...playing.flatMap((run) => run.loss));
  for (const panel of shown()) panel.load(playing.length > 1 ? most : undefined);
  if (state.at !== null) clock.stand(Math.max(0, timeline.findLastIndex((step) => step <= state.at)));
  else if (calm.matches) clock.stand(timeline.length - 1);
  else {
    clock.go(0);
    clock.play(true);
  }
  writeAddress();
}

/** Said to a screen reader, once a second at most and the latest only. */
function tell(words) {
  const strange = state.strange.length ? `This page does not know ${state.strange.join(", ")}. ` : "";
  clearTimeout(told);
  told = setTimeout(() => (byId("told").textContent = strange + words), 1000);
}

function restore() {
  Object.assign(state, readAddress(location.hash.slice(1)));
  byId("strange")?.remove();
  if (state.strange.length) {
    const words = `The address asks for what this page does not know: ${state.strange.join(", ")}.`;
    const line = add(document.body, "p", { id: "strange", class: "bad" }, `${words} The usual value stands instead.`);
    byId("controls").after(line);
  }
  return refresh();
}

let isDark = false;

function setTheme(wanted) {
  isDark = wanted;
  document.documentElement.style.colorScheme = isDark ? "dark" : "light";
  byId("theme").textContent = isDark ? "Light theme" : "Dark theme";
}

setTheme(matchMedia("(prefers-color-scheme: dark)").matches);
byId("theme").addEventListener("click", () => setTheme(!isDark));
// a page that has this one in a frame says which theme it has: by message, as files know nothing of each other
addEventListener("message", ({ source, data }) => {
  if (source === parent && typeof data?.isDark === "boolean") setTheme(data.isDark);
});
if (parent !== window) {
  parent.postMessage({ asksForTheme: true }, "*");
  // and is told how high this one is, so that nothing of it has to be scrolled to in a frame
  new ResizeObserver(() => parent.postMessage({ height: document.body.offsetHeight }, "*")).observe(document.body);
}
for (const [words, address] of IDEAS) {
  if (!readAddress(address).settings.every((setting) => runsOf(setting).length)) continue; // not run yet
  add(add(byId("ideas"), "li"), "a", { href: `#${address}` }, words);
}
byId("compare").addEventListener("click", () => {
  const [a, b] = state.settings;
  state.settings = b ? [a] : [a, { ...a, spare: a.spare === "none" ? "double" : "none" }];
  refresh();
});
addEventListener("hashchange", restore);
restore();
