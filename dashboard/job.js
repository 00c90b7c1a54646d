// One job: how far it is, what it learns, where its time goes, and what happened to it.
import {allEvents, get, part, repeat} from "/assets/api.js";
import {actorTable, aged} from "/assets/actors.js";
import {errorPlace} from "/assets/app.js";
import {chart} from "/assets/charts.js";
import {eventItem} from "/assets/cluster.js";
import {count} from "/assets/format.js";
import * as parts from "/assets/job_parts.js";
import {incidentList, timeline} from "/assets/timeline.js";
import {card, empty, h, note, show, state} from "/assets/view.js";

export async function jobPage(context) {
  const id = context.rest, path = `/jobs/${part(id)}`, signal = context.signal;
  const error = errorPlace();
  show(context.place, h("div", {class: "head"}, h("h1", null, id)), error.element, empty("Loading"));
  let job, series, events;
  try {
    [job, series, events] = await Promise.all([get(path, signal), get(`${path}/series`, signal), allEvents(id, signal)]);
  } catch (problem) {
    if (problem.name === "AbortError" || signal.aborted) return;
    const lost = problem.status === 404;
    show(context.place, h("div", {class: "head"}, h("h1", null, id)), note("bad", h("strong", null, problem.message),
      h("p", {class: "small"}, lost ? h("a", {href: "#/jobs"}, "See all jobs") : "Load the page again in a moment.")));
    return;
  }

  const badge = h("span"), buttons = h("span", {class: "row end"}), reason = h("div"), tiles = h("dl", {class: "tiles"}), fact = h("dl", {class: "facts"});
  const line = h("div"), incidents = h("ul", {class: "events"}), eventList = h("ul", {class: "events", tabindex: "0", "aria-label": "Events"});
  const stored = h("div"), examples = h("div", {class: "samples"}), actorPlace = h("div"), explained = h("div");
  const losses = chart("Loss of each task over the steps"), all = chart("Loss over the steps", {low: true}), speed = chart("Samples a second over the steps", {low: true, digits: 1});
  const stages = chart("Seconds of a step by stage", {stacked: true, unit: " s", peaks: true}), scores = chart("Score of each task over the checkpoints", {digits: 2}), mixture = chart("Share of each task over the steps", {stacked: true, digits: 2, low: true, top: 1});
  signal.addEventListener("abort", () => [losses, all, speed, stages, scores, mixture].forEach((c) => c.destroy()), {once: true});
  const actors = actorTable(false), checkpointList = parts.checkpointTable();
  const act = parts.actions(context, id, error.failed);
  const explainCard = card("Why it waits", null, explained);
  const mixtureCard = card("Mixture over time", h("span", {class: "small muted"}, "share of each task"), ...mixture.elements);
  const scoreCard = card("Scores", h("span", {class: "small muted"}, "of evaluations, from 0 to 1"), ...scores.elements);
  show(context.place,
    h("div", {class: "head"}, h("h1", null, id), badge, buttons), error.element, reason, explainCard, tiles,
    h("div", {class: "grid"}, card("Loss by task", null, ...losses.elements), card("Time by stage", h("span", {class: "small muted"}, "seconds of one step"), ...stages.elements)),
    h("div", {class: "grid"}, card("Loss", null, ...all.elements), card("Throughput", null, ...speed.elements)),
    card("Time line", h("span", {class: "small muted"}, "▲ incident  ▮ checkpoint  ◆ evaluation"), line, incidents),
    h("div", {class: "grid"}, scoreCard, mixtureCard),
    card("Answers of the newest evaluation", null, examples),
    h("div", {class: "grid"}, card("Checkpoints", null, stored), card("About", null, fact)),
    card("Actors", null, actorPlace),
    card("Events", h("span", {class: "small muted"}, "newest first"), eventList),
    card("Files", null, parts.logPart(id, [...new Set(job.actors.map((a) => a.name).concat("coordinator"))].sort(), signal), parts.specPart(id, signal)));

  // Of a job that ended before the controller was started, its charts know more than its status.
  function filled(status) {
    const last = series.points.at(-1);
    if (status.step > 0 || !last) return status;
    return {...status, step: last.step, steps: status.state === "succeeded" ? last.step : status.steps, loss: last.loss, losses: last.losses, generation: last.generation, stages: last.stages, evaluation: series.evaluations.at(-1)};
  }

  function showJob() {
    job = filled(job);
    show(badge, state(job.state));
    act(buttons, job);
    show(reason, parts.reasonNote(job));
    show(tiles, parts.progressTiles(job));
    show(fact, parts.facts(job));
    actors.update(aged(job.actors), (a) => a.name);
    show(actorPlace, job.actors.length ? actors.element : empty("No process runs for this job.", job.state === "pending" ? "They start when it is placed." : "It is over, or starts just now."));
    explainCard.hidden = job.state !== "pending";
  }

  function showSeries() {
    losses.update(parts.lossLines(series, false));
    all.update(parts.lossLines(series, true));
    speed.update(parts.speedLine(series));
    stages.update(parts.stageLines(series));
    scores.update(parts.scoreLines(series));
    mixture.update(parts.mixtureLines(series));
    mixtureCard.hidden = series.mixture.length === 0;  // only the policy adaptive changes it
    parts.samples(examples, series.evaluations.at(-1));
    const known = parts.checkpoints(events, series);
    checkpointList.update(known, (c) => c.subject);
    show(stored, known.length ? checkpointList.element : empty("No checkpoint yet.", "The first one comes after checkpoint.every steps."));
  }

  function showEvents() {
    show(line, events.length ? timeline(events, job) : empty("Nothing has happened yet."));
    const found = incidentList(incidents, events);
    incidents.hidden = found === 0;
    show(eventList, events.length ? events.slice(-200).reverse().map(eventItem) : h("li", null, count(0, "event")));
  }

  async function explain() {
    if (job.state !== "pending") return;
    try {
      parts.explanation(explained, await get(`${path}/explain`, signal));
    } catch (problem) {
      show(explained, empty(problem.status === 501 ? "This controller does not explain it further than the reason above." : problem.message));
    }
  }

  showJob();
  showSeries();
  showEvents();
  context.onEvent((event) => {
    if (event.job !== id) return;
    events.push(event);
    showEvents();
  });
  let turn = 0;
  repeat(async () => {
    const before = job;
    job = await get(path, signal);
    showJob();
    if (turn % 5 === 0 || before.state !== job.state || before.evaluation?.checkpoint !== job.evaluation?.checkpoint) {
      if (job.step !== series.points.at(-1)?.step || turn === 0) series = await get(`${path}/series`, signal);
      showSeries();
      if (events.length) show(line, timeline(events, job));
      await explain();
    }
    turn += 1;
  }, 2000, signal, error.failed);
}
