// Small pictures in folders, and one file as it looks. What is shown comes from an origin of its own: see /shown.
"use strict";
(() => {
  const AT_ONCE = 3;  // small pictures asked for at once: a browser has six connections for the whole page
  const NEAR = "120px";  // of the screen: what is farther away is not asked for

  // ---- small pictures: <span data-thumb="ADDRESS">
  const waiting = new Set();
  let busy = 0;
  const seen = new IntersectionObserver((changes) => {
    for (const change of changes) {
      if (change.isIntersecting) waiting.add(change.target);
      else waiting.delete(change.target);
    }
    next();
  }, { rootMargin: NEAR });
  function next() {
    for (const place of waiting) {
      if (busy >= AT_ONCE) return;
      waiting.delete(place);
      seen.unobserve(place);
      busy += 1;
      draw(place).finally(() => { busy -= 1; next(); });
    }
  }
  async function draw(place) {
    const picture = await fetched(place.dataset.thumb);
    if (picture) place.replaceChildren(picture);
  }
  async function fetched(address, said = "") {
    try {
      const answer = await fetch(address);
      if (answer.status !== 200) return null;
      const picture = new Image(), own = URL.createObjectURL(await answer.blob());
      picture.alt = said;
      picture.src = own;
      await picture.decode();
      URL.revokeObjectURL(own);
      return picture;
    } catch { return null; }
  }
  for (const place of document.querySelectorAll("[data-thumb]")) seen.observe(place);

  // ---- one file
  const viewer = document.getElementById("viewer"), stage = document.getElementById("stage");
  if (!viewer) return;
  const text = viewer.dataset, place = encodeURIComponent(text.place);
  function made(tag, given) {
    return Object.assign(document.createElement(tag), given);
  }
  function show(...what) {
    stage.replaceChildren(...what);
    stage.setAttribute("aria-busy", "false");
  }
  function note(said) {
    show(made("p", { className: "stage-note", textContent: said }));
  }
  async function drawn(url, said) {  // by this computer, where the browser cannot
    const picture = await fetched(`/thumbs?edge=large&place=${place}`, said);
    if (!picture) return note(text.fails);
    const link = made("a", { href: url, target: "_blank", rel: "noopener", className: "button", textContent: text.opens });
    show(picture, ...(said === text.page ? [link] : []));
  }
  const SHOWS = {
    picture(url) {
      const picture = made("img", { alt: text.name });
      picture.onerror = () => drawn(url, text.name);
      picture.src = url;
      show(picture);
    },
    film(url) { play("video", url); },
    audio(url) { play("audio", url); },
    pdf(url) {
      if (!navigator.pdfViewerEnabled) drawn(url, text.page);
      else show(made("iframe", { title: text.name, src: url }));
    },
    text(url) { show(made("iframe", { title: text.name, src: url, className: "text" })); },
    other() { note(text.none); },
  };
  function play(tag, url) {
    const player = made(tag, { controls: true, preload: "metadata", playsInline: true });
    player.setAttribute("aria-label", text.name);
    player.onerror = () => note(text.fails);
    player.src = url;
    show(player);
  }
  async function load() {
    const answer = await fetch(`/shown?what=1&place=${place}`);
    if (!answer.ok) return note(await answer.text());
    const file = await answer.json();
    if (file.problem) return note(file.problem);
    const link = document.getElementById("viewer-load");
    if (link) { link.href = `${file.url}?download=1`; link.hidden = false; }
    SHOWS[file.sort](file.url);
  }
  if (stage.getAttribute("aria-busy") === "true") load();

  const KEYS = { ArrowLeft: "before", ArrowRight: "behind", Escape: "close" };
  function step(which) {
    const link = viewer.querySelector(`[data-step="${which}"]`);
    if (!link) return false;
    if (which === "close") location.assign(link.href);
    else location.replace(link.href);  // so that "back" leads to the folder
    return true;
  }
  viewer.addEventListener("click", (event) => {
    const link = event.target.closest("[data-step]");
    if (link && !(event.ctrlKey || event.metaKey || event.shiftKey) && step(link.dataset.step)) event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest?.("input, textarea, select, video, audio, dialog")) return;
    if (event.key in KEYS && step(KEYS[event.key])) event.preventDefault();
  });
})();
