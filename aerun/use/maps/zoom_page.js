// A map of pictures: drag to move, wheel or pinch to zoom. A picture is drawn from the zoom on at which it fits.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.getElementById("map"), context = canvas.getContext("2d");
const preview = document.getElementById("preview"), caption = document.getElementById("caption");
const atlas = new Image(), pointers = new Map();
const deepest = Math.max(0, ...data.levels), MOST = 8 * data.step ** deepest;
let base = 1, zoom = 1, left = 0, top_ = 0; // screen = (place * base - origin) * zoom, origin = (left, top_)

function resize() {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  base = Math.min(canvas.clientWidth / data.width, canvas.clientHeight / data.height);
  if (zoom === 1) reset(); else draw();
}
function reset() {
  zoom = 1;
  left = (data.width * base - canvas.clientWidth) / 2;
  top_ = (data.height * base - canvas.clientHeight) / 2;
  draw();
}
function side() { return data.side * base * Math.max(1, Math.min(4, zoom / data.step ** deepest)); }
function place(number) {
  return [(data.x[number] * base - left) * zoom, (data.y[number] * base - top_) * zoom];
}
function isShown(number) { return data.step ** data.levels[number] <= zoom * 1.0001; }

function draw() {
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  context.lineWidth = 2;
  context.imageSmoothingEnabled = side() < 2 * data.tile;
  const size = side();
  let count = 0;
  for (let number = 0; number < data.x.length; number++) {
    if (!isShown(number)) continue;
    const [x, y] = place(number);
    if (x < -size || y < -size || x > canvas.clientWidth + size || y > canvas.clientHeight + size) continue;
    const scale = (size - 4) / data.tile, wide = data.tileWidth * scale, high = data.tileHeight * scale;
    context.drawImage(atlas, (number % data.columns) * data.tileWidth, Math.floor(number / data.columns) * data.tileHeight,
      data.tileWidth, data.tileHeight, x - wide / 2, y - high / 2, wide, high);
    context.strokeStyle = data.labels ? data.colors[data.labels[number]] : "#b8b8b8";
    context.strokeRect(x - wide / 2 - 1, y - high / 2 - 1, wide + 2, high + 2);
    count++;
  }
  document.getElementById("count").textContent = `${count} of ${data.x.length} pictures here, zoom ${zoom.toFixed(1)}`;
}
function zoomAt(x, y, factor) {
  const next = Math.min(MOST, Math.max(1, zoom * factor));
  left += x / zoom - x / next;
  top_ += y / zoom - y / next;
  zoom = next;
  if (zoom === 1) reset(); else draw();
}
function show(x, y) {
  const size = side() / 2;
  let found = -1;
  for (let number = 0; number < data.x.length; number++) {
    if (!isShown(number)) continue;
    const [left_, above] = place(number);
    if (Math.abs(left_ - x) < size && Math.abs(above - y) < size) found = number;
  }
  preview.hidden = found < 0;
  if (found < 0) return;
  const picture = preview.querySelector("canvas"), factor = Math.max(1, Math.floor(256 / data.tile));
  picture.width = data.tileWidth * factor;
  picture.height = data.tileHeight * factor;
  const pen = picture.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(atlas, (found % data.columns) * data.tileWidth, Math.floor(found / data.columns) * data.tileHeight,
    data.tileWidth, data.tileHeight, 0, 0, picture.width, picture.height);
  caption.textContent = `picture ${found}` + (data.labels ? `, ${data.classes[data.labels[found]]}` : "");
}

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomAt(event.offsetX, event.offsetY, 2 ** (-event.deltaY / (event.deltaMode ? 6 : 240)));
}, { passive: false });
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
});
canvas.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId), now = [event.offsetX, event.offsetY];
  if (!before) return show(...now);
  const others = [...pointers].filter(([number]) => number !== event.pointerId).map(([, at]) => at);
  pointers.set(event.pointerId, now);
  if (others.length) { // two fingers
    const away = (at) => Math.hypot(at[0] - others[0][0], at[1] - others[0][1]);
    return zoomAt((now[0] + others[0][0]) / 2, (now[1] + others[0][1]) / 2, away(now) / Math.max(1, away(before)));
  }
  left -= (now[0] - before[0]) / zoom;
  top_ -= (now[1] - before[1]) / zoom;
  draw();
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
}
canvas.addEventListener("pointerleave", () => { preview.hidden = true; });
canvas.addEventListener("dblclick", (event) => zoomAt(event.offsetX, event.offsetY, 2));
document.addEventListener("keydown", (event) => {
  const step = 80 / zoom, middle = [canvas.clientWidth / 2, canvas.clientHeight / 2];
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (event.key === "+" || event.key === "=") zoomAt(...middle, 1.5);
  else if (event.key === "-") zoomAt(...middle, 1 / 1.5);
  else if (event.key === "0") reset();
  else if (moves[event.key]) { left += moves[event.key][0]; top_ += moves[event.key][1]; draw(); }
});
const view = new URLSearchParams(location.hash.slice(1)); // page.html#zoom=8&x=0.4&y=0.6
atlas.onload = () => {
  resize();
  if (view.has("zoom")) {
    zoom = Math.min(MOST, Math.max(1, Number(view.get("zoom"))));
    left = Number(view.get("x") ?? 0.5) * data.width * base - canvas.clientWidth / 2 / zoom;
    top_ = Number(view.get("y") ?? 0.5) * data.height * base - canvas.clientHeight / 2 / zoom;
    draw();
  }
};
atlas.src = data.atlas;
window.addEventListener("resize", resize);
