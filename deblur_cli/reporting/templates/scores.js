"use strict";
// Pictures lie at the end of the page as text; one becomes an image when it comes near the window.
const NEAR = "1200px 0px";
const sheet = document.getElementById("sheet");
const shots = Array.from(document.querySelectorAll(".shot"));
const near = new Set();

function held(prefix, name) {
  return document.getElementById(prefix + name);
}

function address(text) {
  return "data:image/webp;base64," + text.textContent;
}

function show(shot) {
  const image = shot.querySelector("img");
  const small = image && held("p", image.dataset.picture);
  if (!small) return; // a sentence stands in its place
  if (small.dataset.missing) {
    shot.querySelector(".frame").textContent = small.dataset.missing;
    return;
  }
  const detail = sheet.classList.contains("details") && held("d", image.dataset.picture);
  image.classList.toggle("detail", Boolean(detail));
  image.style.setProperty("--wide", detail ? detail.dataset.width / window.devicePixelRatio + "px" : "");
  image.src = address(detail || small);
}

function hide(shot) {
  const image = shot.querySelector("img");
  if (image) image.removeAttribute("src");
}

function sorted(key) {
  const number = (shot, name) => Number(shot.dataset[name]);
  const bestOf = new Map();
  for (const shot of shots) {
    const burst = shot.dataset.burst;
    bestOf.set(burst, Math.min(number(shot, "rank"), bestOf.get(burst) ?? Infinity));
  }
  const orders = {
    burst: (a, b) => number(a, "burst") - number(b, "burst") || number(a, "rank") - number(b, "rank"),
    rank: (a, b) => number(a, "rank") - number(b, "rank"),
    blurred: (a, b) => number(b, "rank") - number(a, "rank"),
    noise: (a, b) => number(b, "noise") - number(a, "noise") || number(a, "rank") - number(b, "rank"),
    taken: (a, b) => number(a, "number") - number(b, "number"),
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true }),
  };
  return shots.slice().sort(orders[key]);
}

function arrange() {
  const key = document.getElementById("sort").value;
  const picksOnly = document.getElementById("picks").getAttribute("aria-pressed") === "true";
  const sizes = new Map();
  shots.forEach((shot) => sizes.set(shot.dataset.burst, (sizes.get(shot.dataset.burst) || 0) + 1));
  const placed = [];
  let last = null;
  for (const shot of sorted(key)) {
    const several = sizes.get(shot.dataset.burst) > 1;
    shot.hidden = picksOnly && several && !shot.classList.contains("pick");
    if (key === "burst" && !picksOnly) {
      const group = several ? shot.dataset.burst : "";
      if (group !== last) placed.push(heading(several, sizes.get(shot.dataset.burst)));
      last = group;
    }
    placed.push(shot);
  }
  sheet.replaceChildren(...placed);
}

function heading(several, size) {
  const title = document.createElement("h2");
  title.textContent = several ? `Burst of ${size}` : "By themselves";
  return title;
}

function toggle(name) {
  const button = document.getElementById(name);
  const pressed = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(pressed));
  if (name === "picks") arrange();
  else {
    sheet.classList.toggle("details", pressed);
    near.forEach(show);
  }
}

function toggleHelp() {
  const keys = document.getElementById("keys");
  keys.hidden = !keys.hidden;
  document.getElementById("help").setAttribute("aria-expanded", String(!keys.hidden));
}

function enlarge(frame) {
  const image = frame.querySelector("img");
  if (!image) return;
  const large = document.getElementById("large").querySelector("img");
  const small = held("p", image.dataset.picture);
  large.alt = image.alt;
  large.onerror = () => {
    large.onerror = null; // the page was moved away from its photos: it has its own pictures
    large.src = address(small);
  };
  large.src = frame.dataset.file || address(small);
  document.getElementById("large").showModal();
}

function go(key) {
  const frames = Array.from(document.querySelectorAll(".shot:not([hidden]) .frame"));
  const here = frames.indexOf(document.activeElement);
  if (here < 0) return frames[0];
  if (key === "ArrowLeft") return frames[here - 1];
  if (key === "ArrowRight") return frames[here + 1];
  const from = frames[here].getBoundingClientRect();
  const down = key === "ArrowDown";
  const beyond = frames.filter((frame, index) => {
    const box = frame.getBoundingClientRect();
    return (down ? index > here && box.top > from.bottom : index < here && box.bottom < from.top) && Math.abs(box.left - from.left) < 2;
  });
  return down ? beyond[0] : beyond[beyond.length - 1];
}

function typed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, dialog")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key.startsWith("Arrow")) {
    const next = go(key);
    if (!next) return;
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  } else if (key === "z") toggle("details");
  else if (key === "p") toggle("picks");
  else if (key === "?") toggleHelp();
  else return;
  event.preventDefault();
}

function startSheet() {
  const seen = new IntersectionObserver(
    (entries) =>
      entries.forEach((entry) => {
        if (entry.isIntersecting) {
          near.add(entry.target);
          show(entry.target);
        } else {
          near.delete(entry.target);
          hide(entry.target);
        }
      }),
    { rootMargin: NEAR },
  );
  arrange();
  shots.forEach((shot) => seen.observe(shot));
  document.addEventListener("keydown", typed);
  document.getElementById("sort").addEventListener("change", arrange);
  document.getElementById("picks").addEventListener("click", () => toggle("picks"));
  document.getElementById("details").addEventListener("click", () => toggle("details"));
  document.getElementById("help").addEventListener("click", toggleHelp);
  document.querySelectorAll(".frame").forEach((frame) => frame.addEventListener("click", () => enlarge(frame)));
}
