// A picture of a report, for those who have none yet.
import { s } from "./dom.js";

const TILES = ["#7a2e1d", "#2f5c9d", "#8f6304", "#167b49", "#ba1174", "#574e48", "#48617a", "#9c3721", "#5b4a86", "#1f6f78", "#a0703c", "#3d3530"];
const STARS = [3, 7, 10, 9, 16, 31, 28, 45, 20, 14];

const text = (x, y, kind, words) => s(`text.${kind}`, { x, y }, words);

export const preview = () =>
  s(
    "svg",
    { viewBox: "0 0 320 240", width: 640, height: 480, role: "img", "aria-label": "A report: large numbers, a wall of posters, a chart" },
    s("rect.room", { width: 320, height: 86 }),
    text(14, 22, "name", "Your life in film"),
    text(14, 62, "large", "1,248"),
    text(14, 77, "small", "films"),
    [
      [140, "92.4", "days"],
      [200, "87", "rewatches"],
      [262, "41", "countries"],
    ].map(([x, value, name]) => [text(x, 62, "middle", value), text(x, 77, "small", name)]),
    [...TILES, ...TILES.toReversed()].map((fill, n) => {
      const x = 14 + (n % 12) * 24.5,
        y = 96 + Math.floor(n / 12) * 40;
      return [
        s("rect", { x, y, width: 22, height: 33, rx: 1.5, fill }),
        s("circle", { cx: x + 6 + ((n * 7) % 11), cy: y + 13, r: 4 + (n % 3), fill: TILES[(n + 5) % 12] }),
      ];
    }),
    STARS.map((count, n) => s("rect.star", { x: 14 + n * 29.4, y: 230 - count, width: 26, height: count, rx: 1 })),
  );
