// The page: strokes are kept as strokes, drawn here for the eye, and sent as they are; the server
// draws them for the encoder.
"use strict";

const UNITS = 1000; // of the side of the drawing area
const DEBOUNCE = 150; // milliseconds without a new point before a search
const TOP = 24;
const STEP = 20; // units that an arrow key moves the pen

const $ = (id) => document.getElementById(id);
const canvas = $("canvas"), results = $("results");
const pencil = canvas.getContext("2d");

// What can be undone: drawings, each a list of strokes {x: [...], y: [...]}; `at` is the one shown.
let history = [[]], at = 0;
let stroke = null; // being drawn
let image = null; // an uploaded image instead: {bitmap, body}
let query = null; // {kind: "paper"} or {kind: "photo", id, name}
let pen = 0.012;
let cursor = null; // of the keyboard: {x, y, down}

// Searching: debounced, and the last request wins.

let timer = 0, pending = null;

function searchSoon() {
  clearTimeout(timer);
  timer = setTimeout(search, DEBOUNCE);
  busy();
}

function busy() {
  document.body.dataset.state = "busy";
  results.setAttribute("aria-busy", "true");
}

async function search() {
  clearTimeout(timer);
  pending?.abort();
  const asked = request();
  if (!asked) return show("empty", "Photos appear as you draw.", []);
  const own = pending = new AbortController();
  busy();
  try {
    const answer = await fetch(asked.url, {...asked.options, signal: own.signal});
    const found = await answer.json();
    if (own !== pending) return;
    if (!answer.ok) throw new Error(found.error);
    const what = query.kind === "photo" ? `like ${query.name}` : "found";
    show("done", `${found.results.length} photos ${what}`, found.results);
  } catch (error) {
    if (own !== pending || error.name === "AbortError") return;
    const lost = error instanceof TypeError; // what fetch throws when nobody answers
    fail(lost ? "The server does not answer. Try again." : `Not searched: ${error.message}`);
  }
}

function request() {
  if (query?.kind === "photo") return {url: `/api/photos/${query.id}/similar?top=${TOP}`};
  if (image) {
    const url = `/api/search?as=${$("side").value}&top=${TOP}`;
    return {url, options: {method: "POST", body: image.body, headers: {"content-type": image.body.type}}};
  }
  const strokes = [...history[at], ...(stroke ? [stroke] : [])].map((s) => [s.x, s.y]);
  if (!strokes.length) return null;
  const body = JSON.stringify({strokes, line: pen, top: TOP});
  return {url: "/api/search", options: {method: "POST", body, headers: {"content-type": "application/json"}}};
}

function show(state, words, found) {
  document.body.dataset.state = state;
  $("status").textContent = words;
  $("error").hidden = true;
  results.setAttribute("aria-busy", "false");
  $("back").hidden = query?.kind !== "photo";
  results.replaceChildren(...found.map(tile));
}

function tile(photo, rank) {
  const item = document.createElement("li"), button = document.createElement("button");
  const picture = document.createElement("img");
  const name = document.createElement("span"), similarity = document.createElement("span");
  picture.src = photo.thumbnail;
  picture.alt = "";
  picture.loading = "lazy";
  name.className = "name";
  name.textContent = photo.path.split("/").slice(-2).join("/");
  similarity.className = "similarity";
  similarity.textContent = photo.similarity.toFixed(3);
  button.type = "button";
  button.dataset.id = photo.id;
  button.title = photo.path;
  button.setAttribute("aria-label",
    `${rank + 1}: ${photo.path}, similarity ${photo.similarity.toFixed(2)}. Find more like this`);
  button.append(picture, name, similarity);
  button.addEventListener("click", () => {
    query = {kind: "photo", id: photo.id, name: photo.path.split("/").pop()};
    search();
  });
  item.append(button);
  return item;
}

function fail(words) {
  document.body.dataset.state = "error";
  results.setAttribute("aria-busy", "false");
  $("error").textContent = words;
  $("error").hidden = false;
}

// The paper.

function paint() {
  const side = canvas.width, strokes = [...history[at], ...(stroke ? [stroke] : [])];
  pencil.fillStyle = "#fff";
  pencil.fillRect(0, 0, side, side);
  if (image) {
    const scale = side / Math.max(image.bitmap.width, image.bitmap.height);
    const width = image.bitmap.width * scale, height = image.bitmap.height * scale;
    pencil.drawImage(image.bitmap, (side - width) / 2, (side - height) / 2, width, height);
  }
  pencil.strokeStyle = pencil.fillStyle = "#000";
  pencil.lineWidth = Math.max(1, pen * side);
  pencil.lineCap = pencil.lineJoin = "round";
  for (const {x, y} of image ? [] : strokes) {
    pencil.beginPath();
    pencil.moveTo(x[0] * side / UNITS, y[0] * side / UNITS);
    for (let i = 0; i < x.length; i++) pencil.lineTo(x[i] * side / UNITS, y[i] * side / UNITS);
    pencil.stroke();
  }
  if (cursor && document.activeElement === canvas) {
    pencil.strokeStyle = cursor.down ? "#0b62c4" : "#8a93a1";
    pencil.lineWidth = 2;
    pencil.beginPath();
    pencil.arc(cursor.x * side / UNITS, cursor.y * side / UNITS, side / 50, 0, 2 * Math.PI);
    pencil.stroke();
  }
  const empty = !image && !strokes.length;
  document.body.dataset.paper = image ? "image" : empty ? "empty" : "strokes";
  $("undo").disabled = !image && at === 0;
  $("redo").disabled = at === history.length - 1 || Boolean(image);
  $("clear").disabled = empty;
}

function fit() {
  const side = Math.round(canvas.clientWidth * (window.devicePixelRatio || 1));
  if (side && side !== canvas.width) canvas.width = canvas.height = side;
  paint();
}

function remember(strokes) {
  history = [...history.slice(0, at + 1), strokes];
  at = history.length - 1;
}

function redraw() {
  query = {kind: "paper"};
  paint();
  searchSoon();
}

function undo() {
  if (image) image = null;
  else if (at > 0) at--;
  else return;
  redraw();
}

function redo() {
  if (image || at === history.length - 1) return;
  at++;
  redraw();
}

function clear() {
  image = null;
  if (history[at].length) remember([]);
  redraw();
}

// Drawing with a pointer: mouse, pen or finger.

function place(event) {
  const box = canvas.getBoundingClientRect();
  const units = (value) => Math.round(Math.min(Math.max(value, 0), 1) * UNITS * 10) / 10;
  stroke.x.push(units((event.clientX - box.left) / box.width));
  stroke.y.push(units((event.clientY - box.top) / box.height));
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || !event.isPrimary) return;
  canvas.setPointerCapture(event.pointerId);
  image = cursor = null;
  stroke = {x: [], y: []};
  place(event);
  redraw();
});

canvas.addEventListener("pointermove", (event) => {
  if (!stroke || !event.isPrimary) return;
  const passed = event.getCoalescedEvents?.() ?? [];
  for (const one of passed.length ? passed : [event]) place(one);
  redraw();
});

function lift(event) {
  if (!stroke || event && !event.isPrimary) return;
  remember([...history[at], stroke]);
  stroke = null;
  redraw();
}

canvas.addEventListener("pointerup", lift);
canvas.addEventListener("pointercancel", lift);

// Drawing with the keyboard.

const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

canvas.addEventListener("keydown", (event) => {
  const arrow = ARROWS[event.key];
  if (!arrow && event.key !== " " || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  cursor ??= {x: UNITS / 2, y: UNITS / 2, down: false};
  if (arrow) {
    cursor.x = Math.min(Math.max(cursor.x + STEP * arrow[0], 0), UNITS);
    cursor.y = Math.min(Math.max(cursor.y + STEP * arrow[1], 0), UNITS);
    if (cursor.down) { stroke.x.push(cursor.x); stroke.y.push(cursor.y); redraw(); }
  } else if (cursor.down) {
    cursor.down = false;
    lift();
  } else {
    cursor.down = true;
    image = null;
    stroke = {x: [cursor.x], y: [cursor.y]};
    redraw();
  }
  paint();
});

canvas.addEventListener("blur", () => { if (cursor?.down) { cursor.down = false; lift(); } paint(); });
canvas.addEventListener("focus", paint);

document.addEventListener("keydown", (event) => {
  if (!event.ctrlKey && !event.metaKey) return;
  const key = event.key.toLowerCase();
  if (key === "z" && !event.shiftKey) { event.preventDefault(); undo(); }
  else if (key === "y" || key === "z") { event.preventDefault(); redo(); }
});

// Images: uploaded, pasted or dropped. They are made small here, so that any photo can be sent.

async function take(file) {
  if (!file) return;
  busy(); // from now on: decoding takes a while
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, 512 / Math.max(bitmap.width, bitmap.height));
    const small = document.createElement("canvas");
    small.width = Math.max(1, Math.round(bitmap.width * scale));
    small.height = Math.max(1, Math.round(bitmap.height * scale));
    const painter = small.getContext("2d");
    painter.fillStyle = "#fff"; // transparent drawings are on white paper
    painter.fillRect(0, 0, small.width, small.height);
    painter.drawImage(bitmap, 0, 0, small.width, small.height);
    // Not toBlob: headless Chromium takes a second for it.
    const bytes = Uint8Array.from(atob(small.toDataURL("image/png").split(",")[1]), (c) => c.charCodeAt(0));
    image = {bitmap: small, body: new Blob([bytes], {type: "image/png"})};
    redraw();
  } catch {
    fail("This file is not an image that the browser can open.");
  }
}

$("file").addEventListener("change", (event) => { take(event.target.files[0]); event.target.value = ""; });
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files[0]); });

$("undo").addEventListener("click", undo);
$("redo").addEventListener("click", redo);
$("clear").addEventListener("click", clear);
$("back").addEventListener("click", () => { query = {kind: "paper"}; search(); });
$("side").addEventListener("change", () => { if (image) redraw(); });
$("pen").addEventListener("input", () => { pen = Number($("pen").value); redraw(); });
new ResizeObserver(fit).observe(canvas);

fetch("/api/health").then((answer) => answer.json()).then((served) => {
  $("about").textContent = `among ${served.photos.toLocaleString("en")} photos`;
  pen = served.line;
  $("pen").value = pen;
  paint();
}).catch(() => fail("The server does not answer. Try again."));
fit();
