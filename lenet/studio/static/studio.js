// The studio's page: what the network looks at goes out, what it thinks comes in.

import { Answer } from "./answer.js";
import { get, Newest, post } from "./api.js";
import { Pad } from "./canvas.js";
import { byId } from "./dom.js";
import { Explanation } from "./explain.js";
import { accuracy } from "./format.js";
import { Layers } from "./layers.js";
import { decodePixels, encodePixels, paintInk } from "./pixels.js";
import { Teach } from "./teach.js";
import { Why } from "./why.js";

const network = JSON.parse(byId("network").textContent);

const pad = new Pad(byId("canvas"), document.querySelector(".keyboard-pen"));
const answer = new Answer(network.classes);
const layers = new Layers(network, byId("columns"), {
  seen: byId("seen-tile"),
  said: byId("unit-said"),
  loupe: byId("loupe"),
});
const explanation = new Explanation();
const why = new Why(network);
const teach = new Teach(network, pad);

const EMPTY = encodePixels(new Uint8Array(network.height * network.width));
let test = null; // the test image that is looked at, by its number
let steps = []; // images, in base64: what steps toward another digit have made of it
let looked = { pixels: EMPTY }; // the newest answer, with the `body` that asked for it
let chosen = null; // {layer, unit} that is taken apart

/** What the network looks at, for the server. */
function subject() {
  if (steps.length) return { pixels: steps.at(-1) };
  if (test !== null) return { test };
  return { strokes: pad.strokes, prepare: byId("prepare").checked };
}

// questions and answers ------------------------------------------------------------------------------------------------

const thinking = new Newest(
  document.body,
  (body, seq) => post("/api/think", { ...body, seq }),
  (found, body) => {
    looked = { ...found, body };
    answer.show(found);
    layers.show(found.layers);
    showSeen(found.pixels);
    if (!pad.isDrawing) reasons.request({ looked });
    if (found.layers) why.expect();
    if (chosen && found.layers) unit.request(subject());
    if (chosen && !found.layers) explanation.close();
    teach.offer(found.layers !== null && test === null && steps.length === 0);
  },
  (message) => {
    answer.refuse(message);
    layers.show(null);
    showSeen(EMPTY);
    teach.offer(false);
  },
);

const reasons = new Newest(
  byId("why"),
  ({ looked }) => (looked.layers ? post("/api/why", { ...looked.body, ...why.question }) : null),
  (found, { looked }) => why.show(found, looked.pixels, steps.length),
  () => why.show(null),
);

const unit = new Newest(
  byId("explain"),
  async (body) => {
    const { layer, unit: place } = chosen;
    return [await post("/api/unit", { ...body, layer: layer.name, ...place }), layer, place];
  },
  (found) => chosen && explanation.show(...found),
  () => explanation.close(),
);

function showSeen(pixels) {
  paintInk(byId("seen"), decodePixels(pixels), network.height, network.width);
  if (pad.showsImage) pad.showImage(byId("seen"));
}

function ask() {
  thinking.request(subject());
}

// the paper ------------------------------------------------------------------------------------------------------------

pad.addEventListener("change", () => {
  if (!pad.showsImage) [test, steps] = [null, []];
  showTools();
  ask();
});
pad.addEventListener("settle", () => why.forget());

function showTools() {
  byId("undo").disabled = !pad.canUndo;
  byId("redo").disabled = !pad.canRedo;
  byId("clear").disabled = !pad.strokes.length && !pad.showsImage;
  for (const tool of ["pen", "eraser"]) byId(tool).setAttribute("aria-pressed", String(pad.tool === tool));
  byId("pad").classList.toggle("drawn", pad.strokes.length > 0 || pad.showsImage);
  byId("pad").classList.toggle("erasing", pad.tool === "eraser");
  byId("source").hidden = test === null && !steps.length;
  byId("source").textContent =
    test === null
      ? `Your drawing after ${steps.length} step${steps.length === 1 ? "" : "s"}`
      : `Test image ${test}${steps.length ? ` after ${steps.length} step${steps.length === 1 ? "" : "s"}` : ""}`;
  const prepared = byId("prepare").checked;
  byId("prepare").disabled = test !== null || steps.length > 0;
  byId("prepare-note").textContent = byId("prepare").disabled
    ? "Taken as it is."
    : prepared
      ? "Cut out, scaled to 20 pixels, centered by its mass."
      : "Off: the paper, merely shrunk. Draw small or in a corner, and it fails.";
}

function choose(tool) {
  pad.tool = tool;
  showTools();
}

const ACTIONS = {
  undo: () => pad.undo(),
  redo: () => pad.redo(),
  clear: () => pad.clear(),
  pen: () => choose("pen"),
  eraser: () => choose("eraser"),
};
for (const [id, act] of Object.entries(ACTIONS)) byId(id).addEventListener("click", act);

const PAPER_KEYS = { p: "pen", e: "eraser", delete: "clear", backspace: "clear" };
byId("canvas").addEventListener("keydown", (event) => {
  const action = !event.ctrlKey && !event.metaKey && !event.altKey && PAPER_KEYS[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  ACTIONS[action]();
});
document.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
  const key = event.key.toLowerCase();
  if (key === "z" || key === "y") {
    event.preventDefault();
    ACTIONS[key === "y" || event.shiftKey ? "redo" : "undo"]();
  }
});

byId("prepare").addEventListener("change", () => {
  showTools();
  ask();
});

// test images, steps, units --------------------------------------------------------------------------------------------

function look(at, image, through) {
  [test, steps] = [at, through];
  showSeen(image);
  pad.showImage(byId("seen"));
  showTools();
  ask();
}

const showTest = (number) => look(number, EMPTY, []);

byId("random-test").addEventListener("click", () => {
  why.forget();
  showTest(Math.floor(Math.random() * network.test_images));
});

why.addEventListener("toward", () => reasons.request({ looked }));
why.addEventListener("step", ({ detail }) => look(test, detail, [...steps, detail]));
why.addEventListener("back", () => (test === null ? pad.showStrokes() : showTest(test)));

layers.addEventListener("choose", ({ detail }) => {
  chosen = detail;
  layers.choose(chosen.layer, chosen.unit);
  unit.request(subject());
});
explanation.addEventListener("close", () => {
  chosen?.layer.tiles.focus({ preventScroll: true });
  chosen = null;
  layers.choose(null);
});

teach.addEventListener("kept", async () => {
  const { name, accuracy: share } = await get("/api/network");
  byId("about-name").textContent = name;
  byId("about-accuracy").textContent = accuracy(share);
  ask();
});
document.addEventListener("serverback", ask);
document.addEventListener("themechange", () => showSeen(looked.pixels));

// the beginning --------------------------------------------------------------------------------------------------------

const wanted = new URLSearchParams(location.search).get("test");
showTools();
if (/^\d+$/.test(wanted ?? "") && Number(wanted) < network.test_images) showTest(Number(wanted));
else ask();
