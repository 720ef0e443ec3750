// A training, watched: cost, answers, and the kernels of the first layer, while they are learned.

import { get, Gone, post, Refused } from "./api.js";
import { drawCurves } from "./curves.js";
import { byId, sentence } from "./dom.js";
import { accuracy, number } from "./format.js";
import { decodeFloats, paintSigned } from "./pixels.js";

const POLL = 500; // milliseconds
const root = byId("training");

let shown = null;

function show(found) {
  shown = found;
  const { state, message, epoch, epochs, done, cost, history, kernels } = found;
  const running = state === "running";
  root.dataset.state = state;
  byId("message").textContent = sentence(message);
  byId("epoch").textContent = state === "none" ? "–" : `${epoch} of ${epochs}`;
  byId("progress").value = state === "done" ? 1 : epochs ? (history.length + (running ? done : 0)) / epochs : 0;
  const latest = running ? cost : (history.at(-1)?.cost ?? null);
  byId("cost").textContent = latest === null ? "–" : number(latest, 4);
  byId("train-accuracy").textContent = accuracy(history.at(-1)?.train_accuracy ?? null);
  byId("test-accuracy").textContent = accuracy(history.at(-1)?.test_accuracy ?? null);
  if (byId("start")) {
    byId("stop").hidden = !running;
    byId("start").querySelector("[type=submit]").hidden = running;
    byId("epochs").disabled = running;
  }
  drawCharts(history, epochs);
  drawKernels(kernels);
  byId("history").tBodies[0].replaceChildren(...history.map(row));
}

function drawCharts(history, epochs) {
  const last = history.at(-1);
  const values = (pick) => history.map(pick);
  drawCurves(
    byId("cost-chart"),
    [{ name: "train", values: values((e) => e.cost) }],
    epochs,
    (v) => number(v),
    last ? `Cost ${number(last.cost, 4)} after ${history.length} epochs` : "Cost, no epoch yet",
  );
  drawCurves(
    byId("wrong-chart"),
    [
      { name: "train", values: values((e) => 100 * (1 - e.train_accuracy)) },
      { name: "test", values: values((e) => 100 * (1 - e.test_accuracy)) },
    ],
    epochs,
    (v) => `${Number(v.toFixed(2))} %`,
    last
      ? `Right after ${history.length} epochs: ${accuracy(last.train_accuracy)} of the training images, ${accuracy(last.test_accuracy)} of the test images`
      : "Wrong answers, no epoch yet",
  );
}

function drawKernels(kernels) {
  if (!kernels) return byId("kernels").replaceChildren();
  const [maps, , height, width] = kernels.shape;
  const values = decodeFloats(kernels.values);
  const limit = values.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  while (byId("kernels").children.length < maps) byId("kernels").append(document.createElement("canvas"));
  [...byId("kernels").children].forEach((canvas, map) => {
    canvas.className = "kernel";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `kernel of map ${map + 1}`);
    paintSigned(canvas, values.subarray(map * height * width, (map + 1) * height * width), height, width, limit);
  });
  paintSigned(
    byId("kernels-legend"),
    Float32Array.from({ length: 65 }, (_, i) => i / 32 - 1),
    1,
    65,
    1,
  );
  byId("kernels-low").textContent = number(-limit, 1);
  byId("kernels-high").textContent = number(limit, 1);
}

function row({ epoch, cost, train_accuracy: train, test_accuracy: test, seconds }) {
  const line = document.createElement("tr");
  for (const text of [epoch, number(cost, 4), accuracy(train), accuracy(test), number(seconds, 1)]) {
    line.appendChild(document.createElement("td")).textContent = text;
  }
  return line;
}

/** Ask now and, while it runs, again and again; `data-seq` counts the answers. */
async function watch(question = get("/api/training")) {
  clearTimeout(watch.timer);
  try {
    show(await question);
  } catch (error) {
    if (error instanceof Refused) byId("message").textContent = error.message;
    else if (!(error instanceof Gone)) throw error;
  } finally {
    root.dataset.seq = Number(root.dataset.seq ?? 0) + 1;
  }
  if (shown?.state === "running") watch.timer = setTimeout(watch, POLL);
}

byId("start")?.addEventListener("submit", (event) => {
  event.preventDefault();
  watch(post("/api/training", { epochs: Number(byId("epochs").value) }));
});
byId("stop")?.addEventListener("click", () => watch(post("/api/training/stop")));
document.addEventListener("themechange", () => shown && drawKernels(shown.kernels));
document.addEventListener("serverback", () => watch());

watch();
