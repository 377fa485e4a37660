// Show what is served, ask it about uploads, and follow where samples exit. All text is set as text.

const byId = (id) => document.getElementById(id);
const SECONDS = 2, SECONDS_OF_ALARMS = 10;
const BEST = 5;
let token = sessionStorage.getItem("committee-token") ?? "";
let about = null;
let previews = [];

class Refused extends Error {}

function made(tag, text = "", attributes = {}) {
  const node = document.createElement(tag);
  if (text !== "") node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) {
    byId("key").hidden = false;
    throw new Refused(token ? "The token is not right." : "");
  }
  const found = await answer.json().catch(() => ({ error: `The server answered ${answer.status}.` }));
  if (!answer.ok) throw new Refused(found.error ?? `The server answered ${answer.status}.`);
  return found;
}

function say(problem) {
  const text = problem instanceof Refused ? problem.message : problem && "The server does not answer.";
  byId("problem").textContent = text || "";
  byId("problem").hidden = !text;
}

const costText = (cost) => (cost === null || cost === undefined ? "not known" : humanCost(cost, about.unit));
// Stages count from 0, as in answers, metrics and alarms.
const stageText = (number) => (about.stages.length === 1 ? "the only stage" : `stage ${number} (${about.stages[number].models.join(" + ")})`);

// A decision without an answer has none.
const confidenceText = (value) => (value === null ? "none" : value.toFixed(3));

function bar(share, expected = null) {
  const node = made("span", "", { class: "bar", "aria-hidden": "true" });
  const fill = made("i");
  fill.style.width = `${100 * share}%`;
  node.append(fill);
  if (expected !== null) {
    const mark = made("b");
    mark.style.left = `calc(${100 * expected}% - 1px)`;
    node.append(mark);
  }
  return node;
}

function list(node, pairs) {
  node.replaceChildren(...pairs.flatMap(([name, text]) => [made("dt", name), made("dd", text)]));
}

function showAbout() {
  document.title = `${about.name} – committee serve`;
  byId("title").textContent = about.name;
  byId("rule").textContent = about.cascade;
  byId("images").hidden = about.takes !== "images";
  byId("records").hidden = about.takes === "images";
  if (!byId("json").value) byId("json").value = about.example;
  byId("certificate").textContent = about.certificate.sentence;
  list(byId("figures"), about.certificate.figures);
  list(byId("what"), about.figures);
  byId("curl").textContent = about.curl.replace("ORIGIN", location.origin);
  showExits(null);
  document.querySelector("main").hidden = false;
}

function showExits(live) {
  const total = live ? live.exits.reduce((sum, each) => sum + each, 0) : 0;
  const failed = live?.failed ? `, and ${count(live.failed)} failed` : "";
  const since = live ? new Date(live.since).toLocaleString() : "";
  byId("live").textContent = total || failed
    ? `${total === 1 ? "1 sample was" : `${count(total)} samples were`} decided since ${since}${failed}; ${count(live.pending)} wait now.`
    : "No sample was decided yet.";
  byId("line").hidden = about.stages.every((stage) => stage.expected === null);
  byId("stages").replaceChildren(...about.stages.map((stage, number) => {
    const row = made("tr"), head = made("th", `${number}: ${stage.models.join(" + ")}`, { scope: "row" });
    const share = total ? live.exits[number] / total : null;
    const here = made("td", share === null ? "–" : `${percent(share)} (${count(live.exits[number])})`);
    here.append(bar(share ?? 0, stage.expected));
    const cells = [
      stage.expected === null ? "not known" : percent(stage.expected),
      stage.threshold ?? "always",
      costText(stage.cost),
    ];
    row.append(head, here, ...cells.map((text) => made("td", text, { class: "num" })));
    return row;
  }));
}

function showAnswer(name, answer, preview) {
  const item = made("li", "", { class: answer.error ? "answer failed" : "answer" });
  item.append(made("h3", name));
  if (answer.error) {
    item.append(made("p", `Not decided: ${answer.error}`));
    return item;
  }
  if (preview) item.append(made("img", "", { src: preview, alt: `Preview of ${name}` }));
  const [best] = answer, body = made("tbody"), table = made("table");
  table.append(made("caption", `Most likely: ${best.label}`, { class: "hidden" }), body);
  for (const each of answer) {
    const row = made("tr"), last = made("td");
    last.append(bar(Math.min(Math.max(each.score, 0), 1)));
    row.append(made("th", each.label, { scope: "row" }), made("td", confidenceText(each.score), { class: "num" }), last);
    body.append(row);
  }
  const where = stageText(best.stage);
  const cost = best.cost === null ? "" : `, for ${costText(best.cost)}`;
  item.append(table, made("p", `Exit at ${where}, confidence ${confidenceText(best.confidence)}${cost}.`, { class: "soft small" }));
  return item;
}

function upload() {
  if (about.takes !== "images") {
    const options = { method: "POST", body: byId("json").value, headers: { "Content-Type": "application/json" } };
    return { names: (number) => `Record ${number + 1}`, urls: [], options };
  }
  const files = [...byId("files").files];
  if (!files.length) throw new Refused("Choose one or more images first.");
  const body = new FormData();
  for (const file of files) body.append("image", file, file.name);
  return { names: (number) => files[number].name, urls: files.map((file) => URL.createObjectURL(file)), options: { method: "POST", body } };
}

async function decide(event) {
  event.preventDefault();
  try {
    const { names, urls, options } = upload();
    previews.forEach((url) => URL.revokeObjectURL(url));
    previews = urls;
    byId("answers").replaceChildren();
    byId("wait").textContent = "Deciding …";
    const found = await ask(`classify?top_k=${BEST}`, options);
    // One sample is answered with its labels, several with a list of such answers.
    const answers = Array.isArray(found[0]) || found.some((each) => each.error) ? found : [found];
    byId("answers").replaceChildren(...answers.map((answer, number) => showAnswer(names(number), answer, urls[number])));
    byId("wait").textContent = `Answers: ${answers.map((answer, number) => `${names(number)}: ${answer.error ?? answer[0].label}`).join("; ")}`;
    say("");
    await follow();
  } catch (problem) {
    byId("wait").textContent = "";
    say(problem);
  }
}

async function follow() {
  const live = await ask("exits");
  if (live.version !== about.version) {
    about = await ask("about");
    showAbout();
  }
  showExits(live);
}

async function showAlarms() {
  if (!about?.alarms) return;
  const { problem, monitors } = await ask("alarms");
  const raised = monitors.filter((each) => each.alarm_at !== null);
  const text = raised.map((each) => `${each.name}, at sample ${count(each.alarm_at)}`).join("; ");
  const calm = monitors.some((each) => each.share !== null) ? "No alarm" : "No sample was looked at yet";
  byId("alarms").textContent = problem
    ? `Nothing raises alarms: ${problem}`
    : raised.length ? `Alarm: ${text}` : `${calm}; ${count(monitors.length)} monitors watch the exits.`;
  byId("alarms").className = raised.length ? "note" : "soft";
  byId("alarms").hidden = false;
}

async function start() {
  try {
    about = await ask("about");
    byId("key").hidden = true;
    say("");
    showAbout();
    await follow();
    await showAlarms();
  } catch (problem) {
    say(problem);
  }
}

byId("ask").onsubmit = decide;
byId("key").onsubmit = (event) => {
  event.preventDefault();
  token = byId("token").value;
  sessionStorage.setItem("committee-token", token);
  start();
};
function repeat(work, seconds) {
  setInterval(() => {
    if (about && document.visibilityState === "visible") work().catch(say);
  }, 1000 * seconds);
}
repeat(() => follow().then(() => say("")), SECONDS);
repeat(showAlarms, SECONDS_OF_ALARMS);
start();
