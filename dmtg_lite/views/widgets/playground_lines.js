// One line a run in the same chart, over the same steps and up to the same height.

function render({ model, el }) {
  const box = add(el, "div", { class: "dmtg-overlay" });

  function drawChart({ title, top, lines }, end) {
    const figure = add(box, "figure"), last = [];
    add(figure, "figcaption", {}, title);
    const svg = add(figure, "svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img" });
    lines.forEach(({ run, x, y }, i) => {
      const points = x.map((step, t) => `${((100 * step) / end).toFixed(2)} ${(99 - (98 * y[t]) / top).toFixed(2)}`);
      last.push(`run ${run} ${y.length ? `${y.at(-1).toFixed(2)} at step ${x.at(-1)}` : "not begun"}`);
      if (points.length) ink(add(svg, "path", { d: `M${points.join("L")}` }), i);
    });
    svg.setAttribute("aria-label", `${title}: ${last.join(", ")}`);
    add(figure, "span", { class: "top" }, `${Number(top.toPrecision(2))}`);
    add(figure, "span", { class: "zero" }, "0");
  }

  function update() {
    const { charts = [], end = 1 } = model.get("shown");
    box.replaceChildren();
    for (const chart of charts) drawChart(chart, end);
    if (!charts.length) return;
    const words = add(box, "p", {}, `0 to ${end} steps; `);
    charts[0].lines.forEach(({ run }, i) => words.append(` run ${run}`, swatch(i)));
  }

  return follow(model, el, ["shown"], update);
}

export default { render };
