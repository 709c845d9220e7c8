// The answer over the photo: painted, listed, pointed at.

export const $ = (id) => document.getElementById(id);
const MAX_SIDE = 1600; // of the overlay canvas; larger answers are sampled for display, downloads stay whole
const SMALL_SIDE = 240; // photos smaller than this are shown enlarged

export const view = {
  answer: null, // the JSON answer
  ids: null, // Uint32Array of segment ids at the canvas size
  hidden: new Set(), // ids of segments that are not shown
  lit: 0, // id under the pointer or the focus; 0: none
  colors: new Map(), // category id -> [r, g, b], from /model
  urls: [], // object URLs to release
};

// Colours and names

function baseColor(categoryId) {
  const known = view.colors.get(categoryId);
  if (known) return known;
  const hue = (categoryId * 137.508) % 360;
  const f = (n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (0.55 - 0.35 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [f(0), f(8), f(4)];
}

function segmentColor(segment) {
  const base = baseColor(segment.category_id);
  if (!segment.isthing) return base;
  const factor = [1, 1.35, 0.75, 1.6, 0.9][segment.id % 5];
  return base.map((value) => Math.min(255, Math.round(value * factor + (factor > 1 ? 20 : 0))));
}

function share(area) {
  const { width, height } = view.answer.image;
  const percent = (100 * area) / (width * height);
  return percent >= 1 ? `${percent.toFixed(0)} %` : `${percent.toFixed(1)} %`;
}

function describe(segment) {
  return `${segment.category}, score ${segment.score.toFixed(2)}, ${segment.area.toLocaleString("en")} pixels`;
}

// What is shown

export function showPhoto(file) {
  for (const url of view.urls.splice(0)) URL.revokeObjectURL(url);
  const url = URL.createObjectURL(file);
  view.urls.push(url);
  view.answer = null;
  $("photo").style.width = "";
  $("stage").classList.remove("empty");
  $("invite").hidden = true;
  $("photo").hidden = false;
  $("photo").src = url;
  for (const id of ["overlay", "controls", "timing", "side", "tip", "key-form", "again-line"]) $(id).hidden = true;
  document.querySelector("main").classList.remove("answered");
}

export async function showAnswer(answer) {
  view.answer = answer;
  view.hidden.clear();
  view.lit = 0;
  const bytes = Uint8Array.from(atob(answer.png), (letter) => letter.charCodeAt(0));
  const png = new Blob([bytes], { type: "image/png" });
  await readIds(png, answer.image);
  offerDownloads(png, answer);
  listSegments();
  for (const id of ["overlay", "controls", "side"]) $(id).hidden = false;
  document.querySelector("main").classList.add("answered");
  await fitPhoto(answer.image);
  paint();
  const names = answer.segments_info.length;
  $("overlay").setAttribute("aria-label", `${names} segments. Arrow keys go through them.`);
  $("announce").textContent = `${names} segments found.`;
}

async function readIds(png, { width, height }) {
  const bitmap = await createImageBitmap(png, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const factor = Math.min(1, MAX_SIDE / Math.max(width, height));
  const canvas = $("overlay");
  canvas.width = Math.max(1, Math.round(width * factor));
  canvas.height = Math.max(1, Math.round(height * factor));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false; // ids must not be mixed
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  view.ids = new Uint32Array(canvas.width * canvas.height);
  for (let i = 0; i < view.ids.length; i++) {
    view.ids[i] = data[4 * i] + 256 * data[4 * i + 1] + 65536 * data[4 * i + 2];
  }
}

// A browser that cannot show the file (TIFF, say) gets a grey ground of the right size. A small photo is enlarged.
async function fitPhoto({ width, height }) {
  const photo = $("photo");
  try { await photo.decode(); } catch {
    const ground = document.createElement("canvas");
    [ground.width, ground.height] = [width, height];
    const context = ground.getContext("2d");
    context.fillStyle = "#777";
    context.fillRect(0, 0, width, height);
    photo.src = ground.toDataURL();
    await photo.decode();
  }
  const times = Math.floor(SMALL_SIDE / Math.max(width, height));
  photo.style.width = times > 1 ? `${times * width}px` : "";
  place();
}

function place() {
  const { offsetWidth, offsetHeight } = $("photo");
  $("overlay").style.width = `${offsetWidth}px`;
  $("overlay").style.height = `${offsetHeight}px`;
}

function paint() {
  if (!view.answer) return;
  const canvas = $("overlay");
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const opacity = Number($("opacity").value) / 100;
  const alpha = (value) => (Math.round(255 * value) << 24) >>> 0;
  const paints = new Map();
  for (const segment of view.answer.segments_info) {
    if (view.hidden.has(segment.id)) continue;
    const [r, g, b] = segmentColor(segment);
    const lit = view.lit === segment.id;
    const value = view.lit && !lit ? opacity * 0.45 : lit ? Math.max(opacity, 0.6) : opacity;
    paints.set(segment.id, (alpha(value) | (b << 16) | (g << 8) | r) >>> 0);
  }
  const edge = (alpha(Math.min(1, opacity + 0.35)) | 0xffffff) >>> 0;
  const { ids } = view;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const id = ids[i];
      const border = (x + 1 < width && ids[i + 1] !== id) || (y + 1 < height && ids[i + width] !== id);
      pixels[i] = border && opacity > 0 ? edge : paints.get(id) || 0;
    }
  }
  context.putImageData(image, 0, 0);
}

function offerDownloads(png, answer) {
  const { png: _, ...facts } = answer;
  const json = new Blob([JSON.stringify(facts, null, 1)], { type: "application/json" });
  for (const [id, blob] of [["save-png", png], ["save-json", json]]) {
    const url = URL.createObjectURL(blob);
    view.urls.push(url);
    $(id).href = url;
  }
}

function listSegments() {
  const list = $("segments");
  list.replaceChildren();
  const segments = [...view.answer.segments_info].sort((a, b) => b.area - a.area);
  $("count").textContent = segments.length === 1 ? "1 segment" : `${segments.length} segments`;
  for (const segment of segments) list.append(row(segment));
  if (!segments.length) list.append("Nothing was found in this photo.");
  updateAll();
}

function row(segment) {
  const item = document.createElement("li");
  item.dataset.id = segment.id;
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.backgroundColor = `rgb(${segmentColor(segment).join(",")})`;
  const name = document.createElement("button");
  name.type = "button";
  name.className = "name";
  name.append(segment.category);
  const facts = document.createElement("small");
  facts.textContent = `${share(segment.area)}, score ${segment.score.toFixed(2)}`;
  name.append(facts);
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = true;
  box.setAttribute("aria-label", `Show ${segment.category} ${segment.id}`);
  box.addEventListener("change", () => {
    if (box.checked) view.hidden.delete(segment.id); else view.hidden.add(segment.id);
    item.classList.toggle("off", !box.checked);
    updateAll();
    paint();
  });
  name.addEventListener("focus", () => light(segment.id));
  name.addEventListener("blur", () => light(0));
  name.addEventListener("click", () => {
    light(segment.id);
    $("announce").textContent = describe(segment);
  });
  item.addEventListener("pointerenter", () => light(segment.id));
  item.addEventListener("pointerleave", () => light(0));
  item.append(swatch, name, box);
  return item;
}

function updateAll() {
  const all = view.hidden.size === 0;
  $("toggle-all").textContent = all ? "hide all" : "show all";
  $("toggle-all").hidden = !view.answer.segments_info.length;
}

// Pointing at segments

function light(id, point) {
  const segment = view.answer?.segments_info.find((one) => one.id === id);
  const tip = $("tip");
  tip.hidden = !segment || !point;
  if (segment && point) {
    const facts = document.createElement("small");
    facts.textContent = ` ${segment.score.toFixed(2)}, ${segment.area.toLocaleString("en")} px`;
    tip.replaceChildren(segment.category, facts);
    const stage = $("stage").getBoundingClientRect();
    const x = Math.min(point.clientX - stage.left + 14, stage.width - tip.offsetWidth - 6);
    const y = Math.max(point.clientY - stage.top - 34, 6);
    tip.style.transform = `translate(${Math.max(x, 6)}px, ${y}px)`;
  }
  const lit = segment ? id : 0;
  if (lit === view.lit) return;
  view.lit = lit;
  for (const item of $("segments").children) {
    item.classList?.toggle("lit", Number(item.dataset?.id) === lit);
  }
  paint();
}

function idAt(event) {
  const canvas = $("overlay");
  const box = canvas.getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * canvas.width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * canvas.height);
  if (x < 0 || y < 0 || x >= canvas.width || y >= canvas.height) return 0;
  const id = view.ids[y * canvas.width + x];
  return view.hidden.has(id) ? 0 : id;
}

$("overlay").addEventListener("pointermove", (event) => light(idAt(event), event));
$("overlay").addEventListener("pointerdown", (event) => light(idAt(event), event));
$("overlay").addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") light(0); });
$("overlay").addEventListener("blur", () => light(0));
$("overlay").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (event.key === "Escape") light(0);
  if (!step || !view.answer?.segments_info.length) return;
  event.preventDefault();
  const order = [...$("segments").children].map((item) => Number(item.dataset.id));
  const at = order.indexOf(view.lit);
  const next = order[at < 0 ? (step > 0 ? 0 : order.length - 1) : (at + step + order.length) % order.length];
  light(next);
  $("announce").textContent = describe(view.answer.segments_info.find((one) => one.id === next));
});

$("opacity").addEventListener("input", paint);
$("toggle-all").addEventListener("click", () => {
  const hide = view.hidden.size === 0;
  view.hidden = new Set(hide ? view.answer.segments_info.map((one) => one.id) : []);
  for (const item of $("segments").children) {
    item.classList.toggle("off", hide);
    item.querySelector("input").checked = !hide;
  }
  updateAll();
  paint();
});
new ResizeObserver(place).observe($("photo"));
