// Elements, whose text is never parsed as HTML.
import { stars } from "./words.js";

const shown = child => child !== null && child !== undefined && child !== false;

/** h("button.main", { onclick }, "Text") creates an element. Null, undefined and false children are skipped. */
export function h(kind, properties, ...children) {
  const [tag, ...classes] = kind.split(".");
  return filled(document.createElement(tag), classes, properties, children);
}

/** The same for SVG. */
export function s(kind, properties, ...children) {
  const [tag, ...classes] = kind.split(".");
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), classes, properties, children);
}

function filled(element, classes, properties, children) {
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(properties || {})) {
    if (!shown(value)) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [property, given] of Object.entries(value)) element.style.setProperty(property, given);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter(shown));
  return element;
}

export const $ = id => document.getElementById(id);
export const notice = (text, bad) => h(bad ? "p.notice.bad" : "p.notice", null, text);
/** URLs from an upload stay plain text; only Letterboxd's own become links. */
export const letterboxd = uri => (/^https:\/\/(boxd\.it|letterboxd\.com)\/[\w/-]+$/.test(uri || "") ? uri : null);
export const sized = (url, size) => url.replace(/\/t\/p\/w\d+\//, `/t/p/${size}/`);

/** An image that goes if it cannot be loaded, so that what is behind it shows. */
function picture(url) {
  const image = h("img", { src: url, alt: "", loading: "lazy", decoding: "async", width: 185, height: 278 });
  image.addEventListener("error", () => image.remove());
  return image;
}

/** Title and year. A title may have signs that turn the text after them around, so it is isolated. */
export const named = film => [h("bdi", null, film.title), film.year && ` (${film.year})`];

/** A poster, or a card with the title if there is none. */
export function poster(film, size = "w185") {
  const image = film.poster_url && picture(sized(film.poster_url, size));
  const longest = Math.max(4, ...film.title.split(/[\s-]+/).map(word => word.length)); // to fit without a break
  const title = h("span", { dir: "auto", style: { "--longest": longest } }, film.title);
  return h("span.poster", { "aria-hidden": "true" }, title, image);
}

export function portrait(person) {
  const letters = person.name
    .split(/\s+/)
    .map(word => word[0])
    .slice(0, 2)
    .join("");
  const image = person.portrait_url && picture(person.portrait_url);
  return h("span.portrait", { "aria-hidden": "true" }, h("span", null, letters), image);
}

/** Stars and a heart, with words for those who hear them. */
export function verdict(film) {
  if (film.rating === null && !film.liked) return h("span.verdict", null, "\u00a0");
  return h(
    "span.verdict",
    null,
    film.rating !== null && h("span", { role: "img", "aria-label": `${film.rating} stars` }, stars(film.rating)),
    film.liked && h("span.heart", { role: "img", "aria-label": "liked" }, "♥"),
  );
}

/** A list that may be wider than its place: it scrolls, and a button says so as long as something is out of sight. */
export function reel(list) {
  const next = h(
    "button.next",
    { tabindex: -1, "aria-hidden": "true", hidden: true, onclick: () => list.scrollBy({ left: list.clientWidth * 0.9 }) },
    "›",
  );
  const look = () => {
    next.hidden = list.scrollLeft + list.clientWidth > list.scrollWidth - 8;
  };
  list.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(list);
  return h("div.reel", null, list, next);
}

/** Resolves when the browser has painted what was drawn. It does not paint what nobody sees. */
export const painted = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));

const drawn = new WeakMap(),
  waiting = new Map();

/**
 * Draws data into an element, unless it shows them already. While the reader is in it (with the focus or a
 * selection) the new drawing waits, so that nothing is lost.
 */
export function update(host, data, draw) {
  const text = JSON.stringify(data);
  if (drawn.get(host) === text) {
    waiting.delete(host);
    return;
  }
  if (isBusy(host)) {
    waiting.set(host, [data, draw]);
    return;
  }
  waiting.delete(host);
  const nodes = data === null ? null : draw(data);
  drawn.set(host, text);
  host.replaceChildren(...[nodes].flat(Infinity).filter(shown));
  host.hidden = !host.childNodes.length;
}

/** Draws at once, because the reader asked for it, and keeps the focus. */
export function redraw(host, data, draw) {
  if (drawn.get(host) === JSON.stringify(data)) return;
  const focused = host.contains(document.activeElement) ? document.activeElement : null,
    key = focused?.dataset.key;
  focused?.blur();
  update(host, data, draw);
  if (key) host.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

function isBusy(host) {
  if (!host.isConnected || !host.childNodes.length) return false;
  if (host.contains(document.activeElement)) return true;
  const selection = getSelection();
  return !selection.isCollapsed && selection.rangeCount > 0 && selection.getRangeAt(0).intersectsNode(host);
}

function catchUp() {
  for (const [host, [data, draw]] of waiting) if (!isBusy(host)) update(host, data, draw);
}
document.addEventListener("focusout", () => setTimeout(catchUp));
document.addEventListener("selectionchange", () => waiting.size && setTimeout(catchUp));
