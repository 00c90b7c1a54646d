// Generations, incidents, checkpoints and evaluations of a job on one line of time.
import {clock, duration, moment, whole, words} from "/assets/format.js";
import {h, show, svg} from "/assets/view.js";

const WIDTH = 1000, LEFT = 92, ROW = 30, TOP = 8, AXIS = 26;
const ROWS = ["Generations", "Incidents", "Checkpoints", "Scores"];

// A generation holds from its event to the next one.
function generations(events, end) {
  const starts = events.filter((e) => e.kind === "generation");
  return starts.map((e, i) => ({number: e.generation, from: e.unix_ms, to: starts[i + 1]?.unix_ms ?? end, message: e.message, step: e.step}));
}

export function timeline(events, job, now = Date.now()) {
  const begin = Math.min(...events.map((e) => e.unix_ms)), over = job.ended_unix_ms && job.state !== "running" ? job.ended_unix_ms : now;
  const end = Math.max(over, ...events.map((e) => e.unix_ms), begin + 1000);
  const x = (time) => LEFT + ((time - begin) / (end - begin)) * (WIDTH - LEFT - 12);
  const y = (row) => TOP + row * ROW, middle = (row) => y(row) + ROW / 2;
  const height = TOP + ROWS.length * ROW + AXIS;
  const title = (text) => svg("title", null, text);
  const of = (kind) => events.filter((e) => e.kind === kind);

  const spans = generations(events, end).map((g, i) => svg("g", null,
    title(`Generation ${g.number}, from step ${whole(g.step)}, ${moment(g.from)}, for ${duration((g.to - g.from) / 1000)}: ${g.message}`),
    svg("rect", {class: i % 2 ? "span odd" : "span", x: x(g.from), y: y(0) + 5, width: Math.max(2, x(g.to) - x(g.from)), height: ROW - 10, rx: 4}),
    x(g.to) - x(g.from) > 26 && svg("text", {class: "label", x: x(g.from) + 7, y: middle(0) + 4}, whole(g.number))));
  const hurts = events.filter((e) => e.incident).map((e) => svg("g", null,
    title(`${moment(e.unix_ms)}: ${e.incident.culprit}, ${e.incident.evidence}`),
    svg("path", {class: "hurt", d: `M${x(e.unix_ms)} ${middle(1) - 8} l7 14 h-14 z`})));
  const saved = of("checkpoint_stored").map((e) => svg("g", null, title(`${moment(e.unix_ms)}: ${e.message || words(e.kind)} (step ${whole(e.step)})`),
    svg("rect", {class: "saved", x: x(e.unix_ms) - 3, y: middle(2) - 7, width: 6, height: 14, rx: 2})));
  const scored = of("evaluated").map((e) => svg("g", null, title(`${moment(e.unix_ms)}: ${e.message}`),
    svg("path", {class: "scored", d: `M${x(e.unix_ms)} ${middle(3) - 7} l7 7 l-7 7 l-7 -7 z`})));
  const names = ROWS.map((name, i) => svg("text", {x: 0, y: middle(i) + 4}, name));
  const rules = ROWS.map((_, i) => svg("line", {class: "axis", x1: LEFT, x2: WIDTH, y1: y(i + 1), y2: y(i + 1)}));
  const times = [0, 0.25, 0.5, 0.75, 1].map((share) => svg("text", {x: LEFT + share * (WIDTH - LEFT - 12), y: height - 8, "text-anchor": share === 0 ? "start" : share === 1 ? "end" : "middle"},
    clock(begin + share * (end - begin), end - begin < 3600000)));
  const label = `${spans.length} generations, ${hurts.length} incidents, ${saved.length} checkpoints, ${scored.length} evaluations between ${moment(begin)} and ${moment(end)}`;
  return h("div", {class: "scroll", tabindex: "0", role: "group", "aria-label": "Time line"},
    svg("svg", {class: "time-line", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label, style: {minWidth: "38rem"}}, rules, names, times, spans, saved, scored, hurts));
}

// The incidents in words, for those who cannot point at a triangle.
export function incidentList(place, events) {
  const incidents = events.filter((e) => e.incident).reverse();
  show(place, incidents.slice(0, 50).map((e) => {
    const i = e.incident, all = i.detect_seconds + i.decide_seconds + i.reform_seconds + i.load_seconds + i.redo_seconds;
    return h("li", null, h("time", {datetime: new Date(e.unix_ms).toISOString()}, moment(e.unix_ms)),
      h("div", null, h("p", null, h("strong", null, i.culprit), ` — ${i.evidence}`),
        h("p", {class: "small muted"}, `${i.last_operation ? `${i.last_operation}; ` : ""}back after ${duration(all)}: detect ${duration(i.detect_seconds)}, decide ${duration(i.decide_seconds)}, re-form ${duration(i.reform_seconds)}, load ${duration(i.load_seconds)}, redo ${duration(i.redo_seconds)}`)));
  }));
  return incidents.length;
}
