// Asks the collector: one question after the other, as it wants it.

let last = Promise.resolve();

/** An answer that is no answer: `code` is the collector's, `away` without one. */
export class Refused extends Error {
  constructor(error) {
    super(error.text || error.code);
    this.code = error.code;
    this.field = error.field;
    this.most_s = error.most_s;
  }
}

/** GET of the path, as JSON. */
export async function get(path) {
  let answer;
  try {
    // Not of the page's own address: that may hold a password, which fetch refuses.
    answer = await fetch(new URL(path, location.origin), { headers: { accept: "application/json" } });
  } catch {
    throw new Refused({ code: "away" });
  }
  const json = await answer.json().catch(() => null);
  if (answer.ok && json) return json;
  throw new Refused((json && json.error) || { code: "away" });
}

/** The same, after all that was asked before. */
export function inTurn(path, isWanted) {
  const answer = last.then(() => (isWanted() ? get(path) : null));
  last = answer.catch(() => null);
  return answer;
}
