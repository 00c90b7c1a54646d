// Line and stacked charts over the steps of a job, by Chart.js, in the page's colours.
import {h, show} from "/assets/view.js";
import {number, whole, words} from "/assets/format.js";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const colour = (index) => css(`--c${(index % 8) + 1}`);

// The order of the tasks, so that each keeps its colour.
const TASKS = ["action_recognition", "emotion_recognition", "av_question_answering", "temporal_localization", "spatial_localization", "segmentation", "captioning", "av_matching"];
export const colourOfTask = (task) => Math.max(0, TASKS.indexOf(task));

function options(stacked, digits) {
  const grid = {color: css("--line"), borderColor: css("--line"), drawTicks: false};
  const ticks = {color: css("--muted"), padding: 6, font: {family: css("--sans"), size: 11}};
  return {
    animation: false, maintainAspectRatio: false, parsing: false, normalized: true,
    interaction: {mode: "index", axis: "x", intersect: false},
    elements: {point: {radius: 0, hitRadius: 6}, line: {borderWidth: 1.8}},
    plugins: {
      legend: {display: false},
      tooltip: {
        backgroundColor: css("--raised"), titleColor: css("--text"), bodyColor: css("--text"), borderColor: css("--line"), borderWidth: 1, padding: 9, boxPadding: 4,
        callbacks: {title: (items) => (items.length ? `Step ${whole(items[0].parsed.x)}` : ""), label: (item) => ` ${item.dataset.label}: ${number(item.parsed.y, digits)}`},
      },
    },
    scales: {
      x: {type: "linear", grid: {...grid, display: false}, ticks: {...ticks, maxTicksLimit: 8, maxRotation: 0, callback: (v) => whole(v)}, title: {display: true, text: "step", color: css("--muted")}},
      y: {stacked, beginAtZero: stacked, grid, ticks: {...ticks, maxTicksLimit: 6}},
    },
  };
}

// series: [{name, colour, points: [{x, y}]}]. The legend is a list with the newest values, which is also what a screen
// reader gets.
export function chart(label, {stacked = false, digits = 3, low = false, unit = "", peaks = false, top} = {}) {
  const canvas = h("canvas", {role: "img", "aria-label": label});
  const legend = h("ul", {class: "legend"});
  const none = h("p", {class: "none muted"}, "Nothing to show yet");
  const box = h("div", {class: low ? "chart low" : "chart"}, canvas, none);
  let drawn = null;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let last = [];
  // A first step that waits for its corpus takes a hundred times as long as the others: the axis leaves such peaks out.
  const fit = (scales) => {
    const points = last.flatMap((s) => s.points);
    scales.x.max = Math.max(...points.map((p) => p.x));
    const sums = new Map();
    for (const p of points) sums.set(p.x, stacked ? (sums.get(p.x) ?? 0) + p.y : Math.max(sums.get(p.x) ?? 0, p.y));
    const heights = [...sums.values()].sort((a, b) => a - b), usual = heights[Math.floor(heights.length * 0.98)] ?? 0;
    scales.y.max = peaks && heights.length > 20 && heights.at(-1) > 2 * usual ? usual * 1.4 : top;
  };
  const draw = () => {
    const datasets = last.map((s) => ({
      label: s.name, data: s.points, borderColor: colour(s.colour), backgroundColor: stacked ? `${colour(s.colour)}55` : colour(s.colour),
      fill: stacked ? "stack" : false, spanGaps: true, pointRadius: !stacked && last.every((one) => one.points.length < 30) ? 2.5 : 0,
    }));
    if (drawn) {
      drawn.data.datasets = datasets;
      fit(drawn.options.scales);
      drawn.update();
    } else {
      const chosen = options(stacked, digits);
      fit(chosen.scales);
      drawn = new window.Chart(canvas, {type: "line", data: {datasets}, options: chosen});
    }
    show(legend, last.map((s) => h("li", null, h("span", {class: "swatch", style: {background: colour(s.colour)}}), words(s.name), " ", h("b", null, `${number(s.points.at(-1)?.y, digits)}${unit}`))));
  };
  const recolour = () => {
    drawn?.destroy();
    drawn = null;
    if (last.length) draw();
  };
  dark.addEventListener("change", recolour);
  return {
    elements: [legend, box],
    update(series) {
      last = series.filter((s) => s.points.length);
      none.hidden = last.length > 0;
      if (last.length) draw();
    },
    destroy() {
      dark.removeEventListener("change", recolour);
      drawn?.destroy();
    },
  };
}
