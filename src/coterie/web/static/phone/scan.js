// Reads a QR code by the camera, where the browser can; otherwise the page says what to do.
"use strict";
const video = document.getElementById("scan-video");
const field = document.getElementById("scan-text");
const note = document.getElementById("scan-status");
const EVERY_MS = 250;

async function scan() {
  if (!("BarcodeDetector" in window) || !navigator.mediaDevices) {
    note.textContent = navigator.mediaDevices ? note.dataset.none : note.dataset.plain;
    return;
  }
  const detector = new BarcodeDetector({ formats: ["qr_code"] });
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    note.textContent = note.dataset.denied;
    return;
  }
  video.hidden = false;
  video.srcObject = stream;
  await video.play();
  const timer = setInterval(async () => {
    const found = await detector.detect(video).catch(() => []);
    if (!found.length) return;
    clearInterval(timer);
    for (const track of stream.getTracks()) track.stop();
    video.hidden = true;
    field.value = found[0].rawValue;
    note.textContent = note.dataset.found;
    field.focus();
  }, EVERY_MS);
}

if (note) document.getElementById("scan-start").addEventListener("click", scan);
