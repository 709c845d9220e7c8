// The playground: one photo to POST /panoptic, its answer over the photo. No framework, no outside request.

import { $, showAnswer, showPhoto, view } from "./view.js";

const state = {
  key: "", // API key, in memory only
  maxBytes: Infinity, // of a file, from /model
  pending: null, // AbortController of the request under way
  last: null, // the photo last sent, to repeat it with a key
};

// The request

async function loadModel() {
  try {
    const response = await fetch("model", { headers: keyHeader() });
    if (!response.ok) return;
    const { model, device, limits, metadata } = await response.json();
    state.maxBytes = limits.max_bytes;
    $("model").textContent = `${model} on ${device}`;
    for (const category of metadata.categories) view.colors.set(category.id, category.color);
    $("licence").textContent = `Weights: ${metadata.licence}. Trained on ${metadata.dataset}.`;
  } catch { /* the page works without */ }
}

function keyHeader() {
  return state.key ? { Authorization: `Bearer ${state.key}` } : {};
}

async function segment(file) {
  state.pending?.abort();
  const pending = new AbortController();
  state.pending = pending;
  state.last = file;
  showPhoto(file);
  if (file.size > state.maxBytes) { // not sent in vain
    $("busy").hidden = true;
    invite();
    say(`The file has ${megabytes(file.size)} MB; the limit is ${megabytes(state.maxBytes)} MB. Choose a smaller one.`);
    return;
  }
  $("busy").hidden = false;
  say("");
  $("announce").textContent = "Segmenting";
  try {
    const response = await send(file, pending.signal);
    if (!response) return;
    if (!response.ok) return await showProblem(response);
    const answer = await response.json();
    showTiming(response.headers.get("Server-Timing") || "");
    await showAnswer(answer);
  } catch (error) {
    if (error.name !== "AbortError") throw error; // another photo came while this answer arrived
  } finally {
    if (state.pending === pending) $("busy").hidden = true;
  }
}

async function send(file, signal) {
  const headers = { Accept: "application/json", "Content-Type": "application/octet-stream", ...keyHeader() };
  try {
    return await fetch("panoptic", { method: "POST", body: file, headers, signal });
  } catch (error) {
    if (error.name === "AbortError") return null;
    invite();
    $("again-line").hidden = false;
    say("The service cannot be reached. Is it still running?");
    return null;
  }
}

async function showProblem(response) {
  let problem = {};
  try { problem = await response.json(); } catch { /* not ours: a proxy's page */ }
  let text = problem.detail || `${response.status} ${response.statusText}`;
  const wait = response.headers.get("Retry-After");
  if (wait) text += ` Try again in ${wait} second${wait === "1" ? "" : "s"}.`;
  $("key-form").hidden = response.status !== 401;
  $("again-line").hidden = response.status < 429;
  invite();
  if (response.status === 401) {
    text = state.key ? "This key is not known here." : "This service needs a key.";
    $("key").focus();
  }
  say(text);
}

function invite() {
  $("photo").hidden = true;
  $("stage").classList.add("empty");
  $("invite").hidden = false;
}

function say(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
  if (!text) return;
  $("announce").textContent = "";
  $("message").scrollIntoView({ block: "nearest" });
}

function megabytes(bytes) {
  return Math.ceil(bytes / 1e5) / 10; // up, so that what is over a limit looks so
}

function showTiming(header) {
  const stages = [...header.matchAll(/(\w+);dur=([\d.]+)/g)].map(([, name, ms]) => [name, Number(ms)]);
  const box = $("timing");
  box.replaceChildren();
  box.hidden = !stages.length;
  const total = stages.reduce((sum, [, ms]) => sum + ms, 0) || 1;
  const bar = document.createElement("div");
  bar.className = "bar";
  box.append(bar);
  for (const [name, ms] of stages) {
    const part = document.createElement("i");
    part.className = `stage-${name}`;
    part.style.width = `${(100 * ms) / total}%`;
    bar.append(part);
    const key = document.createElement("span");
    key.className = "key";
    const dot = document.createElement("i");
    dot.className = `stage-${name}`;
    key.append(dot, `${name} ${duration(ms)}`);
    box.append(key);
  }
}

function duration(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
}

// Ways for a photo to come in

for (const id of ["file", "camera", "another"]) {
  $(id).addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) segment(file);
  });
}

for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", async () => segment(await (await fetch(button.dataset.example)).blob()));
}

addEventListener("dragover", (event) => { event.preventDefault(); $("stage").classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("stage").classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  $("stage").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) segment(file);
});
addEventListener("paste", (event) => {
  const [file] = event.clipboardData?.files || [];
  if (file) segment(file);
});

$("again").addEventListener("click", () => segment(state.last));
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  state.key = $("key").value.trim();
  loadModel();
  if (state.last) segment(state.last);
});
loadModel();
