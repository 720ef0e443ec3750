// The answer: a digit, ten bars, and whether to believe it.

import { byId, sentence } from "./dom.js";
import { percent } from "./format.js";

const [region, digit, confidence, bars, said] = ["answer", "digit", "confidence", "bars", "said"].map(byId);

export class Answer {
  constructor(classes) {
    this.rows = Array.from({ length: classes }, (_, label) => {
      const row = bars.appendChild(document.createElement("li"));
      row.innerHTML = `<span class="label">${label}</span><span class="track"><span class="bar"></span></span><span class="share"></span>`;
      return row;
    });
    this.last = "";
  }

  /** Show what the server thinks, see POST /api/think. */
  show({ problem, message, answer, probabilities, unsure, label }) {
    const [first, second] = best(probabilities);
    region.dataset.state = problem ?? (unsure ? "unsure" : "sure");
    digit.textContent = answer ?? "";
    confidence.textContent = answer === null ? "" : percent(probabilities[answer]);
    this.#fill(probabilities, answer);
    this.#say(verdict({ problem, message, answer, probabilities, unsure, label, first, second }));
  }

  refuse(message) {
    region.dataset.state = "refused";
    digit.textContent = confidence.textContent = "";
    this.#fill(null, null);
    this.#say(message);
  }

  #fill(probabilities, answer) {
    this.rows.forEach((row, label) => {
      const share = probabilities?.[label] ?? 0;
      row.classList.toggle("answer", label === answer);
      row.querySelector(".bar").style.transform = `scaleX(${share})`;
      row.querySelector(".share").textContent = share >= 0.001 ? percent(share) : "";
    });
  }

  /** Screen readers are told only what is new. */
  #say(text) {
    if (text !== this.last) said.textContent = this.last = text;
  }
}

const best = (probabilities) =>
  probabilities ? [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]) : [];

function verdict({ problem, message, answer, probabilities, unsure, label, first, second }) {
  if (problem) return `${sentence(message)}.`;
  const opinion = unsure
    ? `Not sure: ${first} (${percent(probabilities[first])}) or ${second} (${percent(probabilities[second])})?`
    : `It reads ${answer}.`;
  if (label === null) return opinion;
  return `${opinion} ${answer === label ? "Right" : "Wrong"}: it is labeled ${label}.`;
}
