// A line chart of values over epochs, as SVG.

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [560, 260];
const MARGIN = { top: 12, right: 14, bottom: 30, left: 52 };

const element = (parent, name, attributes, text) => {
  const made = parent.appendChild(document.createElementNS(SVG, name));
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
};

/** 1, 2 or 5 times a power of ten, so that at most `most` steps make up `range`. */
function niceStep(range, most) {
  const power = 10 ** Math.floor(Math.log10(range / most));
  return [1, 2, 5, 10].map((n) => n * power).find((step) => range / step <= most);
}

/**
 * Draw `series`, a list of {name, values}, one value an epoch, on axes from 0.
 *
 * `format` makes the texts of the vertical axis, `label` says for screen readers what there is to see.
 */
export function drawCurves(place, series, epochs, format, label) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const highest = Math.max(...series.flatMap(({ values }) => values), 0) || 1;
  const step = niceStep(highest, 4);
  const top = step * Math.ceil(highest / step);
  const last = Math.max(epochs, 2);
  const x = (epoch) => MARGIN.left + ((epoch - 1) / (last - 1)) * (WIDTH - MARGIN.left - MARGIN.right);
  const y = (value) => HEIGHT - MARGIN.bottom - (value / top) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  for (let value = 0; value <= top * 1.001; value += step) {
    element(svg, "line", { class: "rule", x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: y(value), y2: y(value) });
    element(svg, "text", { x: MARGIN.left - 8, y: y(value) + 4, "text-anchor": "end" }, format(value));
  }
  const every = Math.max(1, Math.round(niceStep(last, 10)));
  for (let epoch = 1; epoch <= last; epoch++) {
    if (epoch === 1 || epoch % every === 0)
      element(svg, "text", { x: x(epoch), y: HEIGHT - 8, "text-anchor": "middle" }, epoch);
  }
  for (const { name, values } of series) {
    element(svg, "polyline", { class: name, points: values.map((value, i) => `${x(i + 1)},${y(value)}`).join(" ") });
    if (values.length) element(svg, "circle", { class: name, r: 4, cx: x(values.length), cy: y(values.at(-1)) });
  }
  place.replaceChildren(svg);
}
