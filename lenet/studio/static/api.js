// Talking to the server: JSON in and out, one request of a kind in flight, the newest wins.

/** What the server says against a request, in one line for a person. */
export class Refused extends Error {}

/** Nobody answers. */
export class Gone extends Error {}

const notice = document.getElementById("gone");
const RETRY = 2000; // milliseconds

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    lose();
    throw new Gone(path);
  }
  const found = await response.json().catch(() => ({ error: `the server answers ${response.status}` }));
  if (!response.ok) throw new Refused(found.error);
  return found;
}

export const get = (path) => call(path);

export const post = (path, body = {}) =>
  call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/** Say that the server has gone, and look for it until it is back; then `document` gets the event "serverback". */
function lose() {
  if (!notice.hidden) return;
  notice.textContent = "The studio has stopped answering. Start it again in the terminal; this page goes on by itself.";
  notice.hidden = false;
  const timer = setInterval(async () => {
    try {
      await fetch("/api/network");
    } catch {
      return;
    }
    clearInterval(timer);
    notice.hidden = true;
    document.dispatchEvent(new Event("serverback"));
  }, RETRY);
}

/**
 * Asks for a region of the page. While one question is out, only the newest of the others is kept.
 *
 * `data-asked` of the region counts the questions, `data-seq` is the number of the last one that is dealt with.
 */
export class Newest {
  #busy = false;
  #waiting = null;
  #count = 0;

  /** `ask(body, number)` returns a promise, `show(found)` shows what it brings, `refuse(message)` a refusal. */
  constructor(region, ask, show, refuse) {
    Object.assign(this, { region, ask, show, refuse });
  }

  request(body) {
    this.#waiting = body;
    this.region.dataset.asked = ++this.#count;
    if (!this.#busy) this.#run();
  }

  async #run() {
    this.#busy = true;
    try {
      while (this.#waiting !== null) {
        const body = this.#waiting;
        const number = this.#count;
        this.#waiting = null;
        await this.#deal(body, number);
        this.region.dataset.seq = number;
      }
    } finally {
      this.#busy = false;
    }
  }

  async #deal(body, number) {
    try {
      this.show(await this.ask(body, number), body);
    } catch (error) {
      if (error instanceof Refused) this.refuse(error.message);
      else if (!(error instanceof Gone)) throw error;
    }
  }
}
