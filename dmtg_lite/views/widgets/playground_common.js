// Run A is an unbroken line, run B a dashed one of another colour, in the form as in the charts.

const LINES = [["#0072B2", ""], ["#D55E00", "6 3"]];

function ink(path, i) {
  path.style.stroke = LINES[i][0];
  path.style.strokeWidth = 2.5;
  path.style.strokeDasharray = LINES[i][1];
}

/** A piece of a run's line. */
function swatch(i) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of [["viewBox", "0 0 26 6"], ["width", 26], ["height", 6], ["aria-hidden", "true"]]) {
    svg.setAttribute(name, value);
  }
  ink(add(svg, "path", { d: "M0 3L26 3" }), i);
  return svg;
}
