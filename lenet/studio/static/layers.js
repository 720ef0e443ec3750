// The network as columns: every layer's numbers in signed colors, with one legend a layer.
//
// A layer is made of tiles. Convolution and pooling have one tile a map; units without a place are one tile in which
// they stand row by row. A unit is {map, y, x}, or {map} without a place, as the API has it.

import { decodeFloats, paintSigned } from "./pixels.js";
import { number } from "./format.js";

const WIDE = matchMedia("(min-width: 720px)");
const LONGEST_COLUMN = 8; // maps below each other
const UNITS_DOWN = { dense: 24, output: Infinity }; // units below each other

const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

/** One layer on the page. */
class Layer {
  constructor(described) {
    Object.assign(this, described);
    this.placed = this.shape.length === 3;
    this.values = null;
    this.limit = 1;
    this.cursor = 0; // index into the values, for the keyboard
    this.#build();
  }

  #build() {
    this.root = element("section", `layer ${this.kind}`);
    this.root.dataset.layer = this.name;
    const header = this.root.appendChild(element("header"));
    header.append(element("h3", "", this.name === "output" ? "Output" : this.name), element("p", "", this.#subtitle()));
    header.title = this.title;
    this.tiles = this.root.appendChild(element("div", "tiles"));
    this.tiles.tabIndex = 0;
    this.tiles.setAttribute("role", "application");
    this.tiles.setAttribute("aria-roledescription", "layer");
    this.tiles.setAttribute("aria-label", `${this.title}. Arrow keys choose a unit, Enter takes it apart.`);
    this.legend = this.root.appendChild(element("div", "legend"));
    this.legend.append(element("span", "low"), element("canvas"), element("span", "high"));
    this.#legendCanvas.setAttribute("aria-hidden", "true");
    this.arrange();
  }

  get #legendCanvas() {
    return this.legend.querySelector("canvas");
  }

  #subtitle() {
    const [maps, height, width] = this.shape;
    return this.placed ? `${maps} × ${height} × ${width}` : `${maps} units`;
  }

  /** Lay the tiles out for the width of the page. */
  arrange() {
    const [count, height, width] = this.shape;
    if (this.placed) {
      [this.rows, this.columns] = [height, width];
      this.tiles.style.setProperty("--across", WIDE.matches ? Math.ceil(count / LONGEST_COLUMN) : Math.min(count, 8));
    } else {
      const across = Math.ceil(count / UNITS_DOWN[this.kind]) || 1;
      const down = Math.ceil(count / across);
      [this.rows, this.columns] = WIDE.matches ? [down, across] : [across, down];
    }
    const tiles = Array.from({ length: this.placed ? count : 1 }, () => {
      const tile = element("div", "tile");
      tile.style.setProperty("--rows", this.rows);
      tile.style.setProperty("--columns", this.columns);
      tile.append(element("canvas"), element("span", "mark field"), element("span", "mark chosen"), element("span", "mark cursor"));
      return tile;
    });
    this.tiles.replaceChildren(...tiles);
    if (this.kind === "output") this.tiles.append(this.#labels(count));
    this.paint();
  }

  #labels(count) {
    const labels = element("ol", "labels");
    for (let k = 0; k < count; k++) labels.append(element("li"));
    return labels;
  }

  show({ values, low, high } = { values: null, low: 0, high: 0 }) {
    this.values = values && decodeFloats(values);
    [this.low, this.high, this.limit] = [low, high, Math.max(Math.abs(low), Math.abs(high))];
    this.paint();
  }

  paint() {
    const per = this.rows * this.columns;
    this.root.classList.toggle("empty", this.values === null);
    [...this.tiles.querySelectorAll(".tile canvas")].forEach((canvas, tile) => {
      const part = this.values ? this.values.subarray(tile * per, (tile + 1) * per) : new Float32Array(Math.min(per, this.shape[0] * (this.placed ? per : 1)));
      paintSigned(canvas, part, this.rows, this.columns, this.limit);
    });
    this.#paintLegend();
    [...this.tiles.querySelectorAll(".labels li")].forEach((label, k) => {
      label.replaceChildren(element("b", "", k), element("span", "", this.values ? number(this.values[k], 1) : ""));
    });
  }

  /** The legend is the part of the scale that the layer's numbers lie on. */
  #paintLegend() {
    const from = Math.min(this.low ?? 0, 0);
    const to = Math.max(this.high ?? 0, 0);
    const scale = Float32Array.from({ length: 64 }, (_, i) => from + ((to - from) * i) / 63);
    paintSigned(this.#legendCanvas, scale, 1, 64, this.limit);
    this.legend.querySelector(".low").textContent = this.values ? number(from, 1) : "";
    this.legend.querySelector(".high").textContent = this.values ? number(to, 1) : "";
  }

  // places ----------------------------------------------------------------------------------------------------------

  /** The unit at an index into the values. */
  unit(index) {
    const per = this.placed ? this.rows * this.columns : 1;
    const map = Math.floor(index / per);
    return this.placed ? { map, y: Math.floor((index % per) / this.columns), x: index % this.columns } : { map };
  }

  index({ map, y, x }) {
    return this.placed ? (map * this.rows + y) * this.columns + x : map;
  }

  /** The tile of a unit, and the cell in it. */
  cell({ map, y, x }) {
    const [row, column] = this.placed ? [y, x] : [Math.floor(map / this.columns), map % this.columns];
    return { tile: this.tiles.children[this.placed ? map : 0], row, column };
  }

  /** The index of the unit under a pointer, or null. */
  indexAt(event) {
    const tile = event.target.closest(".tile");
    if (!tile) return null;
    const box = tile.getBoundingClientRect();
    const within = (at, from, size, cells) => Math.max(0, Math.min(cells - 1, Math.floor(((at - from) / size) * cells)));
    const row = within(event.clientY, box.top, box.height, this.rows);
    const column = within(event.clientX, box.left, box.width, this.columns);
    const index = (this.placed ? [...this.tiles.children].indexOf(tile) * this.rows : 0) * this.columns + row * this.columns + column;
    return index < this.#count ? index : null;
  }

  get #count() {
    return this.shape.reduce((product, size) => product * size, 1);
  }

  /** Move the keyboard's cursor; over the edge of a map it goes on in the next one. */
  move([dx, dy]) {
    const per = this.rows * this.columns;
    const map = Math.floor(this.cursor / per);
    const row = Math.floor((this.cursor % per) / this.columns) + dy;
    const column = (this.cursor % this.columns) + dx;
    const jump = row < 0 || column < 0 ? -1 : row >= this.rows || column >= this.columns ? 1 : 0;
    const wrap = (at, size) => (at + size) % size;
    const next = (map + jump) * per + wrap(row, this.rows) * this.columns + wrap(column, this.columns);
    if (next >= 0 && next < this.#count) this.cursor = next;
  }

  describe(unit) {
    const value = this.values ? number(this.values[this.index(unit)]) : "–";
    const place = this.placed ? `map ${unit.map + 1}, row ${unit.y + 1}, column ${unit.x + 1}` : this.kind === "output" ? `digit ${unit.map}` : `unit ${unit.map + 1}`;
    return `${this.name}, ${place}: ${value}`;
  }
}

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** All layers, with what binds them: links, looking glass, keyboard. Sends "choose" with {layer, unit}. */
export class Layers extends EventTarget {
  /** `seen` is the tile with the image that the network sees. */
  constructor(network, root, { seen, said, loupe }) {
    super();
    Object.assign(this, { root, seen, said, loupe });
    this.layers = network.layers.map((described) => new Layer(described));
    this.links = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.links.classList.add("links");
    this.links.setAttribute("aria-hidden", "true");
    root.append(this.links, ...this.layers.map((layer) => layer.root));
    this.layers.forEach((layer, at) => this.#listen(layer, at));
    WIDE.addEventListener("change", () => this.layers.forEach((layer) => layer.arrange()));
    document.addEventListener("themechange", () => this.layers.forEach((layer) => layer.paint()));
    new ResizeObserver(() => this.#draw()).observe(root);
  }

  /** Show activations as the API gives them, or null for none. */
  show(values) {
    this.layers.forEach((layer, at) => layer.show(values?.[at]));
    if (this.hovered) this.#point(this.hovered.layer, this.hovered.unit);
  }

  /** Mark the unit that is taken apart, or none. */
  choose(layer, unit) {
    this.#unmark("chosen");
    if (layer) this.#mark(layer, unit, "chosen");
  }

  byName(name) {
    return this.layers.find((layer) => layer.name === name);
  }

  #listen(layer, at) {
    const { tiles } = layer;
    tiles.addEventListener("pointermove", (event) => {
      const index = layer.indexAt(event);
      if (index === null || event.pointerType === "touch") return this.#leave();
      this.#point(layer, layer.unit(index));
      this.#place(event.clientX, event.clientY);
    });
    tiles.addEventListener("pointerleave", () => this.#leave());
    tiles.addEventListener("click", (event) => {
      const index = layer.indexAt(event);
      if (index === null || !layer.values) return;
      layer.cursor = index;
      this.#send(layer);
    });
    tiles.addEventListener("keydown", (event) => {
      if (MOVES[event.key]) layer.move(MOVES[event.key]);
      else if ((event.key === "Enter" || event.key === " ") && layer.values) this.#send(layer);
      else if (event.key === "Escape") this.#leave();
      else return;
      event.preventDefault();
      if (event.key !== "Escape") this.#pointWithKeys(layer);
    });
    tiles.addEventListener("blur", () => this.#leave());
  }

  #pointWithKeys(layer) {
    const unit = layer.unit(layer.cursor);
    this.#point(layer, unit);
    const { tile } = layer.cell(unit);
    tile.scrollIntoView({ block: "nearest", inline: "nearest" });
    const box = tile.getBoundingClientRect();
    this.#place(box.right, box.top);
    this.said.textContent = layer.describe(unit);
  }

  #send(layer) {
    this.dispatchEvent(new CustomEvent("choose", { detail: { layer, unit: layer.unit(layer.cursor) } }));
  }

  // pointing --------------------------------------------------------------------------------------------------------

  #point(layer, unit) {
    this.hovered = { layer, unit };
    this.#unmark("cursor", "field");
    this.#mark(layer, unit, "cursor");
    for (const { tile, ...box } of this.#field(layer, unit)) place(tile.querySelector(".field"), box);
    this.#draw();
    this.#enlarge(layer, unit);
  }

  #leave() {
    if (!this.hovered) return;
    this.hovered = null;
    this.#unmark("cursor", "field");
    this.#draw();
    this.loupe.hidden = true;
  }

  #mark(layer, unit, kind) {
    const { tile, row, column } = layer.cell(unit);
    place(tile.querySelector(`.${kind}`), { top: row / layer.rows, left: column / layer.columns, height: 1 / layer.rows, width: 1 / layer.columns });
  }

  #unmark(...kinds) {
    for (const kind of kinds) {
      for (const mark of [...this.root.querySelectorAll(`.${kind}`), ...this.seen.querySelectorAll(`.${kind}`)]) mark.style.display = "none";
    }
  }

  /** Where a unit looks: boxes, in shares, on tiles of the layer below. */
  #field(layer, unit) {
    const below = this.layers[this.layers.indexOf(layer) - 1];
    if (!layer.placed) {
      return (below.placed ? [...below.tiles.children] : [below.tiles.children[0]]).map((tile) => ({ tile, top: 0, left: 0, height: 1, width: 1 }));
    }
    const stride = layer.kind === "pool" ? layer.kernel : 1;
    const [, rows, columns] = below?.shape ?? [1, layer.shape[1] + layer.kernel - 1, layer.shape[2] + layer.kernel - 1];
    return layer.parents[unit.map].map((map) => ({
      tile: below ? below.tiles.children[map] : this.seen,
      top: (stride * unit.y) / rows,
      left: (stride * unit.x) / columns,
      height: layer.kernel / rows,
      width: layer.kernel / columns,
    }));
  }

  /** The looking glass: the whole map, large, with the unit marked. */
  #enlarge(layer, unit) {
    const { tile, row, column } = layer.cell(unit);
    const glass = this.loupe.querySelector(".tile");
    glass.hidden = !layer.placed;
    if (layer.placed) {
      const source = tile.querySelector("canvas");
      const canvas = glass.querySelector("canvas");
      Object.assign(canvas, { width: source.width, height: source.height });
      canvas.getContext("2d").drawImage(source, 0, 0);
      const mark = glass.querySelector(".cursor") ?? glass.appendChild(element("span", "mark cursor"));
      place(mark, { top: row / layer.rows, left: column / layer.columns, height: 1 / layer.rows, width: 1 / layer.columns });
    }
    this.loupe.querySelector("p").textContent = layer.describe(unit);
    this.loupe.hidden = false;
  }

  #place(x, y) {
    const { offsetWidth: width, offsetHeight: height } = this.loupe;
    const left = x + 24 + width < document.documentElement.clientWidth ? x + 24 : Math.max(8, x - 24 - width);
    const top = Math.max(8, Math.min(y - height / 2, document.documentElement.clientHeight - height - 8));
    this.loupe.style.transform = `translate(${left}px, ${top}px)`;
  }

  // links between layers --------------------------------------------------------------------------------------------

  /** Draw who is connected with whom, behind the tiles: the links of the unit pointed at, else all of them, pale. */
  #draw() {
    this.links.replaceChildren();
    if (!WIDE.matches) return;
    const origin = this.root.getBoundingClientRect();
    const paths = this.layers.slice(1).flatMap((layer, before) => this.#connections(this.layers[before], layer));
    for (const { from, to, lit } of paths) {
      const [a, b] = [from.getBoundingClientRect(), to.getBoundingClientRect()];
      const [x0, y0, x1, y1] = [a.right - origin.left, a.top + a.height / 2 - origin.top, b.left - origin.left, b.top + b.height / 2 - origin.top];
      const middle = (x0 + x1) / 2;
      const path = document.createElementNS(this.links.namespaceURI, "path");
      path.setAttribute("d", `M${x0} ${y0}C${middle} ${y0} ${middle} ${y1} ${x1} ${y1}`);
      if (lit) path.classList.add("lit");
      this.links.append(path);
    }
  }

  #connections(below, layer) {
    const lit = (map) => this.hovered?.layer === layer && (!layer.placed || this.hovered.unit.map === map);
    const from = (map) => below.tiles.children[map];
    const to = (map) => layer.tiles.children[map];
    if (layer.placed) return layer.parents.flatMap((maps, map) => maps.map((parent) => ({ from: from(parent), to: to(map), lit: lit(map) })));
    const sources = below.placed ? [...below.tiles.children] : [from(0)];
    return sources.map((source) => ({ from: source, to: to(0), lit: lit(0) }));
  }
}

/** Lay a mark over a part of its tile, given in shares. */
function place(mark, { top, left, height, width }) {
  const percents = Object.entries({ top, left, height, width }).map(([side, share]) => [side, `${100 * share}%`]);
  Object.assign(mark.style, { display: "block" }, Object.fromEntries(percents));
}
