// elements whose text is never parsed as HTML.

/** h("button.main", { onclick }, "Text") creates an element. Null, undefined and false children are skipped. */
export function h(kind, properties, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "size") element.style.setProperty("--size", value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

export function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "size") element.style.setProperty("--size", value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export const $ = id => document.getElementById(id);
export const main = $("main"), dialog = $("films"), tip = $("tip");
export const number = value => value.toLocaleString("en", { maximumFractionDigits: 1 });
export const plural = (count, one, more = `${one}s`) => `${number(count)} ${count === 1 ? one : more}`;
export const stars = rating => "★".repeat(Math.floor(rating)) + (rating % 1 ? "½" : "");
export const mean = value => value === null ? "" : ` · ★ ${value.toFixed(2)}`;
export const show = (...children) => main.replaceChildren(...children.flat().filter(Boolean));
export const notice = (text, bad) => h(bad ? "p.notice.bad" : "p.notice", { role: bad ? "alert" : "status" }, text);
/** URLs from an upload stay plain text; only Letterboxd's own become links. */
export const letterboxd = uri => /^https:\/\/(boxd\.it|letterboxd\.com)\/[\w/-]+$/.test(uri || "") ? uri : null;

// #tip shows the numbers of the element under the pointer or in focus. Each chart is one tab stop; arrow keys move within it.
export function showTip(event) {
  const on = event.target.closest?.("[data-tip]");
  tip.hidden = !on;
  if (!on) return;
  tip.textContent = on.dataset.tip;
  const box = on.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${Math.max(4, box.top - tip.offsetHeight - 6)}px`;
}
for (const kind of ["pointerover", "focusin"]) document.addEventListener(kind, showTip);
for (const kind of ["pointerleave", "focusout", "scroll"]) document.addEventListener(kind, () => { tip.hidden = true; }, true);
document.addEventListener("keydown", event => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const chart = event.target.closest?.("[data-chart]");
  if (!step || !chart) return;
  event.preventDefault();
  const stops = [...chart.querySelectorAll("[data-tip]")];
  const next = stops[stops.indexOf(event.target) + step];
  if (!next) return;
  event.target.setAttribute("tabindex", -1);
  next.setAttribute("tabindex", 0);
  next.focus();
});
document.addEventListener("keydown", event => {
  if ((event.key === "Enter" || event.key === " ") && event.target.matches?.("rect.day")) {
    event.preventDefault();
    event.target.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  }
});
