// How values are shown as text.

// Directions and controls that a hostile name could use to look like another one are written out.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]|[\u{e0000}-\u{e007f}]/gu;

/** A name from the network, with what cannot be seen written out. */
export function plain(text) {
  return String(text).replace(HIDDEN, (c) => {
    const number = c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    return `\u27e8U+${number}\u27e9`;
  });
}

/** The same, cut where it is too long. */
export function short(text, most) {
  const all = Array.from(plain(text));
  return all.length > most ? all.slice(0, most - 1).join("") + "\u2026" : all.join("");
}

/** The same for a chart: no markup of the chart library, which begins with a brace. */
export function label(text, most = 40) {
  return short(text, most).replaceAll("{", "\u2774").replaceAll("}", "\u2775");
}

/** 1234567 with a unit: "1.23 M" and what follows. */
export function scaled(value, unit = "") {
  const steps = ["", "k", "M", "G", "T", "P", "E"];
  let step = 0;
  let rest = Math.abs(value);
  while (rest >= 999.5 && step < steps.length - 1) {
    rest /= 1000;
    step += 1;
  }
  const digits = rest >= 100 || (step === 0 && Number.isInteger(rest)) ? 0 : rest >= 10 ? 1 : 2;
  const number = (value < 0 ? -rest : rest).toFixed(digits);
  const tail = steps[step] + unit;
  return tail === "" ? number : `${number} ${tail}`;
}

/** A whole number as people of the language group it. */
export function whole(value, language) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: 0 }).format(value);
}

/** A point in time as people of the language write it. */
export function time(ms, language, withDate = false) {
  const form = { hour: "2-digit", minute: "2-digit", hour12: false };
  if (withDate) Object.assign(form, { month: "numeric", day: "numeric" });
  else form.second = "2-digit";
  return new Intl.DateTimeFormat(language, form).format(new Date(ms));
}

/** An element with a class, texts and children; texts are never markup. */
export function element(name, options = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (key === "class") made.className = value;
    else if (key === "onclick") made.addEventListener("click", value);
    else if (value !== undefined && value !== null) made.setAttribute(key, String(value));
  }
  for (const child of children) {
    if (child !== null && child !== undefined) made.append(child);
  }
  return made;
}

/** A name from the network on its own: its direction touches neither what stands beside it nor its own labels. */
export function name(text, most = 120) {
  const shown = element("bdi", { title: plain(text), dir: "ltr" });
  shown.textContent = short(text, most);
  return shown;
}
