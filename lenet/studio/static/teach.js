// Teach it your hand: label drawings, look through the collection, fine-tune, compare, keep or discard.

import { Gone, get, post, Refused } from "./api.js";
import { byId, digitButtons, sentence } from "./dom.js";
import { accuracy, count } from "./format.js";
import { decodePixels, inkCanvas } from "./pixels.js";

const root = byId("teach");
const POLL = 300; // milliseconds, while it learns

export class Teach extends EventTarget {
  #pad;
  #timer = null;

  /** Sends "kept" when another network is in use. */
  constructor(network, pad) {
    super();
    this.network = network;
    this.#pad = pad;
    this.buttons = digitButtons(byId("labels"), network.classes, (label) =>
      this.#do("teach-said", () => this.#save(label)),
    );
    const on = (id, act) => byId(id).addEventListener("click", () => this.#do("finetune-said", act));
    on("finetune", async () => this.#watch(await post("/api/finetune")));
    on("finetune-stop", async () => this.#watch(await post("/api/finetune/stop")));
    on("discard", async () => this.#watch(await post("/api/finetune/discard")));
    on("keep", async () => {
      this.#watch(await post("/api/finetune/keep"));
      this.dispatchEvent(new Event("kept"));
    });
    this.#do("teach-said", () => this.#list());
    this.#do("finetune-said", async () => this.#watch(await get("/api/finetune")));
  }

  /** Say whether there is a drawing to label, and what the network takes it for. */
  offer(canBeLabeled) {
    for (const button of this.buttons) button.disabled = !canBeLabeled;
  }

  /** Run an action; what speaks against it is said. `data-seq` counts the actions that are done. */
  async #do(said, act) {
    byId(said).textContent = "";
    try {
      await act();
    } catch (error) {
      if (error instanceof Refused) byId(said).textContent = error.message;
      else if (!(error instanceof Gone)) throw error;
    } finally {
      root.dataset.seq = Number(root.dataset.seq ?? 0) + 1;
    }
  }

  // the collection --------------------------------------------------------------------------------------------------

  async #save(label) {
    const { held_out: heldOut } = await post("/api/drawings", { strokes: this.#pad.strokes, label });
    byId("teach-said").textContent = heldOut
      ? `Kept as ${label}, held out: it will tell how well the others teach.`
      : `Kept as ${label}.`;
    await this.#list();
  }

  async #list() {
    const { folder, counts, drawings } = await get("/api/drawings");
    const total = counts.reduce((sum, n) => sum + n, 0);
    byId("folder").textContent = folder;
    byId("finetune").disabled = total === 0;
    byId("finetune").textContent = total
      ? `Fine-tune on ${count(total)} drawing${total === 1 ? "" : "s"}`
      : "Fine-tune";
    this.buttons.forEach((button, label) => {
      button.dataset.count = counts[label] || "";
      button.setAttribute("aria-label", `${label}, ${counts[label]} kept`);
    });
    byId("collection").replaceChildren(...drawings.map((drawing) => this.#item(drawing)));
  }

  #item({ id, label, pixels, held_out: heldOut }) {
    const item = document.createElement("li");
    item.dataset.id = id;
    item.classList.toggle("held-out", heldOut);
    const { height, width } = this.network;
    const remove = document.createElement("button");
    Object.assign(remove, { type: "button", className: "remove", textContent: "×", title: "Delete" });
    remove.setAttribute("aria-label", `Delete this ${label}`);
    remove.addEventListener("click", () =>
      this.#do("teach-said", async () => {
        await post(`/api/drawings/${encodeURIComponent(id)}/delete`);
        await this.#list();
        byId("collection").querySelector("button")?.focus();
      }),
    );
    item.append(
      inkCanvas(decodePixels(pixels), height, width, `your drawing of a ${label}${heldOut ? ", held out" : ""}`),
      String(label),
      remove,
    );
    if (heldOut) item.title = "held out: not learned from, it tells how well the others teach";
    return item;
  }

  // fine-tuning -----------------------------------------------------------------------------------------------------

  #watch(found) {
    const { state, progress, message, before, after, saved } = found;
    const running = state === "running";
    root.dataset.state = saved ? "kept" : state;
    byId("finetune").hidden = running || (state === "done" && !saved);
    byId("finetune-stop").hidden = byId("finetune-running").hidden = !running;
    byId("finetune-progress").value = progress;
    byId("finetune-result").hidden = state !== "done";
    byId("keep").hidden = byId("discard").hidden = Boolean(saved);
    byId("finetune-said").textContent = sentence(message);
    for (const [name, shares] of Object.entries({ before, after })) {
      byId(`${name}-test`).textContent = accuracy(shares?.test ?? null);
      byId(`${name}-drawings`).textContent = accuracy(shares?.drawings ?? null);
    }
    clearTimeout(this.#timer);
    if (running)
      this.#timer = setTimeout(
        () => this.#do("finetune-said", async () => this.#watch(await get("/api/finetune"))),
        POLL,
      );
  }
}
