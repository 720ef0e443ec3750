// Why this answer: the training digits that look most alike to the network, and the ink that would change its mind.

import { byId, digitButtons } from "./dom.js";
import { percent } from "./format.js";
import { decodeFloats, decodePixels, inkCanvas, paintChange } from "./pixels.js";

const INVITATION = byId("why-note").textContent;

export class Why extends EventTarget {
  #toward = null; // the digit that somebody chose; null for the runner-up
  #found = null;

  /** Sends "toward" when another digit is chosen, "step" with pixels (base64), "back" to the drawing. */
  constructor(network) {
    super();
    this.network = network;
    this.buttons = digitButtons(byId("toward"), network.classes, (label) => {
      this.#toward = label;
      this.dispatchEvent(new Event("toward"));
    });
    byId("take-step").addEventListener("click", () =>
      this.dispatchEvent(new CustomEvent("step", { detail: this.#found.step })),
    );
    byId("steps-back").addEventListener("click", () => this.dispatchEvent(new Event("back")));
    document.addEventListener("themechange", () => this.#found && this.#paint());
  }

  /** What to add to a request. */
  get question() {
    return { toward: this.#toward };
  }

  /** Go back to the runner-up, for another drawing. */
  forget() {
    this.#toward = null;
  }

  /** Say that there will be something to see: the first time, the server reads all training images. */
  expect() {
    byId("why-note").textContent = "Looking through the training digits …";
  }

  /** Show what the server says, see POST /api/why; null for an empty paper. `pixels` is what the network sees. */
  show(found, pixels, steps) {
    this.#found = found && { ...found, pixels };
    byId("why").classList.toggle("empty", !found);
    byId("steps-back").hidden = steps === 0;
    if (!found) {
      byId("why-note").textContent = INVITATION;
      return;
    }
    const { height, width } = this.network;
    byId("neighbors").replaceChildren(
      ...found.neighbors.map(({ index, label, distance, pixels: image }) => {
        const item = document.createElement("li");
        item.title = `training image ${index}, distance ${distance.toFixed(2)}`;
        item.append(
          inkCanvas(decodePixels(image), height, width, `training image ${index}, a ${label}`),
          String(label),
        );
        return item;
      }),
    );
    this.buttons.forEach((button, label) => {
      button.disabled = label === found.answer;
      button.setAttribute("aria-pressed", String(label === found.toward));
    });
    const { answer, toward } = found;
    const after = (label) => `${percent(found.step_probabilities[label])} for ${label}`;
    byId("step-note").textContent =
      `After one step from ${answer} toward ${toward}: ${after(answer)}, ${after(toward)}.`;
    this.#paint();
  }

  #paint() {
    const { height, width } = this.network;
    paintChange(byId("gradient"), decodePixels(this.#found.pixels), decodeFloats(this.#found.gradient), height, width);
  }
}
