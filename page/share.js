// A picture to share: drawn on a canvas from the statistics, with posters if they can be loaded.
import { $, h, notice, sized } from "./dom.js";
import { mean, number, stars, tenth } from "./words.js";

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
  const favourites = stats.lists.favourites,
    wanted = height > 1500 ? 16 : 12,
    director = stats.who.directors.most_watched[0];
  canvas.width = width;
  canvas.height = height;
  const films = favourites
    .filter(film => film.poster_url)
    .concat(favourites.filter(film => !film.poster_url))
    .slice(0, wanted);
  layout(
    canvas,
    stats,
    films.map(film => [film, null]),
    null,
  );
  const [face, ...images] = await Promise.all([
    director?.portrait_url ? load(director.portrait_url) : null,
    ...films.map(film => (film.poster_url ? load(sized(film.poster_url, "w342")) : null)),
  ]);
  if (isCurrent())
    layout(
      canvas,
      stats,
      films.map((film, index) => [film, images[index]]),
      face,
    );
}

function layout(canvas, stats, films, face) {
  const c = canvas.getContext("2d"),
    { width, height } = canvas,
    tall = height > 1500,
    pad = 72;
  c.fillStyle = INK;
  c.fillRect(0, 0, width, height);
  const wall = mosaic(c, films, width, tall);
  const shade = c.createLinearGradient(0, wall * 0.45, 0, wall);
  shade.addColorStop(0, "rgb(18 16 14 / 0%)");
  shade.addColorStop(1, INK);
  c.fillStyle = shade;
  c.fillRect(0, 0, width, wall + 2);
  let y = wall - (tall ? 10 : 30);
  write(c, stats.year === null ? "My life in film" : "My year in film", pad, y, 40, ACCENT, 700);
  y += tall ? 150 : 130;
  write(c, stats.year === null ? "All time" : String(stats.year), pad - 6, y, tall ? 170 : 150, PAPER, 800);
  y += tall ? 160 : 125;
  numbers(c, stats, pad, y, width, tall);
  y += tall ? 300 : 235;
  who(c, stats, face, pad, y);
  histogram(c, stats.ratings.histogram, width / 2 + 30, y - 24, width / 2 - pad - 30, 130);
  write(c, "Data: TMDB", pad, height - 44, 22, SOFT, 400);
}

function write(c, text, x, y, size, colour, weight, most = 1080 - 2 * 72) {
  c.font = `${weight} ${size}px ${FONT}`;
  c.letterSpacing = size > 60 ? `${-size * 0.03}px` : "0px";
  c.fillStyle = colour;
  c.textAlign = "left";
  c.fillText(text, x, y, most);
}

/** Posters in rows; a film without one is a card with its title. Returns where they end. */
function mosaic(c, films, width, tall) {
  const across = 4,
    rows = Math.max(1, Math.ceil(films.length / across)),
    w = width / across,
    h = tall ? w * 1.05 : w * 0.86;
  films.forEach(([film, image], index) => {
    const x = (index % across) * w,
      y = Math.floor(index / across) * h;
    if (image) {
      const scale = w / image.width,
        seen = Math.min(image.height, h / scale);
      c.drawImage(image, 0, (image.height - seen) * 0.25, image.width, seen, x, y, w, h);
    } else {
      c.fillStyle = ["#4a2a1c", "#2b2622", "#6b3a22", "#38322c", "#8a4526"][(film.title.length + index * 2) % 5];
      c.fillRect(x, y, w, h);
      titleCard(c, film.title, x, y, w, h);
    }
  });
  return rows * h;
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

function numbers(c, stats, pad, y, width, tall) {
  const t = stats.totals,
    all = [
      [number(t.films), t.films === 1 ? "film" : "films"],
      t.days >= 2 ? [tenth(t.days), "days"] : [number(t.hours), "hours"],
      [number(t.viewings || t.rated), t.viewings ? "viewings" : "rated"],
      t.countries
        ? [number(t.countries), t.countries === 1 ? "country" : "countries"]
        : [t.mean_rating === null ? number(t.liked) : mean(t.mean_rating), t.mean_rating === null ? "liked" : "mean rating"],
    ];
  all.forEach(([value, name], index) => {
    const x = pad + (index % 2) * (width / 2 - pad / 2),
      below = y + Math.floor(index / 2) * (tall ? 150 : 112);
    write(c, value, x, below, tall ? 92 : 76, PAPER, 800, 300);
    const wide = Math.min(c.measureText(value).width, 300);
    write(c, name, x + wide + 16, below, 32, SOFT, 500, 180);
  });
}

function who(c, stats, face, pad, y) {
  const director = stats.who.directors.most_watched[0],
    film = stats.lists.favourites[0];
  if (!director && !film) return;
  if (face) {
    c.save();
    c.beginPath();
    c.arc(pad + 60, y + 46, 60, 0, 7);
    c.clip();
    c.drawImage(face, pad, y - 14, 120, (120 * face.height) / face.width);
    c.restore();
  }
  const x = face ? pad + 144 : pad,
    most = 1080 / 2 - x - 10;
  write(
    c,
    director ? (stats.year === null ? "Most-seen director" : "Director of the year") : "Favourite",
    x,
    y + 16,
    24,
    SOFT,
    500,
    most,
  );
  write(c, director ? director.name : film.title, x, y + 58, 38, PAPER, 700, most);
  write(
    c,
    director
      ? `${number(director.count)} ${director.count === 1 ? "film" : "films"}`
      : film.rating === null
        ? ""
        : stars(film.rating),
    x,
    y + 98,
    28,
    ACCENT,
    600,
    most,
  );
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
