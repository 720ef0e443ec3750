// The network as columns, and what binds its layers: links, looking glass, keyboard.

import { element, place } from "./dom.js";
import { Layer, WIDE } from "./layer.js";

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** All layers. Sends "choose" with {layer, unit}. */
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
    this.layers.forEach((layer) => this.#listen(layer));
    WIDE.addEventListener("change", () => {
      this.layers.forEach((layer) => layer.arrange());
      this.choose(this.chosen?.layer, this.chosen?.unit);
    });
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
    this.chosen = layer && { layer, unit };
    this.#unmark("chosen");
    if (layer) this.#mark(layer, unit, "chosen");
  }

  #listen(layer) {
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
    place(tile.querySelector(`.${kind}`), {
      top: row / layer.rows,
      left: column / layer.columns,
      height: 1 / layer.rows,
      width: 1 / layer.columns,
    });
  }

  #unmark(...kinds) {
    for (const kind of kinds) {
      for (const mark of [...this.root.querySelectorAll(`.${kind}`), ...this.seen.querySelectorAll(`.${kind}`)])
        mark.style.display = "none";
    }
  }

  /** Where a unit looks: boxes, in shares, on tiles of the layer below. */
  #field(layer, unit) {
    const below = this.layers[this.layers.indexOf(layer) - 1];
    if (!layer.placed) {
      return (below.placed ? [...below.tiles.children] : [below.tiles.children[0]]).map((tile) => ({
        tile,
        top: 0,
        left: 0,
        height: 1,
        width: 1,
      }));
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
      place(mark, {
        top: row / layer.rows,
        left: column / layer.columns,
        height: 1 / layer.rows,
        width: 1 / layer.columns,
      });
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
      const [x0, y0, x1, y1] = [
        a.right - origin.left,
        a.top + a.height / 2 - origin.top,
        b.left - origin.left,
        b.top + b.height / 2 - origin.top,
      ];
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
    if (layer.placed)
      return layer.parents.flatMap((maps, map) =>
        maps.map((parent) => ({ from: from(parent), to: to(map), lit: lit(map) })),
      );
    const sources = below.placed ? [...below.tiles.children] : [from(0)];
    return sources.map((source) => ({ from: source, to: to(0), lit: lit(0) }));
  }
}
