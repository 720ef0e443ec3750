// Arrays of the server, painted: ink in the color of ink, numbers in signed colors. One canvas pixel is one number.

const SHADES = 256; // on each side of zero
const RAMP = ["--neg-3", "--neg-2", "--neg-1", "--zero", "--pos-1", "--pos-2", "--pos-3"];

const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

export const decodePixels = bytesOf;
export const decodeFloats = (text) => new Float32Array(bytesOf(text).buffer);
export const encodePixels = (bytes) => btoa(String.fromCharCode(...bytes));

let colors = null;
document.addEventListener("themechange", () => (colors = null));

/** Return the colors of the theme: ink, paper, and the signed scale from -SHADES to SHADES, as [r, g, b]. */
function palette() {
  if (colors) return colors;
  const probe = document.body.appendChild(document.createElement("i"));
  const read = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe)
      .color.match(/[\d.]+/g)
      .slice(0, 3)
      .map(Number);
  };
  const stops = RAMP.map(read);
  const signed = Array.from({ length: 2 * SHADES + 1 }, (_, i) => {
    const at = (i / (2 * SHADES)) * (stops.length - 1);
    const below = Math.min(Math.floor(at), stops.length - 2);
    return mix(stops[below], stops[below + 1], at - below);
  });
  colors = { ink: read("--ink"), paper: read("--paper"), signed };
  probe.remove();
  return colors;
}

const mix = (a, b, share) => a.map((v, i) => Math.round(v + share * (b[i] - v)));

/** Return the color [r, g, b] of a number on a scale from -limit to limit. */
export function signedColor(value, limit) {
  const share = limit > 0 ? Math.max(-1, Math.min(1, value / limit)) : 0;
  return palette().signed[Math.round(SHADES * (1 + share))];
}

/** Return black or white: what can be read on a color. */
export const readableOn = ([r, g, b]) => {
  const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b) > 0.179 ? "#000" : "#fff";
};

function paint(canvas, height, width, colorAt) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    const color = colorAt(i);
    if (!color) continue; // nothing there
    image.data.set(color, 4 * i);
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Paint an image of ink, 0 paper and 255 ink. */
export function paintInk(canvas, pixels, height, width) {
  const { ink, paper } = palette();
  paint(canvas, height, width, (i) => mix(paper, ink, pixels[i] / 255));
}

/** Paint numbers; what is beyond the end of `values` stays clear. */
export const paintSigned = (canvas, values, height, width, limit) =>
  paint(canvas, height, width, (i) => (i < values.length ? signedColor(values[i], limit) : null));

/** Paint a pale image of ink, and on it numbers where they are large. */
export function paintChange(canvas, pixels, values, height, width) {
  const { ink, paper } = palette();
  const limit = values.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  paint(canvas, height, width, (i) => {
    const under = mix(paper, ink, (0.35 * pixels[i]) / 255);
    const strength = limit > 0 ? Math.abs(values[i]) / limit : 0;
    return mix(under, signedColor(Math.sign(values[i]) * 0.8, 1), Math.min(1, 1.3 * strength));
  });
}

/** Return a new canvas with an image of ink, which is painted anew when the theme changes. */
export function inkCanvas(pixels, height, width, label) {
  const canvas = document.createElement("canvas");
  canvas.className = "pixels";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  canvas.repaint = () => paintInk(canvas, pixels, height, width);
  canvas.repaint();
  return canvas;
}

document.addEventListener("themechange", () => {
  for (const canvas of document.querySelectorAll("canvas.pixels")) canvas.repaint();
});
