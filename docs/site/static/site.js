// Draws the figures of the notebooks in the colours of the page, and again when its theme changes.
// plotly.js (4.5 MB) is there once for the whole site, and loaded by pages that have a figure.
const places = [...document.querySelectorAll(".dmtg-figure")];
const dark = matchMedia("(prefers-color-scheme: dark)");

function colours() {
  const style = getComputedStyle(document.body);
  const of = (name) => style.getPropertyValue(name).trim();
  return { text: of("--color-foreground-primary"), page: of("--color-background-primary") };
}

function draw(place) {
  const { data, layout } = JSON.parse(place.nextElementSibling.textContent);
  const { text, page } = colours();
  layout.font = { ...layout.font, color: text };
  // a figure that brings no colour of its own would be a white sheet on a dark page
  if (!layout.paper_bgcolor) Object.assign(layout, { paper_bgcolor: page, plot_bgcolor: page });
  delete layout.width; // as wide as the column, on a phone too
  Plotly.react(place, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
}

function drawAll() {
  // colours are known after furo has set the theme
  requestAnimationFrame(() => places.forEach(draw));
}

// the page on the front page follows this one's theme, it asks when it is ready to hear; its frame is as high as it is
const front = document.querySelector(".front-page");
const isDark = () => (document.body.dataset.theme === "auto" ? dark.matches : document.body.dataset.theme === "dark");

function tellTheme() {
  front.contentWindow.postMessage({ isDark: isDark() }, "*");
}

if (front) {
  addEventListener("message", ({ source, data }) => {
    if (source !== front.contentWindow) return;
    if (data?.asksForTheme) tellTheme();
    // never lower: what is below must not jump while a film plays
    if (data?.height > front.clientHeight) front.style.height = `${Math.ceil(data.height)}px`;
  });
  dark.addEventListener("change", tellTheme);
  new MutationObserver(tellTheme).observe(document.body, { attributeFilter: ["data-theme"] });
}

if (places.length) {
  const script = document.createElement("script");
  script.src = `${document.documentElement.dataset.content_root}_static/plotly.min.js`;
  script.addEventListener("load", () => {
    drawAll();
    dark.addEventListener("change", drawAll);
    new MutationObserver(drawAll).observe(document.body, { attributeFilter: ["data-theme"] });
  });
  document.head.append(script);
}

// what is wider than the column scrolls in its own box, and a box that scrolls takes the keyboard
for (const box of document.querySelectorAll(".table-wrapper, .cell_output, pre, div.math")) {
  if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
}
