// One layer: its numbers in signed colors, with one legend.
//
// A layer is made of tiles. Convolution and pooling have one tile a map; units without a place are one tile in which
// they stand row by row. A unit is {map, y, x}, or {map} without a place, as the API has it.

import { element } from "./dom.js";
import { number } from "./format.js";
import { decodeFloats, paintSigned } from "./pixels.js";

/** Whether the page is wide enough for columns. */
export const WIDE = matchMedia("(min-width: 720px)");

const LONGEST_COLUMN = 8; // maps below each other
const UNITS_DOWN = { dense: 24, output: Infinity }; // units below each other

/** One layer on the page. */
export class Layer {
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
      tile.append(
        element("canvas"),
        element("span", "mark field"),
        element("span", "mark chosen"),
        element("span", "mark cursor"),
      );
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
      const part = this.values
        ? this.values.subarray(tile * per, (tile + 1) * per)
        : new Float32Array(Math.min(per, this.shape[0] * (this.placed ? per : 1)));
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
    const within = (at, from, size, cells) =>
      Math.max(0, Math.min(cells - 1, Math.floor(((at - from) / size) * cells)));
    const row = within(event.clientY, box.top, box.height, this.rows);
    const column = within(event.clientX, box.left, box.width, this.columns);
    const index =
      (this.placed ? [...this.tiles.children].indexOf(tile) * this.rows : 0) * this.columns +
      row * this.columns +
      column;
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
    const place = this.placed
      ? `map ${unit.map + 1}, row ${unit.y + 1}, column ${unit.x + 1}`
      : this.kind === "output"
        ? `digit ${unit.map}`
        : `unit ${unit.map + 1}`;
    return `${this.name}, ${place}: ${value}`;
  }
}
