// The paper: pen, eraser, undo, redo, clear, for mouse, finger, stylus and keys. Points are shares of the paper's side.

const WIDTH = { pen: 0.07, eraser: 0.14 }; // as lenet/drawing.py has them
const NEAR = 0.004; // points closer than this to the one before are left out
const MOST_STROKES = 200;
const MOST_POINTS = 5000;
const KEY_STEP = 0.02;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pad extends EventTarget {
  #past = [[]]; // what there was to see, a list of strokes after each action
  #now = 0;
  #stroke = null; // the one being drawn
  #image = null; // pixels shown instead of strokes
  #pointer = null;
  #hand = [0.5, 0.5]; // where the keyboard's pen is

  /** Sends "settle" when an action is done, and "change" then and whenever there is something else to see. */
  constructor(canvas, keyboardPen) {
    super();
    this.canvas = canvas;
    this.keyboardPen = keyboardPen;
    this.tool = "pen";
    this.#listen();
    new ResizeObserver(() => this.paint()).observe(canvas);
    document.addEventListener("themechange", () => this.paint());
  }

  get strokes() {
    const done = this.#past[this.#now];
    return this.#stroke ? [...done, this.#stroke] : done;
  }

  get isDrawing() {
    return this.#stroke !== null;
  }

  get canUndo() {
    return this.#now > 0;
  }

  get canRedo() {
    return this.#now < this.#past.length - 1;
  }

  get showsImage() {
    return this.#image !== null;
  }

  undo() {
    if (this.canUndo) this.#go(this.#now - 1);
  }

  redo() {
    if (this.canRedo) this.#go(this.#now + 1);
  }

  clear() {
    if (this.#image || this.strokes.length) this.#act([]);
  }

  /** Show an image, painted on a canvas, instead of the strokes; the next stroke begins on empty paper. */
  showImage(image) {
    this.#image = image;
    this.paint();
  }

  /** Show the strokes again. */
  showStrokes() {
    this.#go(this.#now);
  }

  #go(to) {
    this.#image = null;
    this.#now = to;
    this.#changed("settle");
  }

  #act(strokes) {
    this.#past.splice(this.#now + 1, Infinity, strokes);
    this.#go(this.#now + 1);
  }

  #changed(...events) {
    this.paint();
    for (const event of [...events, "change"]) this.dispatchEvent(new Event(event));
  }

  // drawing ---------------------------------------------------------------------------------------------------------

  #begin(point) {
    if (this.#image) this.#act([]);
    const points = this.strokes.reduce((sum, stroke) => sum + stroke.points.length, 0);
    this.room = this.strokes.length < MOST_STROKES ? MOST_POINTS - points : 0;
    if (this.room <= 0) return;
    this.#stroke = { tool: this.tool, points: [point] };
    this.#changed();
  }

  #extend(points) {
    const drawn = this.#stroke.points;
    const before = drawn.length;
    for (const point of points) {
      const [x, y] = drawn.at(-1);
      const far = Math.hypot(point[0] - x, point[1] - y) >= NEAR;
      if (far && drawn.length < this.room) drawn.push(point);
    }
    if (drawn.length > before) this.#changed();
  }

  #end() {
    if (!this.#stroke) return;
    const strokes = this.strokes;
    this.#stroke = null;
    this.#act(strokes);
  }

  #point(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = (at, from, size) => Math.max(-1, Math.min(2, Number(((at - from) / size).toFixed(4))));
    return [share(event.clientX, box.left, box.width), share(event.clientY, box.top, box.height)];
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (this.#pointer !== null || event.button > 0) return;
      event.preventDefault(); // no selection
      canvas.focus({ preventScroll: true });
      this.#liftKeyboardPen();
      this.#pointer = event.pointerId;
      canvas.setPointerCapture(event.pointerId);
      this.#begin(this.#point(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerId !== this.#pointer || !this.#stroke) return;
      const between = event.getCoalescedEvents?.() ?? [];
      this.#extend((between.length ? between : [event]).map((each) => this.#point(each)));
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => {
        if (event.pointerId !== this.#pointer) return;
        this.#pointer = null;
        this.#end();
      });
    }
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#liftKeyboardPen());
  }

  // with keys -------------------------------------------------------------------------------------------------------

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.#pointer !== null) return;
    const move = MOVES[event.key];
    if (move) this.#moveHand(move, event.shiftKey ? 3 * KEY_STEP : KEY_STEP);
    else if (event.key === " ") this.#stroke ? this.#end() : this.#begin([...this.#hand]);
    else if (event.key === "Escape") this.#liftKeyboardPen();
    else return;
    event.preventDefault();
    if (event.key !== "Escape") this.#showHand();
  }

  #moveHand([dx, dy], step) {
    this.#hand = this.#hand.map((at, axis) => Math.max(0, Math.min(1, at + step * [dx, dy][axis])));
    if (this.#stroke) this.#extend([[...this.#hand]]);
  }

  #showHand() {
    const [x, y] = this.#hand;
    Object.assign(this.keyboardPen.style, { left: `${100 * x}%`, top: `${100 * y}%` });
    this.keyboardPen.classList.toggle("down", this.#stroke !== null);
    this.keyboardPen.hidden = false;
  }

  #liftKeyboardPen() {
    if (this.#pointer === null) this.#end();
    this.keyboardPen.hidden = true;
  }

  // to be seen ------------------------------------------------------------------------------------------------------

  paint() {
    const { canvas } = this;
    const side = Math.round(canvas.clientWidth * devicePixelRatio);
    if (canvas.width !== side || canvas.height !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    context.globalCompositeOperation = "source-over";
    context.clearRect(0, 0, side, side);
    if (this.#image) {
      context.imageSmoothingEnabled = false;
      context.drawImage(this.#image, 0, 0, side, side);
      return;
    }
    context.strokeStyle = getComputedStyle(canvas).color;
    context.lineCap = context.lineJoin = "round";
    for (const { tool, points } of this.strokes) {
      context.globalCompositeOperation = tool === "eraser" ? "destination-out" : "source-over";
      context.lineWidth = WIDTH[tool] * side;
      context.beginPath();
      context.moveTo(points[0][0] * side, points[0][1] * side);
      for (const [x, y] of points) context.lineTo(x * side, y * side);
      context.stroke();
    }
  }
}
