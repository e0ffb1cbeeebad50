// Uploads a file by tus-js-client as it is vendored: node tus_client.cjs LIBRARY ENDPOINT FILE BATCH STORE CHUNK
// Its HTTP goes through `fetch`, since node has no XMLHttpRequest. Prints a line for each thing that happens.
const fs = require("fs");
const [library, endpoint, path, batch, store, chunk] = process.argv.slice(2);
const tus = require(library);

class Fetching {
  createRequest(method, url) {
    const headers = {}, aborting = new AbortController();
    return {
      getMethod: () => method,
      getURL: () => url,
      setHeader: (name, value) => { headers[name] = value; },
      getHeader: (name) => headers[name],
      setProgressHandler: () => {},
      getUnderlyingObject: () => null,
      abort: async () => aborting.abort(),
      send: async (body) => {
        const bytes = body ? Buffer.from(await body.arrayBuffer()) : undefined;
        const answer = await fetch(url, { method, headers, body: bytes, signal: aborting.signal });
        const text = await answer.text();
        console.log(method, answer.status, headers["Upload-Offset"] ?? "");
        return {
          getStatus: () => answer.status,
          getHeader: (name) => answer.headers.get(name),
          getBody: () => text,
          getUnderlyingObject: () => answer,
        };
      },
    };
  }
  getName() { return "fetch"; }
}

class FileStorage {  // what a browser keeps in localStorage: survives the page that is closed
  all() { return fs.existsSync(store) ? JSON.parse(fs.readFileSync(store)) : {}; }
  async findAllUploads() { return Object.values(this.all()); }
  async findUploadsByFingerprint(print) { return this.findAllUploads().then((all) => all.filter((one) => one.print === print)); }
  async removeUpload(key) { const all = this.all(); delete all[key]; fs.writeFileSync(store, JSON.stringify(all)); }
  async addUpload(print, upload) {
    fs.writeFileSync(store, JSON.stringify({ ...this.all(), [print]: { ...upload, print, urlStorageKey: print } }));
    return print;
  }
}

const upload = new tus.Upload(new Blob([fs.readFileSync(path)]), {
  endpoint,
  httpStack: new Fetching(),
  urlStorage: new FileStorage(),
  fingerprint: async () => path,
  chunkSize: Number(chunk),
  retryDelays: [50, 100, 200, 400, 800, 1600],
  removeFingerprintOnSuccess: true,
  metadata: { filename: "film.mp4", batch },
  onError: (error) => { console.log("error", String(error.message).split("\n")[0]); process.exit(1); },
  onSuccess: () => { console.log("done", upload.url); },
});
upload.findPreviousUploads().then((earlier) => {
  if (earlier.length) { console.log("resumes"); upload.resumeFromPreviousUpload(earlier[0]); }
  upload.start();
});
