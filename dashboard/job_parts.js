// Parts of a job's page.
import {get, part, post} from "/assets/api.js";
import {amount, count, duration, lossOf, moment, number, percent, whole, words} from "/assets/format.js";
import {bar, confirm, empty, h, note, show, state, table} from "/assets/view.js";
import {colourOfTask} from "/assets/charts.js";
import {eta, why} from "/assets/jobs.js";

const STAGES = ["data", "forward", "backward", "reduce", "commit", "optimizer"];

export function facts(job) {
  const rows = [
    ["Owner", job.owner || "nobody"], ["Queue", `${job.queue || "default"}, ${job.priority || "normal"} priority`],
    ["Submitted", moment(job.submitted_unix_ms)], ["Started", moment(job.started_unix_ms)],
    [job.state === "pending" ? "Start" : "End", eta(job)], ["Generation", whole(job.generation)],
    ["Workers", `${whole(job.workers_alive)} of ${whole(job.workers_wanted)}`],
    ["Checkpoints", job.checkpoints ? `${whole(job.checkpoints)}, newest at step ${whole(job.newest_checkpoint)}` : "none yet"],
    ["Safe on other nodes", job.replicated_checkpoint ? `up to step ${whole(job.replicated_checkpoint)}` : "no copy"],
    ["Incidents", whole(job.incidents)], ["Unreadable samples", whole(job.quarantined)], ["Preempted", count(job.preemptions, "time")],
  ];
  return rows.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)));
}

export function reasonNote(job) {
  const text = why(job);
  if (!text) return null;
  const kind = job.state === "failed" ? "bad" : job.state === "pending" ? "warn" : "";
  return note(kind, h("p", null, text), job.would_help && h("p", {class: "small"}, `What would help: ${job.would_help}`));
}

// [{name, colour, points}] of the series' points.
export function lossLines(series, loss) {
  const tasks = [...new Set(series.points.flatMap((p) => p.losses.map((l) => l.task)))].sort((a, b) => colourOfTask(a) - colourOfTask(b));
  if (loss) return [{name: "all tasks", colour: 0, points: series.points.map((p) => ({x: p.step, y: p.loss}))}];
  return tasks.map((task) => ({name: task, colour: colourOfTask(task), points: series.points.flatMap((p) => {
    const one = p.losses.find((l) => l.task === task), y = one ? lossOf(one) : NaN;
    return Number.isFinite(y) ? [{x: p.step, y}] : [];
  })}));
}

export const speedLine = (series) => [{name: "samples a second", colour: 0, points: series.points.map((p) => ({x: p.step, y: p.samples_per_second}))}];

export const stageLines = (series) => STAGES.map((stage, i) => ({name: stage, colour: i, points: series.points.map((p) => ({x: p.step, y: p.stages?.[stage] ?? 0}))}));

export function scoreLines(series) {
  const tasks = [...new Set(series.evaluations.flatMap((e) => e.scores.map((s) => s.task)))].sort((a, b) => colourOfTask(a) - colourOfTask(b));
  return tasks.map((task) => ({name: task, colour: colourOfTask(task), points: series.evaluations.flatMap((e) => {
    const one = e.scores.find((s) => s.task === task);
    return one ? [{x: e.checkpoint, y: one.score}] : [];
  })}));
}

// Shares of the tasks: all are equal before the first change, and each change holds to the next.
export function mixtureLines(series) {
  if (!series.mixture.length) return [];
  const tasks = series.mixture[0].weights.map((w) => w.task);
  const share = (weights, task) => (weights.find((w) => w.task === task)?.weight ?? 0) / Math.max(1, weights.reduce((sum, w) => sum + w.weight, 0));
  const end = series.points.at(-1)?.step ?? 0;
  return tasks.map((task) => {
    const points = [{x: 0, y: 1 / tasks.length}];
    for (const change of series.mixture) points.push({x: change.first_step, y: points.at(-1).y}, {x: change.first_step, y: share(change.weights, task)});
    if (end > points.at(-1).x) points.push({x: end, y: points.at(-1).y});
    return {name: task, colour: colourOfTask(task), points};
  });
}

export function samples(place, evaluation) {
  if (!evaluation?.examples?.length)
    return show(place, empty("No example answers yet.", "They come with each evaluation (evaluate.every in the spec)."));
  const one = (e) => h("article", {class: "sample"},
    h("div", {class: "row"}, h("h3", null, words(e.task)), h("span", {class: "muted small"}, e.sample ? `sample ${whole(e.sample.index)} of data set ${whole(e.sample.dataset)}` : ""),
      h("span", {class: "small num"}, `score ${number(e.score, 2)}`)),
    h("p", null, e.question),
    h("div", {class: "pair"}, h("div", null, h("p", {class: "label"}, "Prediction"), e.answer || "(nothing)"), h("div", null, h("p", {class: "label"}, "Truth"), e.truth)));
  show(place, h("p", {class: "small muted"}, `Of checkpoint ${whole(evaluation.checkpoint)}, mean score ${number(evaluation.mean, 3)}. Picture and sound stay on the nodes that hold the corpus, `,
    "which the controller does not read; crabcast data inspect shows them there."), evaluation.examples.slice(0, 24).map(one));
}

export function explanation(place, explained) {
  show(place, h("p", null, explained.text || explained.reason), explained.would_help && h("p", null, h("strong", null, "What would help: "), explained.would_help),
    explained.arithmetic.length > 0 && h("pre", {tabindex: "0"}, explained.arithmetic.join("\n")));
}

// Read when it is opened: the spec, and logs.
export function specPart(job, signal) {
  const text = h("pre", {tabindex: "0", "aria-label": "Spec"}, "Loading");
  const part_ = h("details", null, h("summary", null, "Spec, with every default"), text);
  part_.addEventListener("toggle", async () => {
    if (!part_.open) return;
    text.textContent = await get(`/jobs/${part(job)}/spec`, signal).then((s) => s.yaml, (problem) => problem.message);
  });
  return part_;
}

export function logPart(job, roles, signal) {
  const text = h("pre", {tabindex: "0", "aria-label": "Log"}, "Choose a process.");
  const select = h("select", {"aria-label": "Process"}, h("option", {value: ""}, "Choose a process"), roles.map((role) => h("option", {value: role}, role)));
  const read = async () => {
    if (!select.value) return;
    text.textContent = "Loading";
    let all = "", offset = 0;
    try {
      for (let piece = 0; piece < 40; piece += 1) {
        const log = await get(`/jobs/${part(job)}/logs/${part(select.value)}?limit=262144&offset=${offset}`, signal);
        all = (all + log.text).slice(-200000);
        offset = log.next_offset;
        if (log.end) break;
      }
      text.textContent = all || "It is empty.";
      text.scrollTop = text.scrollHeight;
    } catch (problem) {
      text.textContent = problem.message;
    }
  };
  select.addEventListener("change", read);
  return h("details", null, h("summary", null, "Logs"), h("div", {class: "row"}, select, h("button", {type: "button", onclick: read}, "Read again")), text);
}

export function actions(context, id, failed) {
  const mine = (job) => context.me.role === "admin" || (context.me.role === "submitter" && job.owner === context.me.owner);
  const act = (verb, title, text, yes, body) => async () => {
    if (!(await confirm(title, text, yes))) return;
    try {
      await post(`/jobs/${part(id)}/${verb}`, body);
      failed(null);
    } catch (problem) {
      failed(problem);
    }
  };
  const button = (name, press, kind) => h("button", {type: "button", class: kind, onclick: press}, name);
  let shown = "";
  return (place, job) => {
    const key = [job.state, job.held, mine(job)].join();
    if (key === shown) return;
    shown = key;
    const alive = ["pending", "starting", "running"].includes(job.state);
    show(place, !mine(job) ? [] : [
      alive && job.state !== "pending" && button("Pause", act("pause", `Pause ${id}?`, "It takes a checkpoint, stops, and gives its resources back. It can be resumed.", "Pause")),
      ["stopped", "failed"].includes(job.state) && button("Resume", act("resume", `Resume ${id}?`, "It waits for room, and goes on from its newest checkpoint.", "Resume")),
      job.state === "pending" && (job.held ? button("Release", act("release", `Release ${id}?`, "It may be placed from now on.", "Release")) : button("Hold", act("hold", `Hold ${id}?`, "It is not placed until it is released.", "Hold"))),
      alive && button("Cancel", act("cancel", `Cancel ${id}?`, "It ends for good and cannot be resumed.", "Cancel the job"), "danger"),
    ]);
  };
}

export function checkpointTable() {
  return table([
    {name: "Step", head: true, num: true, cell: (c) => whole(c.step)},
    {name: "Stored", cell: (c) => moment(c.unix_ms)},
    {name: "On other nodes", cell: (c) => (c.copied ? state("healthy", "yes") : h("span", {class: "muted"}, "no"))},
    {name: "Score", num: true, cell: (c) => (c.mean === undefined ? "–" : number(c.mean, 3))},
  ], {caption: "Checkpoints"});
}

// Of the events: those that were stored, and whether copies and scores followed. What retention deleted since is not told.
export function checkpoints(events, series) {
  const copied = new Set(events.filter((e) => e.kind === "checkpoint_replicated").map((e) => e.subject));
  const means = new Map(series.evaluations.map((e) => [e.checkpoint, e.mean]));
  const list = new Map();
  for (const e of events.filter((one) => one.kind === "checkpoint_stored"))
    list.set(e.subject, {step: e.step || Number.parseInt(e.subject.replace(/\D+/g, ""), 10) || 0, unix_ms: e.unix_ms, subject: e.subject, copied: copied.has(e.subject)});
  return [...list.values()].map((c) => ({...c, mean: means.get(c.step)})).sort((a, b) => b.step - a.step).slice(0, 12);
}

export function progressTiles(job) {
  const tile = (name, value, small) => h("div", {class: "tile"}, h("dt", null, name), h("dd", null, value, h("small", null, small)));
  const stages = job.stages ?? {}, sum = STAGES.reduce((total, s) => total + (stages[s] ?? 0), 0);
  const slowest = STAGES.reduce((a, b) => ((stages[b] ?? 0) > (stages[a] ?? 0) ? b : a));
  return [
    h("div", {class: "tile"}, h("dt", null, "Step"), h("dd", null, whole(job.step), h("small", null, job.steps ? `of ${whole(job.steps)}` : "length not known yet"), bar(job.steps ? job.step / job.steps : 0, "progress"))),
    tile("Loss", job.losses.length ? number(job.loss) : "–", "an answer token, in nats"),
    tile("Samples a second", job.state === "running" ? number(job.samples_per_second, 1) : "–", `${amount(job.workers_alive)} of ${amount(job.workers_wanted)} workers`),
    tile("Time left", job.state === "running" && job.eta_seconds > 0 ? duration(job.eta_seconds) : "–", "at this speed"),
    tile("Score", job.evaluation ? number(job.evaluation.mean, 3) : "–", job.evaluation ? `of checkpoint ${whole(job.evaluation.checkpoint)}` : "not evaluated yet"),
    tile("Slowest stage", sum > 0 ? slowest : "–", sum > 0 ? `${percent(stages[slowest] / sum)} of a step` : "no step yet"),
  ];
}
