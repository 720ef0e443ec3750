// Finding and making parts of the page.

export const byId = (id) => document.getElementById(id);

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Fill a group with one button a digit. */
export function digitButtons(group, classes, choose) {
  return Array.from({ length: classes }, (_, label) => {
    const button = group.appendChild(element("button", "", label));
    button.type = "button";
    button.addEventListener("click", () => choose(label));
    return button;
  });
}

/** Lay a mark over a part of its tile, given in shares. */
export function place(mark, { top, left, height, width }) {
  const percents = Object.entries({ top, left, height, width }).map(([side, share]) => [side, `${100 * share}%`]);
  Object.assign(mark.style, { display: "block" }, Object.fromEntries(percents));
}

/** What a message of the server looks like as a sentence. */
export const sentence = (message) => (message ? message[0].toUpperCase() + message.slice(1) : "");
