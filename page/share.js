// A picture to share: drawn on a canvas from the statistics, with posters if they can be loaded.
import { $, h, notice, sized } from "./dom.js";
import { list, mean, number, plural, stars, tenth, winners } from "./words.js";

const SIZES = { "4:5": [1080, 1350], "9:16": [1080, 1920] };
const INK = "#12100e",
  PAPER = "#f6f2ea",
  SOFT = "#aea397",
  ACCENT = "#ff8a5c";
const FONT = `system-ui, "Segoe UI", "Helvetica Neue", sans-serif`;

/** Opens the dialog for the statistics of all time or of a year. */
export function shareCard(stats) {
  const dialog = $("share"),
    canvas = h("canvas", { role: "img", "aria-label": "The card" }),
    said = h("div", { role: "status" });
  const name = `${stats.year ?? "all-time"}-in-film`;
  let shape = "4:5",
    turn = 0;
  const draw = async () => {
    const mine = ++turn;
    await paint(canvas, stats, SIZES[shape], () => mine === turn);
  };
  const file = () =>
    new Promise(done =>
      canvas.toBlob(blob => done(new File([blob], `${name}-${shape.replace(":", "x")}.png`, { type: "image/png" })), "image/png"),
    );
  const save = async () => {
    const url = URL.createObjectURL(await file());
    h("a", { href: url, download: `${name}-${shape.replace(":", "x")}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  };
  const share = async () => {
    try {
      await navigator.share({ files: [await file()] });
    } catch (error) {
      if (error.name !== "AbortError") said.replaceChildren(notice("Sharing did not work; save the card instead.", true));
    }
  };
  const shapes = Object.keys(SIZES).map(each =>
    h(
      "button",
      {
        "aria-pressed": String(each === shape),
        onclick: event => {
          shape = each;
          for (const button of event.target.parentNode.children)
            button.setAttribute("aria-pressed", String(button === event.target));
          draw();
        },
      },
      each,
    ),
  );
  const canShare = navigator.canShare?.({ files: [new File([""], "card.png", { type: "image/png" })] });
  dialog.replaceChildren(
    h(
      "div.head",
      null,
      h("h2", { id: "share-title" }, "A card to share"),
      h("button", { onclick: () => dialog.close() }, "Close"),
    ),
    canvas,
    h(
      "div.row",
      null,
      h("div.tabs", { role: "group", "aria-label": "Shape" }, shapes),
      h("button.main", { onclick: save }, "Save"),
      canShare && h("button", { onclick: share }, "Share"),
    ),
    said,
  );
  dialog.showModal();
  return draw();
}

function load(url) {
  return new Promise(done => {
    const image = new Image();
    image.crossOrigin = "anonymous";
    image.onload = () => done(image);
    image.onerror = () => done(null);
    image.src = url;
    setTimeout(() => done(null), 6_000);
  });
}

async function paint(canvas, stats, [width, height], isCurrent) {
  const favourites = stats.lists.favourites.length ? stats.lists.favourites : stats.watchlist.latest,
    directors = winners(stats.who.directors.most_watched),
    face = directors.length === 1 && directors[0].portrait_url;
  canvas.width = width;
  canvas.height = height;
  const films = favourites
    .filter(film => film.poster_url)
    .concat(favourites.filter(film => !film.poster_url))
    .slice(0, 12);
  layout(
    canvas,
    stats,
    films.map(film => [film, null]),
    null,
  );
  const [portrait, ...images] = await Promise.all([
    face ? load(face) : null,
    ...films.map(film => (film.poster_url ? load(sized(film.poster_url, "w342")) : null)),
  ]);
  if (isCurrent())
    layout(
      canvas,
      stats,
      films.map((film, index) => [film, images[index]]),
      portrait,
    );
}

/** The wall, and under it what there is to say; both in the middle of the card if they do not fill it. */
function layout(canvas, stats, films, face) {
  const c = canvas.getContext("2d"),
    { width, height } = canvas,
    tall = height > 1500,
    pad = 72;
  const said = numbersOf(stats),
    hasMore = stats.who.directors.most_watched.length > 0 || films.length > 0 || stats.totals.rated > 0;
  const block = (tall ? 350 : 285) + Math.ceil(said.length / 2) * (tall ? 150 : 112) + (hasMore ? 190 : 20),
    wall = wallOf(films.length, tall),
    isFull = wall.across * wall.side === width,
    slack = Math.max(0, height - wall.height - block),
    top = isFull ? 0 : slack / 2;
  c.fillStyle = INK;
  c.fillRect(0, 0, width, height);
  mosaic(c, films, wall, width, top);
  let y = top + wall.height + (isFull ? slack * 0.7 : 0);
  y += tall ? 60 : 50;
  write(c, stats.year === null ? "My life in film" : "My year in film", pad, y, 40, ACCENT, 700);
  y += tall ? 150 : 130;
  write(c, stats.year === null ? "All time" : String(stats.year), pad - 6, y, tall ? 170 : 150, PAPER, 800);
  y += tall ? 160 : 115;
  numbers(c, said, pad, y, width, tall);
  y += Math.ceil(said.length / 2) * (tall ? 150 : 112) + 5;
  who(c, stats, face, pad, y);
  histogram(c, stats.ratings.histogram, width / 2 + 30, y - 24, width / 2 - pad - 30, 110);
  write(c, "Data: TMDB", pad, height - 36, 22, SOFT, 400);
}

/** As many whole posters as fill the width: `{ across, rows, side }`, or one or two side by side. */
function wallOf(count, tall) {
  const shapes = tall ? [[4, 3], [3, 2], [2, 1], [1, 1]] : [[6, 2], [3, 1], [2, 1], [1, 1]]; // prettier-ignore
  const [across, rows] = shapes.find(([across, rows]) => across * rows <= count) || [0, 0],
    side = Math.min(1080 / (across || 1), tall ? 640 : 360);
  return { across, rows, side, height: rows * side * 1.5 };
}

function write(c, text, x, y, size, colour, weight, most = 1080 - 2 * 72) {
  c.font = `${weight} ${size}px ${FONT}`;
  const fitting = Math.min(size, Math.floor((size * most) / c.measureText(text).width));
  c.font = `${weight} ${fitting}px ${FONT}`;
  c.letterSpacing = size > 60 ? `${-size * 0.03}px` : "0px";
  c.fillStyle = colour;
  c.textAlign = "left";
  c.fillText(text, x, y, most);
}

/** Posters in rows; a film without one is a card with its title. */
function mosaic(c, films, { across, rows, side }, width, top) {
  const left = (width - across * side) / 2,
    h = side * 1.5;
  films.slice(0, across * rows).forEach(([film, image], index) => {
    const x = left + (index % across) * side,
      y = top + Math.floor(index / across) * h;
    if (image) c.drawImage(image, x, y, side, h);
    else {
      c.fillStyle = ["#4a2a1c", "#2b2622", "#6b3a22", "#38322c", "#8a4526"][(film.title.length + index * 2) % 5];
      c.fillRect(x, y, side, h);
      titleCard(c, film.title, x, y, side, h);
    }
  });
}

function titleCard(c, title, x, y, w, h) {
  c.font = `700 34px ${FONT}`;
  c.letterSpacing = "0px";
  c.fillStyle = PAPER;
  const words = title.split(/\s+/),
    lines = [];
  for (const word of words) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && c.measureText(longer).width < w - 40) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  lines.slice(0, 5).forEach((line, index) => c.fillText(line, x + 22, y + 54 + index * 40, w - 40));
}

function numbersOf(stats) {
  const t = stats.totals,
    after = (count, one, more) => plural(count, one, more).replace(/^\S+ /, "");
  if (!t.films) return [[number(stats.watchlist.films), "to watch"]];
  return [
    [number(t.films), after(t.films, "film")],
    t.hours && (t.days >= 2 ? [tenth(t.days), "days"] : [number(t.hours), after(t.hours, "hour")]),
    t.viewings ? [number(t.viewings), "in the diary"] : t.rated && [number(t.rated), "rated"],
    t.countries
      ? [number(t.countries), after(t.countries, "country", "countries")]
      : t.mean_rating !== null
        ? [mean(t.mean_rating), "mean rating"]
        : t.liked && [number(t.liked), "liked"],
  ].filter(Boolean);
}

function numbers(c, all, pad, y, width, tall) {
  all.forEach(([value, name], index) => {
    const x = pad + (index % 2) * (width / 2 - pad / 2),
      below = y + Math.floor(index / 2) * (tall ? 150 : 112);
    write(c, value, x, below, tall ? 92 : 76, PAPER, 800, 300);
    const wide = Math.min(c.measureText(value).width, 300);
    write(c, name, x + wide + 16, below, 32, SOFT, 500, 180);
  });
}

function who(c, stats, face, pad, y) {
  const directors = winners(stats.who.directors.most_watched),
    film = stats.lists.favourites[0];
  if (!directors.length && !film) return;
  if (face) {
    c.save();
    c.beginPath();
    c.arc(pad + 60, y + 46, 60, 0, 7);
    c.clip();
    c.drawImage(face, pad, y - 14, 120, (120 * face.height) / face.width);
    c.restore();
  }
  const x = face ? pad + 144 : pad,
    most = 1080 / 2 - x - 10,
    line = (text, below, size, colour, weight) => write(c, text, x, y + below, size, colour, weight, most);
  const several = directors.length > 1 ? "s" : "";
  if (directors.length) {
    line(stats.year === null ? `Most-seen director${several}` : `Director${several} of the year`, 16, 24, SOFT, 500);
    line(list(directors.map(each => each.name)), 58, 38, PAPER, 700);
    line(`${plural(directors[0].count, "film")}${several && " each"}`, 98, 28, ACCENT, 600);
  } else {
    line(film.rating === null ? "Film" : "Favourite", 16, 24, SOFT, 500);
    line(film.title, 58, 38, PAPER, 700);
    if (film.rating !== null) line(stars(film.rating), 98, 28, ACCENT, 600);
  }
}

function histogram(c, bars, x, y, width, height) {
  const most = Math.max(1, ...bars.map(bar => bar.count)),
    step = width / bars.length;
  if (!bars.some(bar => bar.count)) return;
  bars.forEach((bar, index) => {
    const tall = Math.max(3, (bar.count / most) * height);
    c.fillStyle = bar.count === most ? ACCENT : "#6b5f54";
    c.fillRect(x + index * step + 2, y + height - tall, step - 4, tall);
  });
  write(c, "½", x, y + height + 30, 22, SOFT, 500);
  c.textAlign = "right";
  c.fillText("★★★★★", x + width, y + height + 30);
}
