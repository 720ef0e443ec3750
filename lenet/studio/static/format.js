// Numbers for people.

/** Two decimals, with a true minus sign. */
export const number = (x, digits = 2) => {
  const text = Math.abs(x).toFixed(digits);
  return x < 0 && Number(text) !== 0 ? `−${text}` : text;
};

/** A share as percents, not to be torn apart; never a certainty that is none. */
export const percent = (share) => {
  if (share > 0.999 && share < 1) return "> 99.9\u00a0%";
  if (share < 0.001 && share > 0) return "< 0.1\u00a0%";
  return `${(100 * share).toFixed(share === 1 ? 0 : 1)}\u00a0%`;
};

export const accuracy = (share) => (share === null ? "–" : `${(100 * share).toFixed(2)}\u00a0%`);

export const count = (n) => n.toLocaleString("en-US");
