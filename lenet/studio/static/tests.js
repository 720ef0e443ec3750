// The test images: chosen by label, answer, confidence, or a cell of the confusion matrix. The choice is in the address.

import { get, Newest } from "./api.js";
import { byId, digitButtons } from "./dom.js";
import { count, percent } from "./format.js";
import { decodePixels, inkCanvas, readableOn, signedColor } from "./pixels.js";

const PAGE = 120; // images at a time
const network = JSON.parse(byId("network").textContent);

let filter = Object.fromEntries(new URLSearchParams(location.search)); // label, answer, wrong, below: as the API has them
let shown = 0;

const finding = new Newest(
  byId("found"),
  ({ offset }) => get(`/api/tests?${new URLSearchParams({ ...filter, offset, count: PAGE })}`),
  ({ total, items }, { offset }) => {
    const made = items.map(item);
    if (offset) byId("images").append(...made);
    else byId("images").replaceChildren(...made);
    shown = offset + items.length;
    byId("total").textContent = total === 0 ? "No such image" : `${count(total)} image${total === 1 ? "" : "s"}`;
    byId("more").hidden = shown >= total;
  },
  (message) => {
    byId("images").replaceChildren();
    byId("more").hidden = true;
    byId("total").textContent = message;
  },
);

function item({ index, label, answer, confidence, pixels }) {
  const made = document.createElement("li");
  const link = made.appendChild(document.createElement("a"));
  const isWrong = label !== answer;
  made.className = isWrong ? "wrong" : "right";
  Object.assign(made.dataset, { index, label, answer, confidence });
  link.href = `/?test=${index}`;
  link.title = `Image ${index}: look at it in the studio`;
  const caption = document.createElement("span");
  caption.innerHTML = isWrong ? `<b>${label}</b> as <b>${answer}</b>` : `<b>${answer}</b>`;
  const share = document.createElement("small");
  share.textContent = percent(confidence);
  link.append(
    inkCanvas(
      decodePixels(pixels),
      network.height,
      network.width,
      `image ${index}, a ${label}${isWrong ? ", wrong:" : ", read as"}`,
    ),
    caption,
    share,
  );
  return made;
}

// filters --------------------------------------------------------------------------------------------------------------

function choose(changes) {
  filter = Object.fromEntries(Object.entries({ ...filter, ...changes }).filter(([, value]) => value !== null));
  const query = new URLSearchParams(filter).toString();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
  showFilter();
  finding.request({ offset: 0 });
}

const groups = Object.fromEntries(
  ["label", "answer"].map((name) => {
    const buttons = digitButtons(byId(name), network.classes, (digit) =>
      choose({ [name]: filter[name] === String(digit) ? null : String(digit) }),
    );
    return [name, buttons];
  }),
);

function showFilter() {
  for (const [name, buttons] of Object.entries(groups)) {
    buttons.forEach((button, digit) => button.setAttribute("aria-pressed", String(filter[name] === String(digit))));
  }
  byId("wrong").checked = filter.wrong === "1";
  const below = Math.round(100 * Number(filter.below ?? 1));
  byId("below").value = below;
  byId("below-said").textContent = below < 100 ? `below ${below} %` : "any";
  for (const cell of byId("confusion").querySelectorAll("button")) {
    cell.setAttribute(
      "aria-pressed",
      String(cell.dataset.label === filter.label && cell.dataset.answer === filter.answer),
    );
  }
}

byId("wrong").addEventListener("change", () => choose({ wrong: byId("wrong").checked ? "1" : null }));
byId("below").addEventListener("input", () => {
  const below = Number(byId("below").value);
  choose({ below: below < 100 ? String(below / 100) : null });
});
byId("filters").addEventListener("reset", (event) => {
  event.preventDefault();
  choose({ label: null, answer: null, wrong: null, below: null });
});
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("more").addEventListener("click", () => finding.request({ offset: shown }));

// the confusion matrix -------------------------------------------------------------------------------------------------

const confusion = new Newest(
  byId("confusion"),
  () => get("/api/confusion"),
  drawConfusion,
  (message) => (byId("total").textContent = message),
);

function drawConfusion({ counts }) {
  const mistakes = Math.max(1, ...counts.flatMap((row, label) => row.filter((_, answer) => answer !== label)));
  const head = document.createElement("thead");
  head.innerHTML = `<tr><td></td>${counts.map((_, answer) => `<th scope="col">${answer}</th>`).join("")}</tr>`;
  const body = document.createElement("tbody");
  counts.forEach((row, label) => {
    const line = body.appendChild(document.createElement("tr"));
    line.innerHTML = `<th scope="row">${label}</th>`;
    row.forEach((n, answer) =>
      line.appendChild(document.createElement("td")).append(...confusionCell(n, label, answer, mistakes)),
    );
  });
  byId("confusion").replaceChildren(head, body);
  showFilter();
}

function confusionCell(n, label, answer, mistakes) {
  if (n === 0) return [];
  const button = document.createElement("button");
  Object.assign(button, { type: "button", textContent: n });
  Object.assign(button.dataset, { label, answer });
  button.setAttribute(
    "aria-label",
    label === answer ? `${n} times ${label}, right` : `${n} times ${label} taken for ${answer}`,
  );
  if (label !== answer) {
    const color = signedColor(-(0.3 + (0.5 * n) / mistakes), 1);
    Object.assign(button.style, { backgroundColor: `rgb(${color})`, color: readableOn(color) });
  }
  button.addEventListener("click", () => {
    choose({ label: String(label), answer: String(answer), wrong: null, below: null });
    byId("total").scrollIntoView({ block: "nearest" }); // on a narrow page the images are further down
  });
  return [button];
}

document.addEventListener("themechange", () => confusion.request({}));
document.addEventListener("serverback", () => choose({}));

showFilter();
finding.request({ offset: 0 });
confusion.request({});
