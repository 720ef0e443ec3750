// One unit, taken apart: what it looks at, its weights, and the sum, step by step.

import { byId, element } from "./dom.js";
import { number } from "./format.js";
import { readableOn, signedColor } from "./pixels.js";

const TEMPO = 90; // milliseconds a step, when it plays
const root = byId("explain");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const largest = (numbers) => numbers.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

export class Explanation extends EventTarget {
  #steps = []; // {cells, text}: what each step lights up, and what there is to say
  #timer = null;

  /** Sends "close" when it is closed. */
  constructor() {
    super();
    byId("step").addEventListener("input", () => this.#pause());
    byId("step").addEventListener("input", () => this.#go(Number(byId("step").value)));
    byId("step-back").addEventListener("click", () => this.#walk(-1));
    byId("step-on").addEventListener("click", () => this.#walk(1));
    byId("step-play").addEventListener("click", () => (this.#timer ? this.#pause() : this.#play()));
    byId("explain-close").addEventListener("click", () => this.close());
    root.addEventListener("keydown", (event) => event.key === "Escape" && this.close());
    document.addEventListener("themechange", () => this.shown && this.show(...this.shown));
  }

  /** Show what the server says of a unit, see POST /api/unit. */
  show(found, layer, unit) {
    const step =
      this.shown?.[1] === layer && JSON.stringify(this.shown[2]) === JSON.stringify(unit)
        ? Number(byId("step").value)
        : Infinity;
    this.shown = [found, layer, unit];
    root.hidden = false;
    root.dataset.value = found.value;
    byId("explain-title").textContent = layer.describe(unit);
    byId("terms").className = `terms ${layer.kind}`;
    this.#steps = [{ cells: [], text: "Nothing summed up yet." }];
    if (layer.placed) this.#patches(found, layer);
    else this.#units(found);
    this.#finish(found, layer);
    byId("step").max = this.#steps.length - 1;
    this.#go(Math.min(step, this.#steps.length - 1));
  }

  close() {
    this.#pause();
    this.shown = null;
    root.hidden = true;
    this.dispatchEvent(new Event("close"));
  }

  // what is summed up -----------------------------------------------------------------------------------------------

  /** Convolution and pooling: a patch of each map that the unit sees, with the kernel on it. */
  #patches({ terms, function: name }, layer) {
    const inputs = largest(terms.flatMap((term) => term.patch.flat()));
    const weights = largest(terms.flatMap((term) => term.kernel?.flat() ?? []));
    let sum = name === "max" ? -Infinity : 0;
    const figures = terms.map((term) => {
      const figure = element("figure", "term");
      const patch = grid(term.patch, inputs);
      const kernel = term.kernel && grid(term.kernel, weights);
      const source = term.from === "input" ? "what the network sees" : `${term.from}, map ${term.map + 1}`;
      const caption = element("figcaption", "", source);
      const row = element("div", "product");
      row.append(
        patch.root,
        ...(kernel
          ? [
              element("span", "sign", "×"),
              kernel.root,
              element("span", "sign", "="),
              element("span", "sum", number(term.sum)),
            ]
          : []),
      );
      figure.append(caption, row);
      term.patch.flat().forEach((input, i) => {
        const weight = term.kernel?.flat()[i];
        const product = weight === undefined ? input : input * weight;
        sum = name === "max" ? Math.max(sum, input) : sum + product;
        const made = weight === undefined ? number(input) : `${number(input)} × ${number(weight)} = ${number(product)}`;
        const so = name === "max" ? "largest so far" : "sum so far";
        this.#steps.push({ cells: [patch.cells[i], kernel?.cells[i]], text: `${made}; ${so} ${number(sum)}` });
      });
      return figure;
    });
    byId("terms").replaceChildren(...figures);
  }

  /** Dense layers: the inputs that weigh most, as signed bars. */
  #units({ terms, rest }) {
    const limit = largest([...terms.map((term) => term.product), rest]);
    const table = element("table", "plain-table contributions");
    table.innerHTML =
      "<thead><tr><th scope=col>from</th><th scope=col>input</th><th scope=col>weight</th><th scope=col>product</th><th></th></tr></thead>";
    const body = table.appendChild(element("tbody"));
    let sum = 0;
    const row = (source, input, weight, product) => {
      const line = body.appendChild(element("tr"));
      line.append(
        element("th", "", source),
        element("td", "", input),
        element("td", "", weight),
        element("td", "sum", number(product)),
      );
      line.querySelector("th").scope = "row";
      const bar = line
        .appendChild(element("td", "signed-bar"))
        .appendChild(element("span", product < 0 ? "negative" : "positive"));
      bar.style.width = `${limit > 0 ? (50 * Math.abs(product)) / limit : 0}%`;
      sum += product;
      this.#steps.push({ cells: [line], text: `${source}: ${number(product)}; sum so far ${number(sum)}` });
    };
    for (const term of terms) {
      const place =
        term.unit === undefined
          ? `map ${term.map + 1}, row ${term.y + 1}, column ${term.x + 1}`
          : `unit ${term.unit + 1}`;
      row(`${term.from}, ${place}`, number(term.input), number(term.weight), term.product);
    }
    row("all the others", "", "", rest);
    byId("terms").replaceChildren(table);
  }

  /** The last steps, from the products to the value. */
  #finish({ terms, bias, sum, value, function: name }, layer) {
    const products = sum - (bias ?? 0);
    const formulas = {
      mean: `(${number(sum)}) / ${terms[0].patch?.flat().length} = ${number(value)}`,
      max: `the largest of ${terms[0].patch?.flat().length} = ${number(value)}`,
      identity: `${number(products)} + bias ${number(bias ?? 0)} = ${number(value)}`,
    };
    const formula =
      formulas[name] ??
      `${name.replace("_", " ")}(${number(products)} + bias ${number(bias ?? 0)}) = ${name.replace("_", " ")}(${number(sum)}) = ${number(value)}`;
    byId("formula").textContent = formula;
    if (layer.kind !== "pool")
      this.#steps.push({ cells: [], text: `${number(products)} + bias ${number(bias)} = ${number(sum)}` });
    if (name !== "identity") this.#steps.push({ cells: [byId("formula")], text: formula });
  }

  // step by step ----------------------------------------------------------------------------------------------------

  #go(step) {
    const last = this.#steps.length - 1;
    for (const lit of root.querySelectorAll(".lit")) lit.classList.remove("lit");
    for (const cell of this.#steps[step].cells) cell?.classList.add("lit");
    byId("step").value = step;
    byId("step-said").textContent = this.#steps[step].text;
    byId("step-back").disabled = step === 0;
    byId("step-on").disabled = step === last;
  }

  #walk(by) {
    this.#pause();
    this.#go(Number(byId("step").value) + by);
  }

  #play() {
    if (Number(byId("step").value) >= this.#steps.length - 1) this.#go(0);
    byId("step-play").setAttribute("aria-pressed", "true");
    this.#timer = setInterval(
      () => {
        const next = Number(byId("step").value) + 1;
        this.#go(Math.min(next, this.#steps.length - 1));
        if (next >= this.#steps.length - 1) this.#pause();
      },
      calm.matches ? 10 * TEMPO : TEMPO,
    );
  }

  #pause() {
    clearInterval(this.#timer);
    this.#timer = null;
    byId("step-play").setAttribute("aria-pressed", "false");
  }
}

/** Numbers in cells of their colors. */
function grid(rows, limit) {
  const made = element("div", "grid");
  made.style.setProperty("--columns", rows[0].length);
  const cells = rows.flat().map((value) => {
    const cell = made.appendChild(element("span", "cell", number(value, Math.abs(value) < 9.95 ? 1 : 0)));
    const color = signedColor(value, limit);
    Object.assign(cell.style, { backgroundColor: `rgb(${color})`, color: readableOn(color) });
    cell.dataset.value = value;
    return cell;
  });
  return { root: made, cells };
}
