"use strict";
// Pictures lie at the end of the page as text; one becomes an image when it comes near the window, and is let go when
// it is far away, so that 500 photos take the memory of a few.
const NEAR = "1200px 0px";
const FULL_AFTER_MS = 350; // a pointer that rests on a photo: then the file beside the page is opened for its pixels
const cards = Array.from(document.querySelectorAll(".card"));
const states = new Map(); // card -> { split, x, y }: the slider in per cent, the place in shares of width and height
let current = null;
let waitingForFull = 0;

function held(prefix, name) {
  return document.getElementById(prefix + name);
}

function address(text) {
  return "data:image/webp;base64," + text.textContent;
}

function fill(image) {
  const text = held("p", image.dataset.picture);
  if (!text) return;
  if (text.dataset.missing) {
    image.parentElement.append(note(text.dataset.missing));
    delete image.dataset.picture;
  } else if (!image.hasAttribute("src")) {
    image.src = address(text);
  }
}

function note(sentence) {
  const said = document.createElement("p");
  said.className = "missing";
  said.textContent = sentence;
  return said;
}

function show(card) {
  card.querySelectorAll("img[data-picture]").forEach(fill);
  card.querySelectorAll(".pane").forEach(fillPane);
  const state = states.get(card);
  if (state) place(card, state.x, state.y);
}

function hide(card) {
  card.querySelectorAll("img[data-picture]").forEach((image) => image.removeAttribute("src"));
  card.querySelectorAll(".layer").forEach((layer) => layer.replaceChildren());
}

// A pane is the whole photo, one of its pixels a pixel of the screen: the small picture enlarged, over it the part that
// the page holds pixel for pixel, and over both the file itself once it is there.
function fillPane(pane) {
  const layer = pane.querySelector(".layer");
  const small = held("p", pane.dataset.view);
  if (layer.childElementCount || !small || small.dataset.missing) return;
  const width = Number(small.dataset.width);
  const height = Number(small.dataset.height);
  layer.style.width = width + "px";
  layer.style.height = height + "px";
  layer.append(piece(address(small), 0, 0, width, height));
  const detail = held("d", pane.dataset.view);
  if (detail) {
    const { left, top, width: w, height: h } = detail.dataset;
    layer.append(piece(address(detail), Number(left), Number(top), Number(w), Number(h)));
  }
}

function piece(source, left, top, width, height) {
  const image = new Image();
  image.decoding = "async";
  image.alt = "";
  Object.assign(image.style, { left: left + "px", top: top + "px", width: width + "px", height: height + "px" });
  image.src = source;
  return image;
}

function openFiles(card) {
  card.querySelectorAll(".pane[data-file]").forEach((pane) => {
    const layer = pane.querySelector(".layer");
    const small = held("p", pane.dataset.view);
    if (!small || !layer.childElementCount || layer.querySelector(".file") || !held("d", pane.dataset.view)) return;
    const image = piece("", 0, 0, Number(small.dataset.width), Number(small.dataset.height));
    image.className = "file";
    image.hidden = true;
    image.onload = () => {
      image.hidden = false;
      const state = states.get(card);
      place(card, state.x, state.y);
    };
    image.onerror = () => image.remove(); // the page was moved away from its photos: it has its own pictures
    image.src = pane.dataset.file;
    layer.append(image);
  });
}

function place(card, x, y) {
  const state = states.get(card);
  state.x = Math.min(1, Math.max(0, x));
  state.y = Math.min(1, Math.max(0, y));
  const perPixel = 1 / window.devicePixelRatio;
  let framed = false;
  card.querySelectorAll(".pane").forEach((pane) => {
    const small = held("p", pane.dataset.view);
    if (!small || small.dataset.missing) return;
    const view = pane.querySelector(".window");
    const width = Number(small.dataset.width);
    const height = Number(small.dataset.height);
    const left = inside(state.x * width * perPixel - view.clientWidth / 2, width * perPixel - view.clientWidth);
    const top = inside(state.y * height * perPixel - view.clientHeight / 2, height * perPixel - view.clientHeight);
    pane.querySelector(".layer").style.transform = `translate(${-left}px, ${-top}px) scale(${perPixel})`;
    pane.querySelector(".scale").textContent = scaleOf(pane, left, top, view, perPixel);
    if (!framed) {
      frame(card, left, top, view, width * perPixel, height * perPixel);
      framed = true;
    }
  });
}

function inside(value, most) {
  return most < 0 ? most / 2 : Math.min(most, Math.max(0, value));
}

function scaleOf(pane, left, top, view, perPixel) {
  const file = pane.querySelector(".file");
  const detail = held("d", pane.dataset.view);
  if (!detail || (file && !file.hidden)) return "1:1";
  const middleX = (left + view.clientWidth / 2) / perPixel - Number(detail.dataset.left);
  const middleY = (top + view.clientHeight / 2) / perPixel - Number(detail.dataset.top);
  const within = middleX >= 0 && middleY >= 0 && middleX <= Number(detail.dataset.width) && middleY <= Number(detail.dataset.height);
  return within ? "1:1" : "enlarged from the small picture";
}

function frame(card, left, top, view, width, height) {
  const mark = card.querySelector(".place");
  Object.assign(mark.style, {
    left: (100 * Math.max(0, left)) / width + "%",
    top: (100 * Math.max(0, top)) / height + "%",
    width: Math.min(100, (100 * view.clientWidth) / width) + "%",
    height: Math.min(100, (100 * view.clientHeight) / height) + "%",
  });
}

function slide(card, percent) {
  const state = states.get(card);
  state.split = Math.min(100, Math.max(0, percent));
  const stage = card.querySelector(".stage");
  stage.style.setProperty("--split", state.split + "%");
  stage.setAttribute("aria-valuenow", Math.round(state.split));
  stage.setAttribute("aria-valuetext", Math.round(state.split) + " per cent before");
}

function choose(card) {
  if (current === card) return;
  if (current) {
    current.classList.remove("current");
    current.querySelectorAll(".file").forEach((image) => image.remove());
  }
  current = card;
  card.classList.add("current");
}

function listen(card, stage) {
  const at = (event) => {
    const box = stage.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    const [x, y] = at(event);
    slide(card, 100 * x);
    place(card, x, y);
  });
  stage.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    place(card, x, y);
    if (stage.hasPointerCapture(event.pointerId)) slide(card, 100 * x);
  });
  stage.addEventListener("pointerenter", () => {
    clearTimeout(waitingForFull);
    waitingForFull = setTimeout(() => openFiles(card), FULL_AFTER_MS);
  });
  stage.addEventListener("pointerleave", () => clearTimeout(waitingForFull));
}

function step(direction) {
  const shown = Array.from(document.querySelectorAll(".card:not([hidden])"));
  const here = shown.indexOf(current);
  const next = shown[here < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, here + direction))];
  if (!next) return;
  choose(next);
  next.scrollIntoView({ block: "start" });
  const stage = next.querySelector(".stage");
  if (stage) stage.focus({ preventScroll: true });
}

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function typed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, dialog")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const state = current && states.get(current);
  const move = MOVES[key];
  if (key === "j") step(1);
  else if (key === "k") step(-1);
  else if (key === "?") toggleHelp();
  else if (!state) return;
  else if (move && event.shiftKey) place(current, state.x + move[0] / 40, state.y + move[1] / 40);
  else if (move && move[0] && event.target.closest(".stage")) slide(current, state.split + 2 * move[0]);
  else if (key === "Home" && event.target.closest(".stage")) slide(current, 0);
  else if (key === "End" && event.target.closest(".stage")) slide(current, 100);
  else if (key === "v") nextSide(current);
  else if (key === "b") slide(current, state.split > 50 ? 0 : 100);
  else return;
  event.preventDefault();
}

function setSide(card, button) {
  card.querySelectorAll(".side").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
  const before = card.querySelector(".before");
  before.dataset.picture = button.dataset.side;
  before.removeAttribute("src");
  fill(before);
  card.querySelector(".tag.left").textContent = button.dataset.label;
}

function nextSide(card) {
  const sides = Array.from(card.querySelectorAll(".side"));
  const here = sides.findIndex((button) => button.getAttribute("aria-pressed") === "true");
  if (sides.length) setSide(card, sides[(here + 1) % sides.length]);
}

function toggleHelp() {
  const keys = document.getElementById("keys");
  keys.hidden = !keys.hidden;
  document.getElementById("help").setAttribute("aria-expanded", String(!keys.hidden));
}

function sortBy(key) {
  const number = (card) => Number(card.dataset.number);
  // What is not known comes last; a small PSNR to the photo itself is a large change.
  const value = (card) => (card.dataset[key] === "" ? -Infinity : Number(card.dataset[key]) * (key === "change" ? -1 : 1));
  const orders = {
    number: (a, b) => number(a) - number(b),
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true }) || number(a) - number(b),
  };
  const order = orders[key] || ((a, b) => value(b) - value(a) || number(a) - number(b));
  document.getElementById("photos").append(...cards.sort(order));
}

function filterBy(button) {
  document.querySelectorAll(".filters button").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
  cards.forEach((card) => (card.hidden = button.dataset.kind !== "" && card.dataset.kind !== button.dataset.kind));
}

function enlarge(button) {
  const large = document.getElementById("large");
  large.querySelector("img").src = button.querySelector("img").src;
  large.querySelector("img").alt = button.querySelector("img").alt;
  large.showModal();
}

function startReport() {
  const seen = new IntersectionObserver(
    (entries) => entries.forEach((entry) => (entry.isIntersecting ? show(entry.target) : hide(entry.target))),
    { rootMargin: NEAR },
  );
  for (const card of cards) {
    const stage = card.querySelector(".stage");
    if (stage) {
      const detail = card.querySelector(".pane") && held("d", card.querySelector(".pane").dataset.view);
      const small = held("p", card.querySelector(".pane").dataset.view);
      const middle = detail && {
        x: (Number(detail.dataset.left) + Number(detail.dataset.width) / 2) / Number(small.dataset.width),
        y: (Number(detail.dataset.top) + Number(detail.dataset.height) / 2) / Number(small.dataset.height),
      };
      states.set(card, { split: 50, x: 0.5, y: 0.5, ...middle });
      listen(card, stage);
    }
    for (const sign of ["pointerenter", "focusin"]) card.addEventListener(sign, () => choose(card));
    seen.observe(card);
  }
  document.addEventListener("keydown", typed);
  document.getElementById("help").addEventListener("click", toggleHelp);
  document.getElementById("sort").addEventListener("change", (event) => sortBy(event.target.value));
  document.querySelectorAll(".filters button").forEach((button) => button.addEventListener("click", () => filterBy(button)));
  document.querySelectorAll(".side").forEach((button) => button.addEventListener("click", () => setSide(button.closest(".card"), button)));
  document.querySelectorAll(".enlarge").forEach((button) => button.addEventListener("click", () => enlarge(button)));
  window.addEventListener("resize", () => states.forEach((state, card) => place(card, state.x, state.y)));
}
