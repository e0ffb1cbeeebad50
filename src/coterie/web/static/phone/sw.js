// The worker behind the page as an app. It keeps the shell that says that the computer is not reachable, and nothing
// of what the page shows; and it takes what other apps share.
"use strict";
importScripts("/static/phone/kept-files.js");
const SHELL = "coterie-shell-1";
const OFFLINE = "/static/phone/offline.html";
const KEPT_MAX = 500;  // files that wait on the phone; other apps and other sites can add to them, too
const FILES = [OFFLINE, "/static/phone/offline.js", "/static/phone/offline.css", "/static/phone/icon-192.png"];

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(SHELL).then((shell) => shell.addAll(FILES)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const old = caches.keys().then((names) => Promise.all(names.filter((name) => name !== SHELL).map((name) => caches.delete(name))));
  event.waitUntil(old.then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (url.origin !== location.origin) return;
  const from = request.referrer && request.referrer !== "about:client" ? new URL(request.referrer).origin : url.origin;
  if (request.method === "POST" && url.pathname === "/phone/shared" && from === url.origin) {
    event.respondWith(take(request));
  } else if (request.mode === "navigate" && request.method === "GET") {
    event.respondWith(fetch(request).catch(() => caches.match(OFFLINE)));
  } else if (FILES.includes(url.pathname)) {
    event.respondWith(fetch(request).catch(() => caches.match(url.pathname)));
  }
});

async function take(request) {
  const form = await request.formData();
  const files = form.getAll("files").filter((one) => one instanceof File);
  const kept = await KeptFiles.all();
  if (kept.length + files.length > KEPT_MAX) return Response.redirect("/phone?full", 303);
  for (const file of files) await KeptFiles.add(file);
  const text = ["title", "text", "url"].map((name) => form.get(name)).filter(Boolean).join("\n");
  if (text) {
    const stamp = new Date().toISOString().slice(0, 16).replace(/[T:]/g, "-");
    await KeptFiles.add(new File([text + "\n"], `note ${stamp}.txt`, { type: "text/plain" }));
  }
  return Response.redirect("/phone?shared", 303);
}
